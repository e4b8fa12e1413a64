"""The estimators follow scikit-learn's, epoch by epoch: the same draws, losses, weights, scores and ends.

Everything here is float64, where the two differ by rounding alone; how far that grows depends on the solver.
"""

from __future__ import annotations

import inspect

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn import neural_network as theirs
from sklearn.exceptions import ConvergenceWarning

from nnfast import sklearn as ours

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:scipy.optimize. The .disp:DeprecationWarning"),  # an old scikit-learn's own
]

ROWS, FEATURES = 150, 6
WEIGHTED = "sample_weight" in inspect.signature(theirs.MLPClassifier.fit).parameters  # from scikit-learn 1.7 on
POISSON = "loss" in inspect.signature(theirs.MLPRegressor).parameters

rng = np.random.default_rng(0)
X = rng.standard_normal((ROWS, FEATURES))
SIGNAL = X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2])
WEIGHTS = rng.uniform(0.2, 3, ROWS)
TARGETS = {
    "binary": np.where(SIGNAL > 0, 5, -5),
    "multiclass": np.digitize(SIGNAL, [-1, 0, 1]) * 10,
    "multilabel": np.stack([SIGNAL > 0, SIGNAL > 1, X[:, 3] > 0], axis=1).astype(int),
    "one": SIGNAL,
    "several": np.stack([SIGNAL, X[:, 4] ** 2, -SIGNAL], axis=1),
    "counts": np.random.default_rng(1).poisson(np.exp(SIGNAL / 2)),
}
CLASSES = ("binary", "multiclass", "multilabel")

