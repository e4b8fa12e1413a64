"""RMSprop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnfast.optimizers.base import GradientOptimizer
from nnfast.schedules import Schedule
from nnfast.settings import Number

if TYPE_CHECKING:
    from nnfast.lowering import Builder

__all__ = ["RMSprop"]


class RMSprop(GradientOptimizer):
    """cache ← rho·cache + (1 − rho)·g², p ← p − lr·g/(√cache + epsilon) (Hinton's Coursera lecture 6e, 2012)."""

    scalars = ("epsilon", "rho")
    slots = ("cache",)
    epsilon = Number(0, low_open=True)
    rho = Number(0, 1, high_open=True)

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        decay: float = 0,
        epsilon: float = 1e-7,
        rho: float = 0.9,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, decay, clip_norm)
        self.epsilon = epsilon
        self.rho = rho

    def lower_update(self, b: Builder) -> None:
        for offset, size, _ in b.ranges():
            b.update("rmsprop_step", *(b.flat(s, offset, size) for s in ("parameters", "gradients", "cache")))
