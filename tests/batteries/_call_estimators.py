"""`nnfast.sklearn`: the estimators' settings, which `fit` looks at, and their methods on estimators that are fitted.

Data go through scikit-learn's own checks, whose errors are plain ValueErrors and TypeErrors, and which take objects and
text that hold numbers, and dates. Its `score` and `set_params`, which are inherited, are not tried here.
"""

from __future__ import annotations

import functools
import warnings
from importlib.util import find_spec

import numpy as np

from batteries._bad_arrays import real, weights
from batteries._bad_settings import BACKEND, FLAG, number, objects, whole, word
from batteries._kinds import Kind, always, changed, one_of
from batteries._targets import FIXED, Target, method

__all__ = ["TARGETS"]

INPUTS, OUTPUTS = FIXED["I"], FIXED["O"]
THEIRS = (ValueError, TypeError)
CONVERTED = ("objects", "text", "bytes", "dates", "times", "masked")
UNUSABLE = {
    "NaN": lambda draw, a: changed(a, draw.place(a), np.nan),
    "inf": lambda draw, a: changed(a, draw.place(a), np.inf),
}
ROWS = real("N", "I", fixed="NI").but(*CONVERTED, **UNUSABLE)
NEW_ROWS = real("N", "I", fixed="N").but(*CONVERTED, **UNUSABLE)  # `fit` takes any number of features
ROWS_ALONE = real("N", "I", fixed="I").but(*CONVERTED, **UNUSABLE)
WEIGHTS = {"sample_weight": weights().but(*CONVERTED, "a plain number")}


def _labels():
    """Class numbers, each class at least once."""

    def right(draw):
        sort = one_of("int64", "int32", "float64")(draw)
        return np.resize(np.arange(OUTPUTS), draw.dims["N"]).astype(sort)

    faults = {
        "None": always(None),
        "a word": always("text"),
        "an object": lambda draw, y: object(),
        "a plain number": always(1),
        "one label more": lambda draw, y: np.append(y, 0),
        "one label less": lambda draw, y: y[1:],
        "none": lambda draw, y: y[:0],
        "three dimensions": lambda draw, y: y[:, None, None],
        "in one row": lambda draw, y: y[None],
        "fractions": lambda draw, y: y + 0.25,
        "NaN": lambda draw, y: changed(y.astype(np.float64), 0, np.nan),
        "inf": lambda draw, y: changed(y.astype(np.float64), 0, np.inf),
        "words and numbers": lambda draw, y: np.array([*y[:-1].tolist(), "a"], object),
        "rows of different lengths": lambda draw, y: [[0], *([0, 1] for _ in y[1:])],
    }
    return Kind(right, faults, listed=True)


def _numbers():
    """What a regressor learns, one number a row."""
    faults = real("N", fixed="N").but(*CONVERTED, "a dimension more after", **UNUSABLE).wrong
    return Kind(lambda draw: draw.numbers(draw.shape("N"), 0.0, 1.0), faults, listed=True)


# ---- settings -------------------------------------------------------------------------------------------------------


def _settings():
    rate, share = number(0, low_open=True, right=0.01), number(0, 1, high_open=True)
    return {
        "hidden_layer_sizes": _widths(),
        "activation": word("identity", "logistic", "relu", "tanh"),
        "solver": word("adam", "sgd", "lbfgs"),
        "alpha": number(0),
        "batch_size": whole(1),
        "learning_rate": word("adaptive", "constant", "invscaling"),
        "learning_rate_init": rate,
        "power_t": number(0),
        "max_iter": whole(1),
        "shuffle": FLAG,
        "random_state": _seed(),
        "tol": number(0),
        "verbose": whole(0, right=0).but("a truth value"),
        "warm_start": FLAG,
        "momentum": number(0, 1),
        "nesterovs_momentum": FLAG,
        "early_stopping": FLAG._replace(right=always(False)),
        "validation_fraction": share,
        "beta_1": share,
        "beta_2": share,
        "epsilon": rate,
        "n_iter_no_change": whole(1).but("inf"),
        "max_fun": whole(1),
        "backend": BACKEND,
        "dropout": number(0, 1, high_open=True, right=0.0),
    }


def _widths():
    """One width, or those of several layers."""
    one = whole(1)
    faults = {what: fault for what, fault in one.wrong.items() if what not in ("a list", "a tuple", "an array")}
    for what, fault in one.wrong.items():
        faults[f"one of them: {what}"] = lambda draw, widths, fault=fault: (4, fault(draw, 3))
    faults |= {"a dictionary": always({"a": 3}), "a list": always([[3]]), "an array": always(np.ones((2, 2)))}
    return Kind(one_of(3, (4,), [4, 3], ()), {what: _of_three(fault) for what, fault in faults.items()})


