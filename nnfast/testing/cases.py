"""The case table: one row per op, used by the tests of every backend. A new op needs one row here.

Where the limits come from: 4 or 8 roundings for elementwise functions (worst measured 2.9), 1e-5 and 5e-7 for softmax
(exponents round before they are divided), 2e-6 and 1e-6 for losses on logits (8.0e-7 measured), 8 roundings for an
optimizer step; float64 gets 1e-13 and 1e-15 where these are not in units of eps. What only chooses is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnfast.protocol import Array
from nnfast.testing.case import Case, Draw, Maker
from nnfast.testing.limits import (
    Judged,
    Limit,
    adam_limit,
    close,
    close_for_dy,
    dense_backward_limit,
    dense_limit,
    elu_backward_limit,
    exact,
    loss_limit,
    ulp,
    update,
)

__all__ = ["CASES"]

KEY = 0x9E3779B97F4A7C15  # both halves in use
LATE = 2**32 + 5  # a step beyond one word


# What stands in the arrays.


def spread(scale: float) -> Maker:
    return lambda d: scale * d.rng.standard_normal(d.shape)


def between(low: float, high: float) -> Maker:
    return lambda d: d.rng.uniform(low, high, d.shape)


def stds(d: Draw) -> Array:
    """Standard deviations, the same in each call of this width: those of forward and backward belong together."""
    return 0.25 + np.arange(d.shape[0]) * 7 % 11 / 4


def squares(d: Draw) -> Array:
    return np.square(d.rng.standard_normal(d.shape))


def weights(d: Draw) -> Array:
    """Sample weights, about a quarter of them 0."""
    return np.maximum(d.rng.uniform(-0.5, 1.5, d.shape), 0)


def targets(d: Draw) -> Array:
    """Class targets as indices, one-hot rows, or rows of probabilities, whose sums may be off by a thousandth."""
    rows, classes = d.shape
    if d.form == "soft":
        raw = d.rng.uniform(0.1, 1.0, d.shape)
        return raw / raw.sum(axis=1, keepdims=True) * d.rng.uniform(0.9991, 1.0009, (rows, 1))
    labels = d.rng.integers(0, classes, rows)
    return np.eye(classes)[labels] if d.form == "one_hot" else labels


def bits(d: Draw) -> Array:
    return d.rng.integers(0, 2, d.shape).astype(np.float64)


def halves(d: Draw) -> Array:
    """0, 1/2 and 1: what stands at the threshold of a target must be nobody's guess."""
    return d.rng.integers(0, 3, d.shape) / 2


def ties(d: Draw) -> Array:
    """Outputs of few different values, so that equal ones occur."""
    return d.rng.integers(-3, 4, d.shape).astype(np.float64)


def activated(activation: str, alpha: float, z: Array) -> Array:
    """What the activation can give, written down a second time on purpose: inputs must not come from the kernels."""
    if activation == "relu":
        return np.where(z > 0, z, 0)
    if activation == "leaky_relu":
        return np.where(z > 0, z, alpha * z)
    if activation == "elu":
        return np.where(z > 0, z, alpha * np.expm1(z))
    if activation == "softplus":
        return np.logaddexp(0, z)
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-z))
    return np.tanh(z) if activation == "tanh" else z


def outputs_of(activation: str) -> Maker:
    return lambda d: activated(activation, d.keywords.get("alpha", 0.0), 2 * d.rng.standard_normal(d.shape))


def dense_outputs(d: Draw) -> Array:
    return activated(d.keywords["activation"], d.keywords["alpha"], 2 * d.rng.standard_normal(d.shape))


def softmax_rows(d: Draw) -> Array:
    e = np.exp(2 * d.rng.standard_normal(d.shape))
    return e / e.sum(axis=1, keepdims=True)


def velocity(d: Draw) -> Array | None:
    return None if d.form == "without v" else d.rng.standard_normal(d.shape)


