"""Fitted estimators from scikit-learn and back."""

from __future__ import annotations

import copy
import inspect
from typing import Any

from sklearn import neural_network
from sklearn.utils.validation import check_is_fitted

from nnfast.errors import DTypeError, OptionError
from nnfast.registry import get_backend
from nnfast.sklearn.classifier import MLPClassifier
from nnfast.sklearn.regressor import MLPRegressor

__all__ = ["from_sklearn", "to_sklearn"]

KINDS = {neural_network.MLPClassifier: MLPClassifier, neural_network.MLPRegressor: MLPRegressor}
OURS_ALONE = ("backend", "dropout", "validation_data")


def from_sklearn(fitted: Any, *, backend: Any = None) -> Any:
    """The nnfast estimator of a fitted MLPClassifier or MLPRegressor of scikit-learn: it predicts the same.

    Weights are copied. An optimizer's moments stay behind: `partial_fit` goes on with fresh ones.

    Raises DTypeError for anything else, UnknownNameError or BackendUnavailable for a backend that is not there.
    """
    get_backend(backend)
    for theirs, ours in KINDS.items():
        if isinstance(fitted, theirs):
            return _converted(fitted, ours, {"backend": backend})
    raise DTypeError(f"fitted is a {type(fitted).__name__}; expected scikit-learn's MLPClassifier or MLPRegressor")


def to_sklearn(fitted: Any) -> Any:
    """The estimator of scikit-learn for a fitted one of nnfast: it predicts the same.

    `backend`, `dropout` and `validation_data`, which it does not have, are left out, and so are an optimizer's moments.
    """
    for theirs, ours in KINDS.items():
        if isinstance(fitted, ours):
            made = _converted(fitted, theirs, {})
            made._best_coefs, made._best_intercepts = made.coefs_, made.intercepts_  # the same, as after its own fit
            return made
    raise DTypeError(f"fitted is a {type(fitted).__name__}; expected nnfast's MLPClassifier or MLPRegressor")


def _converted(fitted: Any, kind: Any, more: dict[str, Any]) -> Any:
    check_is_fitted(fitted)
    taken = inspect.signature(kind).parameters
    arguments = {name: value for name, value in fitted.get_params(deep=False).items() if name not in OURS_ALONE}
    lost = {name for name in arguments if name not in taken}
    if lost and arguments.get("loss") == "poisson":
        raise OptionError("this scikit-learn has no loss='poisson'; 1.7 and newer have")
    made = kind(**{name: value for name, value in arguments.items() if name in taken}, **more)
    for name, value in vars(fitted).items():
        learned = name.endswith("_") and not name.startswith("_")
        if learned or name in ("_label_binarizer", "_no_improvement_count"):
            setattr(made, name, copy.deepcopy(value))
    return made
