"""Stopping where going on is of no use."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from nnfast.callbacks.base import Callback, Logs
from nnfast.validation import integer

if TYPE_CHECKING:
    from nnfast.model import Model
    from nnfast.storage.records import Record

__all__ = ["TerminateOnNaN"]


class TerminateOnNaN(Callback):
    """Stop when a loss that was just measured, of training or validation, is NaN or infinite.

    Only every `every`-th epoch is looked at: up to `every` − 1 epochs are trained for nothing, and a loss that was
    infinite in between and has come back is not seen. With the default the runner comes back to Python after every
    epoch, which a network whose epochs take microseconds feels; there, every=100 sees the same a little later, for
    weights that are NaN stay so. `stopped_epoch` tells what happened, and `reason` which loss it was.
    """

    def __init__(self, *, every: int = 1) -> None:
        self.every = integer("every", every, 1)
        self.stopped_epoch: int | None = None
        self.reason = ""

    def on_begin(self, model: Model, epochs: int, names: tuple[str, ...]) -> None:
        self.stopped_epoch, self.reason = None, ""

    def on_epoch(self, model: Model, epoch: int, logs: Logs) -> bool | None:
        for name, value in logs.items():
            if name.removeprefix("val_") in ("loss", "data_loss") and not math.isfinite(value):
                self.stopped_epoch, self.reason = epoch, f"{name} is {value}"
                return True
        return None

    def state(self) -> dict[str, Any]:
        return {"stopped_epoch": self.stopped_epoch, "reason": self.reason}

    def check_state(self, model: Model, state: Record) -> None:
        state.count("stopped_epoch", none=True)
        state.of("reason", str)

    def restore(self, state: dict[str, Any]) -> None:
        self.stopped_epoch, self.reason = state["stopped_epoch"], state["reason"]