def search_sums(d: Draw) -> Array:
    """The candidate's sums by form; `best` is all ones, or inf before the first. "traded": more loss, less penalty."""
    first = {"better": 0.5, "worse": 1.5, "equal": 1.0, "nan": np.nan, "first": 3.0, "traded": 2.5}[d.form]
    others = np.full(d.shape[0] - 1, 0.8 if d.form == "traded" else 1.0)
    return np.array([first, *others])


def search_best(d: Draw) -> Array:
    return np.full(d.shape, np.inf if d.form == "first" else 1.0)


# Limits of single ops.


def search_limit(judged: Judged, name: str) -> Any:
    """Box-Muller in float32 keeps about 2e-6 absolute, since t = 2π·u is rounded before its cosine."""
    p = judged.before["p"]
    return 2 * judged.eps * np.abs(p) + judged.keywords["scale"] * judged.pick(4e-6, 1e-13)


ELEMENTWISE_CLOSE = close_for_dy((1e-5, 1e-6), (1e-13, 1e-15))  # a sum of two terms that cancel near its zero
SOFTMAX = close((1e-5, 5e-7), (1e-13, 1e-15))
MEAN = loss_limit((1e-6, 0.0), (1e-13, 0.0))  # no cancellation after the first subtraction, float64 sums
COUNT = close((1e-12, 1e-12), (1e-12, 1e-12))  # counts and weights, summed in float64 whatever the dtype


# The table.


def _activations() -> list[Case]:
    alpha = ({"alpha": 0.1}, {"alpha": 1.0})
    rows: list[tuple[str, Limit, Limit]] = [
        ("relu", exact, exact),
        ("leaky_relu", ulp(2), ulp(2)),
        ("elu", ulp(4), elu_backward_limit),
        ("softplus", ulp(4), ulp(4)),
        ("sigmoid", ulp(4), ulp(4)),
        ("tanh", ulp(4), ulp(4)),
    ]
    cases = []
    for name, forward, backward in rows:
        keywords = alpha if name in ("leaky_relu", "elu") else ({},)
        cases.append(Case(name, forward, keywords, {"x": spread(3)}))
        cases.append(Case(f"{name}_backward", backward, keywords, {"y": outputs_of(name)}))
    return [
        *cases,
        Case("gelu", SOFTMAX, values={"x": spread(3)}),
        Case("gelu_backward", ELEMENTWISE_CLOSE, values={"x": spread(3)}),
        Case("silu", ulp(8), values={"x": spread(3)}),
        Case("silu_backward", ELEMENTWISE_CLOSE, values={"x": spread(3)}),
        Case("softmax", SOFTMAX, values={"x": spread(3)}),
        Case("softmax_backward", ELEMENTWISE_CLOSE, values={"y": softmax_rows}),
    ]


def _dense() -> list[Case]:
    fused = ("linear", "relu", "leaky_relu", "elu", "softplus", "sigmoid", "tanh")
    keywords = [{"alpha": 0.3, "activation": name} for name in fused]

    def droppable(keywords: Any) -> list[str]:
        return ["dx", "dw", "db", *(["dz", "y"] if keywords["activation"] == "linear" else [])]

    masks = [
        {"rate": rate, "key": KEY, "step": step, "layer": layer, "first_row": row}
        for rate, step, layer, row in [(0.25, 1, 0, 0), (0.0, 2, 1, 3), (0.9, LATE, 7, 2**31 + 1)]
    ]
    return [
        Case("dense", dense_limit, keywords),
        Case("dense_backward", dense_backward_limit, keywords, {"y": dense_outputs}, droppable=droppable),
        Case("dropout", ulp(2), masks),
        Case("dropout_backward", ulp(2), masks),
        Case("standardize", ulp(4), values={"x": spread(3), "std": stds}),
        Case("standardize_backward", ulp(2), values={"std": stds}),
    ]


