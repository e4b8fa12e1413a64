"""Penalties on parameters, the limit on the gradient's length, and the runner's own passes over flat arrays.

P elements. Sums are made lane by lane, in float64 where they are more than a test; their order depends on P alone.
"""

from __future__ import annotations

import math
from typing import Any

from .bodies import body
from .modes import jit
from .simd import (
    lanes,
    vabs,
    vacc_zero,
    vcopysign,
    vfma,
    vload,
    vload_n,
    vselect,
    vset,
    vstore,
    vstore_n,
    vsum,
    vwiden,
    vzero,
)

__all__ = ["batch_penalty", "check", "clip_by_global_norm", "combine", "penalty", "scale_to_norm", "sum_of_squares"]


@jit
def _slope(p, l1, l2, lasso, ridge):
    """l1·sign(p) + l2·p, a term only where it is asked for: 0·inf is NaN"""
    if not lasso:
        return l2 * p
    sign = vselect((p > 0.0) | (p < 0.0), vcopysign(1.0, p), p)  # 0 and NaN are signs of themselves
    return l1 * sign + l2 * p if ridge else l1 * sign


@body
def penalty(p, g, total, l1, l2):
    """total += l1·Σ|p| + l2·Σp², g += l1·sign(p) + 2·l2·p"""
    lasso, ridge = l1 != 0.0, l2 != 0.0
    if not lasso and not ridge:
        return
    first, second = vset(p, l1), vset(p, 2.0 * l2)
    magnitudes, squares = vacc_zero(p), vacc_zero(p)
    whole = p.size - p.size % lanes(p)
    for i in range(0, whole, lanes(p)):
        p_i = vload(p, i)
        wide = vwiden(p_i)
        magnitudes = magnitudes + vabs(wide)
        squares = vfma(wide, wide, squares)
        if g.size > 0:
            vstore(g, i, vload(g, i) + _slope(p_i, first, second, lasso, ridge))
    n = p.size - whole
    p_i = vload_n(p, whole, n)
    wide = vwiden(p_i)
    if g.size > 0:
        vstore_n(g, whole, vload_n(g, whole, n) + _slope(p_i, first, second, lasso, ridge), n)
    if lasso:
        total[0] += l1 * vsum(magnitudes + vabs(wide))
    if ridge:
        total[0] += l2 * vsum(vfma(wide, wide, squares))


@body
def batch_penalty(p, g, total, normaliser, l1, l2):
    """total += (l1·Σ|p| + l2·Σp²)/normaliser, g += (l1·sign(p) + 2·l2·p)/normaliser"""
    penalty(p, g, total, l1 / normaliser if l1 != 0.0 else 0.0, l2 / normaliser if l2 != 0.0 else 0.0)


BLOCK = 128  # vectors: sums of as many are added up, so that rounding does not grow with the length of the array


def _sum(start: Any, add: Any) -> Any:
    """The function (g): Σ over g, where a sum begins as start(g) and add(sum, vector) is the sum with one more."""

    @jit
    def over(g):
        w = lanes(g)
        end = g.size - g.size % (4 * w)
        total = start(g)
        for block in range(0, end, BLOCK * w):
            a, b, c, d = start(g), start(g), start(g), start(g)
            for i in range(block, min(block + BLOCK * w, end), 4 * w):
                a = add(a, vload(g, i))
                b = add(b, vload(g, i + w))
                c = add(c, vload(g, i + 2 * w))
                d = add(d, vload(g, i + 3 * w))
            total = total + ((a + b) + (c + d))
        for i in range(end, g.size, w):
            total = add(total, vload_n(g, i, g.size - i))
        return vsum(total)

    return over


@jit
def _add_square(total, v):
    wide = vwiden(v)
    return vfma(wide, wide, total)


@jit
def _add_nothing(total, v):
    """total + 0·v, which is NaN from the first v on that is not finite"""
    return vfma(v, 0.0, total)


_squares = _sum(vacc_zero, _add_square)
_zeros = _sum(vzero, _add_nothing)


@jit
def _shorten(g, norm, clip_norm):
    """g *= clip_norm/norm where norm > clip_norm: a NaN norm changes nothing, an infinite one makes 0 and NaN"""
    if norm > clip_norm:
        factor = vset(g, clip_norm / norm)
        whole = g.size - g.size % lanes(g)
        for i in range(0, whole, lanes(g)):
            vstore(g, i, vload(g, i) * factor)
        vstore_n(g, whole, vload_n(g, whole, g.size - whole) * factor, g.size - whole)


@body
def clip_by_global_norm(g, clip_norm):
    """g *= min(1, clip_norm/‖g‖)"""
    if clip_norm != math.inf:
        _shorten(g, math.sqrt(_squares(g)), clip_norm)


@body
def sum_of_squares(g, total):
    """total = Σ g², of one share of the gradient"""
    total[0] = _squares(g)


@body
def scale_to_norm(g, squares, clip_norm):
    """g *= min(1, clip_norm/√Σ squares), where `squares` holds the Σ g² of all shares"""
    total = 0.0
    for s in range(squares.size):
        total += squares[s]
    _shorten(g, math.sqrt(total), clip_norm)


@body
def check(g, total):
    """total += Σ g·0: nothing where all of g is finite, else NaN"""
    total[0] += _zeros(g)


@body
def combine(g, part):
    """g += part: another share's part of the gradient"""
    whole = g.size - g.size % lanes(g)
    for i in range(0, whole, lanes(g)):
        vstore(g, i, vload(g, i) + vload(part, i))
    n = g.size - whole
    vstore_n(g, whole, vload_n(g, whole, n) + vload_n(part, whole, n), n)
