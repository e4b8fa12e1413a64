"""JAX's contenders: one step under jit, and many under `lax.fori_loop`; state donated, batch on the device."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from peers.jax_loop import _adam, _outputs, _softmax

from gpu_parts.networks import network

__all__ = ["loop", "one_step", "predict_many", "predict_one"]

PRECISION = {"fp32": "highest", "tf32": "tensorfloat32"}  # the default on a GPU is TF32


class OneStep:
    """One step per call of a jitted function."""

    def __init__(self, name: str, precision: str, device: str) -> None:
        self.precision = PRECISION[precision]
        self.case = case = network(name)
        if device == "cuda" and jax.default_backend() not in ("gpu", "cuda"):
            raise RuntimeError(f"this JAX computes on {jax.default_backend()}, not on the GPU")
        parameters = [jnp.asarray(w) for w in case.weights()]
        zeros = [[jnp.zeros_like(p) for p in parameters] for _ in range(2)]
        self.state = (parameters, *zeros, jnp.zeros((), jnp.int32))
        X, y = case.data()
        self.x, self.y = jnp.asarray(X), jnp.asarray(y.astype(np.int32))
        self.step = jax.jit(_step, donate_argnums=0)

    def run(self, count: int) -> None:
        with jax.default_matmul_precision(self.precision):
            loss = None
            for _ in range(count):
                self.state, loss = self.step(self.state, self.x, self.y)
            jax.block_until_ready((self.state, loss))

    def losses(self, count: int) -> list[float]:
        found = []
        with jax.default_matmul_precision(self.precision):
            for _ in range(count):
                self.state, loss = self.step(self.state, self.x, self.y)
                found.append(float(loss))
        return found

    def told(self) -> dict[str, Any]:
        return {"devices": [str(device) for device in jax.devices()]}

    def drop(self) -> None:
        self.__dict__.clear()


class Loop(OneStep):
    """`steps` steps in one call: a number that XLA knows, else it would ask the host before each step.

    The losses are added up, else XLA would leave them out.
    """

    def __init__(self, name: str, precision: str, device: str, steps: int = 1) -> None:
        super().__init__(name, precision, device)
        self.steps = steps
        self.many = jax.jit(partial(_many, steps), donate_argnums=0)

    def run(self, count: int) -> None:
        with jax.default_matmul_precision(self.precision):
            total = None
            for _ in range(-(-count // self.steps)):
                self.state, total = self.many(self.state, self.x, self.y)
            jax.block_until_ready((self.state, total))


def _step(state: Any, x: Any, y: Any) -> Any:
    parameters, ms, vs, t = state
    value, gradients = jax.value_and_grad(_softmax)(parameters, x, y)
    return _adam(parameters, ms, vs, gradients, t + 1), value


def _many(count: int, state: Any, x: Any, y: Any) -> Any:
    def body(_: Any, carry: Any) -> Any:
        state, total = carry
        state, value = _step(state, x, y)
        return state, total + value

    return lax.fori_loop(0, count, body, (state, jnp.zeros(())))


class PredictOne:
    """One row from NumPy to NumPy."""

    def __init__(self, name: str, precision: str, device: str) -> None:
        self.precision = PRECISION[precision]
        case = network(name)
        self.parameters = [jnp.asarray(w) for w in case.weights()]
        self.x: Any = self._input(case.data()[0])
        self.predict = partial(jax.jit(lambda p, x: jax.nn.softmax(_outputs(p, x))), self.parameters)

    def _input(self, X: Any) -> Any:
        return X[:1]

    def run(self, count: int) -> None:
        with jax.default_matmul_precision(self.precision):
            for _ in range(count):
                self.once()

    def once(self) -> Any:
        return np.asarray(self.predict(self.x))

    def outputs(self) -> list[float]:
        with jax.default_matmul_precision(self.precision):
            return [float(v) for v in np.asarray(self.once())[0]]

    def told(self) -> dict[str, Any]:
        return {}

    def drop(self) -> None:
        self.__dict__.clear()


class PredictMany(PredictOne):
    """The whole batch, which lies on the device, answers staying there; waits once per call."""

    def _input(self, X: Any) -> Any:
        return jnp.asarray(X)

    def once(self) -> Any:
        return jax.block_until_ready(self.predict(self.x))


one_step, loop, predict_one, predict_many = OneStep, Loop, PredictOne, PredictMany
