"""The book's accuracies: which predictions count as right, and their share, of a batch or of a pass over the data."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnfast.errors import DataError, ShapeError, StateError
from nnfast.validation import Array, flag, host_array

__all__ = ["Accuracy", "Accuracy_Categorical", "Accuracy_Regression"]


class Accuracy:
    """Base of the accuracies; one of your own defines `compare(predictions, y)`, and `init(y)` if it needs to see y.

    `compare` says of each prediction whether it is right: booleans (N,) or (N, O). What comes in as predictions is
    what `predictions(outputs)` of the model's last activation gives.
    """

    # On the class, so that a subclass need not call super().__init__().
    accumulated_sum: float = 0.0
    accumulated_count: int = 0

    def init(self, y: Any) -> None:
        """See the targets of a training before it begins."""

    def compare(self, predictions: Any, y: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define compare(predictions, y)")

    def calculate(self, predictions: Any, y: Any) -> float:
        """The share of these predictions that is right; counts towards `calculate_accumulated`."""
        total, rows = self._count(predictions, y)
        self.accumulated_sum += total
        self.accumulated_count += rows
        return total / rows

    def calculate_accumulated(self) -> float:
        """The share of all predictions since `new_pass()` that is right."""
        if self.accumulated_count == 0:
            raise StateError("calculate_accumulated() was called before calculate(): there is nothing to average")
        return self.accumulated_sum / self.accumulated_count

    def new_pass(self) -> None:
        """Start counting for `calculate_accumulated` anew."""
        self.accumulated_sum = 0.0
        self.accumulated_count = 0

    def _count(self, predictions: Any, y: Any) -> tuple[float, int]:
        """Σ over rows of the share of the row that is right, at most 1 for each, and the number of rows."""
        right = host_array("compare(predictions, y)", self.compare(predictions, y))
        if right.ndim == 0 or right.size == 0:
            raise DataError(f"{type(self).__name__}.compare() gave an array of shape {right.shape}; expected (N,)")
        return float(right.mean(dtype=np.float64)) * len(right), len(right)


class Accuracy_Categorical(Accuracy):
    """Right where predicted class and label agree; labels (N,), or (N, O) rows, of which the largest counts.

    With `binary=True` predictions and labels are both (N, O), of zeros and ones, and compared one by one.
    """

    def __init__(self, binary: bool = False) -> None:
        self.binary = flag("binary", binary)

    def compare(self, predictions: Any, y: Any) -> Array:
        """predictions (N,), or (N, O) where binary → booleans of the same shape."""
        labels = host_array("y", y)
        if not self.binary and labels.ndim == 2:
            labels = labels.argmax(axis=1)
        return np.asarray(_paired(predictions, labels) == labels)


class Accuracy_Regression(Accuracy):
    """Right where |prediction − y| < precision, or where both are the same.

    `precision` is std(y)/250 of the targets that `init` sees first; it can also be set.
    """

    precision: float | None = None

    def __init__(self) -> None:
        self.precision = None

    def init(self, y: Any, reinit: bool = False) -> None:
        """precision = std(y)/250, unless there is one already and `reinit` is false."""
        if flag("reinit", reinit) or self.precision is None:
            self.precision = float(np.std(host_array("y", y), dtype=np.float64)) / 250

    def compare(self, predictions: Any, y: Any) -> Array:
        """predictions and y (N, O) → booleans (N, O)."""
        if self.precision is None:
            raise StateError("Accuracy_Regression has no precision yet: call init(y), or set .precision")
        targets = host_array("y", y)
        distance = np.abs(_paired(predictions, targets) - targets)
        return np.asarray((distance < self.precision) | (distance == 0))


def _paired(predictions: Any, y: Array) -> Array:
    """The predictions, of the same shape as y: (N, 1) beside (N,) would be compared as N×N."""
    given = host_array("predictions", predictions)
    if given.shape != y.shape:
        raise ShapeError(f"predictions has shape {given.shape} and y {y.shape}; to be compared they must be alike")
    return given
