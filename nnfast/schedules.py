"""Learning-rate schedules: functions of the number of steps already done.

    nn.Adam(nn.schedules.CosineDecay(0.02, steps=epochs * batches, warmup=100))
    nn.Adam(lambda step: 0.02 if step < 500 else 0.002)

A schedule is anything callable with that number; give it to an optimizer as its `learning_rate`. The unit is the
optimizer's step: an epoch has ceil(rows/batch_size) of them, and one if there are no batches; the count runs on from
one `fit` to the next. The host works the rates of a job out and hands them to the backend as data, so a change
recompiles nothing. In the equations t is the number of steps done, 0 for the first step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from nnfast.errors import DTypeError, OptionError, ShapeError
from nnfast.validation import integer, number

__all__ = [
    "CosineDecay",
    "ExponentialDecay",
    "InverseTimeDecay",
    "OneCycle",
    "PiecewiseConstant",
    "Schedule",
    "StepDecay",
]

Schedule = Callable[[int], float]
Rates = np.ndarray[Any, np.dtype[np.float64]]


class StepSchedule:
    """Base of the schedules here: the constructor's arguments, which do not change any more, and an equation.

    A subclass checks its arguments and keeps them with `_set`, and defines `_at(t)` for a float64 array of steps. Each
    element must depend on its own step alone, so that the rate of a step has the same bits however a training is cut
    into jobs.
    """

    def _set(self, **arguments: Any) -> None:
        self.__dict__.update(arguments)

    def _at(self, t: Rates) -> Rates:
        raise NotImplementedError(f"{type(self).__name__} must define _at(t)")

    def __call__(self, step: int) -> float:
        """The rate after `step` steps."""
        return float(self.rates(step, 1)[0])

    def rates(self, first: int, count: int) -> Rates:
        """The rates after `first`, `first` + 1, … steps, (count,) float64: the same bits as one call for each."""
        first, count = integer("first", first, 0), integer("count", count, 0)
        return self._at(np.arange(first, first + count, dtype=np.float64))

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON knows them: `type(schedule)(**schedule.config())` equals `schedule`."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.__dict__.items()}

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self!r} cannot be changed; give the optimizer another one")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.values()))

    def __repr__(self) -> str:
        first, *rest = ((name, _words(value)) for name, value in self.config().items())
        return f"{type(self).__name__}({', '.join([first[1], *(f'{name}={words}' for name, words in rest)])})"


def _words(value: Any) -> str:
    return f"[{', '.join(map(_words, value))}]" if isinstance(value, list) else f"{value:g}"


class InverseTimeDecay(StepSchedule):
    """lr(t) = learning_rate / (1 + decay·t): what an optimizer's `decay` argument does."""

    learning_rate: float
    decay: float

    def __init__(self, learning_rate: float, decay: float) -> None:
        self._set(learning_rate=number("learning_rate", learning_rate, 0), decay=number("decay", decay, 0))

    def _at(self, t: Rates) -> Rates:
        return self.learning_rate / (1.0 + self.decay * t)


class StepDecay(StepSchedule):
    """lr(t) = learning_rate · factor^⌊t/every⌋, factor in (0, 1]: a staircase, `every` steps to a stair."""

    learning_rate: float
    every: int
    factor: float

    def __init__(self, learning_rate: float, every: int, factor: float) -> None:
        self._set(
            learning_rate=number("learning_rate", learning_rate, 0),
            every=integer("every", every, 1),
            factor=number("factor", factor, 0, 1, low_open=True),
        )

    def _at(self, t: Rates) -> Rates:
        return self.learning_rate * np.power(self.factor, np.floor(t / self.every))


class ExponentialDecay(StepSchedule):
    """lr(t) = learning_rate · rate^(t/every), rate in (0, 1]: smooth, by the factor `rate` in `every` steps."""

    learning_rate: float
    rate: float
    every: int

    def __init__(self, learning_rate: float, rate: float, every: int = 1) -> None:
        self._set(
            learning_rate=number("learning_rate", learning_rate, 0),
            rate=number("rate", rate, 0, 1, low_open=True),
            every=integer("every", every, 1),
        )

    def _at(self, t: Rates) -> Rates:
        return self.learning_rate * np.power(self.rate, t / self.every)


class CosineDecay(StepSchedule):
    """A straight line up to `learning_rate`, then half a cosine down to `final`, where it stays from t = `steps` on.

        t < warmup    lr(t) = learning_rate · (t + 1)/warmup
        else          lr(t) = final + (learning_rate − final) · (1 + cos(π·u))/2,  u = (t − warmup)/(steps − warmup)

    `steps` is the length of the whole, warm-up included; 0 ≤ warmup < steps. Source: Loshchilov & Hutter 2017, "SGDR",
    equation 5, without restarts.
    """

    learning_rate: float
    steps: int
    final: float
    warmup: int

    def __init__(self, learning_rate: float, steps: int, final: float = 0, warmup: int = 0) -> None:
        steps = integer("steps", steps, 1)
        self._set(
            learning_rate=number("learning_rate", learning_rate, 0),
            steps=steps,
            final=number("final", final, 0),
            warmup=integer("warmup", warmup, 0, steps - 1),
        )

    def _at(self, t: Rates) -> Rates:
        falling = _half_cosine(self.learning_rate, self.final, (t - self.warmup) / (self.steps - self.warmup))
        return np.where(t < self.warmup, self.learning_rate * ((t + 1) / max(self.warmup, 1)), falling)


