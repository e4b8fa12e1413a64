"""Stopping when nothing gets better any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.callbacks.base import Logs
from nnfast.callbacks.monitoring import Monitoring
from nnfast.validation import flag, integer

if TYPE_CHECKING:
    from nnfast.history import History
    from nnfast.model import Model
    from nnfast.storage.records import Record

__all__ = ["EarlyStopping"]


class EarlyStopping(Monitoring):
    """Stop when `monitor` has not improved by more than `min_delta` in `patience` measurements on end.

    `monitor` is a name of the history; by default "val_loss" where there is validation, else "loss". `mode` says which
    way is better: "min", "max", or "auto", which asks the metric (losses: "min"). With `restore_best` the model ends
    with the weights it had after its best epoch; a training loss is measured before that epoch's updates, so give
    validation data where it must be exact. `every` is the number of epochs between two looks. `best`, `best_epoch` and
    `stopped_epoch` tell what happened. Raises UnknownNameError where nothing of this name will be measured.
    """

    def __init__(
        self,
        monitor: str | None = None,
        patience: int = 10,
        min_delta: float = 0,
        *,
        mode: str = "auto",
        restore_best: bool = False,
        every: int = 1,
    ) -> None:
        super().__init__(monitor, min_delta, mode, every)
        self.patience = integer("patience", patience, 1)
        self.restore_best = flag("restore_best", restore_best)

    def _start(self, name: str, *, higher: bool) -> None:
        super()._start(name, higher=higher)
        self.stopped_epoch: int | None = None
        self._weights: list[np.ndarray[Any, Any]] | None = None

    def on_epoch(self, model: Model, epoch: int, logs: Logs) -> bool | None:
        better = self.improved(epoch, logs)
        if better and self.restore_best:
            self._weights = model.get_weights()
        if better is not False or self._waited < self.patience:
            return None
        self.stopped_epoch = epoch
        return True

    def on_end(self, model: Model, history: History) -> None:
        if self._weights is not None:
            model.set_weights(self._weights)
            self._weights = None

    def state(self) -> dict[str, Any]:
        return super().state() | {"stopped_epoch": self.stopped_epoch, "weights": self._weights}

    def check_state(self, model: Model, state: Record) -> None:
        super().check_state(model, state)
        state.count("stopped_epoch", none=True)
        weights = state.entry("weights")
        if weights is not None and not (isinstance(weights, list) and _alike(weights, model.get_weights())):
            state.refuse("weights", "None, or arrays like those of the model")

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.stopped_epoch, self._weights = state["stopped_epoch"], state["weights"]


def _alike(given: list[Any], own: list[np.ndarray[Any, Any]]) -> bool:
    return len(given) == len(own) and all(
        isinstance(a, np.ndarray) and a.shape == b.shape and a.dtype == b.dtype for a, b in zip(given, own, strict=True)
    )
