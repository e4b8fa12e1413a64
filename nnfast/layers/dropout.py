"""Dropout from a counter-based generator: the same mask on every backend, recomputed in backward, never stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnfast.layers.base import Layer
from nnfast.settings import Number

if TYPE_CHECKING:
    from nnfast.lowering import Builder

__all__ = ["Dropout"]


class Dropout(Layer):
    """In training each input is zero with probability `rate`, the others are divided by 1 − rate; else y = x.

    Inverted dropout (Srivastava et al. 2014) with masks from Philox4x32-10 (Salmon et al. 2011), keyed by the model's
    seed and counted by element, layer and step. A lone Dropout counts its own training forwards.
    Raises OptionError unless 0 ≤ rate < 1.
    """

    scalars = ("rate",)
    rate = Number(0, 1, high_open=True)

    def __init__(self, rate: float, **common: Any) -> None:
        super().__init__(**common)
        self.rate = rate

    def lower(self, b: Builder) -> None:
        if not b.training:
            return
        here = {"layer": b.index}
        x, y = b.x, b.output(b.x.width)
        b.forward("dropout", x, y, scalars=here)
        b.backward("dropout_backward", b.dy, b.dx, scalars=here)
