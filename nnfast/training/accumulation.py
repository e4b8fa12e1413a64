"""Several batches to one update: their gradients are summed, as if they had been one batch.

Each batch is divided by the weight of all of them, counts its rows from the first of all for dropout, and adds its part
of the penalties, so the sum is the gradient of the large batch up to rounding, without the memory that this would take.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnfast.protocol import Result
from nnfast.training.batches import Data, make_job
from nnfast.training.run import ArrayRun, Pauses, Values
from nnfast.training.stepping import update

if TYPE_CHECKING:
    from nnfast.model import Model
    from nnfast.program import Program

__all__ = ["AccumulatingRun", "Part", "accumulated_step", "divided"]


class Part(NamedTuple):
    """One batch of a step, or what one of several ranks has of it."""

    data: Data
    order: Any  # of the epoch, (1, rows) or None
    batch: int
    weight: float  # of the whole batch, as its rows
    rows: int
    before: int = 0  # rows of the batch that lower ranks have


def accumulated_step(model: Model, parts: list[Part], on_gradients: Any, *, penalties: bool = True) -> Result:
    """One update from several batches; the sums of each. Without `penalties` another rank adds those."""
    program, runner = model._programs.runner("accumulate")
    assert model.optimizer is not None
    scalars = divided(program, model._programs.scalars(program), len(parts) if penalties else math.inf)
    total = sum(part.weight for part in parts)
    sums, first_row, nonfinite, gathered = [], 0, -1, None
    for part in parts:
        job = make_job(
            model,
            part.data,
            scalars,
            order=part.order,
            first_batch=part.batch,
            normalisers=np.array([total if total > 0 else 1.0]),
            first_step=model.optimizer.steps + 1,
            first_rows=np.array([first_row + part.before]),
        )
        result = model._programs.run(runner, job)
        sums.append(result.sums[0])
        first_row += part.rows
        nonfinite = max(nonfinite, result.nonfinite)
        flat = model._buffers.gradients
        if gathered is None:
            gathered = flat.copy()
        else:
            gathered += flat
    model._buffers.gradients[...] = gathered
    if on_gradients is not None:
        on_gradients(model._buffers.gradients)
    update(model)
    made = np.array(sums)
    made[:, 1] *= len(parts)  # each batch reports the whole penalty
    return Result(made, nonfinite)


def divided(program: Program, scalars: np.ndarray[Any, Any], parts: float) -> np.ndarray[Any, Any]:
    """The program's numbers, with the strengths of penalties shared out among the parts; among infinitely many, 0."""
    strengths = program.strengths
    shared = np.array([name in strengths for name in program.scalars], dtype=bool)
    return np.asarray(np.divide(scalars, parts, out=scalars.copy(), where=shared))


class AccumulatingRun(ArrayRun):
    """`accumulate` batches of arrays to a step; the last step of an epoch may have fewer."""

    def __init__(self, model: Model, data: Data, shuffle: bool, on_gradients: Any, accumulate: int) -> None:
        super().__init__(model, data, shuffle, on_gradients)
        self._guess *= accumulate
        self._accumulate = accumulate
        self._batches = len(data.starts)
        self.per_epoch = math.ceil(self._batches / accumulate)

    @property
    def takes_pauses(self) -> bool:
        return False

    def signature(self) -> dict[str, Any]:
        return super().signature() | {"accumulate": self._accumulate}

    def job(self, epoch: int, step: int | None, pauses: Pauses | None = None) -> Values:
        self._current_optimizer()
        steps = self._steps_in_time(self._until(epoch, step) - self.steps)
        sums, weights = [], []
        begin = time.perf_counter()
        for _ in range(steps):
            parts = self._parts()
            result = accumulated_step(self.model, parts, self.on_gradients)
            sums.append(result.sums)
            weights += [part.weight for part in parts]
            self.steps += 1
            self._count_epochs()
            self._warn(result, (self.steps - 1) // self.per_epoch + 1)
        self._seconds = (time.perf_counter() - begin) / steps
        return self.tally.add(np.concatenate(sums), np.array(weights))

    def _parts(self) -> list[Part]:
        epoch, step = divmod(self.steps, self.per_epoch)
        order = self.order(epoch, epoch + 1) if self._shuffled else None
        rows, weights = self.data.batch_rows, self._weights(order, 1)
        first = step * self._accumulate
        batches = range(first, min(first + self._accumulate, self._batches))
        return [Part(self.data, order, b, float(weights[b]), int(rows[b])) for b in batches]
