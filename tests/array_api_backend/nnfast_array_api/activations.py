"""Activations and their gradients: N rows, I features.

The elementwise ones may be called with one array as input and output. Every choice is made by `x <= 0`, which is false
for NaN, so that NaN takes the branch that carries it on.
"""

from __future__ import annotations

import math

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


def relu(x, y):
    y[...] = x.__array_namespace__().clip(x, min=0.0)


def relu_backward(y, dy, dx):
    xp = y.__array_namespace__()
    dx[...] = xp.where(y <= 0, 0.0 * dy, dy)


def leaky_relu(x, y, *, alpha):
    y[...] = x.__array_namespace__().where(x <= 0, alpha * x, x)


def leaky_relu_backward(y, dy, dx, *, alpha):
    dx[...] = y.__array_namespace__().where(y <= 0, alpha * dy, dy)


def elu(x, y, *, alpha):
    xp = x.__array_namespace__()
    y[...] = xp.where(x <= 0, alpha * xp.expm1(xp.clip(x, max=0.0)), x)


def elu_backward(y, dy, dx, *, alpha):
    """alpha·eˣ = y + alpha"""
    dx[...] = y.__array_namespace__().where(y <= 0, dy * (y + alpha), dy)


def softplus(x, y):
    y[...] = log_one_plus_exp(x)


def softplus_backward(y, dy, dx):
    """The slope is σ(x) = 1 − e⁻ʸ"""
    dx[...] = -dy * y.__array_namespace__().expm1(-y)


def sigmoid(x, y):
    y[...] = logistic(x)


def sigmoid_backward(y, dy, dx):
    dx[...] = dy * y * (1 - y)


def tanh(x, y):
    y[...] = x.__array_namespace__().tanh(x)


def tanh_backward(y, dy, dx):
    """A product: 1 − y² has no digits left where y is near ±1"""
    dx[...] = dy * ((1 - y) * (1 + y))


def gelu(x, y):
    y[...] = x * normal_cdf(x)


def gelu_backward(x, dy, dx):
    xp = x.__array_namespace__()
    density = xp.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    dx[...] = dy * (normal_cdf(x) + x * density)


def silu(x, y):
    y[...] = x * logistic(x)


def silu_backward(x, dy, dx):
    s = logistic(x)
    dx[...] = dy * (s * (1 + x * (1 - s)))


def softmax(x, y):
    _, e, norm = exp_rows(x)
    y[...] = e / norm


def softmax_backward(y, dy, dx):
    inner = y.__array_namespace__().sum(dy * y, axis=1, keepdims=True)
    dx[...] = y * (dy - inner)


# What losses share with the activations.


def exp_rows(x):
    """x − max x, its exponential, and the sum of that along each row: without the maximum, exponentials overflow"""
    xp = x.__array_namespace__()
    shifted = x - xp.max(x, axis=1, keepdims=True)
    e = xp.exp(shifted)
    return shifted, e, xp.sum(e, axis=1, keepdims=True)


def logistic(x):
    """1/(1 + e⁻ˣ)"""
    return 1 / (1 + x.__array_namespace__().exp(-x))


def log_one_plus_exp(x):
    """log(1 + eˣ)"""
    xp = x.__array_namespace__()
    return xp.logaddexp(x, xp.zeros_like(x))


def normal_cdf(x):
    """Φ(x) = ½·erfc(−x/√2). The left tail is erfc itself: 1 − erf would have no digits left there."""
    xp = x.__array_namespace__()
    t = xp.abs(x) * math.sqrt(0.5)
    near, far = _erf_near(t), _erfc_far(t)
    small = 0.5 * xp.where(t < 0.5, 1 - near, far)  # Φ(−|x|)
    return xp.where(x <= 0, small, 1 - small)


def _erf_near(t):
    """erf(t) for 0 <= t <= 0.5: 2/√π·t·e^(−t²)·Σ (2t²)ᵏ/(2k + 1)!!, all of whose terms are positive"""
    xp = t.__array_namespace__()
    t = xp.clip(t, max=0.5)
    term, total = xp.ones_like(t), xp.ones_like(t)
    for k in range(1, 13):
        term = term * (2 * t * t / (2 * k + 1))
        total = total + term
    return 2 / math.sqrt(math.pi) * t * xp.exp(-t * t) * total


def _erfc_far(t):
    """erfc(t) for t >= 0.5: the trapezoidal rule with step h for (t/π)·∫ e^(−t²−u²)/(t² + u²) du, less the residue of
    its pole. With h = ½ what is left over is below 1e-16 (Matta and Reichel, 1971)."""
    xp = t.__array_namespace__()
    t = xp.clip(t, min=0.5, max=30.0)  # erfc(30) is 0 in every dtype
    total = 1 / (t * t)
    for k in range(1, 13):
        total = total + 2 * math.exp(-k * k / 4) / (t * t + k * k / 4)
    residue = xp.where(t < 6, 2 / xp.expm1(4 * math.pi * t), xp.zeros_like(t))  # only there is the pole in the way
    return 0.5 / math.pi * t * xp.exp(-t * t) * total - residue
