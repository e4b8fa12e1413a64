"""The time of every single call, and what the predictors of all libraries share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from cases.ops import dense_inputs, network_weights

__all__ = ["Predictor", "each", "given"]

Array = np.ndarray[Any, Any]


def each(call: Callable[[], Any], count: int) -> Array:
    """Seconds of each of `count` calls, one after another; some tens of nanoseconds of it are the clock's."""
    call()
    clock, nanoseconds = time.perf_counter_ns, np.ones(count, np.int64)  # ones: zeros would get its pages when written
    for k in range(count):
        begin = clock()
        call()
        nanoseconds[k] = clock() - begin
    return nanoseconds / 1e9


def given(widths: tuple[int, ...], batch: int) -> tuple[list[Array], Array]:
    """[W1, b1, …] of the network, and the rows to predict; the first is that of `network_weights`."""
    return network_weights(widths)[0], dense_inputs(batch, widths[0], 1)[0]


class Predictor:
    """Predicts the same rows again and again."""

    call: Callable[[], Any]  # one prediction, as the library's users make it

    def prepare(self, count: int) -> None:
        pass

    def run(self, count: int) -> None:
        call = self.call
        for _ in range(count):
            self.answer = call()

    def latencies(self, count: int) -> Array:
        return each(self.call, count)

    def results(self) -> list[Any]:
        return [np.asarray(self.answer)]
