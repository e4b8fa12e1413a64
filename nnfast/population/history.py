"""What a training of a population leaves behind: values per model and epoch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast._numbers import choice
from nnfast.errors import UnknownNameError
from nnfast.history import History

if TYPE_CHECKING:
    from nnfast.storage.records import Record

__all__ = ["PopulationHistory"]

Array = np.ndarray[Any, Any]


class PopulationHistory:
    """`history.history["loss"]` and so on, arrays (models, epochs); NaN where a model was not trained or measured.

    `history[k]` is the `History` that model k would have had alone. `epochs` (models,) are those trained, `restored`
    (models,) the epochs whose weights early stopping put back, 0 where it did not.
    """

    def __init__(
        self,
        names: tuple[str, ...] = (),
        n: int = 0,
        planned: int = 0,
        *,
        higher: Collection[str] = (),
        penalized: Any = None,
    ) -> None:
        self.planned, self.higher = planned, list(higher)
        self.history: dict[str, Array] = {name: np.full((n, planned), np.nan) for name in names}
        self.epochs = np.zeros(n, np.int64)
        self.restored = np.zeros(n, np.int64)
        self.validated: list[int] = []  # epochs, for names that begin with val_
        self.penalized = np.zeros(n, bool) if penalized is None else np.asarray(penalized, bool)

    def __len__(self) -> int:
        return len(self.epochs)

    def extend(self, models: Array, first: int, values: dict[str, Array]) -> None:
        """Columns (models, epochs) of these models' epochs after `first`."""
        for name, columns in values.items():
            self.history[name][models, first : first + columns.shape[1]] = columns
            self.epochs[models] = first + columns.shape[1]

    def measured(self, models: Array, epochs: list[int], values: dict[str, Array]) -> None:
        """Validation of these models after these epochs, as (models, len(epochs)) by name without val_."""
        at = np.asarray(epochs, np.int64) - 1
        for name, columns in values.items():
            self.history[f"val_{name}"][np.ix_(models, at)] = columns
        self.validated += epochs

    def __getitem__(self, k: int) -> History:
        done = int(self.epochs[k])
        made = History((), planned=self.planned, higher=self.higher)
        for name, rows in self.history.items():
            if name.endswith("data_loss") and not self.penalized[k]:
                continue
            if name.startswith("val_"):
                due = [e for e in self.validated if e <= done]
                made.history[name] = rows[k, np.asarray(due, np.int64) - 1].tolist()
                made.validated[name] = due
            else:
                made.history[name] = rows[k, :done].tolist()
        return made

    def at_end(self, name: str) -> Array:
        """(models,): the value that belongs to the weights that each model holds now: the last, or the restored."""
        if not isinstance(name, str) or name not in self.history:
            raise UnknownNameError("name in the history", name, self.history)
        values = np.full(len(self), np.nan)
        for k, (done, restored) in enumerate(zip(self.epochs.tolist(), self.restored.tolist(), strict=True)):
            until = restored or done
            if name.startswith("val_"):
                known = np.array([e - 1 for e in self.validated if e <= until], np.int64)
                values[k] = self.history[name][k, known[-1]] if len(known) else np.nan
            elif until:
                values[k] = self.history[name][k, until - 1]
        return values

    def subset(self, chosen: Sequence[int]) -> PopulationHistory:
        """That of some of the models."""
        at = np.asarray(chosen, np.int64)
        made = PopulationHistory((), len(at), self.planned, higher=self.higher, penalized=self.penalized[at])
        made.history = {name: rows[at] for name, rows in self.history.items()}
        made.epochs, made.restored, made.validated = self.epochs[at], self.restored[at], list(self.validated)
        return made

    def sign(self, name: str, mode: str = "auto") -> int:
        """1 where less of `name` is better, −1 where more is."""
        choice("mode", mode, ("auto", "min", "max"))
        higher = name.removeprefix("val_") in self.higher
        return -1 if mode == "max" or (mode == "auto" and higher) else 1

    def record(self) -> dict[str, Any]:
        """For a file."""
        return {
            "history": dict(self.history),
            "planned": self.planned,
            "higher": self.higher,
            "epochs": self.epochs,
            "restored": self.restored,
            "validated": np.array(self.validated, np.int64),
            "penalized": self.penalized,
        }

    @staticmethod
    def of(record: Record, n: int) -> PopulationHistory:
        """From a file that holds n models. Raises CheckpointError for what no training has left."""
        columns, higher = record.part("history"), record.of("higher", list)
        planned = record.count("planned")
        if planned and not columns:
            record.refuse("planned", "0 where nothing was measured")
        if not all(isinstance(name, str) for name in higher):
            record.refuse("higher", "names of metrics")
        made = PopulationHistory((), n, planned, higher=higher, penalized=record.array("penalized", bool, (n,)))
        made.history = {name: columns.array(name, np.float64, (n, planned)) for name in columns}
        made.epochs = record.counts("epochs", (n,), planned).copy()
        made.restored = record.counts("restored", (n,), planned).copy()
        made.validated = record.ascending("validated", 1, planned).tolist()
        return made

    def __repr__(self) -> str:
        return f"<PopulationHistory of {len(self)} models, {int(self.epochs.sum()):,} epochs in all>"
