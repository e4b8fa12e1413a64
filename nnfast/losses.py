"""Loss functions. Each is one op; the class holds its settings and says what targets it takes.

In a Model the loss is part of the Program. By hand: `loss.forward(output, y)` gives the mean loss, `loss.backward()`
the gradient with respect to `output`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnfast import functional, validation
from nnfast._by_hand import given_by_hand, strict
from nnfast.errors import StateError, UnknownNameError
from nnfast.layers.base import described
from nnfast.layers.python import read_only, store
from nnfast.protocol import Backend
from nnfast.registry import get_backend, portable
from nnfast.settings import Number

if TYPE_CHECKING:
    from nnfast.lowering import Builder

__all__ = [
    "BinaryCrossEntropy",
    "CategoricalCrossEntropy",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Poisson",
    "PythonLoss",
    "SigmoidBinaryCrossEntropy",
    "SoftmaxCrossEntropy",
]


class Loss:
    """Base of all losses. The mean is over samples, weighted where weights are given: Σ wᵢ·lᵢ / Σ wᵢ.

    op            the name of the op
    targets       "label" (class indices or rows of probabilities) or "real" (rows like the output)
    bounds        the range that real targets must lie in
    head          the activation that makes probabilities of the model's output, for `predict`
    """

    op: ClassVar[str]
    targets: ClassVar[str] = "real"
    bounds: ClassVar[tuple[float | None, float | None]] = (None, None)
    head: ClassVar[str | None] = None
    scalars: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, backend: str | Backend | None = None) -> None:
        self._backend = None if backend is None else get_backend(backend)
        self._gradient: Any = None

    def __init_subclass__(cls) -> None:
        if cls.targets not in ("label", "real"):
            raise UnknownNameError(f"targets of the loss {cls.__name__}", cls.targets, ["label", "real"])

    def __getstate__(self) -> dict[str, Any]:
        kept = self._gradient if isinstance(self._gradient, np.ndarray) else None  # one on a device stays behind
        return self.__dict__ | {"_backend": self._backend and portable(self._backend), "_gradient": kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_backend": state["_backend"] and get_backend(state["_backend"])})

    def forward(self, output: Any, y: Any, *, sample_weight: Any = None) -> float:
        """The mean loss of `output` (N, O) against `y`; keeps what `backward` needs."""
        settings = {name: getattr(self, name) for name in self.scalars}
        loss, self._gradient = getattr(functional, self.op)(
            output, y, sample_weight=sample_weight, backend=self._backend, **settings
        )
        return float(loss)

    def backward(self) -> Any:
        """∂(mean loss)/∂output of the last `forward`, of the output's shape and dtype."""
        if self._gradient is None:
            raise StateError(f"{type(self).__name__}.backward() was called before forward()")
        return self._gradient.copy()

    def structure(self) -> Hashable:
        """What of the loss shapes the Program."""
        return (type(self), self.op)

    def lower(self, b: Builder) -> None:
        b.loss(self.op)

    def check(self, name: str, y: Any, rows: int, width: int, dtype: Any) -> Any:
        """`y` as the op takes it, or an error that says what is wrong with it."""
        if self.targets == "label":
            return validation.labels(name, y, rows, width, dtype)
        return validation.targets(name, y, rows, width, dtype, *self.bounds)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({described(self)})"


class PythonLoss(Loss):
    """A loss whose arithmetic you write yourself, on the backend's own arrays (NumPy's on a CPU, CuPy's on a GPU).

    Define `compute(output, y) -> losses`, one for each row (N,), and `gradient(output, y) -> slopes`, the derivative
    of each row's loss with respect to that row of the output (N, O). Weights and the mean are taken care of. Targets
    are rows like the output; with `targets = "label"`, y is class indices (N,) or rows, as the caller gives them.

        class Quartic(nn.PythonLoss):
            def compute(self, output, y):
                return ((output - y) ** 4).sum(axis=1)

            def gradient(self, output, y):
                return 4 * (output - y) ** 3

    The cost: the program is cut here, so a compiled backend returns to Python once per step.
    """

    op = "python"

    def compute(self, output: Any, y: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define compute(output, y)")

    def gradient(self, output: Any, y: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define gradient(output, y)")

    def structure(self) -> Hashable:
        return (type(self), id(self))

    def forward(self, output: Any, y: Any, *, sample_weight: Any = None) -> float:
        given = given_by_hand(self.check, output, y, sample_weight, self._backend, strict)
        self._gradient = given.output.copy()
        self._run(given.output, given.y, given.weight, given.total, self._gradient, normaliser=given.normaliser)
        return given.mean()

    def lower(self, b: Builder) -> None:
        b.python_loss(self._run)

    def _run(self, z: Any, y: Any, weight: Any, total: Any, dz: Any, *, normaliser: float) -> None:
        losses = z[:, 0].copy()
        store(losses, self.compute(read_only(z), read_only(y)), self, "compute")
        total += losses.sum(dtype=np.float64) if weight is None else (losses * weight).sum(dtype=np.float64)
        if dz is not None:
            store(dz, self.gradient(read_only(z), read_only(y)), self, "gradient")
            dz *= 1 / normaliser if weight is None else weight[:, None] / normaliser


class SoftmaxCrossEntropy(Loss):
    """−Σ q·log softmax(z) of logits z, fused, so it neither overflows nor saturates.

    Targets are class indices (N,) or rows of probabilities (N, C); with label smoothing ε, q = (1 − ε)·target + ε/C
    (Szegedy et al. 2016). Gradient: softmax(z) − q. `predict` gives probabilities.
    """

    op = "softmax_cross_entropy"
    targets = "label"
    head = "softmax"
    scalars = ("label_smoothing",)
    label_smoothing = Number(0, 1, high_open=True)

    def __init__(self, label_smoothing: float = 0, **common: Any) -> None:
        super().__init__(**common)
        self.label_smoothing = label_smoothing


class SigmoidBinaryCrossEntropy(Loss):
    """Mean over outputs of log(1 + eᶻ) − y·z, of logits z and targets in [0, 1]. Gradient: (sigmoid(z) − y)/O."""

    op = "sigmoid_binary_cross_entropy"
    bounds = (0, 1)
    head = "sigmoid"


class CategoricalCrossEntropy(Loss):
    """−Σ q·log p of probabilities p, clipped to [1e-7, 1 − 1e-7]. Targets as for SoftmaxCrossEntropy."""

    op = "categorical_cross_entropy"
    targets = "label"


class BinaryCrossEntropy(Loss):
    """Mean over outputs of −y·log p − (1 − y)·log(1 − p), p clipped to [1e-7, 1 − 1e-7], targets in [0, 1]."""

    op = "binary_cross_entropy"
    bounds = (0, 1)


class MeanSquaredError(Loss):
    """Mean over outputs of (ŷ − y)²."""

    op = "mean_squared_error"


class MeanAbsoluteError(Loss):
    """Mean over outputs of |ŷ − y|. The gradient at ŷ = y is 0."""

    op = "mean_absolute_error"


class Huber(Loss):
    """Mean over outputs of e²/2 for |e| ≤ delta, else delta·(|e| − delta/2), with e = ŷ − y (Huber 1964)."""

    op = "huber"
    scalars = ("delta",)
    delta = Number(0, low_open=True)

    def __init__(self, delta: float = 1.0, **common: Any) -> None:
        super().__init__(**common)
        self.delta = delta


class Poisson(Loss):
    """Mean over outputs of eᶻ − y·z: the output z is the logarithm of the rate, targets are counts ≥ 0."""

    op = "poisson"
    bounds = (0, None)
