"""The book's `train` and `evaluate`: jobs of many steps, and the lines that the book prints about them.

A job lasts about 100 ms; the lines of its steps come out together when it is done. They say the same as if each step
had printed its own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast._warning import warn
from nnfast.errors import NonFiniteWarning
from nnfast.training.interrupts import Interrupts

if TYPE_CHECKING:
    from nnfast.compat._engine import Engine, Rows
    from nnfast.compat._model import Model

__all__ = ["evaluate", "train"]

JOB_SECONDS = 0.1


def train(model: Model, engine: Engine, rows: Rows, *, epochs: int, print_every: int, validation: Rows | None) -> None:
    """Train and print; validation after each epoch. Ctrl-C is heard between two jobs."""
    report = _Report(model, rows, print_every)
    interrupts = Interrupts()
    seconds = 0.0  # per step, of the last job; 0: not known yet
    with interrupts.held_back():
        while report.steps < epochs * report.per_epoch:
            left = epochs * report.per_epoch - report.steps
            if validation is not None:
                left = min(left, report.per_epoch - report.steps % report.per_epoch)
            steps = min(left, max(1, int(JOB_SECONDS / seconds))) if seconds else 1
            begin = time.perf_counter()
            result, rates = engine.train(rows, report.steps % report.per_epoch, steps)
            seconds = (time.perf_counter() - begin) / steps
            report.add(result.sums, rates)
            report.warn(result.nonfinite, steps)
            if validation is not None and report.steps % report.per_epoch == 0:
                evaluate(model, engine, validation)
            interrupts.heed()


def evaluate(model: Model, engine: Engine, rows: Rows) -> None:
    """Print loss, without penalties, and accuracy; what was counted stays with `model.loss` and `model.accuracy`."""
    loss, _, hits = engine.measure(rows).sum(axis=0)
    _note(model, loss, hits, len(rows.x))
    print(f"validation, acc: {hits / len(rows.x):.3f}, loss: {loss / len(rows.x):.3f}", flush=True)


def _note(model: Model, loss: float, hits: float, rows: int) -> None:
    """Leave a pass over the data as if it had been counted batch by batch."""
    for part, total in ((model.loss, loss), (model.accuracy, hits)):
        part.accumulated_sum, part.accumulated_count = float(total), int(rows)


class _Report:
    """Counts the steps of a training and prints the lines that are due."""

    def __init__(self, model: Model, rows: Rows, print_every: int) -> None:
        self._model = model
        self._rows = rows.batch_rows
        self._every = print_every
        self._epoch = np.zeros(3)  # sums of the epoch so far: loss, (penalties), hits
        self._warned = False
        self.per_epoch = len(self._rows)
        self.steps = 0

    def add(self, sums: Any, rates: list[float]) -> None:
        """Take the sums of further steps, and print."""
        lines: list[str] = []
        done = 0
        while done < len(sums):
            first = self.steps % self.per_epoch
            count = min(self.per_epoch - first, len(sums) - done)
            here = slice(done, done + count)
            after = sums[done + count, 1] if done + count < len(sums) else None
            self._part_of_epoch(lines, first, sums[here], rates[here], after)
            self.steps += count
            done += count
        _note(self._model, self._epoch[0], self._epoch[2], int(self._rows[: first + count].sum()))
        if lines:
            print("\n".join(lines), flush=True)

    def _part_of_epoch(self, lines: list[str], first: int, sums: Any, rates: list[float], after: float | None) -> None:
        """The lines of steps `first`, … of one epoch; `after` is the penalty that they leave, where it is known."""
        if first == 0:
            lines.append(f"epoch: {self.steps // self.per_epoch + 1}")
            self._epoch[:] = 0
        self._epoch += sums.sum(axis=0)
        end = first + len(sums)
        due = [*range(-(-first // self._every) * self._every, end, self._every)]
        if end == self.per_epoch and (not due or due[-1] != end - 1):
            due.append(end - 1)
        for step in due:
            n, (loss, penalty, hits) = self._rows[step], sums[step - first]
            lines.append(f"step: {step}, {_words(hits / n, loss / n, penalty, rates[step - first])}")
        if end == self.per_epoch:
            n = self._rows.sum()
            penalty = self._model._penalty() if after is None else after
            lines.append(f"training, {_words(self._epoch[2] / n, self._epoch[0] / n, penalty, rates[-1])}")

    def warn(self, nonfinite: int, steps: int) -> None:
        if nonfinite < 0 or self._warned:
            return
        self._warned = True
        epoch = (self.steps - steps + nonfinite) // self.per_epoch + 1
        warn(
            f"the loss or the gradient is not finite since epoch {epoch}; "
            "a smaller learning rate may help, or the data hold NaN",
            NonFiniteWarning,
        )


def _words(accuracy: float, data_loss: float, penalty: float, rate: float) -> str:
    parts = f"data_loss: {data_loss:.3f}, reg_loss: {penalty:.3f}"
    return f"acc: {accuracy:.3f}, loss: {data_loss + penalty:.3f} ({parts}), lr: {rate}"
