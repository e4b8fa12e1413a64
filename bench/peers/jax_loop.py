"""JAX with the whole loop under jit: `lax.fori_loop` over the steps, batches cut on the device, Adam written out.

State is donated, so nothing is copied from call to call. The losses are added up and returned, as every other contender
computes them; otherwise XLA would leave them out.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from cases.networks import BETAS, EPSILON, RATE, Case
from jax import lax

from peers import Trainer

__all__ = ["Loop", "trainer"]


class Loop(Trainer):
    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.state = _state(case)
        self.X, self.y = jnp.asarray(case.X), jnp.asarray(case.y)
        self.train = jax.jit(partial(_train, case.loss, case.batch_size), donate_argnums=0)

    def prepare(self, epochs: int) -> None:
        super().prepare(epochs)
        if self.orders is not None:
            room = 1 << (epochs - 1).bit_length()  # few shapes, so that few calls compile
            orders = np.zeros((room, self.case.rows), np.int32)
            orders[:epochs] = self.orders
            self.orders = jax.block_until_ready(jnp.asarray(orders.reshape(-1)))

    def run(self, epochs: int) -> None:
        steps = epochs * self.case.steps_per_epoch
        self.state, losses = self.train(self.state, self.X, self.y, self.orders, steps)
        jax.block_until_ready((self.state, losses))

    def again(self) -> None:
        self.state, self._epochs = _state(self.case), 0

    def results(self) -> list[Any]:
        return [np.asarray(p) for p in self.state[0]]


def _train(loss: str, size: int, state: Any, X: Any, y: Any, orders: Any, steps: Any) -> Any:
    """`steps` steps over the data, again and again; the new state and the sum of the losses."""
    gradient = _gradient(loss)

    def body(step: Any, carry: Any) -> Any:
        (parameters, ms, vs, t), total = carry
        if orders is None:
            start = step % (len(X) // size) * size
            batch = lax.dynamic_slice_in_dim(X, start, size), lax.dynamic_slice_in_dim(y, start, size)
        else:
            rows = lax.dynamic_slice_in_dim(orders, step * size, size)
            batch = X[rows], y[rows]
        value, gradients = gradient(parameters, *batch)
        return _adam(parameters, ms, vs, gradients, t + 1), total + value

    return lax.fori_loop(0, steps, body, (state, jnp.zeros(())))


def _state(case: Case) -> Any:
    """The weights, Adam's two moments of them, and the number of steps done."""
    parameters = [jnp.asarray(w) for w in case.weights()]
    zeros = [jnp.zeros_like(p) for p in parameters]
    return parameters, zeros, [jnp.zeros_like(p) for p in parameters], jnp.zeros((), jnp.int32)


def _gradient(loss: str) -> Any:
    """The function of parameters, x and y that gives the loss and its gradient."""
    return jax.value_and_grad(_softmax if loss == "softmax" else _squares)


def _outputs(parameters: list[Any], x: Any) -> Any:
    *hidden, w, b = parameters
    for k in range(0, len(hidden), 2):
        x = jax.nn.relu(x @ hidden[k] + hidden[k + 1])
    return x @ w + b


def _softmax(parameters: list[Any], x: Any, y: Any) -> Any:
    logits = _outputs(parameters, x)
    chosen = jnp.take_along_axis(logits, y[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - chosen)


def _squares(parameters: list[Any], x: Any, y: Any) -> Any:
    return jnp.mean((_outputs(parameters, x) - y) ** 2)


def _adam(parameters: Any, ms: Any, vs: Any, gradients: Any, t: Any) -> Any:
    b1, b2 = BETAS
    c1, c2 = -jnp.expm1(t * math.log(b1)), -jnp.expm1(t * math.log(b2))  # 1 − βᵗ, exact in float32
    ms = [b1 * m + (1 - b1) * g for m, g in zip(ms, gradients, strict=True)]
    vs = [b2 * v + (1 - b2) * g * g for v, g in zip(vs, gradients, strict=True)]
    new = [p - RATE * (m / c1) / (jnp.sqrt(v / c2) + EPSILON) for p, m, v in zip(parameters, ms, vs, strict=True)]
    return new, ms, vs, t


def trainer(case: Case) -> Loop:
    return Loop(case)
