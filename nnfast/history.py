"""What a training run leaves behind: values per epoch."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from nnfast._numbers import choice
from nnfast.errors import DataError, DTypeError, OptionError, UnknownNameError

__all__ = ["History"]


class History:
    """Values per epoch: `history.history["loss"]` and so on, one list per name; `val_…` one per validation.

    Epochs count from 1 within the `fit`. `epochs_of` tells when a value was measured, where that is not every epoch.
    `planned` is the number of epochs that `fit` was asked for; `higher` are the metrics of which more is better.
    """

    def __init__(
        self, names: tuple[str, ...] = (), *, planned: int | None = None, higher: Collection[str] | None = None
    ) -> None:
        self.history: dict[str, list[float]] = {name: [] for name in names}
        self.planned = planned
        self.higher = higher
        self.validated: dict[str, list[int]] = {}  # epochs of what is not measured in every one, by name

    def extend(self, values: dict[str, np.ndarray[Any, Any]], epochs: Sequence[int] | None = None) -> None:
        """Add columns: of the next epochs, or of those that are named."""
        for name, column in values.items():
            self.history.setdefault(name, []).extend(column.tolist())
            if epochs is not None:
                self.validated.setdefault(name, []).extend(epochs)

    def last(self) -> dict[str, float]:
        """The latest value of each name."""
        return {name: column[-1] for name, column in self.history.items() if column}

    @property
    def epochs(self) -> int:
        """Epochs recorded."""
        return len(self.history.get("loss", []))

    def epochs_of(self, name: str) -> Sequence[int]:
        """The epochs, from 1, in which the values `history.history[name]` were measured."""
        column = self._column(name)
        known = self.validated.get(name, ())
        return known if len(known) == len(column) else range(1, len(column) + 1)

    def best(self, name: str = "val_loss", mode: str = "auto") -> tuple[int, float]:
        """(epoch, value) of the best finite value of `name`, the first of equals.

        `mode` says which way is better: "min", "max", or "auto", which knows losses and the metrics of nnfast.
        Raises UnknownNameError, OptionError where "auto" cannot tell, DataError where no value is finite.
        """
        choice("mode", mode, ("auto", "min", "max"))
        column = np.asarray(self._column(name), np.float64)
        sign = -1 if mode == "max" or (mode == "auto" and self._higher_is_better(name)) else 1
        if not np.isfinite(column).any():
            raise DataError(f"{name!r} has no finite value yet ({len(column)} measured), so none is best")
        at = int(np.argmin(np.where(np.isfinite(column), sign * column, np.inf)))
        return self.epochs_of(name)[at], float(column[at])

    def _column(self, name: str) -> list[float]:
        if not isinstance(name, str) or name not in self.history:
            raise UnknownNameError("name in the history", name, self.history)
        return self.history[name]

    def _higher_is_better(self, name: str) -> bool:
        from nnfast.metrics import resolve  # only now: a history is also read where nothing is trained

        base = name.removeprefix("val_")
        if base in ("loss", "data_loss"):
            return False
        if self.higher is not None:
            return base in self.higher
        try:
            return resolve(base).higher_is_better
        except (DTypeError, UnknownNameError):
            raise OptionError(
                f"which way {name!r} is better is not known here; give mode='min' or mode='max'"
            ) from None

    def to_dict(self) -> dict[str, list[Any]]:
        """Columns of equal length: "epoch" 1, 2, … and every name, with None where it was not measured.

        `pandas.DataFrame(history.to_dict())` makes a table of it.
        """
        length = max([self.epochs, *(self.epochs_of(name)[-1] for name, c in self.history.items() if c)])
        columns: dict[str, list[Any]] = {"epoch": list(range(1, length + 1))}
        for name, values in self.history.items():
            columns[name] = [None] * length
            for epoch, value in zip(self.epochs_of(name), values, strict=True):
                columns[name][epoch - 1] = value
        return columns

    def to_csv(self, path: Any) -> None:
        """Write a line per epoch: its number, then every name; empty where not measured, digits in full.

        The file is put in place whole or not at all. Raises an OSError of `nnfast.errors` where it cannot be written.
        """
        import csv

        from nnfast.storage.files import as_path, replacing

        columns, text = self.to_dict(), io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(columns)
        rows.writerows(zip(*columns.values(), strict=True))  # floats as repr writes them: enough digits
        with replacing(as_path(path)) as file:
            file.write(text.getvalue().encode())

    def plot(self, **options: Any) -> Any:
        """Draw the curves; see `nnfast.plots.history`."""
        from nnfast import plots

        return plots.history(self, **options)

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={value:.4g}" for name, value in self.last().items())
        return f"<History of {self.epochs} epochs: {last}>"
