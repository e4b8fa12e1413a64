"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, ClassVar

from nnfast.optimizers.base import GradientOptimizer
from nnfast.schedules import Schedule
from nnfast.settings import Number
from nnfast.validation import flag

if TYPE_CHECKING:
    from nnfast.lowering import Builder

__all__ = ["Adam", "AdamW"]

_ARRAYS = ("parameters", "gradients", "m", "v")


class Adam(GradientOptimizer):
    """m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², p ← p − lr·m̂/(√v̂ + epsilon), m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ).

    Kingma & Ba 2015, algorithm 1: epsilon is added after the bias correction, as in the book and in PyTorch (Keras and
    scikit-learn put it before, which makes it larger in the first steps).
    """

    scalars: ClassVar[tuple[str, ...]] = ("beta_1", "beta_2", "epsilon")
    slots = ("m", "v")
    epsilon = Number(0, low_open=True)
    beta_1 = Number(0, 1, high_open=True)
    beta_2 = Number(0, 1, high_open=True)

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        decay: float = 0,
        epsilon: float = 1e-7,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, decay, clip_norm)
        self.epsilon = epsilon
        self.beta_1 = beta_1
        self.beta_2 = beta_2

    def lower_update(self, b: Builder) -> None:
        for offset, size, _ in b.ranges():
            b.update("adam_step", *(b.flat(s, offset, size) for s in _ARRAYS), scalars={"weight_decay": 0})


class AdamW(Adam):
    """Adam with decoupled weight decay: p ← p − lr·(m̂/(√v̂ + epsilon) + weight_decay·p) (Loshchilov & Hutter 2019).

    Everything decays; with `decay_biases=False` only weights do.
    """

    scalars = ("beta_1", "beta_2", "epsilon", "weight_decay")
    weight_decay = Number(0)

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        decay: float = 0,
        epsilon: float = 1e-7,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        weight_decay: float = 0.01,
        clip_norm: float | None = None,
        *,
        decay_biases: bool = True,
    ) -> None:
        super().__init__(learning_rate, decay, epsilon, beta_1, beta_2, clip_norm)
        self.weight_decay = weight_decay
        self.decay_biases = flag("decay_biases", decay_biases)

    def _said(self) -> list[str]:
        return [] if self.decay_biases else ["decay_biases=False"]

    def structure(self) -> Hashable:
        return (super().structure(), self.decay_biases)

    def lower_update(self, b: Builder) -> None:
        for offset, size, decays in b.ranges(lambda name: self.decay_biases or not name.endswith(".biases")):
            source = {} if decays else {"weight_decay": 0}
            b.update("adam_step", *(b.flat(s, offset, size) for s in _ARRAYS), scalars=source)
