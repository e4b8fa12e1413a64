"""JAX with one training step under jit, called from a Python loop as its users write it.

In its favour: state is donated, batches are on the device before the clock starts, no loss is read back, and the loop
waits only once, at its end. Reshuffled rows are gathered inside the step, where XLA can fuse that with the rest.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
from cases.networks import Case

from peers import Trainer
from peers.jax_loop import _adam, _gradient, _state

__all__ = ["Step", "trainer"]


class Step(Trainer):
    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.state = _state(case)
        parts = case.steps_per_epoch
        if case.shuffle:
            self.data = jax.device_put((case.X, case.y))
            self.step = jax.jit(partial(_gathered, case.loss), donate_argnums=0)
        else:
            self.batches = jax.device_put(list(zip(np.split(case.X, parts), np.split(case.y, parts), strict=True)))
            self.step = jax.jit(partial(_step, case.loss), donate_argnums=0)

    def prepare(self, epochs: int) -> None:
        super().prepare(epochs)
        if self.orders is not None:
            orders = np.split(self.orders.astype(np.int32).reshape(-1), epochs * self.case.steps_per_epoch)
            self.orders = jax.block_until_ready(jax.device_put(orders))

    def run(self, epochs: int) -> None:
        step, state = self.step, self.state
        if self.orders is None:
            for _ in range(epochs):
                for x, y in self.batches:
                    state, loss = step(state, x, y)
        else:
            X, y = self.data
            for rows in self.orders:
                state, loss = step(state, X, y, rows)
        self.state = state
        jax.block_until_ready((state, loss))

    def again(self) -> None:
        self.state, self._epochs = _state(self.case), 0

    def results(self) -> list[Any]:
        return [np.asarray(p) for p in self.state[0]]


def _step(loss: str, state: Any, x: Any, y: Any) -> Any:
    """The new state and the loss from before."""
    parameters, ms, vs, t = state
    value, gradients = _gradient(loss)(parameters, x, y)
    return _adam(parameters, ms, vs, gradients, t + 1), value


def _gathered(loss: str, state: Any, X: Any, y: Any, rows: Any) -> Any:
    return _step(loss, state, X[rows], y[rows])


def trainer(case: Case) -> Step:
    return Step(case)
