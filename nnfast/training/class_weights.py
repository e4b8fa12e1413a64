"""Weights of classes, turned into weights of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnfast.errors import DataError, DTypeError, OptionError
from nnfast.losses import Loss
from nnfast.validation import host_array, number

__all__ = ["weights_by_class"]

BINARY = ("sigmoid_binary_cross_entropy", "binary_cross_entropy")


def weights_by_class(given: Any, y: np.ndarray[Any, Any], loss: Loss, n_outputs: int) -> np.ndarray[Any, Any]:
    """One weight per row of the checked targets `y`, in float64.

    `given` is {class: weight} (classes not named weigh 1), a sequence with one weight per class, or "balanced":
    N/(C·Nc) for a class with Nc of N rows and C classes that occur (King & Zeng 2001). A row of soft labels q weighs
    Σ q·weight; one output with targets between 0 and 1 counts as two classes.
    """
    binary = loss.op in BINARY and n_outputs == 1
    if loss.targets != "label" and not binary:
        raise OptionError(f"class_weight needs classes; the targets of {loss!r} are numbers: use sample_weight")
    classes = 2 if binary else n_outputs
    shares = np.column_stack([1 - y, y]) if binary else y
    if isinstance(given, str):
        table = _balanced(given, shares, classes)
    elif isinstance(given, Mapping):
        table = _named(given, classes)
    elif isinstance(given := _listed(given), Sequence):
        if len(given) != classes:
            raise OptionError(f"class_weight has {len(given)} weights; there are {classes} classes")
        table = np.array([number(f"class_weight[{i}]", w, 0) for i, w in enumerate(given)])
    else:
        raise DTypeError(f"class_weight is {given!r}; expected {{class: weight}}, one weight per class, or 'balanced'")
    weights = table[shares] if shares.ndim == 1 else shares.astype(np.float64) @ table
    if not weights.any():
        raise DataError("class_weight gives every row of the data the weight 0, so there is nothing to learn from")
    return np.asarray(weights)


def _listed(given: Any) -> Any:
    """An array, of whatever library, as numbers; what is none stays as it is."""
    if not (hasattr(given, "__array__") or hasattr(given, "__dlpack__")):
        return given
    a = host_array("class_weight", given)
    return a.tolist() if a.ndim == 1 else given


def _named(given: Mapping[Any, Any], classes: int) -> np.ndarray[Any, Any]:
    table = np.ones(classes)
    for key, weight in given.items():
        if isinstance(key, bool) or not isinstance(key, (int, np.integer)) or not 0 <= key < classes:
            raise OptionError(f"class_weight names the class {key!r}; there are {classes}, numbered from 0")
        table[key] = number(f"class_weight[{key}]", weight, 0)
    return table


def _balanced(given: str, shares: np.ndarray[Any, Any], classes: int) -> np.ndarray[Any, Any]:
    if given != "balanced":
        raise OptionError(f"class_weight is {given!r}; the only word that it knows is 'balanced'")
    if shares.ndim == 1:
        counts = np.bincount(shares, minlength=classes).astype(np.float64)
    else:
        counts = shares.sum(axis=0, dtype=np.float64)
    present = counts > 0
    return np.where(present, counts.sum() / (np.maximum(counts, 1e-300) * np.count_nonzero(present)), 0.0)
