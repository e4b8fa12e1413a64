"""How far a `fit` is: a bar on a terminal, plain lines elsewhere, a line per epoch, or nothing."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

import numpy as np

from nnfast.errors import OptionError

__all__ = ["Progress"]

BAR_AFTER = 1.0  # seconds: what is over sooner needs no bar
REDRAWN = 0.1  # seconds between two looks of a bar, at least,
SHARE = 0.01  # and as many as it takes that drawing costs no larger part of the time

Logs = dict[str, float]
Columns = dict[str, np.ndarray[Any, Any]]  # values of several epochs, by name


class Progress:
    """Shows how far a `fit` is; this one shows nothing (verbose=0)."""

    every_epoch = False  # whether it wants to see each epoch by itself, validation included

    @staticmethod
    def of(verbose: int, epochs: int) -> Progress:
        """A bar on a terminal where rich is installed, else plain lines, on stderr; verbose=2: each epoch on stdout."""
        if not isinstance(verbose, int | np.integer) or verbose not in (0, 1, 2):
            raise OptionError(f"verbose must be 0 (silent), 1 (progress) or 2 (a line per epoch), not {verbose!r}")
        if verbose == 0 or epochs == 0:
            return Progress()
        if verbose == 2:
            return _EveryEpoch(epochs)
        return _Bar(epochs) if sys.stderr.isatty() and _has_rich() else _Lines(epochs)

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


class _Bar(Progress):
    """A bar of rich's, once a training turns out to last; it takes a hundredth of the time, whoever calls how often."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._next = time.monotonic() + BAR_AFTER
        self._epoch, self._latest = 0, Logs()
        self._rich: Any = None

    def __exit__(self, *error: object) -> None:
        if self._rich is not None:
            self._draw()
            self._rich.stop()

    def update(self, epoch: int, logs: Logs, values: Columns) -> None:
        self._epoch, self._latest = epoch, self._latest | logs
        if time.monotonic() < self._next:
            return
        if self._rich is None:
            self._rich, self._task = _started(self._epochs)
        begin = time.monotonic()
        self._draw()
        end = time.monotonic()
        self._next = end + max(REDRAWN, (end - begin) / SHARE)

    def _draw(self) -> None:
        self._rich.update(self._task, completed=self._epoch, words=_words(self._latest), refresh=True)


def _started(epochs: int) -> tuple[Any, Any]:
    """A bar on the screen, and what to update it with."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.table import Column

    # In a narrow window the figures lose their ends, and the bar and the count stay whole.
    whole, rest = Column(no_wrap=True, min_width=2 * len(str(epochs)) + 1), Column(no_wrap=True, overflow="ellipsis")
    columns = (
        BarColumn(bar_width=20, table_column=Column(no_wrap=True, min_width=20)),
        MofNCompleteColumn(table_column=whole),
        TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
        TextColumn("{task.fields[words]}", table_column=rest),
    )
    rich = RichProgress(*columns, console=Console(stderr=True), transient=False, auto_refresh=False)
    rich.start()
    return rich, rich.add_task("", total=epochs, words="")


def _has_rich() -> bool:
    from importlib.util import find_spec

    return find_spec("rich") is not None
