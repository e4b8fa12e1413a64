"""How far a `fit` is: a bar on a terminal, plain lines elsewhere, a line per epoch, or nothing."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

import numpy as np

from nnfast.errors import OptionError

__all__ = ["Progress"]

Logs = dict[str, float]
Columns = dict[str, np.ndarray[Any, Any]]  # values of several epochs, by name


class Progress:
    """Shows how far a `fit` is; this one shows nothing (verbose=0)."""

    every_epoch = False  # whether it wants to see each epoch by itself, validation included

    @staticmethod
    def of(verbose: int, epochs: int) -> Progress:
        """A bar on a terminal where rich is installed, else plain lines, on stderr; verbose=2: each epoch on stdout."""
        if verbose not in (0, 1, 2):
            raise OptionError(f"verbose must be 0 (silent), 1 (progress) or 2 (a line per epoch), not {verbose!r}")
        if verbose == 0 or epochs == 0:
            return Progress()
        if verbose == 2:
            return _EveryEpoch(epochs)
        return (_bar(epochs) if sys.stderr.isatty() else None) or _Lines(epochs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def update(self, epoch: int, logs: Logs, values: Columns) -> None:
        """After a job: epochs done, what was measured in the last of them, and the values of all just completed."""


class _Lines(Progress):
    """At most ten lines, when a tenth more is done; and none for what takes under a second."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._shown = 0
        self._begin = time.monotonic()
        self._latest: Logs = {}

    def update(self, epoch: int, logs: Logs, values: Columns) -> None:
        self._latest |= logs
        tenth = 10 * epoch // self._epochs
        if tenth > self._shown and time.monotonic() - self._begin > 1:
            self._shown = tenth
            print(f"epoch {epoch}/{self._epochs}  {_words(self._latest)}", file=sys.stderr, flush=True)


class _EveryEpoch(Progress):
    every_epoch = True

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def update(self, epoch: int, logs: Logs, values: Columns) -> None:
        count = len(values.get("loss", ()))
        for i in range(count):
            row = {name: float(column[i]) for name, column in values.items()}
            if i == count - 1:
                row = logs
            print(f"epoch {epoch - count + 1 + i}/{self._epochs}  {_words(row)}", flush=True)


def _words(logs: Logs) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in logs.items())


def _bar(epochs: int) -> Progress | None:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress
        from rich.table import Column
    except ImportError:
        return None

    # In a narrow window the figures lose their ends, and the bar and the count stay whole.
    whole, rest = Column(no_wrap=True, min_width=2 * len(str(epochs)) + 1), Column(no_wrap=True, overflow="ellipsis")
    columns = (
        BarColumn(bar_width=20, table_column=Column(no_wrap=True, min_width=20)),
        MofNCompleteColumn(table_column=whole),
        TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
        TextColumn("{task.fields[words]}", table_column=rest),
    )
    rich = RichProgress(*columns, console=Console(stderr=True), transient=False)

    class Bar(Progress):
        def __enter__(self) -> Self:
            rich.start()
            self._task = rich.add_task("", total=epochs, words="")
            self._latest: Logs = {}
            return self

        def __exit__(self, *error: object) -> None:
            rich.stop()

        def update(self, epoch: int, logs: Logs, values: Columns) -> None:
            self._latest |= logs
            rich.update(self._task, completed=epoch, words=_words(self._latest))

    return Bar()
