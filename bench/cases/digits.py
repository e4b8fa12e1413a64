"""scikit-learn's handwritten digits, a quarter of them held out: how long a library needs to a test accuracy of 97 %.

1,797 images of 8 × 8 pixels; 1,347 of them are for training, and the last 3 of those are left out, so that an epoch is
42 whole batches of 32. At Adam's usual rate of 0.001 every library that takes the same weights and row orders gets
there in the same epoch, the 11th, and stays there: up to the 60th the median of the accuracies is 0.979.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from cases.networks import Case

__all__ = ["TARGET", "Digits", "accuracy", "digits"]

Array = np.ndarray[Any, Any]

TARGET = 0.97  # of the test part
WIDTHS, BATCH = (64, 128, 64, 10), 32


class Digits(NamedTuple):
    case: Case  # what is trained, on the training part
    X: Array  # the test part
    y: Array


def digits() -> Digits:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    images, labels = (images / 16).astype(np.float32), labels.astype(np.int64)
    X, X_test, y, y_test = train_test_split(images, labels, test_size=0.25, stratify=labels, random_state=0)
    rows = len(X) // BATCH * BATCH
    name = f"digits, {'-'.join(map(str, WIDTHS))}, batch {BATCH}, reshuffled"
    case = Case(name, WIDTHS, "softmax", BATCH, True, np.ascontiguousarray(X[:rows]), np.ascontiguousarray(y[:rows]))
    return Digits(case, np.ascontiguousarray(X_test), y_test)


def accuracy(weights: list[Any], X: Array, y: Array) -> float:
    """Of a network with ReLU between its layers, from its weights [W1, b1, W2, b2, …]."""
    *hidden, w, b = (np.asarray(a, np.float32) for a in weights)
    for k in range(0, len(hidden), 2):
        X = np.maximum(_product(X, hidden[k]) + hidden[k + 1], 0)
    return float(np.mean(np.argmax(_product(X, w) + b, axis=1) == y))


def _product(a: Array, b: Array) -> Array:
    """Without BLAS, whose threads would still spin when the next epoch of another library is timed."""
    product: Array = np.einsum("ni,io->no", a, b, optimize=False)
    return product
