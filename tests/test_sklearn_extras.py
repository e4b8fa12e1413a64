"""The estimators beyond scikit-learn's: one row at a time, further arguments, conversions, and what they refuse."""

from __future__ import annotations

import math
import sys
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn import neural_network as theirs
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import LabelBinarizer, StandardScaler

from nnfast import errors
from nnfast.sklearn import MLPClassifier, MLPRegressor, classifier, from_sklearn, network, to_sklearn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
X = rng.standard_normal((120, 5))
SIGNAL = X[:, 0] * X[:, 1] + X[:, 2]
Y = np.digitize(SIGNAL, [-0.7, 0.7])
SMALL = {"hidden_layer_sizes": (8,), "max_iter": 15, "random_state": 0}
BOTH = [(MLPClassifier, Y), (MLPRegressor, SIGNAL)]


def answers(estimator, rows=X):
    return estimator.predict_proba(rows) if hasattr(estimator, "predict_proba") else estimator.predict(rows)


# ---- networks that are alike ----------------------------------------------------------------------------------------

OTHERS = {
    "as it is": {},
    "another alpha": {"alpha": 0.1},
    "other rows per batch": {"batch_size": 7},
    "sgd": {"solver": "sgd"},
    "sgd, no momentum": {"solver": "sgd", "momentum": 0.0},
    "dropout": {"dropout": 0.3},
    "weights": {},
}


def trained(how):
    weight = np.linspace(0.1, 2, len(X)) if how == "weights" else None
    return MLPClassifier(**SMALL | OTHERS[how]).fit(X, Y, weight)


def test_alike_networks_know_each_others_programs_and_train_as_if_they_did_not():
    alone = {}
    for how in OTHERS:
        network._programs_of.cache_clear()
        alone[how] = trained(how)
    network._programs_of.cache_clear()
    for how in [*OTHERS, *reversed(OTHERS)]:
        again = trained(how)
        for one, other in zip(
            again.coefs_ + again.intercepts_, alone[how].coefs_ + alone[how].intercepts_, strict=True
        ):
            np.testing.assert_array_equal(one, other)
        assert again.loss_curve_ == alone[how].loss_curve_
    programs = {how: program_of(trained(how)) for how in OTHERS}
    assert program_of(trained("as it is")) is programs["as it is"] is programs["another alpha"]
    assert len({id(program) for program in programs.values()}) == 4, "Adam, two kinds of SGD, and dropout"
    for how, program in programs.items():
        assert program == alone[how]._network.model._programs.lower("train"), how


def program_of(fitted):
    return fitted._network.model._programs.runner("train")[0]


