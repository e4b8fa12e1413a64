"""Data and settings for estimators as scikit-learn has them: `MLPClassifier` and `MLPRegressor`, in float64.

Digits is scikit-learn's own. Generated are "100,000×50", of three classes, and "20,640×8", a regression of the size of
its California housing. A fifth of the rows is held out for the score.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["CASES", "QUICK", "EstimatorCase", "data", "made", "same"]

Array = np.ndarray[Any, Any]


class EstimatorCase(NamedTuple):
    """`rows()` gives X and y; the estimator trains `epochs` epochs at most, everything else being its default."""

    name: str
    kind: str  # "MLPClassifier" or "MLPRegressor"
    rows: Callable[[], tuple[Array, Array]]
    epochs: int


def _digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return X / 16, y


def _tabular() -> tuple[Array, Array]:
    from sklearn.datasets import make_classification

    X, y = make_classification(100_000, 50, n_informative=20, n_classes=3, random_state=0)
    return X, y


def _housing() -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20_640, 8))
    return X, np.sin(X[:, 0]) * X[:, 1] + 0.3 * X[:, 2] ** 2 + 0.3 * rng.standard_normal(len(X))


CASES = {
    case.name: case
    for case in (
        EstimatorCase("digits, 30 epochs", "MLPClassifier", _digits, 30),
        EstimatorCase("100,000×50, 3 epochs", "MLPClassifier", _tabular, 3),
        EstimatorCase("20,640×8, 8 epochs", "MLPRegressor", _housing, 8),
        EstimatorCase("digits, 2 epochs", "MLPClassifier", _digits, 2),
    )
}
QUICK = "digits, 2 epochs"  # all that a quick run takes, and no other does


@functools.cache
def data(name: str) -> tuple[Array, Array, Array, Array]:
    """X, y to train on, and X, y held out."""
    X, y = CASES[name].rows()
    train = len(X) * 4 // 5
    return X[:train], y[:train], X[train:], y[train:]


def made(module: Any, name: str, **more: Any) -> Any:
    """The case's estimator from a module that has both."""
    warnings.filterwarnings("ignore", "Stochastic Optimizer")  # that it has not converged yet
    case = CASES[name]
    return getattr(module, case.kind)(max_iter=case.epochs, random_state=0, **more)


def same(found: list[Any], expected: list[Any]) -> tuple[float, bool]:
    """How far losses and score lie apart, relative to the expected; whether that is rounding alone."""
    apart = max(float(np.max(np.abs(np.asarray(a) / np.asarray(b) - 1))) for a, b in zip(found, expected, strict=True))
    return apart, apart < 1e-6
