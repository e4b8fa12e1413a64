"""Losses and metrics of the functional API: values by hand, weights, and what bad targets are answered with."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnfast import functional as F
from nnfast.errors import DataError, DTypeError, OptionError, ShapeError

P = np.array([[0.7, 0.1, 0.2], [0.1, 0.5, 0.4], [0.02, 0.9, 0.08]])
CLASSES = np.array([0, 1, 1])
PER_ROW = [0.35667494, 0.69314718, 0.10536052]
REAL = [
    "sigmoid_binary_cross_entropy",
    "binary_cross_entropy",
    "mean_squared_error",
    "mean_absolute_error",
    "huber",
    "poisson",
]
LABELLED = ["softmax_cross_entropy", "categorical_cross_entropy"]
METRICS = {
    "accuracy": {},
    "top_k_accuracy": {"k": 1},
    "binary_accuracy": {},
    "regression_accuracy": {"precision": 1},
    "r2_score": {},
}
LABEL_OPS = [*LABELLED, "accuracy", "top_k_accuracy"]
REAL_OPS = [*REAL, "binary_accuracy", "regression_accuracy", "r2_score"]


def call(name, output, y, **options):
    return getattr(F, name)(output, y, **METRICS.get(name, {}), **options)


def near(got, want, rtol=1e-7):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-12)


# ---- losses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("y", [CLASSES, CLASSES.astype(np.uint8), CLASSES.tolist(), np.eye(3)[CLASSES]])
def test_cross_entropies_by_hand(y):
    loss, gradient = F.categorical_cross_entropy(P, y)
    assert type(loss) is float
    near(loss, 0.38506088005216804)
    near(gradient, -np.eye(3)[CLASSES] / P / 3)
    loss, gradient = F.softmax_cross_entropy(np.log(P) + 5, y)
    near(loss, 0.38506088005216804)
    near(gradient, (P - np.eye(3)[CLASSES]) / 3)


def test_soft_labels_and_smoothing():
    q = np.array([[0.5, 0.25, 0.25]])
    loss, gradient = F.softmax_cross_entropy(np.log(P[:1]), q)
    near(loss, -(q * np.log(P[:1])).sum())
    near(gradient, P[:1] - q)
    smooth, _ = F.softmax_cross_entropy(np.log(P[:1]), [0], label_smoothing=0.3)
    near(smooth, -([0.8, 0.1, 0.1] * np.log(P[0])).sum())


@pytest.mark.parametrize(
    ("name", "want", "gradient", "options"),
    [
        ("mean_squared_error", (0.25 + 4) / 2, [0.5, -2], {}),
        ("mean_absolute_error", 2.5 / 2, [0.5, -0.5], {}),
        ("huber", (0.125 + 1.5) / 2, [0.25, -0.5], {}),
        ("huber", (0.1 * 0.45 + 0.1 * 1.95) / 2, [0.05, -0.05], {"delta": 0.1}),
        (
            "poisson",
            (math.exp(1.5) - 1.5 + math.exp(-1) + 1) / 2,
            [(math.exp(1.5) - 1) / 2, (math.exp(-1) - 1) / 2],
            {},
        ),
        (
            "sigmoid_binary_cross_entropy",
            (math.log1p(math.exp(1.5)) - 1.5 + math.log1p(math.exp(-1)) + 1) / 2,
            [(1 / (1 + math.exp(-1.5)) - 1) / 2, (1 / (1 + math.exp(1)) - 1) / 2],
            {},
        ),
    ],
)
def test_real_losses_by_hand(name, want, gradient, options):
    loss, dz = getattr(F, name)([[1.5, -1.0]], [[1.0, 1.0]], **options)
    assert type(loss) is float
    near(loss, want)
    near(dz, [gradient])


def test_binary_cross_entropy_by_hand():
    loss, gradient = F.binary_cross_entropy([[0.8, 0.4]], [[1, 0]])
    near(loss, -(math.log(0.8) + math.log(0.6)) / 2)
    near(gradient, [[-1 / 0.8 / 2, 1 / 0.6 / 2]])


@pytest.mark.parametrize("name", [*LABELLED, *REAL])
def test_weighted_means_and_losses_per_row(name):
    y = CLASSES if name in LABELLED else np.array([[1.0, 0, 0], [0, 1, 0], [0, 0.5, 1]])
    w = np.array([2.0, 0.0, 6.0])
    losses, plain = call(name, P, y, per_sample=True)
    assert losses.shape == (3,)
    near(call(name, P, y)[0], losses.mean())
    mean, gradient = call(name, P, y, sample_weight=w)
    near(mean, losses @ w / 8)
    near(gradient, plain * 3 * w[:, None] / 8)
    unweighted, _ = call(name, P, y, sample_weight=w, per_sample=True)
    near(unweighted, losses)


def test_losses_per_row_keep_the_dtype():
    losses, gradient = F.softmax_cross_entropy(np.log(P).astype(np.float32), CLASSES, per_sample=True)
    assert losses.dtype == gradient.dtype == np.float32
    near(losses, PER_ROW, rtol=1e-6)


def test_a_nan_in_the_output_reaches_the_loss():
    output = np.log(P)
    output[1, 1] = np.nan
    loss, gradient = F.softmax_cross_entropy(output, CLASSES)
    assert math.isnan(loss)
    assert np.isnan(gradient[1]).all()
    assert np.isfinite(gradient[[0, 2]]).all()


# ---- metrics --------------------------------------------------------------------------------------------------------


def test_metrics_by_hand():
    wrong = [[0.7, 0.2, 0.1], [0.5, 0.1, 0.4], [0.02, 0.9, 0.08]]
    assert F.accuracy(wrong, CLASSES) == pytest.approx(2 / 3)
    assert F.accuracy(wrong, np.eye(3)[CLASSES]) == pytest.approx(2 / 3)
    assert F.accuracy(wrong, CLASSES, sample_weight=[1, 2, 1]) == 0.5
    assert F.top_k_accuracy(wrong, CLASSES, k=2) == pytest.approx(2 / 3)
    assert F.top_k_accuracy(wrong, CLASSES, k=3) == 1
    assert F.binary_accuracy([[0.4, 0.6], [0.6, 0.6]], [[0, 1], [0, 1]]) == 0.75
    assert F.binary_accuracy([[0.4, 0.6], [0.6, 0.6]], [[0, 1], [0, 1]], threshold=0.65) == 0.5
    assert F.regression_accuracy([[1.0], [2.0]], [[1.125], [2.5]], precision=0.125) == 0.5
    assert F.regression_accuracy([[1.0], [1.0]], [[1.0], [1.0]], precision=0) == 1
    assert type(F.accuracy(wrong, CLASSES)) is float


def test_r2_by_hand():
    y = np.array([[1.0], [2.0], [3.0]])
    off = np.array([[1.0], [2.0], [4.0]])
    assert F.r2_score(y, y) == 1
    assert F.r2_score(np.full((3, 1), 2.0), y) == 0
    assert F.r2_score(off, y) == pytest.approx(0.5)
    assert F.r2_score(np.hstack([y, np.full((3, 1), 2.0)]), np.hstack([y, y])) == 0.5
    assert F.r2_score(off, y, sample_weight=[1, 1, 0]) == 1


def test_r2_of_constant_targets():
    y = np.full((7, 1), 0.1)  # seven of them do not sum to 0.7
    assert F.r2_score(y, y) == 1
    assert F.r2_score(y + 0.01, y) == 0
    assert math.isnan(F.r2_score(np.full((7, 1), np.nan), y))
    assert F.r2_score([[1.0]], [[1.0]]) == 1


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LABEL_OPS)
@pytest.mark.parametrize(
    ("y", "error", "words"),
    [
        ([0, 1, 3], DataError, r"y\[2\] is 3, .*numbered 0 to 2"),
        ([0, -1, 1], DataError, r"y\[1\] is -1"),
        ([0.0, 1.0, 1.0], DTypeError, "must be integers"),
        ([0.0, np.nan, 1.0], DataError, r"y\[1\] is nan"),
        ([[0], [1], [1]], ShapeError, r"y\.ravel\(\)"),
        ([0, 1], ShapeError, "2 labels for 3 rows"),
        ([[0.5, 0.5, 0.5]] * 3, DataError, r"y\[0\] sums to 1\.5"),
        (None, DTypeError, "y is None"),
    ],
)
def test_bad_labels(name, y, error, words):
    with pytest.raises(error, match=words):
        call(name, P, y)


@pytest.mark.parametrize("name", REAL_OPS)
@pytest.mark.parametrize(
    ("y", "error", "words"),
    [
        (np.zeros(3), ShapeError, r"y has shape \(3,\); expected \(3, 1\).*y\.reshape\(-1, 1\)"),
        (np.zeros((3, 2)), ShapeError, r"expected \(3, 1\)"),
        ([[0], [np.nan], [1]], DataError, r"y\[1, 0\] is nan"),
        ([[0], [1], [np.inf]], DataError, r"y\[2, 0\] is inf"),
        ([["a"], ["b"], ["c"]], DTypeError, "text"),
    ],
)
def test_bad_targets(name, y, error, words):
    with pytest.raises(error, match=words):
        call(name, P[:, :1], y)


@pytest.mark.parametrize(
    ("name", "y", "words"),
    [
        ("binary_cross_entropy", 1.5, "from 0 to 1"),
        ("sigmoid_binary_cross_entropy", -0.5, "from 0 to 1"),
        ("binary_accuracy", 2, "from 0 to 1"),
        ("poisson", -1, "at least 0"),
    ],
)
def test_targets_out_of_range(name, y, words):
    with pytest.raises(DataError, match=rf"y\[0, 0\] is .*{words}"):
        call(name, [[0.5]], [[y]])


@pytest.mark.parametrize("name", [*LABEL_OPS, *REAL_OPS])
def test_bad_outputs_and_weights(name):
    y = CLASSES if name in LABEL_OPS else np.zeros((3, 3))
    with pytest.raises(DataError, match=r"(output|logits) has shape \(0, 3\): no rows"):
        call(name, P[:0], y[:0])
    with pytest.raises(ShapeError, match=r"reshape\(1, -1\)"):
        call(name, P[0], y)
    with pytest.raises(DTypeError, match="float16"):
        call(name, P.astype(np.float16), y)
    for weight, error in (
        ([1, 1], ShapeError),
        ([0, 0, 0], DataError),
        ([1, -1, 1], DataError),
        ([[1]] * 3, ShapeError),
    ):
        with pytest.raises(error, match="sample_weight"):
            call(name, P, y, sample_weight=weight)


def test_bad_settings():
    for smoothing in (1, -0.1, "a", True):
        with pytest.raises(OptionError, match="label_smoothing is"):
            F.softmax_cross_entropy(P, CLASSES, label_smoothing=smoothing)
    with pytest.raises(OptionError, match="delta is 0; expected a finite number above 0"):
        F.huber(P, P, delta=0)
    with pytest.raises(OptionError, match="k is 4, but the output has 3 columns"):
        F.top_k_accuracy(P, CLASSES, k=4)
    with pytest.raises(OptionError, match="k is 0"):
        F.top_k_accuracy(P, CLASSES, k=0)
    with pytest.raises(OptionError, match="precision is -1"):
        F.regression_accuracy(P, P, precision=-1)
