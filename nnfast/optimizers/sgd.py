"""Stochastic gradient descent, plain, with momentum, or with Nesterov's."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from nnfast.optimizers.base import GradientOptimizer
from nnfast.schedules import Schedule
from nnfast.settings import Number
from nnfast.validation import flag

if TYPE_CHECKING:
    from nnfast.lowering import Builder

__all__ = ["SGD"]


class SGD(GradientOptimizer):
    """p ← p − lr·g; with momentum μ the book's form v ← μ·v − lr·g, p ← p + v.

    With `nesterov`, p ← p + μ·v − lr·g after the same v (Sutskever et al. 2013, as in scikit-learn). The rate enters
    the velocity, so with decay this differs from PyTorch's form, where the rate multiplies the velocity.
    """

    scalars = ("momentum",)
    momentum = Number(0, 1)

    def __init__(
        self,
        learning_rate: float | Schedule = 1.0,
        decay: float = 0,
        momentum: float = 0,
        nesterov: bool = False,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, decay, clip_norm)
        self.momentum = momentum
        self.nesterov = flag("nesterov", nesterov)

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]  # read-only here: it follows the momentum
        return ("v",) if self.momentum else ()

    def _said(self) -> list[str]:
        return ["nesterov=True"] if self.nesterov else []

    def structure(self) -> Hashable:
        return (super().structure(), self.nesterov)

    def lower_update(self, b: Builder) -> None:
        for offset, size, _ in b.ranges():
            v = b.flat("v", offset, size) if self.momentum else None
            p, g = b.flat("parameters", offset, size), b.flat("gradients", offset, size)
            b.update("sgd_step", p, g, v, nesterov=self.nesterov)
