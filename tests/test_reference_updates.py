"""Reference kernels of metrics, penalties, optimizer steps and random search; where NaN may and may not travel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nnfast.protocol import OPS, PENALTIES
from nnfast.registry import get_backend
from nnfast.testing import CASES, assert_parity


@pytest.fixture
def backend() -> Any:
    """The reference alone."""
    return get_backend("numpy")


def metric(backend: Any, op: str, z: Any, y: Any, weight: Any = None, **keywords: Any) -> float:
    total = np.zeros(())
    backend.kernel(op)(np.asarray(z), np.asarray(y), weight, total, **keywords)
    return float(total)


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
    backend.kernel("batch_penalty")(p, g, total, normaliser=2.0, l1=0.5, l2=0.25)  # and half of it once more
    assert total == 1 + 1.5 * (0.5 * 5 + 0.25 * 13)
    assert_parity(g, np.array([1 - 1.5 * 1.5, 1, 1 + 1.5 * 2], dtype))


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


def test_nesterov_rounds_a_parameter_once(backend: Any) -> None:
    """Twice in each step, and in 1,000 of them a parameter of 0.8 was 4e-5 from where the other backends had it."""
    last = float(np.finfo(np.float32).eps)  # from 1 to the next number
    p, g, v = np.ones(1, np.float32), np.array([-0.4 * last], np.float32), np.zeros(1, np.float32)
    backend.kernel("sgd_step")(p, g, v, learning_rate=1.0, momentum=0.5, nesterov=True)
    assert p[0] == 1 + last  # 0.2 and then 0.4 of it would both be lost; 0.6 is not


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


@pytest.mark.parametrize("op", ["sgd_step", "adagrad_step", "rmsprop_step", "adam_step", *PENALTIES])
def test_a_bad_gradient_reaches_its_parameter_only(backend: Any, dtype: Any, op: str) -> None:
    case = CASES[op]
    call = case.make(case.rng(), dtype, {"P": 9}, case.keywords[-1])
    source, target = ("p", "g") if op in PENALTIES else ("g", "p")
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
