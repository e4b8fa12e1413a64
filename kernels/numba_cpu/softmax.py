"""Softmax, its gradient, and its cross-entropy: N rows of C classes.

Long rows take three passes, for the maximum, the exponentials and what is made of them; the last two find the row in a
cache. Short rows are taken W at once, see `rows`.
"""

from __future__ import annotations

import numpy as np

from .bodies import body
from .modes import jit
from .rows import NARROW, columns, exp_columns, exp_row, vindex, vlabels, vput, vtake
from .simd import (
    lanes,
    vacc_add,
    vacc_sum,
    vacc_zero,
    vfma,
    vgather,
    vload,
    vload_n,
    vnarrow,
    vscatter,
    vselect,
    vset,
    vstore,
    vstore_n,
    vwiden,
    vzero,
)
from .vmath import vlog

__all__ = ["softmax", "softmax_backward", "softmax_cross_entropy"]


@body
def softmax(x, y):
    """y = eˣ/Σ eˣ along the row; a row with a NaN or +inf in it, or with nothing but −inf, is NaN throughout"""
    rows, c = x.shape
    if c <= NARROW:
        shifted = columns(x)
        e = columns(x)
        for first in range(0, rows, lanes(x)):
            factor = 1.0 / exp_columns(x, first * c, c, rows - first, shifted, e)
            for j in range(c):
                vscatter(y, first * c + j, c, vload(e, j * lanes(x)) * factor, rows - first)
    else:
        for base in range(0, rows * c, c):
            factor = vset(x, 1.0 / exp_row(x, base, c, y)[1])
            for j in range(base, base + c, lanes(x)):
                vput(y, j, vtake(y, j, base + c - j) * factor, base + c - j)


@body
def softmax_backward(y, dy, dx):
    """dx = y·(dy − Σ dy·y)"""
    rows, c = y.shape
    if c <= NARROW:
        p = columns(y)
        d = columns(y)
        for first in range(0, rows, lanes(y)):
            inner = vzero(y)
            for j in range(c):
                a = vgather(y, first * c + j, c, rows - first)
                b = vgather(dy, first * c + j, c, rows - first)
                vstore(p, j * lanes(y), a)
                vstore(d, j * lanes(y), b)
                inner = vfma(a, b, inner)
            for j in range(c):
                a = vload(p, j * lanes(y))
                vscatter(dx, first * c + j, c, a * (vload(d, j * lanes(y)) - inner), rows - first)
    else:
        for base in range(0, rows * c, c):
            total = vacc_zero(y)
            for j in range(base, base + c, lanes(y)):
                n = base + c - j
                total = vacc_add(total, vtake(y, j, n) * vtake(dy, j, n))
            inner = vset(y, vacc_sum(total))
            for j in range(base, base + c, lanes(y)):
                n = base + c - j
                vput(dx, j, vtake(y, j, n) * (vtake(dy, j, n) - inner), n)


@body
def softmax_cross_entropy(z, labels, targets, weight, total, dz, losses, normaliser, label_smoothing):
    """−Σ q·log p with p = softmax(z), q = (1 − ε)·target + ε/C; ∂/∂z = p·Σq − q"""
    if z.shape[1] <= NARROW:
        _across(z, labels, targets, weight, total, dz, losses, normaliser, label_smoothing)
    else:
        _along(z, labels, targets, weight, total, dz, losses, normaliser, label_smoothing)


@jit
def half_way(normaliser):
    """A power of two by which weights come half way to weight/normaliser, where all of it at once leaves float32."""
    return 2.0**-64 if normaliser > 2.0**60 else 2.0**64 if normaliser < 2.0**-60 else 1.0


