"""The reference kernels against hand-made figures and formulas written a second time, and the backend around them."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from nnfast.protocol import API_VERSION, CUSTOM, OPS, Backend
from nnfast.registry import get_backend
from nnfast.testing import CASES, assert_parity

PROBABILITIES = [[0.7, 0.1, 0.2], [0.1, 0.5, 0.4], [0.02, 0.9, 0.08]]
HALF_PI = np.pi / 2


def forward(backend: Any, op: str, x: Any, **keywords: Any) -> Any:
    y = np.full_like(x, np.nan)
    backend.kernel(op)(x, y, **keywords)
    return y


def loss(backend: Any, op: str, z: Any, y: Any, weight: Any = None, **keywords: Any) -> tuple[float, Any, Any]:
    """total, dz and losses of one call; the normaliser is 1 unless given."""
    total, dz, losses = np.zeros(()), np.full_like(z, np.nan), np.full_like(z[:, 0], np.nan)
    backend.kernel(op)(z, y, weight, total, dz, losses, **{"normaliser": 1.0, **keywords})
    return float(total), dz, losses


def metric(backend: Any, op: str, z: Any, y: Any, weight: Any = None, **keywords: Any) -> float:
    total = np.zeros(())
    backend.kernel(op)(np.asarray(z), np.asarray(y), weight, total, **keywords)
    return float(total)


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


# Metrics.


def test_accuracy_of_the_book(backend: Any) -> None:
    z, labels = np.array([[0.7, 0.2, 0.1], [0.5, 0.1, 0.4], [0.02, 0.9, 0.08]]), np.array([0, 1, 1])
    assert metric(backend, "accuracy", z, labels) == 2
    assert metric(backend, "accuracy", z, np.eye(3)[labels]) == 2
    assert metric(backend, "accuracy", z, labels, np.array([0.25, 5.0, 0.5])) == 0.75


def test_the_first_of_equal_outputs_counts(backend: Any) -> None:
    z = [[1.0, 3.0, 3.0, 3.0]]
    hits = [[metric(backend, "top_k_accuracy", z, [label], k=k) for k in (1, 2, 3, 4)] for label in range(4)]
    assert hits == [[0, 0, 0, 1], [1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1]]
    assert [metric(backend, "accuracy", z, [label]) for label in range(4)] == [0, 1, 0, 0]


def test_a_nan_is_never_a_hit(backend: Any, dtype: Any) -> None:
    for z in ([[np.nan, 1.0]], [[1.0, np.nan]], [[np.nan, np.nan]]):
        z = np.array(z, dtype)
        for label in (0, 1):
            assert metric(backend, "accuracy", z, [label]) == 0
            assert metric(backend, "top_k_accuracy", z, [label], k=2) == 0
        assert metric(backend, "binary_accuracy", z, np.zeros((1, 2), dtype), threshold=0.5) == 0
        assert metric(backend, "regression_accuracy", z, np.ones((1, 2), dtype), precision=9.0) == 0


def test_accuracy_over_outputs_is_a_mean(backend: Any) -> None:
    z, y = [[0.9, 0.2], [0.6, 0.4]], [[1.0, 1.0], [1.0, 0.0]]
    assert metric(backend, "binary_accuracy", z, y, threshold=0.5) == 1.5
    assert metric(backend, "binary_accuracy", z, y, threshold=0.1) == 1.5
    assert metric(backend, "regression_accuracy", z, y, precision=0.45) == 1.5


def test_an_exact_constant_prediction_counts(backend: Any) -> None:
    assert metric(backend, "regression_accuracy", np.ones((4, 1)), np.ones((4, 1)), precision=0.0) == 4


def test_r2_moments(backend: Any, rng: Any) -> None:
    z, y, w = rng.standard_normal((20, 2)), rng.standard_normal((20, 2)), rng.uniform(0, 2, 20)
    moments = np.empty((3, 2))
    backend.kernel("r2_moments")(z, y, w, moments)
    mean = np.average(y, axis=0, weights=w)
    want = [mean, (w[:, None] * (y - mean) ** 2).sum(axis=0), (w[:, None] * (y - z) ** 2).sum(axis=0)]
    assert_parity(moments, np.array(want), limit=1e-13)
    backend.kernel("r2_moments")(z[:0], y[:0], None, moments)
    assert_parity(moments, np.zeros((3, 2)))


# Penalties and clipping.


def test_penalty_figures(backend: Any, dtype: Any) -> None:
    p, g, total = np.array([-2.0, 0.0, 3.0], dtype), np.ones(3, dtype), np.array(1.0)
    backend.kernel("penalty")(p, g, total, l1=0.5, l2=0.25)
    assert total == 1 + 0.5 * 5 + 0.25 * 13
    assert_parity(g, np.array([1 - 0.5 - 1, 1, 1 + 0.5 + 1.5], dtype))  # at 0 neither pulls


def test_clipping_scales_to_the_norm_or_does_nothing(backend: Any, dtype: Any) -> None:
    def clip(values: list[float], norm: float) -> Any:
        g = np.array(values, dtype)
        backend.kernel("clip_by_global_norm")(g, clip_norm=norm)
        return g

    assert_parity(clip([3, 4], 1.0), np.array([0.6, 0.8], dtype), limit=1e-7)
    for norm in (5.0, 6.0, np.inf):
        assert_parity(clip([3, 4], norm), np.array([3, 4], dtype))
    assert_parity(clip([0, 0], 1.0), np.zeros(2, dtype))
    assert_parity(clip([np.nan, 4], 1.0), np.array([np.nan, 4], dtype))
    assert_parity(clip([np.inf, 4], 1.0), np.array([np.nan, 0], dtype))


# Optimizers: the textbook's recurrences in float64, over many steps.


def textbook(name: str, gradients: Any, p: Any, k: dict[str, Any]) -> Any:
    m, v = np.zeros_like(p), np.zeros_like(p)
    lr = k["learning_rate"]
    for t, g in enumerate(gradients, 1):
        if name == "plain":
            p = p - lr * g
        elif name == "momentum":
            v = k["momentum"] * v - lr * g
            p = p + v
        elif name == "nesterov":
            v = k["momentum"] * v - lr * g
            p = p + (k["momentum"] * v - lr * g)
        elif name == "adagrad":
            v = v + g**2
            p = p - lr * g / (np.sqrt(v) + k["epsilon"])
        elif name == "rmsprop":
            v = k["rho"] * v + (1 - k["rho"]) * g**2
            p = p - lr * g / (np.sqrt(v) + k["epsilon"])
        else:
            m = k["beta_1"] * m + (1 - k["beta_1"]) * g
            v = k["beta_2"] * v + (1 - k["beta_2"]) * g**2
            m_hat, v_hat = m / (1 - k["beta_1"] ** t), v / (1 - k["beta_2"] ** t)
            p = p - lr * (m_hat / (np.sqrt(v_hat) + k["epsilon"]) + k["weight_decay"] * p)
    return p


ADAM = {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "weight_decay": 0.0}
OPTIMIZERS: list[tuple[str, str, int, dict[str, Any]]] = [
    ("plain", "sgd_step", 0, {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False}),
    ("momentum", "sgd_step", 1, {"learning_rate": 0.01, "momentum": 0.9, "nesterov": False}),
    ("nesterov", "sgd_step", 1, {"learning_rate": 0.01, "momentum": 0.9, "nesterov": True}),
    ("adagrad", "adagrad_step", 1, {"learning_rate": 0.01, "epsilon": 1e-7}),
    ("rmsprop", "rmsprop_step", 1, {"learning_rate": 0.001, "epsilon": 1e-7, "rho": 0.9}),
    ("adam", "adam_step", 2, ADAM),
    ("adam, large epsilon", "adam_step", 2, {**ADAM, "epsilon": 0.1}),
    ("adamw", "adam_step", 2, {**ADAM, "weight_decay": 0.01}),
]


@pytest.mark.parametrize(("name", "op", "slots", "keywords"), OPTIMIZERS, ids=[row[0] for row in OPTIMIZERS])
def test_optimizer_follows_the_textbook(
    backend: Any, rng: Any, dtype: Any, name: str, op: str, slots: int, keywords: dict[str, Any]
) -> None:
    gradients, start = rng.standard_normal((300, 50)), rng.standard_normal(50)
    want = textbook(name, gradients, start, keywords)
    p = start.astype(dtype)
    state: list[Any] = [np.zeros_like(p) for _ in range(slots)] or [None]
    for t, g in enumerate(gradients, 1):
        step = {"step": t} if op == "adam_step" else {}
        backend.kernel(op)(p, g.astype(dtype), *state, **keywords, **step)
    assert_parity(p, want, limit=5e-5 if dtype == "float32" else 1e-13 * (np.abs(want) + 10), dtype=dtype)


def test_first_adam_step_has_the_size_of_the_rate(backend: Any) -> None:
    """ε is added after the bias correction; added before, a gradient of 1e-6 would move p by 0.00024 only."""
    p, g, m, v = np.zeros(2), np.array([1e-6, -5.0]), np.zeros(2), np.zeros(2)
    backend.kernel("adam_step")(p, g, m, v, step=1, **ADAM)
    assert_parity(p, np.array([-0.001 / 1.1, 0.001]), limit=1e-10)


@pytest.mark.parametrize("op", ["sgd_step", "adagrad_step", "rmsprop_step", "adam_step"])
def test_a_rate_of_0_moves_nothing(backend: Any, dtype: Any, op: str) -> None:
    case = CASES[op]
    call = case.make(case.rng(), dtype, {"P": 20})
    call.keywords["learning_rate"] = 0.0
    if op == "sgd_step":
        call.arrays["v"][...] = 0
    before = call.arrays["p"].copy()
    call(backend.kernel(op))
    assert_parity(call.arrays["p"], before)


# NaN in, NaN out, and nowhere else.


@pytest.mark.parametrize("op", ["sgd_step", "adagrad_step", "rmsprop_step", "adam_step", "penalty"])
def test_a_bad_gradient_reaches_its_parameter_only(backend: Any, dtype: Any, op: str) -> None:
    case = CASES[op]
    call = case.make(case.rng(), dtype, {"P": 9}, case.keywords[-1])
    source, target = ("p", "g") if op == "penalty" else ("g", "p")
    call.arrays[source][4] = np.nan
    call(backend.kernel(op))
    assert_parity(np.isnan(call.arrays[target]), np.arange(9) == 4)


@pytest.mark.parametrize("op", [op for op in OPS if OPS[op].signature.endswith("dy[N,I] -> dx[N,I]")])
def test_a_bad_dy_reaches_its_dx(backend: Any, dtype: Any, op: str) -> None:
    case = CASES[op]
    call = case.make(
        case.rng(), dtype, {"N": 3, "I": 4}, {**case.keywords[0], **({"rate": 0.0} if "drop" in op else {})}
    )
    call.arrays["dy"][1, 2] = np.nan
    call(backend.kernel(op))
    row, column = np.indices((3, 4))
    assert_parity(np.isnan(call.arrays["dx"]), (row == 1) & ((column == 2) | (op == "softmax_backward")))


@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu", "elu", "softplus", "sigmoid", "tanh"])
def test_a_bad_row_reaches_what_depends_on_it(backend: Any, dtype: Any, activation: str) -> None:
    keywords = {"alpha": 0.3, "activation": activation}
    rows, bad = np.arange(4), np.array([False, True, False, False])
    call = CASES["dense"].make(CASES["dense"].rng(), dtype, {"N": 4, "I": 3, "O": 2}, keywords)
    call.arrays["x"][bad] = np.nan
    call(backend.kernel("dense"))
    assert_parity(np.isnan(call.arrays["y"]), np.broadcast_to(bad[:, None], (4, 2)))
    case = CASES["dense_backward"]
    call = case.make(case.rng(), dtype, {"N": 4, "I": 3, "O": 2}, keywords)
    call.arrays["dy"][bad, 0] = np.nan
    call(backend.kernel("dense_backward"))
    assert_parity(np.isnan(call.arrays["dx"]).all(axis=1), rows == 1)
    assert_parity(np.isnan(call.arrays["dw"]), np.broadcast_to([True, False], (3, 2)))
    assert_parity(np.isnan(call.arrays["db"]), np.array([True, False]))


# Random search.


@pytest.mark.parametrize(
    ("candidate", "best", "better"),
    [
        ([10.0, 0.0], [np.inf, np.inf], True),
        ([10.0, 0.0], [10.1, 0.0], True),
        ([10.0, 0.0], [10.0, 0.0], False),
        ([10.0, 0.0], [8.0, 0.15], False),  # 1 against 0.95: the penalty is not divided by the normaliser
        ([10.0, 0.0], [8.0, 0.25], True),
        ([np.nan, 0.0], [np.inf, np.inf], False),
        ([np.inf, 0.0], [np.inf, np.inf], False),
        ([-np.inf, np.inf], [5.0, 0.0], False),
    ],
)
def test_random_search_keeps_the_better(backend: Any, candidate: list[float], best: list[float], better: bool) -> None:
    p, q = np.zeros(3), np.ones(3)
    sums, champion = np.array([*candidate, 7.0]), np.array([*best, 8.0])
    wanted = (sums if better else champion).copy()
    backend.kernel("random_search_accept")(p, q, sums, champion, normaliser=10.0)
    assert_parity(p, np.full(3, float(better)))
    assert_parity(sums, wanted)
    assert_parity(champion, wanted)


# The backend.


def test_backend_members(backend: Any) -> None:
    assert (backend.name, backend.device, backend.api_version) == ("numpy", "cpu", API_VERSION)
    assert backend.unavailable() is None
    assert backend.synchronize() is None
    assert backend.kernel("no such op") is None
    methods = [name for name, member in vars(Backend).items() if inspect.isfunction(member) and name[0] != "_"]
    for name in methods:
        assert inspect.signature(getattr(type(backend), name)).parameters.keys() == (
            inspect.signature(getattr(Backend, name)).parameters.keys()
        ), name


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5), (0, 7), 9])
def test_allocations_are_aligned_and_contiguous(backend: Any, shape: Any) -> None:
    for dtype in ("float32", "float64", "int64"):
        for a in (backend.empty(shape, dtype), backend.zeros(shape, dtype)):
            assert a.size == 0 or a.ctypes.data % 256 == 0  # an empty array has no place
            assert a.flags.c_contiguous
            assert a.flags.writeable
            assert (a.dtype, a.shape) == (np.dtype(dtype), np.empty(shape).shape)
        assert_parity(a, np.zeros(shape, dtype))


def test_asarray_copies_only_what_kernels_cannot_take(backend: Any) -> None:
    good = np.arange(6.0).reshape(2, 3)
    assert backend.asarray(good) is good
    assert backend.asarray(good, np.float64) is good
    unaligned = np.frombuffer(b"\0" + good.tobytes(), np.uint8)[1:].view(np.float64).reshape(2, 3)
    for other in (np.asfortranarray(good), good[:, ::-1][:, ::-1].astype(">f8"), unaligned, good.tolist()):
        a = backend.asarray(other)
        assert a.flags.c_contiguous
        assert a.flags.aligned
        assert a.dtype.isnative
        assert_parity(a, good)
    assert backend.asarray(good[:, ::2]).flags.c_contiguous
    assert backend.asarray(good, "float32").dtype == np.float32
    assert backend.asarray(3.0).shape == ()
    assert backend.to_numpy(good) is good


def test_a_backend_inherits_what_it_does_not_speed_up(backend: Any, rng: Any) -> None:
    def doubled(x: Any, y: Any) -> None:
        y[...] = 2 * x

    class Mine(type(backend)):  # type: ignore[misc]
        name = "mine"
        kernels = {**type(backend).kernels, "relu": doubled}  # noqa: RUF012

    x = rng.standard_normal((3, 2))
    assert_parity(forward(Mine(), "relu", x), 2 * x)
    assert_parity(forward(Mine(), "tanh", x), np.tanh(x))
    assert backend.kernel("relu") is not doubled


def test_registered_ops_are_found(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(x: Any, y: Any) -> None: ...

    monkeypatch.setitem(CUSTOM, "an_op_of_mine", {"reference": kernel})
    assert backend.kernel("an_op_of_mine") is kernel
    assert get_backend("numpy").kernel("relu") is not None


def test_kernels_never_warn_whatever_numpy_is_told(backend: Any) -> None:
    with np.errstate(all="raise"):
        assert_parity(forward(backend, "softmax", np.array([[np.inf, 1.0]])), np.full((1, 2), np.nan))
        assert_parity(forward(backend, "silu", np.array([[-np.inf]])), np.array([[np.nan]]))


def test_kernels_load_numpy_alone_and_under_one_name() -> None:
    code = (
        "import sys, importlib, nnfast; m = importlib.import_module('nnfast.kernels.reference'); "
        "print(sorted({'scipy', 'numba', 'cupy', 'kernels'} & set(sys.modules)), nnfast.kernels.__file__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, _, path = done.stdout.strip().partition(" ")
    assert found == "[]"
    guard = f"import runpy; runpy.run_path({path!r}, run_name='kernels')"
    refused = subprocess.run([sys.executable, "-c", guard], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "import nnfast.kernels" in refused.stderr
