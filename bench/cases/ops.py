"""The single ops that are timed: their inputs, what they move and compute at least, and their right answers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

__all__ = [
    "OPS",
    "RATE",
    "STEPS",
    "OpCase",
    "adam_inputs",
    "dense_inputs",
    "expected",
    "logits",
    "network_weights",
    "same",
]

Array = np.ndarray[Any, Any]

RATE, BETAS, EPSILON = 0.1, (0.9, 0.999), 1e-7
STEPS = 3  # of Adam before its answer is compared
PARAMETERS = 100_000  # of an answer that are compared at most
CLOSE = 1e-5  # of the answer's largest element, for 99.9 %: a number may lie on either side of ReLU's 0
SEED = 0


@dataclass(frozen=True)
class OpCase:
    """One op at one size."""

    name: str
    kind: str  # "adam", "softmax_cross_entropy", "dense", "dense_backward", "predict_one"
    sizes: tuple[int, ...]
    bytes: int  # read and written at least, in float32
    flops: int


def _adam(n: int, label: str) -> OpCase:
    return OpCase(f"Adam, {label} parameters", "adam", (n,), 7 * 4 * n, 13 * n)  # reads p g m v, writes p m v


def _softmax(n: int, o: int) -> OpCase:
    return OpCase(f"softmax cross-entropy with gradient, {n}×{o}", "softmax_cross_entropy", (n, o), 8 * n * o, 0)


def _dense(n: int, i: int, o: int, backward: bool) -> OpCase:
    moved = 4 * (n * i + i * o + n * o)
    if not backward:
        return OpCase(f"dense with ReLU, {n}×{i}→{o}", "dense", (n, i, o), moved, 2 * n * i * o)
    return OpCase(
        f"dense with ReLU and its gradients, {n}×{i}→{o}", "dense_backward", (n, i, o), 3 * moved, 6 * n * i * o
    )


def _predict_one(*widths: int) -> OpCase:
    products = sum(i * o for i, o in pairwise(widths))
    moved = 4 * (products + sum(widths[1:]) + widths[0])
    return OpCase(f"one prediction, {'-'.join(map(str, widths))}", "predict_one", widths, moved, 2 * products)


OPS = {
    case.name: case
    for case in (
        _adam(100_000, "100 thousand"),
        _adam(20_000_000, "20 million"),
        _softmax(128, 10),
        _softmax(4096, 1000),
        _softmax(512, 32000),
        _predict_one(8, 64, 64, 4),
        *(
            _dense(*sizes, backward)
            for sizes in ((300, 2, 64), (128, 784, 128), (512, 512, 512))
            for backward in (False, True)
        ),
    )
}


def adam_inputs(n: int) -> tuple[Array, Array]:
    """Parameters and one gradient, which every step takes again; so small that a wrong epsilon would show."""
    rng = np.random.default_rng(SEED)
    return rng.standard_normal(n, dtype=np.float32), np.float32(1e-6) * rng.standard_normal(n, dtype=np.float32)


def logits(n: int, o: int) -> tuple[Array, Array]:
    """Logits and class labels."""
    rng = np.random.default_rng(SEED)
    return 3 * rng.standard_normal((n, o), dtype=np.float32), rng.integers(0, o, n)


def dense_inputs(n: int, i: int, o: int) -> tuple[Array, Array, Array, Array]:
    """x, w, b and dy."""
    rng = np.random.default_rng(SEED)
    scale = np.float32(np.sqrt(2 / i))
    x, w = rng.standard_normal((n, i), dtype=np.float32), scale * rng.standard_normal((i, o), dtype=np.float32)
    return x, w, rng.standard_normal(o, dtype=np.float32), rng.standard_normal((n, o), dtype=np.float32)


def network_weights(widths: tuple[int, ...]) -> tuple[list[Array], Array]:
    """[W1, b1, …] of a network with ReLU between its layers, and one row of data."""
    weights = []
    for i, o in pairwise(widths):
        _, w, b, _ = dense_inputs(1, i, o)
        weights += [w, b]
    return weights, dense_inputs(1, widths[0], 1)[0]


# ---- the right answers, in float64 from the equations ---------------------------------------------------------------


def expected(case: OpCase) -> list[Array]:
    """What `results()` of every contender must give: arrays, some of them only in part."""
    return {
        "adam": _adam_answer,
        "softmax_cross_entropy": _softmax_answer,
        "dense": _dense_answer,
        "dense_backward": _dense_backward_answer,
        "predict_one": _prediction,
    }[case.kind](*case.sizes)


def _adam_answer(n: int) -> list[Array]:
    p, g = (a[:PARAMETERS].astype(np.float64) for a in adam_inputs(n))
    (b1, b2), m, v = BETAS, np.zeros_like(p), np.zeros_like(p)
    for t in range(1, STEPS + 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        p -= RATE * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + EPSILON)
    return [p, m, v]


def _softmax_answer(n: int, o: int) -> list[Array]:
    z, y = logits(n, o)
    z = z.astype(np.float64)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(n), y]).mean()
    p[np.arange(n), y] -= 1
    return [np.array([loss]), (p / n).reshape(-1)[:PARAMETERS]]


def _dense_answer(n: int, i: int, o: int) -> list[Array]:
    x, w, b, _ = (a.astype(np.float64) for a in dense_inputs(n, i, o))
    return [np.maximum(x @ w + b, 0)]


def _dense_backward_answer(n: int, i: int, o: int) -> list[Array]:
    x, w, b, dy = (a.astype(np.float64) for a in dense_inputs(n, i, o))
    y = x @ w + b
    dz = np.where(y > 0, dy, 0)
    return [np.maximum(y, 0), dz @ w.T, x.T @ dz, dz.sum(axis=0)]


def _prediction(*widths: int) -> list[Array]:
    weights, x = network_weights(widths)
    y = x.astype(np.float64)
    for k in range(0, len(weights), 2):
        y = y @ weights[k] + weights[k + 1]
        y = np.maximum(y, 0) if k < len(weights) - 2 else y
    return [y]


def same(answers: list[Any], right: list[Array]) -> tuple[float, bool]:
    """The largest distance of 99.9 % of an array's elements, as a share of its largest, and whether that is close."""
    arrays = [np.asarray(answer, np.float64) for answer in answers]
    if [a.shape for a in arrays] != [r.shape for r in right]:
        return np.inf, False
    distances = [np.quantile(np.abs(a - r), 0.999) / np.abs(r).max() for a, r in zip(arrays, right, strict=True)]
    worst = float(np.max(distances))  # a NaN stays one, and is not close
    return worst, worst <= CLOSE
