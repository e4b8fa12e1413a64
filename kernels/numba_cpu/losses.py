"""Losses: N rows, O outputs (C of them where they are classes), each in one sweep over the outputs.

A loss fills up to three results: `losses` the unweighted loss of each row, `total` += Σ weight·loss in float64, and
dz = weight/normaliser · ∂loss/∂z; work that only an absent one would need is left out. The softmax cross-entropy is in
`softmax`; the others are made by `_by_element` out of what they are for a single output.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .bodies import body
from .modes import jit
from .rows import columns, vindex, vput, vtake
from .simd import (
    lanes,
    vabs,
    vacc_sum,
    vacc_zero,
    vfma,
    vload_n,
    vload_n_or,
    vmax,
    vmin,
    vnarrow,
    vselect,
    vset,
    vstore,
    vstore_n,
    vwiden,
)
from .softmax import half_way, softmax_cross_entropy
from .vmath import vexp, vlog, vlog1p

__all__ = [
    "binary_cross_entropy",
    "categorical_cross_entropy",
    "huber",
    "mean_absolute_error",
    "mean_squared_error",
    "poisson",
    "sigmoid_binary_cross_entropy",
    "softmax_cross_entropy",
]

CLIP = 1e-7  # probabilities are taken from [CLIP, 1 − CLIP], forward and backward
TOP = 1 - CLIP


def _by_element(of_one: Any, *, mean: bool = True) -> Any:
    """The body, of arrays as they are and a last number, of a loss that is a mean or a sum over outputs.

    of_one(z, y, number) gives the losses of vectors of outputs, in float64, and their gradients. Without weights, or
    with one output per row, the rows need not be told apart, and all is one long row; if the losses of rows are asked
    for, these then take a second turn, since `total` must not depend on who asks.
    """

    @jit
    def loss(z, y, weight, total, dz, losses, normaliser, parameter):
        rows, outputs = z.shape
        step = lanes(z)
        share = 1.0 / outputs if mean else 1.0
        number, one = vset(z, parameter), vset(z, 1.0)
        single = outputs == 1
        apart = weight.size > 0 and not single
        half = 1.0 if apart else half_way(normaliser)
        halves = vset(z, half)
        turns = 1 if single or apart or losses.size == 0 else 2
        for turn in range(turns):
            by_row = apart or turn == 1
            length = outputs if by_row else z.size
            for n in range(rows if by_row else 1):
                weight_of_row = np.float64(weight[n]) if apart else 1.0
                scale = vset(z, weight_of_row * share / (normaliser * half))
                summed = vacc_zero(z)
                for j in range(0, length, step):
                    i = n * length + j
                    left = length - j
                    value, slope = of_one(vtake(z, i, left), vtake(y, i, left), number)
                    k = vtake(weight, i, left) if single and weight.size > 0 else one
                    if left < step:
                        k = vselect(vindex(z) < left, k, 0.0)
                    if single and losses.size > 0:
                        vput(losses, i, vnarrow(z, value), left)
                    if dz.size > 0 and turn == 0:
                        vput(dz, i, slope * (k * halves * scale), left)
                    summed = vfma(vwiden(k), value, summed)
                loss_of_row = share * vacc_sum(summed)
                if by_row and losses.size > 0:
                    losses[n] = loss_of_row
                if turn == 0:
                    total[0] += weight_of_row * loss_of_row

    return loss


@jit
def _sigmoid_term(z, y, number):
    """log(1 + eᶻ) − y·z and σ(z) − y, from e^−|z|; max(z, 0) − y·z first, for it is 0 where it must be"""
    e = vexp(-vabs(z))
    loss = vfma(-y, z, vmax(z, 0.0)) + vlog1p(e)
    return vwiden(loss), vselect(z < 0.0, e, e * 0.0 + 1.0) / (e + 1.0) - y


@jit
def _clip(p):
    return vmin(vmax(p, CLIP), TOP)


@jit
def _categorical_term(z, y, number):
    """−y·log p, 0 where y is 0, and −y/p"""
    p = _clip(z)
    return vwiden(vselect(y == 0.0, 0.0, -y * vlog(p))), -y / p


@jit
def _binary_term(z, y, number):
    """−y·log p − (1 − y)·log(1 − p) and (1 − y)/(1 − p) − y/p, with 1 − p clipped by itself"""
    p, not_p, not_y = _clip(z), _clip(1.0 - z), 1.0 - y
    return vwiden(-y * vlog(p) - not_y * vlog(not_p)), not_y / not_p - y / p


@jit
def _squared_term(z, y, number):
    """(z − y)², squared in float64, and 2·(z − y)"""
    error = z - y
    wide = vwiden(error)
    return wide * wide, 2.0 * error


@jit
def _absolute_term(z, y, number):
    """|z − y| and its sign, 0 where they are equal"""
    error = z - y
    sign = vselect(error > 0.0, 1.0, vselect(error < 0.0, -1.0, error))
    return vwiden(vabs(error)), sign


@jit
def _huber_term(z, y, delta):
    """e²/2 if |e| <= delta else delta·(|e| − delta/2), and clip(e, ±delta), e = z − y"""
    error = z - y
    size = vabs(error)
    loss = vselect(size <= delta, error * error * 0.5, delta * (size - delta * 0.5))
    return vwiden(loss), vmin(vmax(error, -delta), delta)


@jit
def _poisson_term(z, y, number):
    """eᶻ − y·z and eᶻ − y"""
    rate = vexp(z)
    return vwiden(vfma(-y, z, rate)), rate - y


_sigmoid_loss, _binary_loss = _by_element(_sigmoid_term), _by_element(_binary_term)
_squared_loss, _absolute_loss = _by_element(_squared_term), _by_element(_absolute_term)
_huber_loss, _poisson_loss = _by_element(_huber_term), _by_element(_poisson_term)
_categorical_loss = _by_element(_categorical_term, mean=False)


@body
def sigmoid_binary_cross_entropy(z, y, weight, total, dz, losses, normaliser):
    """mean over outputs of log(1 + eᶻ) − y·z; ∂/∂z = (σ(z) − y)/O"""
    _sigmoid_loss(z, y, weight, total, dz, losses, normaliser, 0.0)


@body
def binary_cross_entropy(z, y, weight, total, dz, losses, normaliser):
    """mean over outputs of −y·log p − (1 − y)·log(1 − p), p clipped; ∂/∂z = ((1 − y)/(1 − p) − y/p)/O"""
    _binary_loss(z, y, weight, total, dz, losses, normaliser, 0.0)


@body
def mean_squared_error(z, y, weight, total, dz, losses, normaliser):
    """mean over outputs of (z − y)²; ∂/∂z = 2·(z − y)/O"""
    _squared_loss(z, y, weight, total, dz, losses, normaliser, 0.0)


@body
def mean_absolute_error(z, y, weight, total, dz, losses, normaliser):
    """mean over outputs of |z − y|; ∂/∂z = sign(z − y)/O, 0 where they are equal"""
    _absolute_loss(z, y, weight, total, dz, losses, normaliser, 0.0)


@body
def huber(z, y, weight, total, dz, losses, normaliser, delta):
    """mean over outputs of e²/2 if |e| <= delta else delta·(|e| − delta/2), e = z − y; ∂/∂z = clip(e, ±delta)/O"""
    _huber_loss(z, y, weight, total, dz, losses, normaliser, delta)


@body
def poisson(z, y, weight, total, dz, losses, normaliser):
    """mean over outputs of eᶻ − y·z, z the log of the rate; ∂/∂z = (eᶻ − y)/O"""
    _poisson_loss(z, y, weight, total, dz, losses, normaliser, 0.0)


@body
def categorical_cross_entropy(z, labels, targets, weight, total, dz, losses, normaliser):
    """−Σ q·log p with p = clip(z, 1e-7, 1 − 1e-7); ∂/∂z = −q/p, with the clipped p"""
    if labels.size > 0:
        _categorical_with_labels(z, labels, weight, total, dz, losses, normaliser)
    else:
        _categorical_loss(z, targets, weight, total, dz, losses, normaliser, 0.0)


@jit
def _categorical_with_labels(z, labels, weight, total, dz, losses, normaliser):
    """The probabilities of W labels at a time, and a gradient that is 0 elsewhere"""
    rows, c = z.shape
    of_z, of_dz = z.reshape(-1), dz.reshape(-1)
    picked = columns(z)
    summed = vacc_zero(z)
    half = half_way(normaliser)
    halves, rest = vset(z, half), vset(z, normaliser * half)
    for first in range(0, rows, lanes(z)):
        n = min(rows - first, lanes(z))
        for row in range(n):
            picked[row] = of_z[(first + row) * c + labels[first + row]]
        p = _clip(vload_n_or(picked, 0, n, 1.0))
        loss = -vlog(p)
        k = vload_n(weight, first, n) if weight.size > 0 else vselect(vindex(z) < n, vset(z, 1.0), 0.0)
        summed = vfma(vwiden(k), vwiden(loss), summed)
        if losses.size > 0:
            vstore_n(losses, first, loss, n)
        if dz.size > 0:
            vstore(picked, 0, -(k * halves) / (p * rest))
            of_dz[first * c : (first + n) * c] = 0
            for row in range(n):
                of_dz[(first + row) * c + labels[first + row]] = picked[row]
    total[0] += vacc_sum(summed)