# ---- one row --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "y"), [*BOTH, (MLPClassifier, Y > 0), (MLPRegressor, np.stack([SIGNAL, Y], 1))])
def test_one_row_at_a_time_gives_what_all_rows_give(kind, y):
    fitted = kind(**SMALL).fit(X, y)
    for _ in range(2):
        singly = np.concatenate([answers(fitted, X[i : i + 1]) for i in range(len(X))])
        np.testing.assert_allclose(singly, answers(fitted), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(answers(fitted, X[:, ::-1].copy()[:1, ::-1]), answers(fitted)[:1], rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_row_is_checked_as_all_are(bad):
    fitted = MLPClassifier(**SMALL).fit(X, Y)
    row = X[:1].copy()
    fitted.predict_proba(row), fitted.predict_proba(row)  # the second is the fast path
    row[0, 3] = bad
    with pytest.raises(ValueError, match="contains"):
        fitted.predict_proba(row)
    with pytest.raises(ValueError, match="3 features"):
        fitted.predict_proba(X[:1, :3])
    np.testing.assert_allclose(fitted.predict_proba(X[:1].tolist()), fitted.predict_proba(X[:1]))


# ---- what scikit-learn does not have --------------------------------------------------------------------------------


def test_validation_data_are_scored_each_epoch():
    held = X[:30], Y[:30]
    fitted = MLPClassifier(**SMALL, validation_data=held).fit(X[30:], Y[30:])
    assert len(fitted.validation_scores_) == fitted.n_iter_ == 15
    assert fitted.validation_scores_[-1] == fitted.score(*held)
    assert fitted.best_validation_score_ == max(fitted.validation_scores_)
    assert fitted.best_loss_ == min(fitted.loss_curve_)


def test_early_stopping_watches_validation_data_and_keeps_the_best():
    held = X[:30], SIGNAL[:30], np.linspace(1, 2, 30)
    settings = SMALL | {"max_iter": 200, "learning_rate_init": 0.05}
    fitted = MLPRegressor(**settings, early_stopping=True, validation_data=held).fit(X[30:], SIGNAL[30:])
    assert fitted.n_iter_ < 200
    assert fitted.t_ == 90 * fitted.n_iter_  # none of the rows were set aside
    assert math.isclose(fitted.score(*held), fitted.best_validation_score_)


def test_dropout_trains_other_weights_and_predicts_without_chance():
    plain, dropped = (MLPClassifier(**SMALL, dropout=rate).fit(X, Y) for rate in (0.0, 0.5))
    assert dropped.loss_curve_[-1] > plain.loss_curve_[-1]
    assert dropped.loss_curve_ == MLPClassifier(**SMALL, dropout=0.5).fit(X, Y).loss_curve_
    np.testing.assert_array_equal(dropped.predict_proba(X), dropped.predict_proba(X))


@pytest.mark.parametrize(("kind", "y"), [*BOTH, (MLPClassifier, Y > 0), (MLPClassifier, np.stack([Y > 0, Y > 1], 1))])
def test_there_and_back(kind, y):
    scikit = getattr(theirs, kind.__name__)(**SMALL, early_stopping=True).fit(X, y)
    mine = from_sklearn(scikit, backend="numpy")
    assert type(mine) is kind
    assert mine.backend == "numpy"
    assert mine.loss_curve_ == scikit.loss_curve_
    np.testing.assert_allclose(answers(mine), answers(scikit), rtol=1e-12)
    np.testing.assert_array_equal(np.asarray(mine.predict(X)).shape, np.asarray(scikit.predict(X)).shape)
    back = to_sklearn(mine)
    assert type(back) is type(scikit)
    np.testing.assert_allclose(answers(back), answers(scikit), rtol=1e-12)
    back.best_loss_ = np.inf  # which scikit-learn would miss
    for estimator in (mine, back):
        estimator.set_params(early_stopping=False).partial_fit(X, y)
    np.testing.assert_allclose(mine.coefs_[0], back.coefs_[0], rtol=1e-9)
    assert not np.shares_memory(mine.coefs_[0], scikit.coefs_[0])


def test_a_converted_estimator_can_be_trained_at_once():
    scikit = theirs.MLPRegressor(**SMALL).fit(X, SIGNAL)
    mine = from_sklearn(scikit).partial_fit(X, SIGNAL)
    assert mine.t_ == scikit.t_ + len(X)
    assert len(mine.loss_curve_) == 16


def test_a_solver_that_stops_otherwise_takes_over():
    """Each needs another record; scikit-learn's estimators fail here."""
    fitted = MLPClassifier(**SMALL, solver="lbfgs", warm_start=True).fit(X, Y)
    fitted.set_params(solver="adam", early_stopping=True).fit(X, Y)
    assert len(fitted.validation_scores_) == fitted.n_iter_
    fitted.set_params(early_stopping=False, tol=10.0, n_iter_no_change=2).fit(X, Y).partial_fit(X, Y).fit(X, Y)
    assert fitted.n_iter_ == 1  # the patience is used up
    assert fitted.best_loss_ < np.inf


def test_what_is_not_an_estimator_is_not_converted():
    with pytest.raises(errors.DTypeError, match="fitted is a StandardScaler"):
        from_sklearn(StandardScaler())
    with pytest.raises(errors.DTypeError, match="expected nnfast's"):
        to_sklearn(theirs.MLPClassifier())
    with pytest.raises(NotFittedError):
        to_sklearn(MLPClassifier())


# ---- refusals -------------------------------------------------------------------------------------------------------

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
    ({"early_stopping": True, "validation_fraction": 0.005}, "sets 1 of 120 rows aside"),
]


@pytest.mark.parametrize(
    ("settings", "words"), BAD, ids=lambda value: str(value)[:40] if isinstance(value, dict) else ""
)
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_bad_arguments_are_named(kind, settings, words):
    with pytest.raises(errors.NnfastError, match=words) as raised:
        kind(**SMALL | settings).fit(X, Y)
    assert isinstance(raised.value, ValueError | TypeError | RuntimeError)


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
    with pytest.raises(errors.OptionError, match="early_stopping"):
        MLPClassifier(**SMALL, early_stopping=True).partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(errors.DataError, match="not finite"), np.errstate(all="ignore"):
        MLPRegressor(**SMALL, solver="sgd", learning_rate_init=1e200).fit(X, SIGNAL)
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")
    assert not hasattr(MLPRegressor(solver="lbfgs"), "partial_fit")
    with pytest.warns(UserWarning, match="batch_size=500 is more than there are rows"):
        MLPRegressor(**SMALL, batch_size=500).fit(X, SIGNAL)


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


def test_epochs_are_one_job_though_their_last_batch_is_short(monkeypatch):
    from nnfast.sklearn import descent

    steps, make_job = [], descent.make_job
    monkeypatch.setattr(descent, "make_job", lambda *a, **given: steps.append(given["steps"]) or make_job(*a, **given))
    MLPClassifier(**SMALL, batch_size=50, alpha=0.1, tol=0.0, n_iter_no_change=100).fit(X, Y)
    assert sum(steps) == 15 * 3
    assert all(count % 3 == 0 for count in steps), "whole epochs"
    assert len(steps) < 15


def test_ctrl_c_ends_a_training_with_a_warning(monkeypatch):
    from nnfast.sklearn import descent

    run, count = descent.Descent.run, iter(range(10))

    def pressed(self, *arguments):
        if next(count) == 3:
            raise KeyboardInterrupt
        return run(self, *arguments)

    monkeypatch.setattr(descent.Descent, "run", pressed)
    held = X[:20], Y[:20]  # with which epochs come one by one
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        fitted = MLPClassifier(**SMALL, validation_data=held).fit(X, Y)
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 3
    assert fitted.predict(X).shape == Y.shape


def test_without_scikit_learn_the_message_names_the_extra(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "nnfast.sklearn")
    with pytest.raises(ImportError, match=r"nnfast\[sklearn\]"):
        import nnfast.sklearn  # noqa: F401


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 1, 0],
        [3, 1, 2, 1, 2, 3],
        [5, 5, 5],
        [True, False, False, True],
        ["b", "a", "c", "a", "b", "c"],
        np.array([2, 0, 2, 0], np.uint8),
        np.array(["x", "y", "x", "y"], object),
        np.array([1.0, 2.0, 1.0, 2.0, 0.0, 0.0]),
        [0, 1, 2],
        np.array([[1, 0], [0, 1], [1, 1]]),
    ],
    ids=str,
)
def test_labels_are_those_of_the_binarizer(labels):
    y = np.asarray(labels)
    ours, theirs = classifier._fitted_binarizer(y), LabelBinarizer().fit(y)
    assert ours.__dict__.keys() == theirs.__dict__.keys()
    assert np.array_equal(ours.classes_, theirs.classes_)
    assert ours.classes_.dtype == theirs.classes_.dtype
    assert (ours.y_type_, ours.sparse_input_) == (theirs.y_type_, theirs.sparse_input_)
    assert np.array_equal(ours.transform(y), theirs.transform(y))


def test_continuous_targets_are_no_labels():
    with pytest.raises(ValueError, match="Unknown label type"):
        MLPClassifier().fit(np.eye(4), [0.5, 1.5, 0.1, 0.2])
