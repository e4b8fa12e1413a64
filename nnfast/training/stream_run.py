"""A training run on batches that come one by one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.errors import DataError
from nnfast.protocol import Result
from nnfast.training.accumulation import Part, accumulated_step
from nnfast.training.batches import Data, make_job, normalisers, prepare, tally_of
from nnfast.training.run import JOB_SECONDS, Pauses, Run, Values
from nnfast.training.streams import Stream

if TYPE_CHECKING:
    from nnfast.model import Model
    from nnfast.storage.records import Record

__all__ = ["StreamRun", "evaluate_stream"]

MOST_ROWS = 2**53  # of a batch: float64 counts them


class StreamRun(Run):
    """Each batch is checked and converted when its turn comes. How many make an epoch is known when it is over."""

    def __init__(self, model: Model, stream: Stream, accumulate: int, class_weight: Any, on_gradients: Any) -> None:
        program, _ = model._programs.runner("train")
        super().__init__(model, tally_of(model, program, None), on_gradients)
        self._stream, self._accumulate, self._class_weight = stream, accumulate, class_weight
        self._epochs = 0
        self._taken = 0  # batches in all
        self._rows: list[int] = []  # of the batches of this epoch
        self._batches: Iterator[Data] | None = None
        self._ahead: list[Data] = []  # the next one: whether there is one tells whether the epoch is over

    @property
    def epochs_done(self) -> int:
        return self._epochs

    @property
    def at_epoch_end(self) -> bool:
        return not self._rows

    def signature(self) -> dict[str, Any]:
        return {"steps_per_epoch": self._stream.length, "accumulate": self._accumulate}

    @property
    def batches_begun(self) -> int:
        return len(self._rows)

    def _place(self, record: Record) -> tuple[int, int]:
        rows, length = record.of("rows", list), self._stream.length
        if not all(type(n) is int and 0 < n <= MOST_ROWS for n in rows):
            record.refuse("rows", "a list of how many rows each batch had")
        epochs, batches, steps = record.count("epochs"), len(rows), record.count("steps")
        taken = record.count("taken") - batches
        whole = taken >= epochs if length is None else taken == epochs * length and batches <= length
        if not whole or not steps <= taken + batches <= steps * self._accumulate:
            record.refuse("taken", f"as many batches as {epochs} epochs, {batches} batches and {steps} steps make")
        return epochs, batches

    def record(self) -> dict[str, Any]:
        return super().record() | {"epochs": self._epochs, "taken": self._taken, "rows": self._rows}

    def go_on(self, record: dict[str, Any]) -> None:
        self._epochs, self._taken, self._rows = record["epochs"], record["taken"], list(record["rows"])
        super().go_on(record)
        self._stream.passed(self._taken - len(self._rows))

    def job(self, epoch: int, step: int | None, pauses: Pauses | None = None) -> Values:
        begin = time.perf_counter()
        while True:
            self._current_optimizer()
            if self._batches is None:
                self._batches = self._of_epoch()
            parts = self._next(self._accumulate)
            if not parts:
                raise DataError(f"epoch {self._epochs + 1} has no batches: there is nothing to train on")
            result = self._step(parts)
            weights = np.array([data.batch_weights(None)[0] for data in parts])
            self.steps += 1
            self._taken += len(parts)
            self._rows += [data.rows for data in parts]
            self._warn(result, self._epochs + 1)
            self.tally.add(result.sums, weights)
            over = not self._peek()
            values = self._finish() if over else {}
            self._count_epochs()
            if over or self.steps == step or time.perf_counter() - begin > JOB_SECONDS:
                return values

    def _finish(self) -> Values:
        values = self.tally.finish(self._rows)
        self._epochs, self._rows, self._batches = self._epochs + 1, [], None
        return values

    def _step(self, parts: list[Data]) -> Result:
        if self._accumulate > 1:
            weighed = [Part(data, None, 0, float(data.batch_weights(None)[0]), data.rows) for data in parts]
            return accumulated_step(self.model, weighed, self.on_gradients)
        model, optimizer, (data,) = self.model, self.optimizer, parts
        assert optimizer is not None
        program, runner = model._programs.runner("train")
        job = make_job(
            model,
            data,
            model._programs.scalars(program),
            learning_rates=optimizer.learning_rates(optimizer.steps, 1),
            normalisers=normalisers(data.batch_weights(None)),
            first_step=optimizer.steps + 1,
            on_gradients=self.on_gradients,
        )
        result = model._programs.run(runner, job)
        optimizer.steps += 1
        return result

    def _of_epoch(self) -> Iterator[Data]:
        first = len(self._rows)
        for number, (X, y, weight) in enumerate(self._stream.epoch(skip=first), first):
            yield prepare(self.model, X, y, weight, None, f"batch {number}: ", class_weight=self._class_weight)

    def _next(self, count: int) -> list[Data]:
        assert self._batches is not None
        taken = [*self._ahead, *islice(self._batches, count - len(self._ahead))]
        self._ahead = []
        return taken

    def _peek(self) -> bool:
        self._ahead = self._next(1)
        return bool(self._ahead)


def evaluate_stream(model: Model, stream: Stream) -> dict[str, float]:
    """Loss and metrics over all batches of a stream."""
    program, runner = model._programs.runner("evaluate")
    tally, rows = tally_of(model, program, None), []
    for number, (X, y, weight) in enumerate(stream.epoch()):
        data = prepare(model, X, y, weight, None, f"batch {number}: ")
        weights = data.batch_weights(None)
        job = make_job(model, data, model._programs.scalars(program), normalisers=normalisers(weights))
        tally.add(model._programs.run(runner, job).sums, weights)
        rows.append(data.rows)
    if not rows:
        raise DataError("there are no batches to evaluate")
    return {name: float(column[0]) for name, column in tally.finish(rows).items()}
