"""A training in a file: what is written down of it, and going on from there once all of that is checked."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnfast.callbacks.base import CallbackList
from nnfast.errors import CheckpointError
from nnfast.training.run import Run
from nnfast.validation import file_name

if TYPE_CHECKING:
    from nnfast.storage.records import Record
    from nnfast.storage.restoring import AsItWas

__all__ = ["Resumption", "Session", "checkpoint_at", "resumed"]


class Session:
    """What a running `fit` consists of: enough to write it down, and to go on from there."""

    def __init__(self, run: Run, hooks: CallbackList, epochs: int) -> None:
        self.run, self.hooks, self.epochs = run, hooks, epochs

    @property
    def is_whole(self) -> bool:
        """Whether the history has all that was done: not where a job ended in an error, and its sums were lost."""
        run = self.run
        return run.model.history.epochs == run.epochs_done and len(run.tally.partial[1]) == run.batches_begun

    def record(self) -> dict[str, Any] | None:
        """For a checkpoint: the position, the history so far, and what the callbacks remember; None if not whole."""
        if not self.is_whole:
            return None
        history = self.run.model.history
        return {
            "run": self.run.record(),
            "history": {name: np.array(column) for name, column in history.history.items()},
            "validated": {name: np.array(epochs, np.int64) for name, epochs in history.validated.items()},
            "callbacks": self.hooks.states(),
        }

    def check(self, record: Record) -> None:
        """Refuse a record from which `go_on` could not go on, or would leave something impossible."""
        done = self.run.check(record.part("run"))
        _check_history(record, done)
        self.hooks.check(self.run.model, record)

    def go_on(self, record: Record) -> None:
        """Take up what was checked; the model is where the training had left it."""
        history = self.run.model.history
        self.run.go_on(record["run"])
        for name, column in record["history"].items():
            history.history[name] = column.tolist()
        history.validated = {name: epochs.tolist() for name, epochs in record["validated"].items()}
        self.hooks.restore(record)


def _check_history(record: Record, done: int) -> None:
    """Columns of at most `done` epochs, the loss of exactly so many; where not every epoch was measured, which."""
    columns, validated = record.part("history"), record.part("validated")
    columns.array("loss", np.float64, (done,))
    for name in columns:
        if len(columns.array(name, np.float64, (None,))) > done:
            columns.refuse(name, f"at most {done} values")
    for name in validated:
        epochs = validated.ascending(name, 1, done)
        columns.array(name, np.float64, epochs.shape)


class Resumption(NamedTuple):
    """What a training goes on from, and what its model was before."""

    record: Record
    before: AsItWas


def checkpoint_at(path: Any) -> str | None:
    """The file that `resume` names; None where it names none, or, after a notice, where there is none yet."""
    if path is None:
        return None
    name: str = file_name("resume", path)
    if not os.path.exists(name):
        print(f"nnfast: there is no checkpoint at {name} yet; training begins anew", file=sys.stderr)
        return None
    return name


def resumed(session: Session, path: Any) -> Resumption | None:
    """Put the model where the checkpoint at `path` left it; None to begin anew. Raises CheckpointError."""
    path = checkpoint_at(path)
    if path is None:
        return None
    from nnfast import checkpoint
    from nnfast.storage.records import Record
    from nnfast.storage.restoring import AsItWas

    model = session.run.model

    def check(said: Any) -> None:
        if not isinstance(said, dict) or "run" not in said:
            raise CheckpointError(
                f"{path} holds a model but no training to go on with; use nn.load and fit, without resume="
            )
        session.check(Record(said, path))

    before = AsItWas(model)
    return Resumption(Record(checkpoint.restore(model, path, check=check), path), before)
