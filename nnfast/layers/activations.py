"""Activation layers: one op each, joined by the lowering to the dense layer before them where that is possible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from nnfast.layers.base import Layer
from nnfast.settings import Number

if TYPE_CHECKING:
    from nnfast.lowering import Builder

__all__ = ["ELU", "GELU", "LeakyReLU", "Linear", "ReLU", "SiLU", "Sigmoid", "Softmax", "Softplus", "Tanh"]


class _Activation(Layer):
    op: ClassVar[str]

    def lower(self, b: Builder) -> None:
        b.activation(self.op)


class ReLU(_Activation):
    """y = max(x, 0). The derivative at 0 is 0."""

    op = "relu"


class LeakyReLU(_Activation):
    """y = x for x > 0, else alpha·x; alpha ≥ 0. Source: Maas, Hannun & Ng 2013."""

    op = "leaky_relu"
    scalars = ("alpha",)
    alpha = Number(0)

    def __init__(self, alpha: float = 0.01, **common: Any) -> None:
        super().__init__(**common)
        self.alpha = alpha


class ELU(_Activation):
    """y = x for x > 0, else alpha·(eˣ − 1); alpha ≥ 0. Source: Clevert, Unterthiner & Hochreiter 2016."""

    op = "elu"
    scalars = ("alpha",)
    alpha = Number(0)

    def __init__(self, alpha: float = 1.0, **common: Any) -> None:
        super().__init__(**common)
        self.alpha = alpha


class GELU(_Activation):
    """y = x·Φ(x) with the exact normal distribution function Φ. Source: Hendrycks & Gimpel 2016."""

    op = "gelu"


class SiLU(_Activation):
    """y = x·sigmoid(x), also called swish. Source: Elfwing, Uchibe & Doya 2018."""

    op = "silu"


class Softplus(_Activation):
    """y = log(1 + eˣ), computed without overflow."""

    op = "softplus"


class Sigmoid(_Activation):
    """y = 1/(1 + e⁻ˣ). Before a binary cross-entropy prefer the loss on logits, `SigmoidBinaryCrossEntropy`."""

    op = "sigmoid"


class Tanh(_Activation):
    """y = tanh(x)."""

    op = "tanh"


class Softmax(_Activation):
    """y = eˣ/Σeˣ along each row. Before a cross-entropy prefer the loss on logits, `SoftmaxCrossEntropy`."""

    op = "softmax"


class Linear(Layer):
    """y = x. It names what is there anyway and costs nothing."""

    def lower(self, b: Builder) -> None:
        pass