class PiecewiseConstant(StepSchedule):
    """lr(t) = values[i], i the number of boundaries ≤ t: the first boundaries[0] steps take values[0], and so on.

    `boundaries` rise strictly from 1 or more; there is one value more than boundaries.
    """

    boundaries: tuple[int, ...]
    values: tuple[float, ...]

    def __init__(self, boundaries: Sequence[int], values: Sequence[float]) -> None:
        boundaries = tuple(integer(f"boundaries[{i}]", b, 1) for i, b in enumerate(_sequence("boundaries", boundaries)))
        values = tuple(number(f"values[{i}]", v, 0) for i, v in enumerate(_sequence("values", values)))
        if any(low >= high for low, high in pairwise(boundaries)):
            raise OptionError(f"boundaries are {list(boundaries)}; expected steps that rise from one to the next")
        if len(values) != len(boundaries) + 1:
            raise OptionError(
                f"values are {len(values)}, boundaries {len(boundaries)}; expected one value more than boundaries: "
                "before the first, between each two, after the last"
            )
        self._set(boundaries=boundaries, values=values)

    def _at(self, t: Rates) -> Rates:
        return np.array(self.values)[np.searchsorted(np.array(self.boundaries, np.float64), t, side="right")]


class OneCycle(StepSchedule):
    """Half a cosine up from max_rate/start_divisor to `max_rate`, then one down to max_rate/final_divisor.

        t < rise·steps    lr(t) = start + (max_rate − start) · (1 − cos(π·u))/2,  u = t/(rise·steps)
        else              lr(t) = final + (max_rate − final) · (1 + cos(π·u))/2,  u = (t/steps − rise)/(1 − rise)

    `rise` in (0, 1) is the share of the steps that go up; from t = `steps` on the rate stays final. Source: Smith &
    Topin 2018, "Super-convergence", with half-cosines in the place of straight lines, as is usual today.
    """

    max_rate: float
    steps: int
    rise: float
    start_divisor: float
    final_divisor: float

    def __init__(
        self, max_rate: float, steps: int, rise: float = 0.3, start_divisor: float = 25, final_divisor: float = 1e4
    ) -> None:
        self._set(
            max_rate=number("max_rate", max_rate, 0),
            steps=integer("steps", steps, 1),
            rise=number("rise", rise, 0, 1, low_open=True, high_open=True),
            start_divisor=number("start_divisor", start_divisor, 1),
            final_divisor=number("final_divisor", final_divisor, 1),
        )

    def _at(self, t: Rates) -> Rates:
        top = self.rise * self.steps
        rising = _half_cosine(self.max_rate / self.start_divisor, self.max_rate, t / top)
        falling = _half_cosine(self.max_rate, self.max_rate / self.final_divisor, (t - top) / (self.steps - top))
        return np.where(t < top, rising, falling)


def _half_cosine(start: float, end: float, u: Rates) -> Rates:
    """From `start` at u = 0 to `end` at u = 1, both exactly; beyond these it stays."""
    share = 0.5 * (1.0 + np.cos(math.pi * np.clip(u, 0.0, 1.0)))
    return start * share + end * (1.0 - share)


def _sequence(name: str, value: Any) -> list[Any]:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise DTypeError(f"{name} is {value!r}; expected a list of numbers")
    return list(value)


# ---- for optimizers -------------------------------------------------------------------------------------------------


def rates_of(schedule: Schedule, first: int, count: int) -> Rates:
    """The rates of any schedule after `first`, `first` + 1, … steps, through its `rates` if it has that method.

    Raises OptionError, DTypeError or ShapeError, naming schedule and step, where it gives anything but finite numbers
    of at least 0.
    """
    if isinstance(schedule, type):
        raise DTypeError(f"the schedule is the class {schedule.__name__}; give an object, {schedule.__name__}(…)")
    together = getattr(schedule, "rates", None)
    if together is None:
        rates = np.array([_one(schedule, t) for t in range(first, first + count)], np.float64)
    else:
        rates = np.asarray(together(first, count))
        if rates.shape != (count,) or rates.dtype.kind not in "fiu":
            raise ShapeError(
                f"the schedule {schedule!r} gives for rates({first}, {count}) an array of shape {rates.shape}, "
                f"{rates.dtype}; expected ({count},), float64"
            )
        rates = rates.astype(np.float64, copy=False)
    good = np.isfinite(rates) & (rates >= 0)
    if not good.all():
        t = int(np.argmin(good))
        number(_named(schedule, first + t), float(rates[t]), 0)
    return rates


def _one(schedule: Schedule, step: int) -> float:
    rate = schedule(step)
    return rate if type(rate) is float else number(_named(schedule, step), rate, 0)


def _named(schedule: Schedule, step: int) -> str:
    return f"the rate that the schedule {schedule!r} gives after {step} steps"
