"""Which class was taken for which: `nnfast.metrics.confusion_matrix`, a table where metrics are numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnfast.devices import device_of, fetched
from nnfast.errors import DataError, DTypeError, OptionError, ShapeError
from nnfast.registry import device_backend
from nnfast.validation import choice, host_array, integer, labels, number

__all__ = ["confusion_matrix", "true_classes"]

MOST_CLASSES = 10_000  # of a confusion matrix: 800 MB


def confusion_matrix(
    output: Any, y: Any, n_classes: int | None = None, normalize: str | None = None, *, threshold: float = 0.5
) -> np.ndarray[Any, Any]:
    """How often class i was taken for class j: (C, C), rows the truth, columns the prediction.

    `output`: logits or probabilities (N, C), of which the largest counts, the first of equals; one column (N, 1), which
    is class 1 above `threshold` (for logits give 0); or predicted class numbers (N,). `y`: class numbers (N,), rows
    (N, C), or for one column 0 and 1 as (N, 1). `n_classes` defaults to the columns, else to the largest number there
    is. int64 counts; with `normalize` shares in float64: "true" of each row, "pred" of each column, "all" of the whole
    (0 where there is nothing to share). Not a metric for a Model, which measures numbers, not tables. Arrays on a GPU
    are copied to the host.
    """
    if normalize is not None:
        choice("normalize", normalize, ("true", "pred", "all"))
    limit = number("threshold", threshold)
    place = device_backend() if any(type(a) is not np.ndarray and device_of(a) for a in (output, y)) else None
    predicted, columns = _predicted_classes(host_array("output", fetched("output", output, place)), limit)
    truth = true_classes(host_array("y", fetched("y", y, place)), len(predicted), columns)
    largest = int(max(predicted.max(), truth.max())) + 1
    classes = (columns or largest) if n_classes is None else integer("n_classes", n_classes, 1)
    if max(classes, columns or 0) != classes or largest > classes:
        raise OptionError(
            f"n_classes is {classes}, but there are {max(largest, columns or 0)} classes in what was given"
        )
    if classes > MOST_CLASSES:
        raise OptionError(f"a table of {classes:,} classes does not fit; at most {MOST_CLASSES:,} (are these classes?)")
    counts = np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    if normalize is None:
        return counts.astype(np.int64, copy=False)
    axis = {"true": 1, "pred": 0, "all": None}[normalize]
    return np.asarray(counts / np.maximum(counts.sum(axis=axis, keepdims=True), 1))


def _predicted_classes(output: np.ndarray[Any, Any], threshold: float) -> tuple[np.ndarray[Any, Any], int | None]:
    """Class numbers, and how many classes the output has; None where only its numbers tell."""
    if output.ndim not in (1, 2) or output.size == 0:
        raise ShapeError(
            f"output has shape {output.shape}; expected (N, C) outputs or (N,) class numbers, N at least 1"
        )
    if output.ndim == 1:
        return _class_numbers("output", output, "for probabilities of one class use output.reshape(-1, 1)"), None
    nan = np.isnan(output).any(axis=1)
    if nan.any():
        raise DataError(f"output[{int(np.argmax(nan))}] holds NaN, which is no class: drop such rows first")
    if output.shape[1] == 1:
        return (output[:, 0] > threshold).astype(np.int64), 2
    return output.argmax(axis=1), output.shape[1]


def true_classes(y: np.ndarray[Any, Any], rows: int, columns: int | None) -> np.ndarray[Any, Any]:
    if columns == 2 and y.shape == (rows, 1):
        y = y[:, 0]
        if not np.isin(y, (0, 1)).all():
            raise DataError(f"y holds {y[~np.isin(y, (0, 1))][0]}; of one output the classes are 0 and 1")
        return y.astype(np.int64)
    if columns is None and y.ndim == 1:
        if len(y) != rows:
            raise ShapeError(f"y has {len(y)} labels for {rows} rows; expected shape ({rows},)")
        return _class_numbers("y", y, "use y.astype(np.int64)")
    width = columns or (y.shape[1] if y.ndim == 2 else 1)
    checked = labels("y", y, rows, width, np.dtype(np.float64))
    return checked if checked.ndim == 1 else checked.argmax(axis=1)


def _class_numbers(name: str, a: np.ndarray[Any, Any], hint: str) -> np.ndarray[Any, Any]:
    if a.dtype.kind == "f":
        raise DTypeError(f"{name} has dtype {a.dtype}; class numbers must be integers: {hint}")
    numbers = a.astype(np.int64)
    if numbers.min() < 0:
        row = int(np.argmin(numbers))
        raise DataError(f"{name}[{row}] is {a[row]}; class numbers count from 0")
    return numbers
