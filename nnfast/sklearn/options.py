"""The arguments of the estimators, checked when `fit` begins, as is the custom of scikit-learn."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Set
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from nnfast.errors import OptionError, ShapeError
from nnfast.registry import get_backend
from nnfast.validation import choice, flag, integer, number

__all__ = ["check", "hidden_widths", "random_of"]

SOLVERS = ("adam", "lbfgs", "sgd")
ACTIVATIONS = ("identity", "logistic", "relu", "tanh")
SCHEDULES = ("adaptive", "constant", "invscaling")


def check(estimator: Any) -> None:
    """Raise an error of `nnfast.errors` for the first argument that is out of its range."""
    e = estimator
    hidden_widths(e.hidden_layer_sizes)
    for name, words in (("activation", ACTIVATIONS), ("solver", SOLVERS), ("learning_rate", SCHEDULES)):
        choice(name, getattr(e, name), words)
    if hasattr(e, "loss"):
        choice("loss", e.loss, ("poisson", "squared_error"))
    for name in ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping"):
        flag(name, getattr(e, name))
    for name in ("alpha", "power_t", "tol"):
        number(name, getattr(e, name), 0)
    for name in ("learning_rate_init", "epsilon"):
        number(name, getattr(e, name), 0, low_open=True)
    for name in ("validation_fraction", "beta_1", "beta_2", "dropout"):
        number(name, getattr(e, name), 0, 1, high_open=True)
    number("momentum", e.momentum, 0, 1)
    for name in ("max_iter", "max_fun"):
        integer(name, getattr(e, name), 1)
    if not (isinstance(e.n_iter_no_change, Real) and e.n_iter_no_change == math.inf):
        integer("n_iter_no_change", e.n_iter_no_change, 1)
    if not (isinstance(e.batch_size, str) and e.batch_size == "auto"):
        integer("batch_size", e.batch_size, 1)
    if not isinstance(e.verbose, bool | np.bool_):
        integer("verbose", e.verbose, 0)
    get_backend(e.backend)
    data = e.validation_data
    if data is not None and not (isinstance(data, tuple | list) and len(data) in (2, 3)):
        raise ShapeError("validation_data must be (X, y) or (X, y, sample_weight)")
    if e.solver == "lbfgs" and e.dropout:
        raise OptionError(f"dropout={e.dropout} needs solver='adam' or 'sgd'; lbfgs cannot work with chance")
    if e.solver == "lbfgs" and data is not None:
        raise OptionError("validation_data needs solver='adam' or 'sgd'; lbfgs has no epochs to score")


def random_of(given: Any) -> np.random.RandomState:
    """The random numbers of a `random_state`."""
    try:
        made: np.random.RandomState = check_random_state(given)
    except ValueError:
        raise OptionError(
            f"random_state is {reprlib.repr(given)}; expected None, a whole number from 0 to 2**32 - 1, or a "
            "RandomState: a Generator draws otherwise than scikit-learn"
        ) from None
    return made


def hidden_widths(sizes: Any) -> list[int]:
    """The widths of the hidden layers, given as one number or as several."""
    if isinstance(sizes, str | bytes | Mapping | Set) or not hasattr(sizes, "__len__"):
        return [integer("hidden_layer_sizes", sizes, 1)]
    if getattr(sizes, "ndim", 1) != 1:
        raise ShapeError(f"hidden_layer_sizes is {sizes!r}; expected one number, or one for each hidden layer")
    return [integer(f"hidden_layer_sizes[{i}]", n, 1) for i, n in enumerate(sizes)]
