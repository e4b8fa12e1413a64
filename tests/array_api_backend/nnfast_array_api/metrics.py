"""Metrics: N rows, O outputs, counted in float64. A row with a NaN in it, in z or in y, is never a hit."""

from __future__ import annotations

from .arrays import double, is_label, labels_of

__all__ = ["accuracy", "binary_accuracy", "r2_moments", "regression_accuracy", "top_k_accuracy"]


def accuracy(z, y, weight, total):
    hits = z.__array_namespace__().argmax(z, axis=1) == labels_of(y)
    _count(double(hits), z, y, weight, total)


def top_k_accuracy(z, y, weight, total, *, k):
    """Before an output stand the greater ones, and equal ones of a lower index"""
    xp = z.__array_namespace__()
    labels = labels_of(y)
    here = is_label(labels, z.shape[1])
    of_label = xp.max(xp.where(here, z, xp.full_like(z, -float("inf"))), axis=1, keepdims=True)
    lower = xp.arange(z.shape[1], dtype=labels.dtype, device=z.device)[None, :] < labels[:, None]
    before = (z > of_label) | ((z == of_label) & lower)
    _count(double(xp.sum(double(before), axis=1) < k), z, y, weight, total)


def binary_accuracy(z, y, weight, total, *, threshold):
    hits = (double(z) > threshold) == (y > 0.5)
    _count(_row_means(double(hits)), z, y, weight, total)


def regression_accuracy(z, y, weight, total, *, precision):
    xp = z.__array_namespace__()
    hits = xp.abs(double(z) - double(y)) <= precision
    _count(_row_means(double(hits)), z, y, weight, total)


def r2_moments(z, y, weight, moments):
    """Where the weights sum to 0, so with no rows, all three are 0"""
    xp = z.__array_namespace__()
    z, y = double(z), double(y)
    w = xp.ones(z.shape[0], dtype=xp.float64, device=z.device) if weight is None else double(weight)
    sum_of_weights = float(xp.sum(w))
    mean = w @ y / (sum_of_weights if sum_of_weights != 0 else 1.0)
    moments[0, ...] = mean
    moments[1, ...] = w @ ((y - mean) * (y - mean))
    moments[2, ...] = w @ ((y - z) * (y - z))


def _row_means(a):
    return a.__array_namespace__().sum(a, axis=1) / a.shape[1]


def _count(value, z, y, weight, total):
    """total += Σ weight·value over the rows without a NaN"""
    xp = value.__array_namespace__()
    nan = xp.any(xp.isnan(z), axis=1)
    if y.ndim == 2:
        nan = nan | xp.any(xp.isnan(y), axis=1)
    value = xp.where(nan, xp.zeros_like(value), value)
    total[...] = total + xp.sum(value if weight is None else double(weight) * value)
