"""Metrics: N rows, O outputs. total += Σ weight·value in float64.

A row with a NaN in it, in the output or in the target, never counts as a hit: its class is NaN, which equals none.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .bodies import body
from .modes import jit
from .rows import LEAST, NARROW, vindex, vlabels, vtake
from .simd import (
    lanes,
    vabs,
    vacc_add,
    vacc_store,
    vacc_sum,
    vacc_zero,
    vfma,
    vgather,
    vload_n,
    vload_n_or,
    vmax,
    vmaxlane,
    vselect,
    vset,
    vwiden,
    vzero,
)

__all__ = ["accuracy", "binary_accuracy", "r2_moments", "regression_accuracy", "top_k_accuracy"]

NAN = float("nan")


@body
def accuracy(z, labels, targets, weight, total):
    """1 if argmax z = argmax y; of equal outputs the first counts"""
    rows, c = z.shape
    if c > NARROW:
        _count_rows(z, labels, targets, weight, total, 1.0)
        return
    one = vset(z, 1.0)
    summed = vacc_zero(z)
    for first in range(0, rows, lanes(z)):
        n = rows - first
        found = _classes(z, first * c, c, n)
        wanted = vlabels(z, labels, first, n) if labels.size > 0 else _classes(targets, first * c, c, n)
        k = vload_n(weight, first, n) if weight.size > 0 else vselect(vindex(z) < n, one, 0.0)
        summed = vacc_add(summed, vselect(found == wanted, k, 0.0))
    total[0] += vacc_sum(summed)


@body
def top_k_accuracy(z, labels, targets, weight, total, k):
    """1 if fewer than k outputs stand before that of the label: the greater ones, and equal ones of a lower index"""
    _count_rows(z, labels, targets, weight, total, k)


@jit
def _classes(z, base, c, n):
    """The argmax of each of the n rows, of which W are taken, that begin at `base`; NaN if there is one"""
    best = vgather(z, base, c, n)
    index = vzero(z)
    for j in range(1, c):
        v = vgather(z, base + j, c, n)
        index = vselect(v > best, vset(z, j), index)
        best = vmax(v, best)
    return vselect(best == best, index, NAN)


@jit
def _count_rows(z, labels, targets, weight, total, k):
    """total += Σ weight over the rows where fewer than k outputs stand before that of the label"""
    rows, c = z.shape
    summed = 0.0
    for n in range(rows):
        label = labels[n] if labels.size > 0 else _class(targets, n * c, c)
        if label >= 0 and _before(z, n * c, c, label) < k:
            summed += np.float64(weight[n]) if weight.size > 0 else 1.0
    total[0] += summed


@jit
def _class(y, base, c):
    """The argmax of one row; −1 if a NaN is in it"""
    most = vset(y, LEAST)
    for j in range(0, c, lanes(y)):
        most = vmax(most, vload_n_or(y, base + j, c - j, LEAST))
    most_of_all = vmaxlane(most)
    flat = y.reshape(-1)
    label = 0
    while label < c and flat[base + label] != most_of_all:  # a NaN differs from all
        label += 1
    return label if label < c else -1


@jit
def _before(z, base, c, label):
    """How many outputs of a row stand before that of the label; NaN if there is one"""
    best, one = vset(z, z.reshape(-1)[base + label]), vset(z, 1.0)
    count = vacc_zero(z)
    for j in range(0, c, lanes(z)):
        x = vload_n_or(z, base + j, c - j, LEAST)
        before = (x > best) | ((x == best) & (vindex(z) < label - j))
        count = vacc_add(count, vselect(x == x, vselect(before, one, 0.0), NAN))
    return vacc_sum(count)


def _mean_of(is_hit: Any) -> Any:
    """The body, of arrays as they are and a last number, of a metric that is the mean of is_hit(z, y, number) over
    outputs. Without weights, or with one output per row, the rows need not be told apart, and all is one long row; if
    a NaN turns up in that, it is done again row by row."""

    @jit
    def metric(z, y, weight, total, parameter):
        rows, outputs = z.shape
        number, one = vset(z, parameter), vset(z, 1.0)
        single = outputs == 1
        apart = weight.size > 0 and not single
        again = True
        while again:
            again = False
            summed = 0.0
            length = outputs if apart else z.size
            for n in range(rows if apart else 1):
                hits = vacc_zero(z)
                nans = vacc_zero(z)
                for j in range(0, length, lanes(z)):
                    left = length - j
                    x = vtake(z, n * length + j, left)
                    t = vtake(y, n * length + j, left)
                    k = vtake(weight, n * length + j, left) if single and weight.size > 0 else one
                    if left < lanes(z):
                        k = vselect(vindex(z) < left, k, 0.0)
                    known = (x == x) & (t == t)
                    hits = vacc_add(hits, vselect(is_hit(x, t, number) & known, k, 0.0))
                    nans = vacc_add(nans, vselect(known, vzero(z), NAN))
                weight_of_row = np.float64(weight[n]) if apart and weight.size > 0 else 1.0
                if single or vacc_sum(nans) == 0:
                    summed += weight_of_row * vacc_sum(hits)
                else:
                    again = not apart
            apart = True
        total[0] += summed / outputs

    return metric


@jit
def _same_side(z, y, threshold):
    above, wanted = z > threshold, y > 0.5
    return (above & wanted) | ~(above | wanted)


@jit
def _near(z, y, precision):
    return vabs(z - y) <= precision


_binary, _regression = _mean_of(_same_side), _mean_of(_near)


@body
def binary_accuracy(z, y, weight, total, threshold):
    """mean over outputs of (z > threshold) = (y > 1/2)"""
    _binary(z, y, weight, total, threshold)


@body
def regression_accuracy(z, y, weight, total, precision):
    """mean over outputs of |z − y| <= precision"""
    _regression(z, y, weight, total, precision)


@body
def r2_moments(z, y, weight, moments):
    """Per output, in float64: the weighted mean of y, Σ weight·(y − mean)², Σ weight·(y − z)²"""
    rows, outputs = z.shape
    whole = float(rows)
    if weight.size > 0:
        whole = 0.0
        for n in range(rows):
            whole += np.float64(weight[n])
    whole = whole if whole != 0 else 1.0
    if outputs == 1:
        _moments_of_one(z, y, weight, moments, whole)
        return
    for j in range(0, outputs, lanes(z)):
        count = outputs - j
        mean, spread, error = vacc_zero(z), vacc_zero(z), vacc_zero(z)
        for n in range(rows):
            k = np.float64(weight[n]) if weight.size > 0 else 1.0
            mean = vfma(vwiden(vtake(y, n * outputs + j, count)), k, mean)
        mean = mean / whole
        for n in range(rows):
            k = np.float64(weight[n]) if weight.size > 0 else 1.0
            target = vwiden(vtake(y, n * outputs + j, count))
            off = target - mean
            spread = vfma(off * off, k, spread)
            off = target - vwiden(vtake(z, n * outputs + j, count))
            error = vfma(off * off, k, error)
        vacc_store(mean, moments, j, count)
        vacc_store(spread, moments, outputs + j, count)
        vacc_store(error, moments, 2 * outputs + j, count)


@jit
def _moments_of_one(z, y, weight, moments, whole):
    """The same for a single output, with vectors along the rows"""
    rows = z.shape[0]
    mean, spread, error = vacc_zero(z), vacc_zero(z), vacc_zero(z)
    one = vwiden(vset(z, 1.0))
    for i in range(0, rows, lanes(z)):
        k = vwiden(vtake(weight, i, rows - i)) if weight.size > 0 else one
        mean = vfma(vwiden(vtake(y, i, rows - i)), k, mean)
    mean_of_all = vacc_sum(mean) / whole
    for i in range(0, rows, lanes(z)):
        n = rows - i
        k = vwiden(vtake(weight, i, n)) if weight.size > 0 else one
        if n < lanes(z):
            k = vselect(vindex(z) < n, k, 0.0)
        target = vwiden(vtake(y, i, n))
        off = target - mean_of_all
        spread = vfma(off * off, k, spread)
        off = target - vwiden(vtake(z, i, n))
        error = vfma(off * off, k, error)
    flat = moments.reshape(-1)
    flat[0] = mean_of_all
    flat[1] = vacc_sum(spread)
    flat[2] = vacc_sum(error)
