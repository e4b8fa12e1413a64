"""Activations and their gradients: N rows, I features, in one pass each. (For softmax see `softmax`.)

`SLOPES` holds the gradients as functions of vectors, for the dense layers that have an activation of their own.
Every choice is made by `x <= 0`, false for NaN, so that NaN takes the branch that carries it on.
"""

from __future__ import annotations

from typing import Any

from .bodies import body
from .modes import jit
from .simd import vfma, vmax, vmin, vselect
from .softmax import softmax, softmax_backward
from .vmath import (
    map1,
    map1_scalar,
    map2,
    map2_scalar,
    vexpm1,
    vnormal,
    vnormal_cdf,
    vsigmoid,
    vsoftplus,
    vtanh,
)

__all__ = [
    "SLOPES",
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

# The functions, of one vector and of alpha in every lane.


@jit
def _relu(x):
    return vmax(x, 0.0)


@jit
def _leaky_relu(x, alpha):
    return vselect(x <= 0.0, alpha * x, x)


@jit
def _elu(x, alpha):
    return vselect(x <= 0.0, alpha * vexpm1(vmin(x, 0.0)), x)


@jit
def _gelu(x):
    return x * vnormal_cdf(x)


@jit
def _silu(x):
    return x * vsigmoid(x)


# dy·act'(y), or of x where the name says so.


@jit
def _linear_slope(y, dy, alpha):
    return dy


@jit
def _relu_slope(y, dy, alpha):
    """A product, because 0·inf is NaN"""
    return vselect(y <= 0.0, dy * 0.0, dy)


@jit
def _leaky_relu_slope(y, dy, alpha):
    return vselect(y <= 0.0, alpha * dy, dy)


@jit
def _elu_slope(y, dy, alpha):
    return vselect(y <= 0.0, dy * (y + alpha), dy)


@jit
def _softplus_slope(y, dy, alpha):
    return dy * -vexpm1(-y)


@jit
def _sigmoid_slope(y, dy, alpha):
    return dy * (y * (1.0 - y))


@jit
def _tanh_slope(y, dy, alpha):
    return dy * ((1.0 - y) * (1.0 + y))


@jit
def _gelu_slope_of_x(x, dy):
    """Φ(x) + x·φ(x)"""
    below, density = vnormal(x)
    return dy * vfma(x, density, below)


@jit
def _silu_slope_of_x(x, dy):
    """σ(x)·(1 + x·(1 − σ(x)))"""
    s = vsigmoid(x)
    return dy * (s * vfma(x, 1.0 - s, 1.0))


SLOPES: dict[str, Any] = {
    "linear": _linear_slope,
    "relu": _relu_slope,
    "leaky_relu": _leaky_relu_slope,
    "elu": _elu_slope,
    "softplus": _softplus_slope,
    "sigmoid": _sigmoid_slope,
    "tanh": _tanh_slope,
}

# The ops.

_map_relu, _map_leaky_relu, _map_elu = map1(_relu), map1_scalar(_leaky_relu), map1_scalar(_elu)
_map_softplus, _map_sigmoid, _map_tanh = map1(vsoftplus), map1(vsigmoid), map1(vtanh)
_map_gelu, _map_silu = map1(_gelu), map1(_silu)
_map_slope = {name: map2_scalar(slope) for name, slope in SLOPES.items()}
_map_gelu_slope, _map_silu_slope = map2(_gelu_slope_of_x), map2(_silu_slope_of_x)


@body
def relu(x, y):
    """y = max(x, 0)"""
    _map_relu(x, y)


@body
def leaky_relu(x, y, alpha):
    """y = x where x > 0, else alpha·x"""
    _map_leaky_relu(x, y, alpha)


@body
def elu(x, y, alpha):
    """y = x where x > 0, else alpha·(eˣ − 1)"""
    _map_elu(x, y, alpha)


@body
def softplus(x, y):
    """y = log(1 + eˣ)"""
    _map_softplus(x, y)


@body
def sigmoid(x, y):
    """y = 1/(1 + e⁻ˣ)"""
    _map_sigmoid(x, y)


@body
def tanh(x, y):
    """y = tanh(x)"""
    _map_tanh(x, y)


@body
def gelu(x, y):
    """y = x·Φ(x); NaN at −inf, as the product is"""
    _map_gelu(x, y)


@body
def silu(x, y):
    """y = x·σ(x); NaN at −inf, as the product is"""
    _map_silu(x, y)


_relu_slopes, _leaky_relu_slopes, _elu_slopes = _map_slope["relu"], _map_slope["leaky_relu"], _map_slope["elu"]
_softplus_slopes, _sigmoid_slopes, _tanh_slopes = _map_slope["softplus"], _map_slope["sigmoid"], _map_slope["tanh"]


@body
def relu_backward(y, dy, dx):
    """dx = dy·(y > 0)"""
    _relu_slopes(y, dy, dx, 0.0)


@body
def leaky_relu_backward(y, dy, dx, alpha):
    """dx = dy where y > 0, else alpha·dy"""
    _leaky_relu_slopes(y, dy, dx, alpha)


@body
def elu_backward(y, dy, dx, alpha):
    """dx = dy where y > 0, else dy·(y + alpha)"""
    _elu_slopes(y, dy, dx, alpha)


@body
def softplus_backward(y, dy, dx):
    """dx = dy·(1 − e⁻ʸ)"""
    _softplus_slopes(y, dy, dx, 0.0)


@body
def sigmoid_backward(y, dy, dx):
    """dx = dy·y·(1 − y)"""
    _sigmoid_slopes(y, dy, dx, 0.0)


@body
def tanh_backward(y, dy, dx):
    """dx = dy·(1 − y)·(1 + y)"""
    _tanh_slopes(y, dy, dx, 0.0)


@body
def gelu_backward(x, dy, dx):
    """dx = dy·(Φ(x) + x·φ(x)), NaN at ±inf"""
    _map_gelu_slope(x, dy, dx)


@body
def silu_backward(x, dy, dx):
    """dx = dy·σ(x)·(1 + x·(1 − σ(x))), NaN at ±inf"""
    _map_silu_slope(x, dy, dx)
