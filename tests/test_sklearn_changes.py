"""Arguments that are changed on a fitted estimator count from then on, as they do in scikit-learn."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn import neural_network as theirs
from sklearn_data import BOTH, SIGNAL, SMALL, X, Y, answers

from nnfast import errors
from nnfast.sklearn import MLPClassifier, MLPRegressor, from_sklearn, to_sklearn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

WARM = {**SMALL, "warm_start": True}


def assert_same(expected, got):
    np.testing.assert_allclose(answers(got), answers(expected), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got.loss_curve_, expected.loss_curve_, rtol=1e-9)


CHANGES = {
    "nothing": lambda estimator, y: estimator,
    "partial_fit": lambda estimator, y: estimator.partial_fit(X, y).partial_fit(X, y),
    "fit": lambda estimator, y: estimator.fit(X, y),
    "fit by lbfgs": lambda estimator, y: estimator.set_params(solver="lbfgs", max_iter=3).fit(X, y),
}


@pytest.mark.parametrize("after", CHANGES)
@pytest.mark.parametrize(("kind", "y"), BOTH)
def test_another_activation_counts_as_in_scikit_learn(kind, y, after):
    pair = [module(**WARM).fit(X, y) for module in (getattr(theirs, kind.__name__), kind)]
    for estimator in pair:
        CHANGES[after](estimator.set_params(activation="tanh"), y)
    assert_same(*pair)
    assert_same(to_sklearn(pair[1]), pair[1])


def test_another_activation_counts_for_one_row_at_a_time():
    fitted = MLPClassifier(**WARM).fit(X, Y)
    before = [answers(fitted, X[:1]) for _ in range(3)]  # the last by the short way
    fitted.set_params(activation="logistic")
    expected = to_sklearn(fitted).predict_proba(X[:1])
    for _ in range(3):
        np.testing.assert_allclose(answers(fitted, X[:1]), expected, rtol=1e-9)
    fitted.set_params(activation="relu")
    for one in before:
        np.testing.assert_allclose(answers(fitted, X[:1]), one, rtol=1e-12)


def test_an_activation_that_there_is_not_is_refused_and_nothing_is_lost():
    fitted, twin = (MLPClassifier(**WARM).fit(X, Y) for _ in range(2))
    fitted.set_params(activation="gelu")
    for rows in (X, X[:1]):
        with pytest.raises(errors.UnknownNameError, match="activation 'gelu'"):
            fitted.predict(rows)
    fitted.set_params(activation="tanh")
    with pytest.raises(errors.DataError, match="at least 0"):
        fitted.partial_fit(X, Y, -np.ones(len(X)))
    fitted.set_params(activation="relu")
    for one in (fitted, twin):
        one.partial_fit(X, Y)  # Adam goes on with its moments
    np.testing.assert_array_equal(answers(fitted), answers(twin))


def test_copies_in_between_go_on_with_the_moments():
    fitted = MLPRegressor(**WARM).fit(X, SIGNAL).set_params(activation="tanh")
    copies = [pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)]
    for one in (fitted, *copies):
        one.predict(X)
    copies.append(pickle.loads(pickle.dumps(copies[0].set_params(activation="tanh"))))
    for one in (fitted, *copies):
        one.partial_fit(X, SIGNAL)
        np.testing.assert_array_equal(answers(one), answers(fitted))


def test_dropout_begins_and_ends_with_its_argument():
    plain = MLPClassifier(**WARM).fit(X, Y)
    begun, again = (copy.deepcopy(plain).set_params(dropout=0.5) for _ in range(2))
    np.testing.assert_array_equal(answers(begun), answers(plain))
    again.fit(X, Y)
    assert begun.fit(X, Y).loss_curve_ == again.loss_curve_ != plain.fit(X, Y).loss_curve_
    expected = to_sklearn(begun)  # which has no dropout
    begun.set_params(dropout=0.0)
    for estimator in (begun, expected):
        estimator.fit(X, Y)
    assert_same(expected, begun)


@pytest.mark.parametrize("how", ["fit", "partial_fit"])
def test_dropout_that_begins_late_is_drawn_by_random_state(how):
    def losses(seed):
        late = from_sklearn(scikit).set_params(dropout=0.5, random_state=seed, shuffle=False)
        late.predict(X)
        return getattr(late, how)(X, Y).loss_curve_

    scikit = theirs.MLPClassifier(**WARM).fit(X, Y)
    assert losses(1) == losses(1) != losses(2)


@pytest.mark.parametrize("how", ["predict", "fit", "partial_fit"])
def test_another_backend_goes_on(how):
    pytest.importorskip("numba")
    fitted, twin = (MLPClassifier(**WARM, backend="numba").fit(X, Y) for _ in range(2))
    fitted.set_params(backend="numpy")
    for one in (fitted, twin):
        one.predict(X) if how == "predict" else getattr(one, how)(X, Y)
    assert fitted._network.model.backend.name == "numpy"
    assert_same(twin, fitted)
