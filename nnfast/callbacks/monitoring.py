"""Is it better? What callbacks share that watch one name of the history."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from nnfast.callbacks.base import Callback, Logs
from nnfast.errors import DTypeError, UnknownNameError
from nnfast.validation import choice, integer, number

if TYPE_CHECKING:
    from nnfast.model import Model
    from nnfast.storage.records import Record

__all__ = ["Monitoring"]


class Monitoring(Callback):
    """Base of callbacks that watch `monitor`: `improved(epoch, logs)` says whether it is the best so far.

    Better is lower or higher by more than `min_delta`, as `mode` says. `watched` is the name that is really watched,
    `best` and `best_epoch` its best value and when that was, `_waited` the number of measurements since. NaN never
    improves anything. All of it begins anew with each `fit`, and is the callback's state.
    """

    def __init__(self, monitor: str | None, min_delta: float, mode: str, every: int) -> None:
        if monitor is not None and not isinstance(monitor, str):
            raise DTypeError(f"monitor is {monitor!r}; expected a name of the history, such as 'val_loss'")
        self.monitor = monitor
        self.min_delta = number("min_delta", min_delta, 0)
        self.mode = choice("mode", mode, ("auto", "min", "max"))
        self.every = integer("every", every, 1)
        self._start("loss", higher=mode == "max")

    def _start(self, name: str, *, higher: bool) -> None:
        self.watched = name
        self._sign = -1 if higher else 1
        self.best = self._sign * math.inf
        self.best_epoch = 0
        self._waited = 0

    def on_begin(self, model: Model, epochs: int, names: tuple[str, ...]) -> None:
        name = self.monitor or ("val_loss" if "val_loss" in names else "loss")
        if name not in names:
            raise UnknownNameError(f"monitor of {type(self).__name__}", name, names)
        metric = {m.name: m for m in model.metrics}.get(name.removeprefix("val_"))
        higher = metric is not None and metric.higher_is_better
        self._start(name, higher=higher if self.mode == "auto" else self.mode == "max")

    def improved(self, epoch: int, logs: Logs) -> bool | None:
        """Whether this epoch is the best so far; None where nothing was measured."""
        if self.watched not in logs:
            return None
        value = logs[self.watched]
        if self._sign * value < self._sign * self.best - self.min_delta:
            self.best, self.best_epoch, self._waited = value, epoch, 0
            return True
        self._waited += 1
        return False

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "waited": self._waited}

    def check_state(self, model: Model, state: Record) -> None:
        state.number("best")
        state.count("best_epoch")
        state.count("waited")

    def restore(self, state: dict[str, Any]) -> None:
        self.best = float(state["best"])
        self.best_epoch, self._waited = int(state["best_epoch"]), int(state["waited"])
