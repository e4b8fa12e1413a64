"""Metrics: what is measured of a model beside its loss.

    nn.metrics.accuracy(output, y)                    by hand, on any outputs
    nn.Model(..., metrics=["accuracy", nn.metrics.top_k(3)])

In a Model a metric is an op of the Program, so measuring it costs no Python. By name or as an object, both work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnfast import functional
from nnfast._functional_losses import r2_of_moments
from nnfast.errors import DTypeError, OptionError, ShapeError, UnknownNameError
from nnfast.validation import integer, number

if TYPE_CHECKING:
    from nnfast.losses import Loss
    from nnfast.lowering import Builder

__all__ = [
    "Metric",
    "accuracy",
    "binary_accuracy",
    "mean_absolute_error",
    "r2",
    "regression_accuracy",
    "resolve",
    "top_k",
]


class Metric:
    """A named measure with one op. Calling it gives its value for `output` (N, O) against `y`, as a float.

    `targets` says what it takes: "label" (class indices or rows) or "real" (rows like the output);
    `higher_is_better` which way early stopping looks.
    """

    targets: ClassVar[str] = "real"
    higher_is_better: ClassVar[bool] = True
    scalars: ClassVar[tuple[str, ...]] = ()

    def __init__(self, name: str, op: str) -> None:
        self.name = name
        self.op = op

    def __call__(self, output: Any, y: Any, *, sample_weight: Any = None, backend: Any = None) -> float:
        settings = {name: getattr(self, name) for name in self.scalars}
        value = getattr(functional, self.op)(output, y, sample_weight=sample_weight, backend=backend, **settings)
        return float(value)

    def lower(self, b: Builder) -> None:
        b.metric(self.op, b.prediction, b.target, b.weight, b.sum(self.name))

    def check_model(self, loss: Loss, n_outputs: int) -> None:
        """Refuse a model that it cannot measure."""

    def check(self, y: Any) -> None:
        """Refuse targets of the other kind: class indices where rows are needed."""
        if self.targets == "real" and y.ndim == 1:
            raise ShapeError(f"the metric {self.name!r} needs targets of the output's shape, not class indices")

    def value(self, sums: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """From the sums of the steps of each epoch (epochs, steps, k) and their weights (epochs, steps)."""
        return np.asarray(sums[..., 0].sum(axis=-1) / weights.sum(axis=-1))

    def __repr__(self) -> str:
        return f"<metric {self.name}>"


class _Accuracy(Metric):
    """On logits and on probabilities alike: softmax keeps the order."""

    targets = "label"

    def lower(self, b: Builder) -> None:
        b.metric(self.op, b.x, b.target, b.weight, b.sum(self.name))

    def check_model(self, loss: Loss, n_outputs: int) -> None:
        if n_outputs == 1 or loss.op in ("sigmoid_binary_cross_entropy", "binary_cross_entropy"):
            raise OptionError(f"the metric {self.name!r} compares outputs; for yes-or-no outputs use binary_accuracy")


class _TopK(_Accuracy):
    scalars = ("k",)

    def __init__(self, k: int) -> None:
        super().__init__(f"top_{k}", "top_k_accuracy")
        self.k = k

    def check_model(self, loss: Loss, n_outputs: int) -> None:
        super().check_model(loss, n_outputs)
        if self.k > n_outputs:
            raise OptionError(f"top_k({self.k}) of {n_outputs} outputs is always 1; k can be at most {n_outputs}")


class _BinaryAccuracy(Metric):
    scalars = ("threshold",)

    threshold = 0.5

    def __init__(self) -> None:
        super().__init__("binary_accuracy", "binary_accuracy")


class _RegressionAccuracy(Metric):
    scalars = ("precision",)

    def __init__(self, precision: float, name: str) -> None:
        super().__init__(name, "regression_accuracy")
        self.precision = precision


class _R2(Metric):
    """Steps are merged by Chan, Golub & LeVeque's formula (1979), so no large squares are subtracted."""

    def __init__(self) -> None:
        super().__init__("r2", "r2_score")

    def lower(self, b: Builder) -> None:
        b.metric("r2_moments", b.prediction, b.target, b.weight, b.sum(self.name, (3, b.x.width)))

    def value(self, sums: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        mean, spread, residual = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)  # (epochs, steps, O) each
        share = (weights / weights.sum(axis=-1, keepdims=True))[..., None]
        overall = (share * mean).sum(axis=-2, keepdims=True)
        total = (spread + weights[..., None] * (mean - overall) ** 2).sum(axis=-2)
        weight = weights.sum(axis=-1)[..., None]
        return np.asarray(r2_of_moments(overall[..., 0, :], total, residual.sum(axis=-2), weight))


class _MeanAbsoluteError(Metric):
    """The loss op, as a metric."""

    higher_is_better = False

    def __call__(self, output: Any, y: Any, *, sample_weight: Any = None, backend: Any = None) -> float:
        return float(functional.mean_absolute_error(output, y, sample_weight=sample_weight, backend=backend)[0])

    def lower(self, b: Builder) -> None:
        b.metric(self.op, b.prediction, b.target, b.weight, b.sum(self.name), None, None)


accuracy = _Accuracy("accuracy", "accuracy")
binary_accuracy = _BinaryAccuracy()
mean_absolute_error = _MeanAbsoluteError("mean_absolute_error", "mean_absolute_error")
r2 = _R2()


def top_k(k: int) -> Metric:
    """Share of samples whose label is among the k largest outputs (ties: lower indices first)."""
    return _TopK(integer("k", k, 1))


def regression_accuracy(precision: float, name: str = "regression_accuracy") -> Metric:
    """Share of outputs with |output − y| ≤ precision; the book takes std(y)/250 and <, which no constant target meets.

    A model may have several, under different names.
    """
    return _RegressionAccuracy(number("precision", precision, 0), name)


_NAMED = {m.name: m for m in (accuracy, binary_accuracy, mean_absolute_error, r2)}


def resolve(metric: str | Metric) -> Metric:
    """A metric from its name; `regression_accuracy` and `top_k` need a number, so they come as objects."""
    if isinstance(metric, Metric):
        return metric
    if not isinstance(metric, str):
        raise DTypeError(f"a metric is a name or an object of nnfast.metrics; {metric!r} was given")
    if metric in ("regression_accuracy", "top_k"):
        raise DTypeError(f"the metric {metric!r} needs a number: give nn.metrics.{metric}(…)")
    if metric not in _NAMED:
        raise UnknownNameError("metric", metric, _NAMED)
    return _NAMED[metric]
