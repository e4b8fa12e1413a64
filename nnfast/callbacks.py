"""What may happen between epochs: callbacks and early stopping.

A callback says how often it wants to be called; the runner is not interrupted in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.errors import DTypeError, UnknownNameError
from nnfast.validation import integer, number

if TYPE_CHECKING:
    from nnfast.history import History
    from nnfast.model import Model

__all__ = ["Callback", "CallbackList", "EarlyStopping"]

Logs = dict[str, float]


class Callback:
    """Base of all callbacks; override what you need.

    `every` is the number of epochs between two calls of `on_epoch`; it is also called after the last one planned.
    `epoch` counts from 1 within this `fit`; `logs` holds what was measured in this epoch, so validation only where it
    was due. The answer True stops the training.
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
    way is better: "min", "max", or "auto", which asks the metric (losses: "min"). With `restore_best` the model ends
    with the weights it had after its best epoch; a training loss is measured before that epoch's updates, so give
    validation data where it must be exact. `best`, `best_epoch` and `stopped_epoch` tell what happened.
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
        self._start("loss", higher=mode == "max")

    def _start(self, name: str, *, higher: bool) -> None:
        self.watched = name
        self._sign = -1 if higher else 1
        self.best = self._sign * math.inf
        self.best_epoch = 0
        self.stopped_epoch: int | None = None
        self._waited = 0
        self._weights: list[np.ndarray[Any, Any]] | None = None

    def on_begin(self, model: Model, epochs: int, names: tuple[str, ...]) -> None:
        name = self.monitor or ("val_loss" if "val_loss" in names else "loss")
        if name not in names:
            raise UnknownNameError("monitor of EarlyStopping", name, names)
        metric = {m.name: m for m in model.metrics}.get(name.removeprefix("val_"))
        higher = metric is not None and metric.higher_is_better
        self._start(name, higher=higher if self.mode == "auto" else self.mode == "max")

    def on_epoch(self, model: Model, epoch: int, logs: Logs) -> bool | None:
        if self.watched not in logs:
            return None
        value = logs[self.watched]
        if self._sign * value < self._sign * self.best - self.min_delta:
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


class CallbackList:
    """All callbacks of one `fit`, called when they are due."""

    def __init__(self, callbacks: Iterable[Any], on_gradients: Callable[[Any], None] | None) -> None:
        if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
            raise DTypeError(f"callbacks is a list: callbacks=[…]; {callbacks!r} was given")
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
        """Every callback ends, whatever another does; the first error is raised afterwards."""
        errors = []
        for c in self._callbacks:
            try:
                c.on_end(model, history)
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
