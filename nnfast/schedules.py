"""Learning-rate schedules: functions of the number of steps already done.

A schedule is anything callable with that number; give it to an optimizer as its `learning_rate`. The host evaluates it
for the steps of a job and hands the values to the backend as data, so a change recompiles nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from nnfast.validation import number

__all__ = ["InverseTimeDecay", "Schedule"]

Schedule = Callable[[int], float]


class InverseTimeDecay:
    """lr(t) = learning_rate / (1 + decay·t), t steps done: what an optimizer's `decay` argument does."""

    def __init__(self, learning_rate: float, decay: float) -> None:
        self.learning_rate = number("learning_rate", learning_rate, 0)
        self.decay = number("decay", decay, 0)

    def __call__(self, step: int) -> float:
        return self.learning_rate / (1.0 + self.decay * step)

    def __repr__(self) -> str:
        return f"InverseTimeDecay({self.learning_rate:g}, decay={self.decay:g})"
