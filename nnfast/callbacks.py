"""What may happen between epochs: callbacks, early stopping, and the display of progress.

A callback says how often it wants to be called; the runner is not interrupted in between.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nnfast.errors import DTypeError, OptionError, UnknownNameError
from nnfast.validation import integer, number

if TYPE_CHECKING:
    from nnfast.history import History
    from nnfast.model import Model

__all__ = ["Callback", "CallbackList", "EarlyStopping", "Progress"]

Logs = dict[str, float]


class Callback:
    """Base of all callbacks; override what you need.

    `every` is the number of epochs between two calls of `on_epoch`; it is also called after the last epoch. `epoch`
    counts from 1 within this `fit`; `logs` holds what was measured in this epoch, so validation only where it was due.
    The answer True stops the training.
    If `on_gradients(flat)` is defined, it sees the flat gradient of every step, before clipping, and may change it.
    """

    every: int = 1
    on_gradients: Callable[[Any], None] | None = None

    def on_begin(self, model: Model, epochs: int, names: tuple[str, ...]) -> None:
        """Before the first epoch; `names` is all that this training will measure."""

    def on_epoch(self, model: Model, epoch: int, logs: Logs) -> bool | None:
        """After an epoch that is due."""

    def on_end(self, model: Model, history: History) -> None:
        """After the last epoch, also where training ended in an error."""


class _Function(Callback):
    def __init__(self, function: Callable[[Model, int, Logs], bool | None]) -> None:
        self._function = function

    def on_epoch(self, model: Model, epoch: int, logs: Logs) -> bool | None:
        return self._function(model, epoch, logs)


class EarlyStopping(Callback):
    """Stop when `monitor` has not improved by more than `min_delta` in `patience` measurements on end.

    `monitor` is a name of the history; by default "val_loss" where there is validation, else "loss". `mode` says which
    way is better: "min", "max", or "auto", which is "max" for accuracies and R², else "min". With `restore_best` the
    model ends with its best weights. `best`, `best_epoch` and `stopped_epoch` tell what happened.
    """

    def __init__(
        self,
        monitor: str | None = None,
        patience: int = 10,
        min_delta: float = 0,
        *,
        mode: str = "auto",
        restore_best: bool = False,
    ) -> None:
        if mode not in ("auto", "min", "max"):
            raise UnknownNameError("mode", mode, ["auto", "min", "max"])
        self.monitor = monitor
        self.patience = integer("patience", patience, 1)
        self.min_delta = number("min_delta", min_delta, 0)
        self.mode = mode
        self.restore_best = bool(restore_best)
        self._start("loss")

    def _start(self, name: str) -> None:
        self.watched = name
        self._sign = -1 if self.mode == "max" or (self.mode == "auto" and _HIGHER_IS_BETTER.search(name)) else 1
        self.best = math.nan
        self.best_epoch = 0
        self.stopped_epoch: int | None = None
        self._waited = 0
        self._weights: list[np.ndarray[Any, Any]] | None = None

    def on_begin(self, model: Model, epochs: int, names: tuple[str, ...]) -> None:
        name = self.monitor or ("val_loss" if "val_loss" in names else "loss")
        if name not in names:
            raise UnknownNameError("monitor of EarlyStopping", name, names)
        self._start(name)

    def on_epoch(self, model: Model, epoch: int, logs: Logs) -> bool | None:
        if self.watched not in logs:
            return None
        value = logs[self.watched]
        if math.isnan(self.best) or self._sign * value < self._sign * self.best - self.min_delta:
            self.best, self.best_epoch, self._waited = value, epoch, 0
            if self.restore_best:
                self._weights = model.get_weights()
            return None
        self._waited += 1
        if self._waited < self.patience:
            return None
        self.stopped_epoch = epoch
        return True

    def on_end(self, model: Model, history: History) -> None:
        if self._weights is not None:
            model.set_weights(self._weights)
            self._weights = None


_HIGHER_IS_BETTER = re.compile("accuracy|r2|top_")


class CallbackList:
    """All callbacks of one `fit`, called when they are due."""

    def __init__(self, callbacks: Iterable[Any], on_gradients: Callable[[Any], None] | None) -> None:
        if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
            raise DTypeError("callbacks is a list: callbacks=[…]")
        self._callbacks = [c if isinstance(c, Callback) else _Function(c) for c in callbacks]
        for c in self._callbacks:
            if isinstance(c, _Function) and (not callable(c._function) or isinstance(c._function, type)):
                raise DTypeError(
                    f"a callback is an nn.Callback object or a function f(model, epoch, logs): {c._function!r}"
                )
            integer("callback.every", c.every, 1)
        if on_gradients is not None and not callable(on_gradients):
            raise DTypeError(f"on_gradients must be a function of the flat gradient; {on_gradients!r} was given")
        self._hooks = [h for h in (on_gradients, *(c.on_gradients for c in self._callbacks)) if h is not None]

    @property
    def on_gradients(self) -> Callable[[Any], None] | None:
        """One function for all gradient hooks, or None if there are none."""
        if len(self._hooks) < 2:
            return self._hooks[0] if self._hooks else None

        def every_hook(flat: Any) -> None:
            for hook in self._hooks:
                hook(flat)

        return every_hook

    def next_due(self, done: int, end: int) -> int:
        """The next epoch after which somebody wants to be called; `end` if nobody does."""
        return min(((done // c.every + 1) * c.every for c in self._callbacks), default=end)

    def begin(self, model: Model, epochs: int, names: tuple[str, ...]) -> None:
        for c in self._callbacks:
            c.on_begin(model, epochs, names)

    def epoch(self, model: Model, epoch: int, logs: Logs, *, final: bool) -> bool:
        answers = [c.on_epoch(model, epoch, logs) for c in self._callbacks if epoch % c.every == 0 or final]
        return any(answer is True or (isinstance(answer, np.bool_) and bool(answer)) for answer in answers)

    def end(self, model: Model, history: History) -> None:
        for c in self._callbacks:
            c.on_end(model, history)


class Progress:
    """Shows how far a `fit` is; this one shows nothing (verbose=0)."""

    @staticmethod
    def of(verbose: int, epochs: int) -> Progress:
        """A bar on a terminal where rich is installed, else plain lines, on stderr; verbose=2: each epoch on stdout."""
        if verbose not in (0, 1, 2) or epochs == 0:
            if verbose not in (0, 1, 2):
                raise OptionError(f"verbose must be 0 (silent), 1 (progress) or 2 (a line per epoch), not {verbose!r}")
            return Progress()
        if verbose == 2:
            return _EveryEpoch(epochs)
        if verbose == 1:
            bar = _bar(epochs) if sys.stderr.isatty() else None
            return bar or _Lines(epochs)
        return Progress()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def update(self, epoch: int, logs: Logs, values: dict[str, np.ndarray[Any, Any]]) -> None:
        """After a job: epochs done, the latest values, and those of the epochs just completed."""


class _Lines(Progress):
    """At most ten lines, when a tenth more is done; and none for what takes under a second."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._shown = 0
        self._begin = time.monotonic()

    def update(self, epoch: int, logs: Logs, values: dict[str, np.ndarray[Any, Any]]) -> None:
        tenth = 10 * epoch // self._epochs
        if tenth > self._shown and time.monotonic() - self._begin > 1:
            self._shown = tenth
            print(f"epoch {epoch}/{self._epochs}  {_words(logs)}", file=sys.stderr, flush=True)


class _EveryEpoch(Progress):
    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def update(self, epoch: int, logs: Logs, values: dict[str, np.ndarray[Any, Any]]) -> None:
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
            return self

        def __exit__(self, *error: object) -> None:
            rich.stop()

        def update(self, epoch: int, logs: Logs, values: dict[str, np.ndarray[Any, Any]]) -> None:
            rich.update(self._task, completed=epoch, words=_words(logs))

    return Bar()