COMMON = {"hidden_layer_sizes": (9, 5), "batch_size": 40, "max_iter": 30, "random_state": 7, "learning_rate_init": 0.01}
SOLVERS = {
    "adam": {"solver": "adam"},
    "adam, other settings": {"solver": "adam", "beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-2, "alpha": 0.5},
    "adam, one batch": {"solver": "adam", "batch_size": 150},
    "adam, equal batches": {"solver": "adam", "batch_size": 50},
    "adam, no order": {"solver": "adam", "shuffle": False},
    "sgd": {"solver": "sgd", "momentum": 0.0},
    "sgd, momentum": {"solver": "sgd", "nesterovs_momentum": False, "alpha": 0.1},
    "sgd, nesterov": {"solver": "sgd"},
    "sgd, invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.5, "power_t": 0.4},
    "sgd, adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 2},
    "lbfgs": {"solver": "lbfgs"},
}
LIMITS = {"lbfgs": 1e-6}  # whose steps are as long as a line search says, which multiplies roundings


def pair(kind, **settings):
    """The two estimators with the same settings, fitted to the same data."""
    name = "MLPClassifier" if kind in CLASSES else "MLPRegressor"
    mine = {key: settings.pop(key) for key in ("backend", "dropout") if key in settings}
    weight = {"sample_weight": settings.pop("sample_weight")} if "sample_weight" in settings else {}
    if kind == "counts":
        if not POISSON:
            pytest.skip("scikit-learn has loss='poisson' from 1.7 on")
        settings["loss"] = "poisson"
    both = {**COMMON, **settings}
    y = TARGETS[kind]
    return (
        getattr(theirs, name)(**both).fit(X, y, **weight),
        getattr(ours, name)(**both, **mine).fit(X, y, **weight),
    )


def assert_same(expected, got, rtol=1e-9):
    assert got.n_iter_ == expected.n_iter_
    assert got.t_ == expected.t_
    assert got.out_activation_ == expected.out_activation_
    assert (got.n_layers_, got.n_outputs_, got.n_features_in_) == (
        expected.n_layers_,
        expected.n_outputs_,
        expected.n_features_in_,
    )
    np.testing.assert_allclose(got.loss_, expected.loss_, rtol=rtol)
    for name in ("loss_curve_", "validation_scores_", "best_loss_", "best_validation_score_"):
        assert hasattr(got, name) == hasattr(expected, name), name
        wanted = getattr(expected, name, None)
        if wanted is None:
            assert getattr(got, name, None) is None, name
        else:
            np.testing.assert_allclose(getattr(got, name), wanted, rtol=rtol, err_msg=name)
    for a, b in zip([*got.coefs_, *got.intercepts_], [*expected.coefs_, *expected.intercepts_], strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
    if hasattr(expected, "classes_"):
        np.testing.assert_array_equal(got.predict(X), expected.predict(X))
        np.testing.assert_allclose(got.predict_proba(X), expected.predict_proba(X), rtol=rtol, atol=rtol)
    else:
        np.testing.assert_allclose(got.predict(X), expected.predict(X), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", TARGETS)
def test_losses_and_weights_follow(kind, solver):
    assert_same(*pair(kind, **SOLVERS[solver]), rtol=LIMITS.get(solver, 1e-9))


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("kind", ["multiclass", "one"])
def test_activations_follow(kind, activation):
    assert_same(*pair(kind, activation=activation))


@pytest.mark.parametrize("hidden", [(), 12, [4, 4, 4], np.array([7])], ids=str)
def test_sizes_follow(hidden):
    assert_same(*pair("multiclass", hidden_layer_sizes=hidden))


@pytest.mark.skipif(not WEIGHTED, reason="scikit-learn has sample weights from 1.7 on")
@pytest.mark.parametrize("solver", ["adam", "sgd, nesterov", "lbfgs"])
@pytest.mark.parametrize("kind", TARGETS)
def test_sample_weights_follow(kind, solver):
    # With "relu" a trial step of lbfgs may saturate the sigmoid, where scikit-learn clips the loss and nnfast does not.
    chosen = SOLVERS[solver] | {"alpha": 0.2, "activation": "tanh"}
    assert_same(*pair(kind, **chosen, sample_weight=WEIGHTS), rtol=LIMITS.get(solver, 1e-9))


@pytest.mark.parametrize("kind", TARGETS)
def test_early_stopping_follows(kind):
    expected, got = pair(kind, early_stopping=True, max_iter=60, n_iter_no_change=4, validation_fraction=0.2)
    assert len(got.validation_scores_) == got.n_iter_
    assert_same(expected, got)


@pytest.mark.parametrize("kind", ["csr_matrix", "csr_array", "csc_matrix"])
def test_early_stopping_follows_with_sparse_labels(kind):
    y = getattr(pytest.importorskip("scipy.sparse"), kind)(TARGETS["multilabel"])
    settings = COMMON | {"early_stopping": True, "learning_rate_init": 0.05}
    expected, got = (module.MLPClassifier(**settings).fit(X, y) for module in (theirs, ours))
    assert max(got.validation_scores_) > 0
    np.testing.assert_allclose(got.validation_scores_, expected.validation_scores_)
    np.testing.assert_array_equal(got.predict(X).toarray(), expected.predict(X).toarray())
    held = ours.MLPClassifier(**settings, validation_data=(X[:40], y[:40])).fit(X, y)
    assert held.best_validation_score_ == held.score(X[:40], y[:40])


@pytest.mark.parametrize("kind", ["csr_matrix", "csr_array"])
def test_sparse_numbers_are_learned_as_dense_ones(kind):
    """scikit-learn takes arrays of several outputs."""
    y = np.where(TARGETS["several"] > 0, TARGETS["several"], 0)
    made = getattr(pytest.importorskip("scipy.sparse"), kind)
    expected = theirs.MLPRegressor(**COMMON).fit(X, y)
    assert_same(expected, ours.MLPRegressor(**COMMON).fit(X, made(y)))
    got = ours.MLPRegressor(**COMMON, validation_data=(X, made(y))).fit(X, y)
    np.testing.assert_allclose(got.validation_scores_[-1], expected.score(X, y))


@pytest.mark.skipif(not WEIGHTED, reason="scikit-learn has sample weights from 1.7 on")
def test_early_stopping_follows_with_weights():
    settings = {"early_stopping": True, "max_iter": 60, "n_iter_no_change": 4, "sample_weight": WEIGHTS}
    for kind in ("binary", "several"):
        assert_same(*pair(kind, **settings))


@pytest.mark.parametrize("patience", [1, 10])
def test_tol_ends_a_training_in_the_same_epoch(patience):
    expected, got = pair("one", tol=0.02, n_iter_no_change=patience, max_iter=300)
    assert 2 < got.n_iter_ < 300
    assert_same(expected, got)


def test_a_patience_without_end():
    expected, got = pair("one", tol=10.0, n_iter_no_change=np.inf)
    assert got.n_iter_ == 30
    assert_same(expected, got)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_every_backend_follows(backend):
    if backend == "numba":
        pytest.importorskip("numba")
    assert_same(*pair("multiclass", backend=backend, max_iter=10))


def test_warm_start_and_another_solver_follow():
    both = [module.MLPClassifier(**COMMON, warm_start=True) for module in (theirs, ours)]
    y = TARGETS["multiclass"]
    for estimator in both:
        estimator.fit(X, y).set_params(max_iter=5, solver="sgd").fit(X, y)
    assert len(both[1].loss_curve_) == 35
    assert_same(*both)


@pytest.mark.parametrize("solver", ["adam", "sgd, invscaling"])
def test_partial_fit_follows(solver):
    settings = COMMON | SOLVERS[solver]
    y = TARGETS["multiclass"]
    both = []
    for module in (theirs, ours):
        estimator = module.MLPClassifier(**settings | {"random_state": np.random.RandomState(3)})
        for i in range(20):
            part = slice(0, 90) if i % 2 else slice(60, 150)
            estimator.partial_fit(X[part], y[part], classes=np.unique(y))
        both.append(estimator)
    assert_same(*both)
    assert both[1].t_ == 20 * 90


@pytest.mark.parametrize("classes", [[0, 1, 2], [0, 1, 2, 3]])
def test_partial_fit_of_several_labels_knows_the_same_classes(classes):
    both = [module.MLPClassifier(**COMMON) for module in (theirs, ours)]
    for estimator in both:
        for _ in range(2):
            estimator.partial_fit(X, TARGETS["multilabel"], classes=classes)
        assert estimator.classes_.tolist() == classes
    assert_same(*both)


def test_fit_then_partial_fit_goes_on_with_the_moments():
    expected, got = pair("one")
    for estimator in (expected, got):
        estimator.partial_fit(X, TARGETS["one"])
    assert_same(expected, got)


def test_float32_follows_roughly_and_stays_float32():
    y = TARGETS["multiclass"]
    both = [module.MLPClassifier(**COMMON).fit(X.astype(np.float32), y) for module in (theirs, ours)]
    assert all(w.dtype == np.float32 for w in [*both[1].coefs_, *both[1].intercepts_])
    assert both[1].predict_proba(X.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(both[1].loss_curve_, both[0].loss_curve_, rtol=1e-3)


def test_verbose_says_what_scikit_learn_says(capsys):
    said = []
    for module in (theirs, ours):
        module.MLPRegressor(**COMMON | {"tol": 0.02, "n_iter_no_change": 2}, verbose=True).fit(X, TARGETS["one"])
        said.append(capsys.readouterr().out)
    assert said[1].startswith("Iteration 1, loss = ")
    assert said[0] == said[1]


def test_a_training_that_is_not_over_warns():
    with pytest.warns(ConvergenceWarning, match="Maximum iterations \\(3\\) reached"):
        ours.MLPClassifier(**COMMON | {"max_iter": 3}).fit(X, TARGETS["binary"])
    with pytest.warns(ConvergenceWarning, match="lbfgs ended after 3 iterations"):
        ours.MLPClassifier(**COMMON | {"max_iter": 3, "solver": "lbfgs"}).fit(X, TARGETS["binary"])
