"""Losses: N rows, O outputs (C of them where they are classes), computed in float64.

Their sums must be float64. That all the rest is, too, keeps this short; a backend that is to be fast keeps single terms
in the dtype of its arrays.
"""

from __future__ import annotations

from .activations import exp_rows, log_one_plus_exp, logistic
from .arrays import double, is_label, rows_of

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

CLIP = 1e-7  # probabilities are taken from [CLIP, 1 − CLIP]


def softmax_cross_entropy(z, y, weight, total, dz, losses, *, normaliser, label_smoothing):
    xp = z.__array_namespace__()
    classes = z.shape[1]
    shifted, e, norm = exp_rows(double(z))
    q = (1 - label_smoothing) * rows_of(y, classes) + label_smoothing / classes
    loss = -_sum_where(q != 0, q * (shifted - xp.log(norm)))
    slope = e / norm * xp.sum(q, axis=1, keepdims=True) - q
    _finish(loss, slope, weight, total, dz, losses, normaliser)


def categorical_cross_entropy(z, y, weight, total, dz, losses, *, normaliser):
    xp = z.__array_namespace__()
    p = xp.clip(double(z), CLIP, 1 - CLIP)
    q = rows_of(y, z.shape[1])
    loss = -_sum_where(q != 0, q * xp.log(p))
    slope = -q / p
    if y.ndim == 1:  # beside its label a row has no slope, not even that of a NaN
        slope = xp.where(is_label(y, z.shape[1]), slope, xp.zeros_like(slope))
    _finish(loss, slope, weight, total, dz, losses, normaliser)


def sigmoid_binary_cross_entropy(z, y, weight, total, dz, losses, *, normaliser):
    z, y = double(z), double(y)
    _finish_mean(log_one_plus_exp(z) - y * z, logistic(z) - y, weight, total, dz, losses, normaliser)


def binary_cross_entropy(z, y, weight, total, dz, losses, *, normaliser):
    xp = z.__array_namespace__()
    z, y = double(z), double(y)
    p, not_p = xp.clip(z, CLIP, 1 - CLIP), xp.clip(1 - z, CLIP, 1 - CLIP)
    loss = -y * xp.log(p) - (1 - y) * xp.log(not_p)
    slope = (1 - y) / not_p - y / p
    _finish_mean(loss, slope, weight, total, dz, losses, normaliser)


def mean_squared_error(z, y, weight, total, dz, losses, *, normaliser):
    error = double(z) - double(y)
    _finish_mean(error * error, 2 * error, weight, total, dz, losses, normaliser)


def mean_absolute_error(z, y, weight, total, dz, losses, *, normaliser):
    xp = z.__array_namespace__()
    error = double(z) - double(y)
    _finish_mean(xp.abs(error), xp.sign(error), weight, total, dz, losses, normaliser)


def huber(z, y, weight, total, dz, losses, *, normaliser, delta):
    xp = z.__array_namespace__()
    error = double(z) - double(y)
    size = xp.abs(error)
    loss = xp.where(size <= delta, error * error / 2, delta * (size - delta / 2))
    _finish_mean(loss, xp.clip(error, -delta, delta), weight, total, dz, losses, normaliser)


def poisson(z, y, weight, total, dz, losses, *, normaliser):
    xp = z.__array_namespace__()
    z, y = double(z), double(y)
    rate = xp.exp(z)
    _finish_mean(rate - y * z, rate - y, weight, total, dz, losses, normaliser)


def _finish_mean(terms, slopes, weight, total, dz, losses, normaliser):
    """`_finish` for a loss that is the mean over outputs of `terms`, with ∂term/∂z in `slopes`"""
    outputs = terms.shape[1]
    loss = terms.__array_namespace__().sum(terms, axis=1) / outputs
    _finish(loss, slopes / outputs, weight, total, dz, losses, normaliser)


def _finish(loss, slope, weight, total, dz, losses, normaliser):
    """losses = loss, dz = weight/normaliser·slope, total += Σ weight·loss"""
    xp = loss.__array_namespace__()
    if losses is not None:
        losses[...] = xp.astype(loss, losses.dtype)
    if weight is not None:
        weight = double(weight)
        loss, slope = loss * weight, slope * weight[:, None]
    if dz is not None:
        dz[...] = xp.astype(slope / normaliser, dz.dtype)
    total[...] = total + xp.sum(loss)


def _sum_where(where, terms):
    """Row by row, the sum of the terms that count: 0·log 0 is 0"""
    xp = terms.__array_namespace__()
    return xp.sum(xp.where(where, terms, xp.zeros_like(terms)), axis=1)
