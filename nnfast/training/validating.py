"""Validation while a training runs: as far as possible in the midst of a job, without returning to the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.protocol import Aside
from nnfast.training.batches import Data, make_job, normalisers, repeated, tally_of

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = ["Validation", "batch_sums", "evaluate_data"]

Columns = dict[str, np.ndarray[Any, Any]]


def evaluate_data(model: Model, data: Data) -> dict[str, float]:
    """Loss and metrics over checked rows."""
    program, _ = model._programs.runner("evaluate")
    weights = data.batch_weights(None)
    return tally_of(model, program, data.batch_rows).one_epoch(batch_sums(model, data, 0, len(weights)), weights)


def batch_sums(model: Model, data: Data, first: int, end: int) -> np.ndarray[Any, Any]:
    """The sums of batches first … end − 1, one row each."""
    program, runner = model._programs.runner("evaluate")
    weights, scalars = data.batch_weights(None), model._programs.scalars(program)
    sums = [np.empty((0, len(program.sums)))]
    while first < end:
        part = weights[first : min(first + (data.most_steps(first) or end), end)]
        job = make_job(model, data, scalars, first_batch=first, steps=len(part), normalisers=normalisers(part))
        sums.append(model._programs.run(runner, job).sums)
        first += len(part)
    return np.concatenate(sums)


class Validation:
    """What is measured every `every` epochs: rows in memory, or whatever `measure()` measures.

    validation.begin()      before a job: what it does at its pauses
    validation.take()       or between two jobs
    validation.values()     after it: one value per pause or call, by name
    """

    def __init__(self, model: Model, every: int, data: Data | None, measure: Callable[[], dict[str, float]]) -> None:
        self._model, self.every, self._measure = model, every, measure
        self._data = data if data is not None and data.staged is None else None
        self._aside: Aside | None = None
        self._taken: list[dict[str, float]] = []

    @property
    def names(self) -> tuple[str, ...]:
        """What it measures, as the history has it."""
        program, _ = self._model._programs.runner("evaluate")
        return tuple(f"val_{name}" for name in tally_of(self._model, program, None).names)

    @property
    def within_jobs(self) -> bool:
        """Whether it may be measured at the pauses of a job."""
        return self._data is not None

    def begin(self) -> Aside | None:
        """What the next job is to do at its pauses; None where that can be done between jobs only."""
        self._aside, self._taken = None, []
        model, data = self._model, self._data
        if data is not None:
            self._program, runner = model._programs.runner("evaluate")
            weights = data.batch_weights(None)
            scalars = model._programs.scalars(self._program)
            job = make_job(model, data, scalars, steps=len(weights), normalisers=normalisers(weights))
            self._aside = Aside(runner, job)
        return self._aside

    def take(self) -> None:
        if self._aside is not None:
            self._aside.run()
        else:
            self._taken.append(self._measure())

    def values(self) -> Columns:
        if self._aside is None or self._data is None:
            names = self._taken[0] if self._taken else ()
            return {f"val_{name}": np.array([values[name] for values in self._taken]) for name in names}
        if not self._aside.sums:
            return {}
        sums, weights = np.concatenate(self._aside.sums), self._data.batch_weights(None)
        tally = tally_of(self._model, self._program, self._data.batch_rows)
        columns = tally.add(sums, repeated(weights, len(sums) // len(weights)))
        return {f"val_{name}": column for name, column in columns.items()}
