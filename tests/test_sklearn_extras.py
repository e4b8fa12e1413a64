"""The estimators beyond scikit-learn's: one row at a time, further arguments, conversions, and how they work."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn import neural_network as theirs
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import LabelBinarizer, StandardScaler
from sklearn_data import BOTH, SIGNAL, SMALL, X, Y, answers

from nnfast import errors
from nnfast.sklearn import MLPClassifier, MLPRegressor, classifier, from_sklearn, network, to_sklearn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


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


def test_what_stopped_early_goes_on_in_scikit_learn():
    """And ends as it was where no epoch is better."""
    settings = SMALL | {"early_stopping": True, "warm_start": True}
    scikit, mine = (kind(**settings).fit(X, Y) for kind in (theirs.MLPClassifier, MLPClassifier))
    pair = scikit, to_sklearn(mine)
    for _ in range(3):
        for estimator in pair:
            estimator.fit(X, Y)
        np.testing.assert_allclose(answers(pair[1]), answers(pair[0]), rtol=1e-9)


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


# ---- how they work --------------------------------------------------------------------------------------------------


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
