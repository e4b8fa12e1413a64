"""scikit-learn's own checks of an estimator, all of them, and life among its other parts."""

from __future__ import annotations

import copy
import os
import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn_data import BOTH, SIGNAL, SMALL, X, Y, answers
from sweeps import threads_of_a_fit

from nnfast.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


CHECKS = [pair for kind, _ in BOTH for pair in estimator_checks_generator(kind(max_iter=100))]


@pytest.mark.parametrize(
    ("estimator", "check"), CHECKS, ids=[f"{type(e).__name__}-{c.func.__name__}" for e, c in CHECKS]
)
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_the_arguments_are_those_of_scikit_learn(name):
    ours, expected = globals()[name]().get_params(), getattr(theirs, name)().get_params()
    if "loss" in ours:
        expected.setdefault("loss", "squared_error")  # before scikit-learn 1.7
    assert {key: value for key, value in ours.items() if key in expected} == expected
    assert set(ours) - set(expected) == {"backend", "dropout", "validation_data"}


# ---- among others ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", ["loky", "threading"])
def test_a_grid_search_in_a_pipeline_finds_the_same_in_parallel(jobs):
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(**SMALL))
    grid = {"mlpclassifier__alpha": [1e-4, 10.0], "mlpclassifier__hidden_layer_sizes": [(4,), (8, 4)]}
    alone = GridSearchCV(pipeline, grid, cv=2).fit(X, Y)
    with joblib.parallel_config(backend=jobs):
        together = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(X, Y)
    np.testing.assert_allclose(together.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    assert together.best_params_ == alone.best_params_
    np.testing.assert_allclose(together.predict_proba(X), alone.predict_proba(X), rtol=1e-6)


def test_a_worker_process_uses_the_threads_that_it_is_given(monkeypatch):
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    monkeypatch.delenv("NNFAST_NUM_THREADS", raising=False)
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        found = joblib.Parallel(n_jobs=2)(joblib.delayed(threads_of_a_fit)(MLPClassifier(**SMALL)) for _ in range(2))
    assert {threads for threads, _ in found} == {1}
    assert os.getpid() not in {process for _, process in found}


def test_calibration_and_cross_validation():
    calibrated = CalibratedClassifierCV(MLPClassifier(**SMALL), cv=2).fit(X, Y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)
    expected = cross_val_score(theirs.MLPRegressor(**SMALL), X, SIGNAL, cv=3)
    np.testing.assert_allclose(cross_val_score(MLPRegressor(**SMALL), X, SIGNAL, cv=3), expected, rtol=1e-8)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_give_their_names(library):
    frames = pytest.importorskip(library)
    table = frames.DataFrame({name: X[:, i] for i, name in enumerate("abcde")})
    fitted = MLPClassifier(**SMALL).fit(table, Y)
    assert list(fitted.feature_names_in_) == list("abcde")
    np.testing.assert_array_equal(fitted.predict_proba(table), MLPClassifier(**SMALL).fit(X, Y).predict_proba(X))
    with pytest.warns(UserWarning, match="valid feature names"):
        fitted.predict_proba(X[:1])  # and not the fast path


def test_sparse_rows_give_what_dense_ones_give():
    sparse = pytest.importorskip("scipy.sparse")
    holes = np.where(np.abs(X) > 0.5, X, 0)
    dense = MLPClassifier(**SMALL).fit(holes, Y)
    for kind in (sparse.csr_matrix, sparse.csc_array):
        other = MLPClassifier(**SMALL).fit(kind(holes), Y)
        assert other.loss_curve_ == dense.loss_curve_
        np.testing.assert_array_equal(other.predict_proba(kind(holes)), dense.predict_proba(holes))


# ---- copies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "y"), BOTH)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_pickles_and_copies_go_on_as_the_original_does(kind, y, solver):
    fitted = kind(**SMALL, solver=solver, dropout=0.25).fit(X, y)
    copies = [pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)]
    expected = answers(fitted)
    for twin in copies:
        np.testing.assert_array_equal(answers(twin), expected)
        twin.partial_fit(X, y)
    fitted.partial_fit(X, y)
    for twin in copies:
        for mine, its in zip(fitted.coefs_, twin.coefs_, strict=True):
            np.testing.assert_array_equal(mine, its)
        np.testing.assert_array_equal(answers(twin), answers(fitted))


@pytest.mark.parametrize(("kind", "y"), BOTH)
def test_a_clone_is_unfitted_and_learns_the_same(kind, y):
    fitted = kind(**SMALL, validation_data=(X[:20], y[:20])).fit(X, y)
    again = clone(fitted)
    with pytest.raises(NotFittedError):
        again.predict(X)
    assert again.fit(X, y).loss_curve_ == fitted.loss_curve_


def test_weights_that_somebody_changes_are_used():
    fitted, expected = MLPRegressor(**SMALL).fit(X, SIGNAL), theirs.MLPRegressor(**SMALL).fit(X, SIGNAL)
    for estimator in (fitted, expected):
        estimator.coefs_[0][:] *= 2
        estimator.intercepts_[1] = np.array([5.0])
        estimator.coefs_[1] = np.full((8, 1), 0.5)
    for rows in (X, X[:1], X[:1], X[:1]):
        np.testing.assert_allclose(fitted.predict(rows), expected.predict(rows), rtol=1e-12)
    for estimator in (fitted, expected):
        estimator.coefs_ = [np.ones((5, 3)), np.ones((3, 1))]
        estimator.intercepts_ = [np.zeros(3), np.zeros(1)]
    np.testing.assert_allclose(fitted.predict(X), expected.predict(X), rtol=1e-12)