def _of_three(fault):
    return lambda draw, _: fault(draw, 3)


def _seed():
    faults = {
        "negative": one_of(-1, -(2**70)),
        "beyond 32 bits": one_of(2**32, 10**30),
        "a float": one_of(1.0, 0.5, float("nan")),
        "text": one_of("0", "seed", b"0"),
        "a list": always([1, 2]),
        "a class": always(np.random.RandomState),
        "an object": lambda draw, x: object(),
    }
    return Kind(one_of(0, 7), faults, optional=True)


def _held_out():
    X, y = np.zeros((2, INPUTS)), np.zeros(2, np.int64)
    faults = {
        "one thing": (X,),
        "four things": (X, y, None, None),
        "another width": (X[:, 1:], y),
        "fewer labels": (X, y[1:]),
        "NaN": (changed(X, (0, 0), np.nan), y),
        "no rows": (X[:0], y[:0]),
        "no labels": (X, None),
        "labels as rows": (X, np.zeros((2, OUTPUTS + 1))),
        "fewer weights": (X, y, [1.0]),
        "negative weights": (X, y, [1.0, -1.0]),
        "weights of 0": (X, y, [0.0, 0.0]),
        "labels as text": (X, y.astype(str)),
    }
    kind = objects(always((X, y)), none=False)
    return kind._replace(wrong=kind.wrong | {what: always(given) for what, given in faults.items()}, optional=True)


def _fitted_with(kind, y, also, **settings):
    """An estimator of these settings is made and fitted."""

    def fit(world, X, y, **given):
        from nnfast import sklearn

        return getattr(sklearn, kind)(**{"max_iter": 2, "backend": world.backend} | given).fit(X, y)

    optional = {name: each._replace(optional=True) for name, each in settings.items()}
    data = {"X": Kind(ROWS.right, {}), "y": Kind(y.right, {})}
    return Target(kind, fit, data | optional, models=True, also=also)


# ---- all of it ------------------------------------------------------------------------------------------------------


def _targets():
    common = _settings()
    late = {"validation_data": _held_out()}
    for kind, y, own in (
        ("MLPClassifier", _labels(), {}),
        ("MLPRegressor", _numbers(), {"loss": word("poisson", "squared_error")}),
    ):
        yield _fitted_with(kind, y, (), **own, **common)
        yield _fitted_with(kind, y, THEIRS, **late)
        of = f"sklearn {'classifier' if kind == 'MLPClassifier' else 'regressor'}"
        methods = [method(f"{kind}.fit", of, X=NEW_ROWS, y=y, **WEIGHTS)]
        known = y.but(a_new_label=lambda draw, y: changed(y, 0, OUTPUTS)) if kind == "MLPClassifier" else y
        methods.append(method(f"{kind}.partial_fit", of, X=ROWS, y=known, **WEIGHTS))
        names = ("predict", "predict_proba", "predict_log_proba") if kind == "MLPClassifier" else ("predict",)
        methods += [method(f"{kind}.{name}", of, X=ROWS_ALONE) for name in names]
        for each in methods:
            yield each._replace(models=True, also=THEIRS)
    classes = {"other classes": always([0, 1]), "text": always("text"), "a number": always(3), "none": always([])}
    given = {"X": Kind(ROWS.right, {}), "y": Kind(_labels().right, {})}
    given["classes"] = Kind(always(list(range(OUTPUTS))), classes)
    of = "sklearn classifier"
    yield method("MLPClassifier.partial_fit", of, **given)._replace(models=True, also=THEIRS)
    yield from _converted()


def _converted():
    from nnfast import sklearn

    fresh = {"not_fitted": lambda draw, x: type(x)(), "its_class": lambda draw, x: type(x)}
    given = {"fitted": objects(lambda draw: _theirs(), **fresh), "backend": BACKEND._replace(optional=True)}
    yield Target("sklearn.from_sklearn", lambda world, **given: sklearn.from_sklearn(**given), given, also=THEIRS)
    given = {"fitted": objects(lambda draw: sklearn.from_sklearn(_theirs()), **fresh)}
    yield Target("sklearn.to_sklearn", lambda world, **given: sklearn.to_sklearn(**given), given, also=THEIRS)


@functools.cache
def _theirs():
    """A fitted estimator of scikit-learn."""
    from sklearn.neural_network import MLPRegressor

    with warnings.catch_warnings(action="ignore"):
        return MLPRegressor(hidden_layer_sizes=(3,), max_iter=1, random_state=0).fit(np.eye(INPUTS), np.arange(INPUTS))


TARGETS = list(_targets()) if find_spec("sklearn") is not None else []
