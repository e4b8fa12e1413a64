"""Adagrad."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnfast.optimizers.base import GradientOptimizer
from nnfast.schedules import Schedule
from nnfast.settings import Number

if TYPE_CHECKING:
    from nnfast.lowering import Builder

__all__ = ["Adagrad"]


class Adagrad(GradientOptimizer):
    """cache ← cache + g², p ← p − lr·g/(√cache + epsilon); the cache begins at 0 (Duchi, Hazan & Singer 2011)."""

    scalars = ("epsilon",)
    slots = ("cache",)
    epsilon = Number(0, low_open=True)

    def __init__(
        self,
        learning_rate: float | Schedule = 1.0,
        decay: float = 0,
        epsilon: float = 1e-7,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, decay, clip_norm)
        self.epsilon = epsilon

    def lower_update(self, b: Builder) -> None:
        for offset, size, _ in b.ranges():
            b.update("adagrad_step", *(b.flat(s, offset, size) for s in ("parameters", "gradients", "cache")))
