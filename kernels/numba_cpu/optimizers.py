"""Optimizer steps over flat arrays of P parameters: one pass, everything updated in place.

Numbers that are the same for all parameters are worked out in float64 and rounded to the dtype once. Each rule is
written once, for vectors; the loop around it takes whole vectors, then what is left.
"""

from __future__ import annotations

import math
from typing import Any

from .bodies import body, body_factory
from .modes import jit
from .simd import lanes, vload, vload_n, vset, vsqrt, vstore, vstore_n

__all__ = ["adagrad_step", "adam_step", "rmsprop_step", "sgd_step"]


@body_factory
def sgd_step(nesterov: bool) -> Any:
    """v = momentum·v − lr·g, p += v; Nesterov: p += momentum·v − lr·g. Without v: p −= lr·g."""

    @jit
    def rule(p, g, v, rate, momentum):
        v = momentum * v - rate * g
        if nesterov:
            return p + (momentum * v - rate * g), v
        return p + v, v

    @jit
    def sgd_step(p, g, v, learning_rate, momentum):
        rate = vset(p, learning_rate)
        if v.size == 0:
            _plain_step(p, g, rate)
            return
        mu = vset(p, momentum)
        whole = p.size - p.size % lanes(p)
        for i in range(0, whole, lanes(p)):
            p_i, v_i = rule(vload(p, i), vload(g, i), vload(v, i), rate, mu)
            vstore(p, i, p_i)
            vstore(v, i, v_i)
        n = p.size - whole
        if n > 0:
            p_i, v_i = rule(vload_n(p, whole, n), vload_n(g, whole, n), vload_n(v, whole, n), rate, mu)
            vstore_n(p, whole, p_i, n)
            vstore_n(v, whole, v_i, n)

    return sgd_step


@jit
def _plain_step(p, g, rate):
    """p −= rate·g"""
    whole = p.size - p.size % lanes(p)
    for i in range(0, whole, lanes(p)):
        vstore(p, i, vload(p, i) - rate * vload(g, i))
    n = p.size - whole
    vstore_n(p, whole, vload_n(p, whole, n) - rate * vload_n(g, whole, n), n)


@jit
def _descend(p, direction, squares, rate, epsilon):
    """p − rate·direction/(√squares + ε)"""
    return p - rate * (direction / (vsqrt(squares) + epsilon))


@jit
def _rooted(p, g, cache, old, new, rate, epsilon):
    """The rule of `_by_root`; (p, cache)"""
    cache = old * cache + new * g * g
    return _descend(p, g, cache, rate, epsilon), cache


@jit
def _by_root(p, g, cache, old, new, rate, epsilon):
    """cache = old·cache + new·g², p −= rate·g/(√cache + ε)"""
    whole = p.size - p.size % lanes(p)
    for i in range(0, whole, lanes(p)):
        p_i, c_i = _rooted(vload(p, i), vload(g, i), vload(cache, i), old, new, rate, epsilon)
        vstore(p, i, p_i)
        vstore(cache, i, c_i)
    n = p.size - whole
    if n > 0:
        p_i, c_i = _rooted(
            vload_n(p, whole, n), vload_n(g, whole, n), vload_n(cache, whole, n), old, new, rate, epsilon
        )
        vstore_n(p, whole, p_i, n)
        vstore_n(cache, whole, c_i, n)


@body
def adagrad_step(p, g, cache, learning_rate, epsilon):
    """cache += g², p −= lr·g/(√cache + ε)"""
    one = vset(p, 1.0)
    _by_root(p, g, cache, one, one, vset(p, learning_rate), vset(p, epsilon))


@body
def rmsprop_step(p, g, cache, learning_rate, epsilon, rho):
    """cache = rho·cache + (1 − rho)·g², p −= lr·g/(√cache + ε)"""
    _by_root(p, g, cache, vset(p, rho), vset(p, 1.0 - rho), vset(p, learning_rate), vset(p, epsilon))


@jit
def _adam(p, g, m, v, m_old, m_new, v_old, v_new, rate, epsilon, decays, decay):
    """The rule of `adam_step`; (p, m, v). Without decay p is left alone, since 0·p is NaN where p is infinite."""
    m = m_old * m + m_new * g
    v = v_old * v + v_new * g * g
    if decays:
        p = p - decay * p
    return _descend(p, m, v, rate, epsilon), m, v


@body
def adam_step(p, g, m, v, learning_rate, step, beta_1, beta_2, epsilon, weight_decay):
    """m = β₁m + (1 − β₁)g, v = β₂v + (1 − β₂)g², p −= lr·(m̂/(√v̂ + ε) + weight_decay·p), step = 1, 2, …

    m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ) enter by the numbers: with c = √(1 − β₂ᵗ),
    lr·m̂/(√v̂ + ε) = (lr·c/(1 − β₁ᵗ))·m/(√v + c·ε).
    """
    t = float(step)  # a power of float64: integer powers overflow long before a step does
    c = math.sqrt(1.0 - beta_2**t)
    rate, eps = vset(p, learning_rate * c / (1.0 - beta_1**t)), vset(p, c * epsilon)
    m_old, m_new = vset(p, beta_1), vset(p, 1.0 - beta_1)
    v_old, v_new = vset(p, beta_2), vset(p, 1.0 - beta_2)
    decays, decay = weight_decay != 0.0, vset(p, learning_rate * weight_decay)
    whole = p.size - p.size % lanes(p)
    for i in range(0, whole, lanes(p)):
        p_i, m_i, v_i = _adam(
            *(vload(p, i), vload(g, i), vload(m, i), vload(v, i)),
            *(m_old, m_new, v_old, v_new, rate, eps, decays, decay),
        )
        vstore(p, i, p_i)
        vstore(m, i, m_i)
        vstore(v, i, v_i)
    n = p.size - whole
    if n > 0:
        p_i, m_i, v_i = _adam(
            *(vload_n(p, whole, n), vload_n(g, whole, n), vload_n(m, whole, n), vload_n(v, whole, n)),
            *(m_old, m_new, v_old, v_new, rate, eps, decays, decay),
        )
        vstore_n(p, whole, p_i, n)
        vstore_n(m, whole, m_i, n)
        vstore_n(v, whole, v_i, n)
