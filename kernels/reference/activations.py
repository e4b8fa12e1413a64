"""Activations and their gradients: N rows, I features.

Backward reads the output y where the slope follows from it, the input x for GELU and SiLU. The elementwise ones may
work in place: y may be x, and dx may be dy. NaN goes through: every choice is made by `x <= 0`, false for NaN, so that
NaN takes the branch that carries it on.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from nnfast.protocol import Array

__all__ = [
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "softplus",
    "softplus_backward",
    "tanh",
    "tanh_backward",
]


def relu(x: Array, y: Array) -> None:
    """y = max(x, 0)"""
    np.maximum(x, 0, out=y)


def relu_backward(y: Array, dy: Array, dx: Array) -> None:
    """dx = dy·(y > 0)"""
    np.multiply(dy, ~(y <= 0), out=dx)


def leaky_relu(x: Array, y: Array, *, alpha: float) -> None:
    """y = x where x > 0, else alpha·x"""
    y[...] = np.where(x <= 0, alpha * x, x)


def leaky_relu_backward(y: Array, dy: Array, dx: Array, *, alpha: float) -> None:
    """dx = dy where y > 0, else alpha·dy; y has the sign of x because alpha >= 0"""
    dx[...] = np.where(y <= 0, alpha * dy, dy)


def elu(x: Array, y: Array, *, alpha: float) -> None:
    """y = x where x > 0, else alpha·(eˣ − 1)"""
    y[...] = np.where(x <= 0, alpha * np.expm1(np.minimum(x, 0)), x)


def elu_backward(y: Array, dy: Array, dx: Array, *, alpha: float) -> None:
    """dx = dy where y > 0, else dy·alpha·eˣ, where alpha·eˣ = y + alpha"""
    dx[...] = np.where(y <= 0, dy * (y + alpha), dy)


def softplus(x: Array, y: Array) -> None:
    """y = log(1 + eˣ)"""
    y[...] = log_one_plus_exp(x)


def softplus_backward(y: Array, dy: Array, dx: Array) -> None:
    """dx = dy·σ(x), where σ(x) = 1 − e⁻ʸ"""
    np.multiply(dy, -np.expm1(-y), out=dx)


def sigmoid(x: Array, y: Array) -> None:
    """y = 1/(1 + e⁻ˣ)"""
    y[...] = logistic(x)


def sigmoid_backward(y: Array, dy: Array, dx: Array) -> None:
    """dx = dy·y·(1 − y)"""
    np.multiply(dy, y * (1 - y), out=dx)


def tanh(x: Array, y: Array) -> None:
    """y = tanh(x)"""
    np.tanh(x, out=y)


def tanh_backward(y: Array, dy: Array, dx: Array) -> None:
    """dx = dy·(1 − y²), as a product because 1 − y² loses all digits where y is near ±1"""
    np.multiply(dy, (1 - y) * (1 + y), out=dx)


def gelu(x: Array, y: Array) -> None:
    """y = x·Φ(x), exact (no tanh approximation); NaN at −inf, as the product is"""
    y[...] = x * normal_cdf(x)


def gelu_backward(x: Array, dy: Array, dx: Array) -> None:
    """dx = dy·(Φ(x) + x·φ(x)), φ the normal density; NaN at ±inf"""
    density = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    np.multiply(dy, normal_cdf(x) + x * density, out=dx)


def silu(x: Array, y: Array) -> None:
    """y = x·σ(x); NaN at −inf, as the product is"""
    y[...] = x * logistic(x)


def silu_backward(x: Array, dy: Array, dx: Array) -> None:
    """dx = dy·σ(x)·(1 + x·(1 − σ(x))); NaN at ±inf"""
    s = logistic(x)
    np.multiply(dy, s * (1 + x * (1 - s)), out=dx)


def softmax(x: Array, y: Array) -> None:
    """y = eˣ/Σ eˣ along the row; a row with a NaN or +inf in it, or with nothing but −inf, is NaN throughout"""
    _, e, total = exp_rows(x)
    np.divide(e, total, out=y)


def softmax_backward(y: Array, dy: Array, dx: Array) -> None:
    """dx = y·(dy − Σ dy·y)"""
    inner = (dy * y).sum(axis=1, keepdims=True)
    np.multiply(y, dy - inner, out=dx)


# What losses share with the activations.


def exp_rows(x: Array) -> tuple[Array, Array, Array]:
    """x − max x, its exponential, and the sum of that along each row; no exponent is above 0, so nothing overflows."""
    shifted = x - x.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    return shifted, e, e.sum(axis=1, keepdims=True)


def logistic(x: Array) -> Array:
    """1/(1 + e⁻ˣ); where e⁻ˣ overflows the result is 0, and the true one below the smallest normal number"""
    return 1 / (1 + np.exp(-x))


def log_one_plus_exp(x: Array) -> Array:
    """log(1 + eˣ) = max(x, 0) + log(1 + e^−|x|)"""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def normal_cdf(x: Array) -> Array:
    """Φ(x) = ½·erfc(−x/√2); erfc keeps the digits of the left tail that 1 + erf would cancel"""
    return 0.5 * _erfc()(x * -math.sqrt(0.5))


@functools.cache
def _erfc() -> Callable[[Array], Array]:
    """SciPy's erfc, loaded on first use, or the standard library's element by element (slow, same accuracy)."""
    try:
        from scipy.special import erfc
    except ImportError:
        one_by_one = np.frompyfunc(math.erfc, 1, 1)
        return lambda x: np.asarray(one_by_one(x), x.dtype)
    return erfc  # type: ignore[no-any-return]
