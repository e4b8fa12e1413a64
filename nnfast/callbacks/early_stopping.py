"""Stopping when nothing gets better any more."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.callbacks.base import Callback, Logs
from nnfast.errors import UnknownNameError
from nnfast.validation import integer, number

if TYPE_CHECKING:
    from nnfast.history import History
    from nnfast.model import Model

__all__ = ["EarlyStopping"]


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
