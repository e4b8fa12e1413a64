"""The gradient of every differentiable op against differences of its forward op, in float64."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nnfast.protocol import OPS
from nnfast.testing import CASES, assert_parity, check_vjp, off_kinks

FUSED = ("linear", "relu", "leaky_relu", "elu", "softplus", "sigmoid", "tanh")
ACTIVATIONS = [op for op in OPS if f"{op}_backward" in OPS and op not in ("dense", "dropout", "standardize")]
MEANS = ("sigmoid_binary_cross_entropy", "mean_squared_error", "mean_absolute_error", "huber", "poisson")
SHAPES = [(1, 1), (4, 3), (7, 31)]


def pair(backend: Any, op: str, **keywords: Any) -> tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]:
    """An op (N, I) -> (N, I) as a function, and its backward op as a function of (dy, x)."""
    saved = OPS[f"{op}_backward"].args[0].name

    def forward(x: Any) -> Any:
        y = np.empty_like(x)
        backend.kernel(op)(x, y, **keywords)
        return y

    def backward(dy: Any, x: Any) -> Any:
        dx = np.empty_like(x)
        first = {"x": [x], "y": [forward(x)], "dy": []}[saved]
        backend.kernel(f"{op}_backward")(*first, dy, dx, **keywords)
        return [dx]

    return forward, backward


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("op", ACTIVATIONS)
def test_activation(backend: Any, rng: Any, op: str, shape: tuple[int, int]) -> None:
    for keywords in CASES[op].keywords:
        check_vjp(*pair(backend, op, **keywords), [off_kinks(2 * rng.standard_normal(shape))], rng)


@pytest.mark.parametrize("op", ACTIVATIONS)
def test_a_wrong_gradient_is_found(backend: Any, rng: Any, op: str) -> None:
    forward, backward = pair(backend, op, **CASES[op].keywords[0])
    x = off_kinks(rng.standard_normal((5, 4)))
    with pytest.raises(AssertionError, match="by differences"):
        check_vjp(forward, lambda dy, x: [1.001 * backward(dy, x)[0]], [x], rng)


def test_gradient_checks_are_float64_only(backend: Any, rng: Any) -> None:
    with pytest.raises(TypeError, match="float64"):
        check_vjp(*pair(backend, "tanh"), [np.ones((2, 2), np.float32)], rng)


@pytest.mark.parametrize("shape", SHAPES)
def test_standardize(backend: Any, rng: Any, shape: tuple[int, int]) -> None:
    mean, std = rng.standard_normal(shape[1]), rng.uniform(0.2, 3, shape[1])

    def forward(x: Any) -> Any:
        y = np.empty_like(x)
        backend.kernel("standardize")(x, mean, std, y)
        return y

    def backward(dy: Any, x: Any) -> Any:
        dx = np.empty_like(x)
        backend.kernel("standardize_backward")(dy, std, dx)
        return [dx]

    check_vjp(forward, backward, [rng.standard_normal(shape)], rng)


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9])
def test_dropout(backend: Any, rng: Any, rate: float) -> None:
    keywords = {"rate": rate, "key": 7, "step": 3, "layer": 1, "first_row": 5}
    check_vjp(*pair(backend, "dropout", **keywords), [rng.standard_normal((6, 5))], rng)


@pytest.mark.parametrize("activation", FUSED)
@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 3, 5), (9, 7, 2)])
def test_dense(backend: Any, rng: Any, activation: str, shape: tuple[int, int, int]) -> None:
    rows, inputs, outputs = shape
    keywords = {"alpha": 0.3, "activation": activation}

    def forward(x: Any, w: Any, b: Any) -> Any:
        y = np.empty((rows, outputs))
        backend.kernel("dense")(x, w, b, y, **keywords)
        return y

    def backward(dy: Any, x: Any, w: Any, b: Any) -> Any:
        dz, dx, dw, db = np.empty_like(dy), np.empty_like(x), np.empty_like(w), np.empty_like(b)
        backend.kernel("dense_backward")(x, w, forward(x, w, b), dy, dz, dx, dw, db, **keywords)
        return dx, dw, db

    args = dense_off_kinks(rng, rows, inputs, outputs)
    check_vjp(forward, backward, args, rng)


def dense_off_kinks(rng: Any, rows: int, inputs: int, outputs: int) -> list[Any]:
    """x, w, b with every x·w + b well away from 0, where ReLU and its relatives have their kink."""
    while True:
        x, w = rng.standard_normal((rows, inputs)), rng.standard_normal((inputs, outputs))
        b = rng.standard_normal(outputs)
        if np.abs(x @ w + b).min() > 5e-3:
            return [x, w, b]


@pytest.mark.parametrize("activation", FUSED[1:])
def test_fused_dense_is_dense_then_activation(backend: Any, rng: Any, dtype: Any, activation: str) -> None:
    x, w, b, dy = (rng.standard_normal(s).astype(dtype) for s in [(9, 5), (5, 4), (4,), (9, 4)])
    alpha = {"alpha": 0.3} if OPS[activation].scalars else {}
    fused, z, y = np.empty_like(dy), np.empty_like(dy), np.empty_like(dy)
    backend.kernel("dense")(x, w, b, fused, alpha=0.3, activation=activation)
    backend.kernel("dense")(x, w, b, z, alpha=0.0, activation="linear")
    backend.kernel(activation)(z, y, **alpha)
    assert_parity(fused, y)

    got = [np.empty_like(a) for a in (dy, x, w, b)]
    want = [np.empty_like(a) for a in (dy, x, w, b)]
    backend.kernel("dense_backward")(x, w, y, dy, *got, alpha=0.3, activation=activation)
    backend.kernel(f"{activation}_backward")(y, dy, want[0], **alpha)
    backend.kernel("dense_backward")(x, w, None, want[0], None, *want[1:], alpha=0.0, activation="linear")
    # Walked by Python, a float32 times a float64 scalar is a float64, and so is rounded elsewhere.
    plain = backend.name == "numba" and os.environ.get("NUMBA_DISABLE_JIT") == "1"
    for g, e in zip(got, want, strict=True):
        assert_parity(g, e, limit=1e-6 if plain else 0)


def loss_pair(backend: Any, op: str, y: Any, **keywords: Any) -> tuple[Any, Any]:
    """The loss of each row as a function of z; the incoming gradient of a row is what a sample weight is."""

    def forward(z: Any) -> Any:
        losses = np.empty(len(z))
        backend.kernel(op)(z, y, None, np.zeros(()), None, losses, normaliser=1.0, **keywords)
        return losses / 3

    def backward(dy: Any, z: Any) -> Any:
        dz = np.empty_like(z)
        backend.kernel(op)(z, y, dy, np.zeros(()), dz, None, normaliser=3.0, **keywords)
        return [dz]

    return forward, backward


@pytest.mark.parametrize("form", ["labels", "one_hot", "soft", "unnormalised"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("op", ["softmax_cross_entropy", "categorical_cross_entropy"])
def test_class_loss(backend: Any, rng: Any, op: str, shape: tuple[int, int], form: str) -> None:
    rows, classes = shape
    labels = rng.integers(0, classes, rows)
    y = {
        "labels": labels,
        "one_hot": np.eye(classes)[labels],
        "soft": rng.dirichlet(np.ones(classes), rows),
        "unnormalised": rng.uniform(0, 2, shape),
    }[form]
    if op == "categorical_cross_entropy":
        check_vjp(*loss_pair(backend, op, y), [rng.uniform(0.05, 0.95, shape)], rng)
        return
    for smoothing in (0.0, 0.1, 1.0):
        check_vjp(*loss_pair(backend, op, y, label_smoothing=smoothing), [2 * rng.standard_normal(shape)], rng)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("op", MEANS)
def test_mean_loss(backend: Any, rng: Any, op: str, shape: tuple[int, int]) -> None:
    y = rng.uniform(0, 1, shape)
    error = off_kinks(2 * rng.standard_normal(shape), 0.0, 0.5, -0.5)  # MAE has its kink at 0, Huber's slope at ±delta
    keywords = {"delta": 0.5} if op == "huber" else {}
    check_vjp(*loss_pair(backend, op, y, **keywords), [y + error], rng)


@pytest.mark.parametrize("shape", SHAPES)
def test_binary_cross_entropy(backend: Any, rng: Any, shape: tuple[int, int]) -> None:
    for y in (rng.uniform(0, 1, shape), rng.integers(0, 2, shape).astype(float)):
        check_vjp(*loss_pair(backend, "binary_cross_entropy", y), [rng.uniform(0.05, 0.95, shape)], rng)


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.7), (0.3, 0.7)])
def test_penalty(backend: Any, rng: Any, l1: float, l2: float) -> None:
    def forward(p: Any) -> Any:
        total = np.zeros(())
        backend.kernel("penalty")(p, None, total, l1=l1, l2=l2)
        return total

    def backward(dy: Any, p: Any) -> Any:
        g = np.zeros_like(p)
        backend.kernel("penalty")(p, g, np.zeros(()), l1=l1, l2=l2)
        return [g * dy]

    check_vjp(forward, backward, [off_kinks(rng.standard_normal(33))], rng)


def test_softmax_backward_is_the_jacobian(backend: Any, rng: Any) -> None:
    """dx = J·dy with the Jacobian written out sample by sample, as the slow textbook form does."""
    x, dy = rng.standard_normal((5, 4)), rng.standard_normal((5, 4))
    forward, backward = pair(backend, "softmax")
    y = forward(x)
    want = np.stack([(np.diag(row) - np.outer(row, row)) @ d for row, d in zip(y, dy, strict=True)])
    assert_parity(backward(dy, x)[0], want, limit=1e-15)