@jit
def _along(z, labels, targets, weight, total, dz, losses, normaliser, smoothing):
    """One row after the other. For a label alone, its logit and its gradient are picked; else see `_pull`."""
    rows, c = z.shape
    logits, gradient = z.reshape(-1), dz.reshape(-1)
    number = z.dtype.type
    summed = 0.0
    for n in range(rows):
        base = n * c
        at = base + labels[n] if labels.size > 0 else base
        logit = logits[at]
        m, s = exp_row(z, base, c, dz)
        log_s = np.log(s)
        k = np.float64(weight[n]) if weight.size > 0 else 1.0
        g = k / normaliser
        if labels.size > 0 and smoothing == 0:
            loss = log_s - (logit - m)
            if dz.size > 0:
                factor = vset(z, g / s)
                for j in range(base, base + c, lanes(z)):
                    vput(dz, j, vtake(dz, j, base + c - j) * factor, base + c - j)
                gradient[at] -= number(g)
        else:
            loss = _pull(z, targets, base, c, m, s, 1.0 - smoothing, smoothing, dz, g)
            if labels.size > 0:
                loss += (1.0 - smoothing) * (log_s - (logit - m))
                if dz.size > 0:
                    gradient[at] -= number((1.0 - smoothing) * g)
        if losses.size > 0:
            losses[n] = loss
        summed += k * loss
    total[0] += summed


@jit
def _pull(z, targets, base, c, m, s, keep, smoothing, dz, g):
    """−Σ q·log p, and dz = g·(e/s·Σq − q), where q = keep·target + smoothing/C and e lies in dz

    The one of a label is left out of q, for the caller to add, but not out of Σq.
    """
    end = base + c
    of_target, share, shift, log_s = vset(z, keep), vset(z, smoothing / c), vset(z, m), vset(z, np.log(s))
    mass = 1.0
    if targets.size > 0:
        total = vacc_zero(z)
        for j in range(base, end, lanes(z)):
            total = vacc_add(total, vtake(targets, j, end - j))
        mass = keep * vacc_sum(total) + smoothing
    factor, pull = vset(z, g / s * mass), vset(z, g)
    total = vacc_zero(z)
    for j in range(base, end, lanes(z)):
        n = end - j
        q = vfma(of_target, vtake(targets, j, n), share) if targets.size > 0 else share
        q = vselect(vindex(z) < n, q, 0.0)
        log_p = (vtake(z, j, n) - shift) - log_s
        total = vacc_add(total, vselect(q == 0.0, 0.0, q * log_p))
        if dz.size > 0:
            vput(dz, j, vtake(dz, j, n) * factor - q * pull, n)
    return -vacc_sum(total)


@jit
def _across(z, labels, targets, weight, total, dz, losses, normaliser, smoothing):
    """W rows at a time; the targets, whatever their kind, become a vector q per column, which takes the place of x"""
    rows, c = z.shape
    step = lanes(z)
    x = columns(z)
    e = columns(z)
    keep, share, one = vset(z, 1.0 - smoothing), vset(z, smoothing / c), vset(z, 1.0)
    half = half_way(normaliser)
    halves, scale = vset(z, half), vset(z, 1.0 / (normaliser * half))
    summed = vacc_zero(z)
    for first in range(0, rows, step):
        base = first * c
        n = rows - first
        s = exp_columns(z, base, c, n, x, e)
        log_s = vlog(s)
        label = vlabels(z, labels, first, n) if labels.size > 0 else one
        loss = vzero(z)
        mass = vacc_zero(z)
        for j in range(c):
            target = vselect(label == float(j), one, 0.0) if labels.size > 0 else vgather(targets, base + j, c, n)
            q = vfma(keep, target, share)
            mass = vacc_add(mass, q)
            loss -= vselect(q == 0.0, 0.0, q * (vload(x, j * step) - log_s))
            vstore(x, j * step, q)
        k = vload_n(weight, first, n) if weight.size > 0 else vselect(vindex(z) < n, one, 0.0)
        summed = vfma(vwiden(k), vwiden(loss), summed)
        if losses.size > 0:
            vstore_n(losses, first, loss, n)
        if dz.size > 0:
            g = k * halves * scale
            factor = g / s * vnarrow(z, mass)
            for j in range(c):
                vscatter(dz, base + j, c, vload(e, j * step) * factor - vload(x, j * step) * g, n)
    total[0] += vacc_sum(summed)
