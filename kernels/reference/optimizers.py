"""Optimizer steps: P parameters, updated in place in their own dtype.

The order of the operations is that of the equations, with one temporary where several would say the same.
"""

from __future__ import annotations

import math

import numpy as np

from nnfast.protocol import Array

__all__ = ["adagrad_step", "adam_step", "rmsprop_step", "sgd_step"]


def sgd_step(p: Array, g: Array, v: Array | None, *, learning_rate: float, momentum: float, nesterov: bool) -> None:
    """v = momentum·v − lr·g, p += v; Nesterov: p += momentum·v − lr·g. Without v: p −= lr·g."""
    step = learning_rate * g
    if v is None:
        p -= step
        return
    v *= momentum
    v -= step
    if nesterov:
        change = momentum * v
        change -= step
        p += change  # as one sum, so that p is rounded once
    else:
        p += v


def adagrad_step(p: Array, g: Array, cache: Array, *, learning_rate: float, epsilon: float) -> None:
    """cache += g², p −= lr·g/(√cache + ε)"""
    cache += g * g
    _descend(p, g, cache, learning_rate, epsilon)


def rmsprop_step(p: Array, g: Array, cache: Array, *, learning_rate: float, epsilon: float, rho: float) -> None:
    """cache = rho·cache + (1 − rho)·g², p −= lr·g/(√cache + ε)"""
    cache *= rho
    cache += (1 - rho) * g * g
    _descend(p, g, cache, learning_rate, epsilon)


def adam_step(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    learning_rate: float,
    step: int,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    weight_decay: float,
) -> None:
    """m = β₁m + (1 − β₁)g, v = β₂v + (1 − β₂)g², p −= lr·(m̂/(√v̂ + ε) + weight_decay·p), step = 1, 2, …

    m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ): ε is added after the correction. The corrections are numbers, so they go into
    lr and ε: with c = √(1 − β₂ᵗ), lr·m̂/(√v̂ + ε) = (lr·c/(1 − β₁ᵗ))·m/(√v + c·ε).
    """
    m *= beta_1
    m += (1 - beta_1) * g
    v *= beta_2
    v += (1 - beta_2) * g * g
    if weight_decay:
        p -= learning_rate * weight_decay * p
    c = math.sqrt(1 - beta_2**step)
    _descend(p, m, v, learning_rate * c / (1 - beta_1**step), c * epsilon)


def _descend(p: Array, direction: Array, squares: Array, rate: float, epsilon: float) -> None:
    """p −= rate·direction/(√squares + ε)"""
    t = np.sqrt(squares)
    t += epsilon
    np.divide(direction, t, out=t)
    t *= rate
    p -= t
