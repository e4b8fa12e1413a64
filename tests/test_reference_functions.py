"""Reference kernels of activations and losses: figures, formulas and their behaviour at the ends."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import pytest

from nnfast.protocol import OPS
from nnfast.registry import get_backend
from nnfast.testing import CASES, assert_parity


@pytest.fixture
def backend() -> Any:
    """The reference alone."""
    return get_backend("numpy")


PROBABILITIES = [[0.7, 0.1, 0.2], [0.1, 0.5, 0.4], [0.02, 0.9, 0.08]]


def forward(backend: Any, op: str, x: Any, **keywords: Any) -> Any:
    y = np.full_like(x, np.nan)
    backend.kernel(op)(x, y, **keywords)
    return y


def loss(backend: Any, op: str, z: Any, y: Any, weight: Any = None, **keywords: Any) -> tuple[float, Any, Any]:
    """total, dz and losses of one call; the normaliser is 1 unless given."""
    total, dz, losses = np.zeros(()), np.full_like(z, np.nan), np.full_like(z[:, 0], np.nan)
    backend.kernel(op)(z, y, weight, total, dz, losses, **{"normaliser": 1.0, **keywords})
    return float(total), dz, losses


# Activations against other people's functions.


def test_activations_are_accurate_in_float64(backend: Any, rng: Any) -> None:
    special = pytest.importorskip("scipy.special", reason="SciPy has the formulas to compare with")
    x = np.concatenate([5 * rng.standard_normal(2000), [0.0, 30.0, -30.0, 700.0, -700.0]]).reshape(-1, 5)
    eps = np.finfo(float).eps
    for op, want in {
        "relu": x * (x > 0),
        "sigmoid": special.expit(x),
        "silu": x * special.expit(x),
        "softplus": np.logaddexp(0, x),
        "gelu": x * special.ndtr(x),
        "softmax": special.softmax(x, axis=1),
    }.items():
        # An exponent of size |x| that is off by one rounding moves eˣ by |x| roundings; SciPy's forms have such.
        limit = (8 + 2 * np.abs(x)) * eps * np.abs(want) + 1e-300
        assert_parity(forward(backend, op, x), want, limit=limit, name=op)
    for alpha in (0.1, 1.0):
        want = np.where(x > 0, x, alpha * special.expm1(x))
        assert_parity(forward(backend, "elu", x, alpha=alpha), want, limit=8 * eps * np.abs(want))
        assert_parity(forward(backend, "leaky_relu", x, alpha=alpha), np.where(x > 0, x, alpha * x))


def test_activations_at_the_ends(backend: Any, dtype: Any) -> None:
    x = np.array([[-np.inf, -1e4, 0.0, 1e4, np.inf, np.nan]], dtype)
    inf, nan = np.inf, np.nan
    for op, want in {
        "relu": [0, 0, 0, 1e4, inf, nan],
        "sigmoid": [0, 0, 0.5, 1, 1, nan],
        "softplus": [0, 0, np.log(2), 1e4, inf, nan],
        "tanh": [-1, -1, 0, 1, 1, nan],
        "gelu": [nan, 0, 0, 1e4, inf, nan],
        "silu": [nan, 0, 0, 1e4, inf, nan],
        "softmax": [nan] * 6,
    }.items():
        assert_parity(forward(backend, op, x), np.array([want], dtype), limit=1e-7, name=op)
    assert_parity(forward(backend, "elu", x, alpha=0.5), np.array([[-0.5, -0.5, 0, 1e4, inf, nan]], dtype))
    assert_parity(forward(backend, "leaky_relu", x, alpha=0.5), np.array([[-inf, -5e3, 0, 1e4, inf, nan]], dtype))


def test_softmax_takes_large_and_infinite_logits(backend: Any, dtype: Any) -> None:
    x = np.array([[1e4, 1e4], [-np.inf, 3.0], [-np.inf, -np.inf], [np.inf, 1.0]], dtype)
    want = np.array([[0.5, 0.5], [0, 1], [np.nan, np.nan], [np.nan, np.nan]], dtype)
    assert_parity(forward(backend, "softmax", x), want)


def test_relu_gradient_is_0_at_0_and_keeps_nan(backend: Any, dtype: Any) -> None:
    y, dy = np.array([[0.0, 2.0, np.nan, 1.0]], dtype), np.array([[5.0, 5.0, 5.0, np.nan]], dtype)
    dx = np.empty_like(y)
    backend.kernel("relu_backward")(y, dy, dx)
    assert_parity(dx, np.array([[0, 5, 5, np.nan]], dtype))


@pytest.mark.parametrize("op", ["gelu", "gelu_backward"])
def test_gelu_needs_no_scipy(backend: Any, op: str, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    activations = importlib.import_module("nnfast.kernels.reference.activations")
    calls = list(CASES[op].calls(CASES[op].rng(), dtype))
    target = "dx" if op.endswith("backward") else "y"
    for call in calls:
        call(backend.kernel(op))
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    activations._erfc.cache_clear()
    try:
        eps = float(np.finfo(dtype).eps)
        for call in calls:
            again = call.copy()
            again(backend.kernel(op))
            want = call.arrays[target]
            assert_parity(again.arrays[target], want, limit=8 * eps * (np.abs(want) + 1))
        assert activations._erfc().__module__ == activations.__name__
    finally:
        activations._erfc.cache_clear()


# Losses.


def test_categorical_cross_entropy_of_the_book(backend: Any) -> None:
    z, labels = np.array(PROBABILITIES), np.array([0, 1, 1])
    for y in (labels, np.eye(3)[labels]):
        total, dz, losses = loss(backend, "categorical_cross_entropy", z, y, normaliser=3.0)
        assert_parity(losses, np.array([0.35667494393873245, 0.6931471805599453, 0.10536051565782628]), limit=1e-15)
        assert total / 3 == pytest.approx(0.38506088005216804, abs=1e-16)
        assert_parity(dz, -np.eye(3)[labels] / z / 3, limit=1e-15)


def test_probabilities_are_clipped_forward_and_backward(backend: Any, dtype: Any) -> None:
    z, y = np.array([[0.0, 1.0]], dtype), np.array([0])
    total, dz, _ = loss(backend, "categorical_cross_entropy", z, y)
    assert total == pytest.approx(16.11809565095832, rel=1e-7 if dtype == "float32" else 1e-15)
    assert_parity(dz, np.array([[-1e7, 0]], dtype), limit=2)
    total, _, _ = loss(backend, "categorical_cross_entropy", z, y + 1)
    assert total == pytest.approx(1.0000000494736474e-07, abs=3e-8 if dtype == "float32" else 1e-15)
    # Binary: both ends, right and wrong; 1 − p has the same floor as p.
    z, y = np.array([[0.0, 1.0, 0.0, 1.0]], dtype), np.array([[1.0, 0.0, 0.0, 1.0]], dtype)
    total, dz, _ = loss(backend, "binary_cross_entropy", z, y)
    assert total == pytest.approx(16.11809565095832 / 2, rel=1e-6)
    assert_parity(dz * 4, np.array([[-1e7, 1e7, 1, -1]], dtype), limit=2e-6 * np.array([[1e7, 1e7, 1, 1]]))


def test_logit_losses_do_not_saturate(backend: Any, dtype: Any) -> None:
    z = np.array([[-50.0, 50.0]], dtype)
    total, dz, _ = loss(backend, "softmax_cross_entropy", z, np.array([0]), label_smoothing=0.0)
    assert total == pytest.approx(100)
    assert_parity(dz, np.array([[-1, 1]], dtype), limit=1e-6)
    total, dz, _ = loss(backend, "sigmoid_binary_cross_entropy", z, np.array([[1.0, 0.0]], dtype))
    assert total == pytest.approx(50)
    assert_parity(dz, np.array([[-0.5, 0.5]], dtype), limit=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("classes", [1, 2, 7])
def test_softmax_cross_entropy_formula(backend: Any, rng: Any, smoothing: float, classes: int) -> None:
    z, labels = 3 * rng.standard_normal((9, classes)), rng.integers(0, classes, 9)
    for target in (np.eye(classes)[labels], rng.dirichlet(np.ones(classes), 9)):
        q = (1 - smoothing) * target + smoothing / classes
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        total, dz, losses = loss(backend, "softmax_cross_entropy", z, target, label_smoothing=smoothing)
        assert_parity(losses, -(q * np.log(p)).sum(axis=1), limit=1e-13)
        assert_parity(dz, p - q, limit=1e-14)
        assert total == pytest.approx(losses.sum(), abs=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_are_one_hot_rows(backend: Any, rng: Any, dtype: Any, smoothing: float) -> None:
    z, labels = rng.standard_normal((30, 5)).astype(dtype), rng.integers(0, 5, 30)
    z[3, (labels[3] + 1) % 5] = -np.inf if not smoothing else 0  # p = 0 where q = 0 costs nothing
    rows, eps = np.eye(5, dtype=dtype)[labels], float(np.finfo(dtype).eps)
    for op, keywords in [("softmax_cross_entropy", {"label_smoothing": smoothing}), ("categorical_cross_entropy", {})]:
        for a, b in zip(loss(backend, op, z, labels, **keywords), loss(backend, op, z, rows, **keywords), strict=True):
            assert_parity(a, b, limit=4 * eps * np.abs(b))


def test_soft_labels_are_not_rounded_to_a_class(backend: Any) -> None:
    z, y = np.log([[0.6, 0.4]]), np.array([[0.3, 0.7]])
    total, dz, _ = loss(backend, "softmax_cross_entropy", z, y, label_smoothing=0.0)
    assert total == pytest.approx(-0.3 * np.log(0.6) - 0.7 * np.log(0.4), abs=1e-15)
    assert_parity(dz, np.array([[0.3, -0.3]]), limit=1e-15)


def test_losses_on_values(backend: Any, dtype: Any) -> None:
    z, y = np.array([[1.0, 5.0], [0.0, 2.0]], dtype), np.array([[2.0, 2.0], [0.0, 1.5]], dtype)
    for op, keywords, losses, dz in [
        ("mean_squared_error", {}, [5.0, 0.125], [[-1, 3], [0, 0.5]]),
        ("mean_absolute_error", {}, [2.0, 0.25], [[-0.5, 0.5], [0, 0.5]]),
        ("huber", {"delta": 1.0}, [1.5, 0.0625], [[-0.5, 0.5], [0, 0.25]]),
    ]:
        got = loss(backend, op, z, y, **keywords)
        assert_parity(got[2], np.array(losses, dtype), name=op)
        assert_parity(got[1], np.array(dz, dtype), name=op)
        assert got[0] == sum(losses)
    z, y = np.log(np.array([[1.0, 4.0]], dtype)), np.array([[1.0, 2.0]], dtype)
    total, dz, _ = loss(backend, "poisson", z, y)
    assert total == pytest.approx((1 + 4 - 2 * np.log(4)) / 2, rel=1e-6)
    assert_parity(dz, np.array([[0, 1]], dtype), limit=1e-6)


LOSSES = [op for op, spec in OPS.items() if spec.args[-1].name == "losses"]


@pytest.mark.parametrize("op", LOSSES)
def test_weights_and_normaliser(backend: Any, op: str, dtype: Any) -> None:
    """Rows weigh in total and in dz, not in losses; a row of weight 0 has gradient 0; total adds to what it held."""
    case = CASES[op]
    call = case.make(case.rng(), dtype, {"N": 4, "O": 3})
    keywords = {**call.keywords, "normaliser": 2.0}
    z, y, weight = call.arrays["z"], call.arrays["y"], np.array([0, 1, 2, 0.5], dtype)
    _, dz, losses = loss(backend, op, z, y, **{**keywords, "normaliser": 1.0})
    total, weighted, same = np.array(10.0), np.empty_like(z), np.empty_like(losses)
    backend.kernel(op)(z, y, weight, total, weighted, same, **keywords)
    assert_parity(same, losses)
    eps = float(np.finfo(dtype).eps)
    assert_parity(weighted, dz * weight[:, None] / 2, limit=2 * eps * np.abs(dz))
    assert float(total) == pytest.approx(10 + float(weight.astype(float) @ losses.astype(float)), rel=1e-6)


@pytest.mark.parametrize("op", LOSSES)
def test_a_bad_row_spoils_only_itself_and_the_total(backend: Any, op: str, dtype: Any) -> None:
    case = CASES[op]
    call = case.make(case.rng(), dtype, {"N": 4, "O": 3})
    z, y = call.arrays["z"], call.arrays["y"]
    z[1] = np.nan
    total, dz, losses = loss(backend, op, z, y, **call.keywords)
    assert np.isnan(total)
    assert list(np.isnan(losses)) == [False, True, False, False]
    assert np.isnan(dz[1]).any()
    assert np.isfinite(np.delete(dz, 1, axis=0)).all()


def test_long_sums_are_float64(backend: Any) -> None:
    """In float32 1e8 + 1 is 1e8, so each of these would lose the one."""
    f4 = np.float32
    column, zeros = np.array([[1e8], [1.0], [-1e8]], f4), np.zeros((3, 1), f4)
    total, _, _ = loss(backend, "mean_absolute_error", column, zeros)
    assert total == 2e8 + 1
    _, _, losses = loss(backend, "poisson", np.zeros((1, 3), f4), np.zeros((1, 3), f4))
    assert losses[0] == 1
    total, _, _ = loss(backend, "mean_absolute_error", column.T.copy(), zeros.T.copy())
    assert total == pytest.approx((2e8 + 1) / 3, rel=1e-14)
    dw, db = np.empty((1, 1), f4), np.empty(1, f4)
    backend.kernel("dense_backward")(
        zeros, np.ones((1, 1), f4), None, column, None, None, dw, db, alpha=0.0, activation="linear"
    )
    assert db[0] == 1
    total = np.zeros(())
    backend.kernel("penalty")(column.ravel(), None, total, l1=1.0, l2=0.0)
    assert total == 2e8 + 1
    g = np.full(4, 1e30, f4)  # the squares overflow float32
    backend.kernel("clip_by_global_norm")(g, clip_norm=2.0)
    assert_parity(g, np.ones(4, f4))
