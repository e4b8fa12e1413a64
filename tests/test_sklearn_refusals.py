"""What the estimators refuse, in the words of `nnfast.errors`, and that a call that is refused changes nothing."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.exceptions import UndefinedMetricWarning
from sklearn_data import SIGNAL, SMALL, X, Y, answers

from nnfast import errors
from nnfast.sklearn import MLPClassifier, MLPRegressor
from nnfast.sklearn.base import BaseMLP

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

LABELS = np.stack([SIGNAL > 0, SIGNAL > 1, X[:, 3] > 0], axis=1).astype(int)


BAD = [
    ({"hidden_layer_sizes": (8, 0)}, r"hidden_layer_sizes\[1\] is 0"),
    ({"hidden_layer_sizes": 2.5}, "hidden_layer_sizes is 2.5"),
    ({"activation": "gelu"}, "activation 'gelu'"),
    ({"solver": "sdg"}, "did you mean 'sgd'"),
    ({"learning_rate": 0.1}, "learning_rate 0.1"),
    ({"learning_rate_init": 0}, "learning_rate_init is 0"),
    ({"alpha": -1}, "alpha is -1"),
    ({"batch_size": 0}, "batch_size is 0"),
    ({"batch_size": "all"}, "batch_size is 'all'"),
    ({"momentum": 1.5}, "momentum is 1.5"),
    ({"beta_1": 1.0}, "beta_1 is 1.0"),
    ({"epsilon": 0.0}, "epsilon is 0.0"),
    ({"max_iter": 0}, "max_iter is 0"),
    ({"tol": -1e-4}, "tol is -0.0001"),
    ({"n_iter_no_change": 1.5}, "n_iter_no_change is 1.5"),
    ({"shuffle": "yes"}, "shuffle is 'yes'"),
    ({"verbose": "loud"}, "verbose is 'loud'"),
    ({"validation_fraction": 1.0}, "validation_fraction is 1.0"),
    ({"dropout": 1.0}, "dropout is 1.0"),
    ({"dropout": 0.5, "solver": "lbfgs"}, "needs solver='adam' or 'sgd'"),
    ({"backend": "abacus"}, "backend 'abacus'"),
    ({"validation_data": X}, "validation_data must be"),
    ({"dropout": True}, "dropout is True"),
    ({"max_iter": True}, "max_iter is True"),
    ({"random_state": -1}, "random_state is -1; expected None"),
    ({"random_state": "0"}, "random_state is '0'"),
    ({"random_state": np.random.default_rng(0)}, "random_state is Generator.*RandomState"),
    ({"validation_data": (X, Y), "solver": "lbfgs"}, "validation_data needs solver='adam' or 'sgd'"),
    ({"early_stopping": True, "validation_fraction": 0.005}, "sets 1 of 120 rows aside"),
    ({"early_stopping": True, "validation_fraction": 0}, "validation_fraction=0 sets 0 of 120 rows aside"),
    ({"early_stopping": True, "validation_fraction": 0.999}, "sets 120 of 120 rows aside.*training at least 1"),
]


@pytest.mark.parametrize(
    ("settings", "words"), BAD, ids=lambda value: str(value)[:40] if isinstance(value, dict) else ""
)
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_bad_arguments_are_named(kind, settings, words):
    with pytest.raises(errors.NnfastError, match=words) as raised:
        kind(**SMALL | settings).fit(X, Y)
    assert isinstance(raised.value, ValueError | TypeError | RuntimeError)


def test_numpys_flags_are_flags():
    flags = dict.fromkeys(("shuffle", "warm_start", "nesterovs_momentum", "early_stopping", "verbose"), np.False_)
    assert (
        MLPRegressor(**SMALL | flags).fit(X, SIGNAL).loss_ == MLPRegressor(**SMALL, shuffle=False).fit(X, SIGNAL).loss_
    )


def test_rows_of_each_class_are_set_aside_or_it_is_said_why_not():
    with pytest.raises(errors.DataError, match=r"119 of 120 rows aside.*training at least 2"):
        MLPClassifier(**SMALL, early_stopping=True, validation_fraction=0.99).fit(X, Y > 0)
    with pytest.raises(errors.DataError, match="a class of y has 1 row"):
        MLPClassifier(**SMALL, early_stopping=True).fit(X, np.arange(len(X)) == 3)


def test_the_base_is_no_estimator():
    with pytest.raises(TypeError, match="abstract"):
        BaseMLP()


def test_a_bad_argument_leaves_an_estimator_as_it_was():
    for settings in ({"alpha": -1}, {"backend": "abacus"}, {"validation_data": 3}):
        estimator = MLPClassifier(**settings)
        before = dict(vars(estimator))
        with pytest.raises(errors.NnfastError):
            estimator.fit(X, Y)
        assert vars(estimator) == before


def test_bad_data_are_named():
    with pytest.raises(errors.DataError, match="poisson"):
        MLPRegressor("poisson").fit(X, SIGNAL)
    with pytest.raises(errors.DataError, match="at least 0"):
        MLPRegressor(**SMALL).fit(X, SIGNAL, -np.ones(120))
    with pytest.raises(errors.DataError, match="2 outputs"):
        MLPRegressor(**SMALL, warm_start=True).fit(X, SIGNAL).fit(X, np.stack([SIGNAL, SIGNAL], 1))
    with pytest.raises(errors.DataError, match="same classes"):
        MLPClassifier(**SMALL, warm_start=True).fit(X, Y).fit(X, Y + 1)
    with pytest.raises(errors.OptionError, match="classes must be passed"):
        MLPClassifier(**SMALL).partial_fit(X, Y)
    with pytest.raises(errors.DataError, match="not in"):
        MLPClassifier(**SMALL).partial_fit(X, Y, classes=[0, 1])
    for classes in ([0, 1], ["a", "b", "c"]):
        with pytest.raises(errors.DataError, match="not in"):
            MLPClassifier(**SMALL).partial_fit(X, LABELS, classes=classes)
    with pytest.raises(errors.DTypeError, match="y has dtype"):
        MLPRegressor(**SMALL).fit(X, SIGNAL.astype(str))
    with pytest.raises(errors.OptionError, match="early_stopping"):
        MLPClassifier(**SMALL, early_stopping=True).partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(errors.DataError, match="not finite"), np.errstate(all="ignore"):
        MLPRegressor(**SMALL, solver="sgd", learning_rate_init=1e200).fit(X, SIGNAL)
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")
    assert not hasattr(MLPRegressor(solver="lbfgs"), "partial_fit")
    with pytest.warns(UserWarning, match="batch_size=500 is more than there are rows"):
        MLPRegressor(**SMALL, batch_size=500).fit(X, SIGNAL)


IMPOSSIBLE = {
    "text": (Y, Y.astype(str)),
    "another class": (Y, Y + 1),
    "no labels": (Y, SIGNAL),
    "numbers": (Y.astype(str), Y),
    "several labels": (Y, LABELS),
    "fewer labels": (LABELS, LABELS[:, :2]),
    "one label": (LABELS, Y),
    "no 0 and 1": (LABELS, LABELS * 2),
    "text of 0 and 1": (LABELS, LABELS.astype(str)),
}


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_labels_that_cannot_be_right_are_no_validation_data(what, early):
    y, held = IMPOSSIBLE[what]
    with pytest.raises(errors.NnfastError, match="y of validation_data"):
        MLPClassifier(**SMALL, early_stopping=early, validation_data=(X, held)).fit(X, y)


def test_fewer_classes_and_equal_labels_are_validation_data():
    expected = MLPClassifier(**SMALL, validation_data=(X[Y > 0], Y[Y > 0])).fit(X, Y).validation_scores_
    for held in (Y.astype(np.float32), Y.astype(object), Y[:, None].astype(np.uint8)):
        fitted = MLPClassifier(**SMALL, validation_data=(X[Y > 0], held[Y > 0])).fit(X, Y)
        assert fitted.validation_scores_ == expected


def test_one_row_has_no_score_of_a_regressor():
    held = X[:1], SIGNAL[:1]
    with pytest.warns(UndefinedMetricWarning, match="1 row") as warned:
        fitted = MLPRegressor(**SMALL, tol=0.0, validation_data=held).fit(X, SIGNAL)
    assert warned[0].filename == __file__
    assert len(fitted.validation_scores_) == 15
    assert np.isnan(fitted.validation_scores_).all()
    with pytest.raises(errors.DataError, match="at least 2"):
        MLPRegressor(**SMALL, early_stopping=True, validation_data=held).fit(X, SIGNAL)


def test_values_beyond_float32_are_named():
    narrow, sparse = X.astype(np.float32), pytest.importorskip("scipy.sparse").csr_array
    for solver in ("adam", "lbfgs"):
        with pytest.raises(errors.DataError, match=r"y holds values beyond the range of float32.*scale y"):
            MLPRegressor(**SMALL, solver=solver).fit(narrow, SIGNAL * 1e39)
    with pytest.raises(errors.DataError, match="sample_weight holds values beyond"):
        MLPRegressor(**SMALL).fit(narrow, SIGNAL, np.full(len(X), 1e39))
    with pytest.raises(errors.DataError, match="sample_weight has no weight above 0"):
        MLPRegressor(**SMALL).fit(narrow, SIGNAL, np.full(len(X), 1e-60))
    fitted = MLPRegressor(**SMALL).fit(narrow, SIGNAL)
    before = dict(vars(fitted))
    for rows in (X * 1e39, sparse(X * 1e39)):
        with pytest.raises(errors.DataError, match=r"X holds values beyond.*give X in float64 to the first fit"):
            fitted.predict(rows)
        with pytest.raises(errors.DataError, match="X holds values beyond"):
            fitted.partial_fit(rows, SIGNAL)
        with pytest.raises(errors.DataError, match="X holds values beyond"):
            MLPRegressor(**SMALL, validation_data=(rows, SIGNAL)).fit(narrow, SIGNAL)
    assert vars(fitted) == before


WRONG = [
    ({}, (X[:, :3], Y)),
    ({}, (X, np.arange(len(X)) % 7)),
    ({}, (X, Y, -np.ones(len(X)))),
    ({"alpha": -1}, (X, Y)),
    ({"validation_data": (X[:, :2], Y)}, (X, Y)),
    ({"validation_data": (X, Y, -np.ones(len(X)))}, (X, Y)),
]


@pytest.mark.parametrize(("settings", "data"), WRONG)
def test_a_call_that_is_refused_leaves_what_was_learned(settings, data):
    fitted, twin = (MLPClassifier(**SMALL, warm_start=True).fit(X, Y).partial_fit(X, Y) for _ in range(2))
    before = {name: value for name, value in vars(fitted).items() if name not in settings}
    fitted.set_params(**settings)
    for call in (fitted.partial_fit, fitted.fit):
        with pytest.raises(ValueError):  # noqa: PT011  # nnfast's errors and scikit-learn's own
            call(*data)
    assert all(vars(fitted)[name] is value for name, value in before.items())
    fitted.set_params(**{name: getattr(twin, name) for name in settings})
    for one in (fitted, twin):
        one.partial_fit(X, Y)  # Adam goes on with its moments and its steps
    np.testing.assert_array_equal(answers(fitted), answers(twin))


def test_a_first_call_that_is_refused_leaves_nothing():
    fresh = MLPClassifier(**SMALL)
    for data in ((X, Y, None, [0, 1]), (X[:3], Y, None, [0, 1, 2]), (X, Y, -np.ones(len(X)), [0, 1, 2])):
        with pytest.raises(ValueError):  # noqa: PT011
            fresh.partial_fit(*data)
        assert vars(fresh) == vars(MLPClassifier(**SMALL))


def test_warnings_point_at_who_called():
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        MLPRegressor(hidden_layer_sizes=(3,), max_iter=1, batch_size=500).fit(X, SIGNAL)
        MLPRegressor(hidden_layer_sizes=(3,), max_iter=1, solver="lbfgs").fit(X, SIGNAL)
        MLPClassifier(hidden_layer_sizes=(3,), batch_size=500).partial_fit(X, Y, classes=[0, 1, 2])
    assert len(warned) == 4
    assert {warning.filename for warning in warned} == {__file__}


def test_continuous_targets_are_no_labels():
    with pytest.raises(ValueError, match="Unknown label type"):
        MLPClassifier().fit(np.eye(4), [0.5, 1.5, 0.1, 0.2])
