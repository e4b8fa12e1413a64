"""Metrics: what is measured of a model beside its loss.

    nn.metrics.accuracy(output, y)                    by hand, on any outputs
    nn.Model(..., metrics=["accuracy", nn.metrics.top_k(3)])

In a Model a metric is an op of the Program, so measuring it costs no Python. By name or as an object, both work.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnfast import functional, validation
from nnfast._by_hand import given_by_hand, lenient
from nnfast._confusion import confusion_matrix
from nnfast._functional_losses import r2_of_moments
from nnfast.errors import DTypeError, OptionError, ShapeError, UnknownNameError
from nnfast.layers.python import read_only, store
from nnfast.validation import integer, number

if TYPE_CHECKING:
    from nnfast.losses import Loss
    from nnfast.lowering import Builder

__all__ = [
    "Metric",
    "PythonMetric",
    "accuracy",
    "binary_accuracy",
    "confusion_matrix",
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

    def merged(self, sums: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """From the sums of the parts of each batch (batches, parts, k) and their weights: those of the batch."""
        return np.asarray(sums.sum(axis=-2))

    def __repr__(self) -> str:
        return f"<metric {self.name}>"


class PythonMetric(Metric):
    """A metric whose arithmetic you write yourself, on the backend's own arrays (NumPy's on a CPU, CuPy's on a GPU).

    Define `compute(output, y) -> values`, one for each row (N,); the metric is their mean, weighted where weights are
    given. `output` is what `predict` gives, and y are rows like it; with `targets = "label"`, y is class indices (N,)
    or rows, as the caller gives them. Set `higher_is_better = False` where it is an error. The name in the history is
    that of the class in small letters (`WithinTenth`: "within_tenth"), or what is given.

        class WithinTenth(nn.metrics.PythonMetric):
            def compute(self, output, y):
                return (abs(output - y) <= 0.1).mean(axis=1)

    The cost: measured in every training step, it cuts the program there, so a compiled backend returns to Python once
    per step. With `in_training = False` it is measured in validation and by `evaluate` alone, and training stays whole;
    the history then has `val_NAME` alone.
    """

    in_training: ClassVar[bool] = True

    def __init__(self, name: str | None = None) -> None:
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__.strip("_")).lower()
        super().__init__(words if name is None else name, "python")

    def __init_subclass__(cls) -> None:
        if cls.targets not in ("label", "real"):
            raise UnknownNameError(f"targets of the metric {cls.__name__}", cls.targets, ["label", "real"])

    def compute(self, output: Any, y: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define compute(output, y)")

    def __call__(self, output: Any, y: Any, *, sample_weight: Any = None, backend: Any = None) -> float:
        """Its value by hand, computed where the output lies whatever `backend` is: on the host, or on a GPU."""
        check = validation.labels if self.targets == "label" else validation.targets
        given = given_by_hand(check, output, y, sample_weight, backend, lenient)
        self._run(given.output, given.y, given.weight, given.total)
        return given.mean()

    def lower(self, b: Builder) -> None:
        if self.in_training or b.mode == "evaluate":
            b.python_metric(self._run, b.sum(self.name))

    def _run(self, output: Any, y: Any, weight: Any, total: Any) -> None:
        values = output[:, 0].copy()
        store(values, self.compute(read_only(output), read_only(y)), self, "compute")
        total += values.sum(dtype=np.float64) if weight is None else (values * weight).sum(dtype=np.float64)


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
        weight = weights.sum(axis=-1)[..., None]
        return np.asarray(r2_of_moments(*self._moments(sums, weights, weight), weight))

    def merged(self, sums: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        weight = weights.sum(axis=-1)[..., None]
        return np.concatenate(self._moments(sums, weights, np.where(weight > 0, weight, 1.0)), axis=-1)

    @staticmethod
    def _moments(sums: Any, weights: Any, weight: Any) -> tuple[Any, Any, Any]:
        """Mean, spread and residual of all steps together, (…, O) each; `weight` is that of all of them."""
        mean, spread, residual = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)  # (epochs, steps, O) each
        share = (weights / weight)[..., None]
        overall = (share * mean).sum(axis=-2, keepdims=True)
        total = (spread + weights[..., None] * (mean - overall) ** 2).sum(axis=-2)
        return overall[..., 0, :], total, residual.sum(axis=-2)


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