def _losses() -> list[Case]:
    labelled = ("labels", "one_hot", "soft")
    probabilities = between(0.01, 0.99)
    smoothing = [{"normaliser": 13.0, "label_smoothing": s} for s in (0.0, 0.1)]
    rows: list[tuple[str, Limit, list[dict[str, Any]], Maker, Maker, tuple[str, ...]]] = [
        ("softmax_cross_entropy", loss_limit(), smoothing, spread(3), targets, labelled),
        ("categorical_cross_entropy", loss_limit(), [{}], probabilities, targets, labelled),
        ("sigmoid_binary_cross_entropy", loss_limit(), [{}], spread(3), bits, ("",)),
        ("binary_cross_entropy", loss_limit(), [{}], probabilities, bits, ("",)),
        ("mean_squared_error", MEAN, [{}], spread(2), spread(2), ("",)),
        ("mean_absolute_error", MEAN, [{}], spread(2), spread(2), ("",)),
        ("huber", MEAN, [{"delta": 1.0}, {"delta": 0.3}], spread(2), spread(2), ("",)),
        ("poisson", loss_limit(), [{}], spread(1), squares, ("",)),
    ]
    return [
        Case(
            name,
            limit,
            [{"normaliser": 13.0, **more} for more in keywords],
            {"z": outputs, "y": target, "weight": weights},
            forms,
            droppable=lambda keywords: ["dz", "losses"],
        )
        for name, limit, keywords, outputs, target, forms in rows
    ]


def _metrics() -> list[Case]:
    labels = {"z": ties, "y": targets, "weight": weights}
    halved = {"y": halves, "weight": weights}
    counted = {"z": ties, "y": bits, "weight": weights}  # many are off by exactly 0 or 1
    labelled = ("labels", "one_hot", "soft")
    return [
        Case("accuracy", COUNT, values=labels, forms=labelled),
        Case("top_k_accuracy", COUNT, [{"k": 1}, {"k": 3}], labels, labelled),
        Case("binary_accuracy", COUNT, [{"threshold": 0.5}, {"threshold": 0.0}], halved),
        Case("regression_accuracy", COUNT, [{"precision": 0.5}, {"precision": 0.0}], counted),
        Case("r2_moments", COUNT, values={"y": spread(2), "weight": weights}),
    ]


def _updates() -> list[Case]:
    adam = {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
    penalties = [{"l1": a, "l2": b} for a, b in [(0.0, 0.0), (0.01, 0.0), (0.0, 0.02), (0.01, 0.02)]]
    # The third is the plain step: without momentum, v becomes the last change.
    sgd = [(0.1, 0.9, False), (0.1, 0.9, True), (1.0, 0.0, False)]
    search = {"key": KEY, "scale": 0.05}
    return [
        Case("penalty", update(), penalties, droppable=lambda keywords: ["g"]),
        Case(
            "batch_penalty",
            update(),
            [{"normaliser": 3.0, **strengths} for strengths in penalties],
            droppable=lambda keywords: ["g"],
        ),
        Case("clip_by_global_norm", ulp(4), [{"clip_norm": c} for c in (0.5, 1e6, np.inf)]),
        Case(
            "sgd_step",
            update(also="v"),
            [{"learning_rate": a, "momentum": m, "nesterov": n} for a, m, n in sgd],
            {"v": velocity},
            ("", "without v"),
        ),
        Case("adagrad_step", update(), [{"learning_rate": 0.1, "epsilon": 1e-7}], {"cache": squares}),
        Case("rmsprop_step", update(), [{"learning_rate": 0.01, "epsilon": 1e-7, "rho": 0.9}], {"cache": squares}),
        Case(
            "adam_step",
            adam_limit,
            [{**adam, "step": 1, "weight_decay": 0.0}, {**adam, "step": 1000, "weight_decay": 0.01}],
            {"v": squares},
        ),
        Case(
            "random_search_propose",
            search_limit,
            [
                {**search, "step": 1, "offset": 0, "mode": "sample"},
                {**search, "step": LATE, "offset": 6, "mode": "perturb"},
                {**search, "step": 3, "offset": 2**33 + 1, "mode": "perturb"},
            ],
        ),
        Case(
            "random_search_accept",
            exact,
            [{"normaliser": 13.0}],
            {"sums": search_sums, "best": search_best},
            ("better", "worse", "equal", "nan", "first", "traded"),
        ),
    ]


CASES: dict[str, Case] = {
    case.op: case for family in (_activations, _dense, _losses, _metrics, _updates) for case in family()
}
