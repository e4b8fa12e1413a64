"""Losses: N rows, O outputs (C of them where they are classes).

Each fills up to three results: `losses` the unweighted loss of each row, `total` += Σ weight·loss in float64, and
dz = weight/normaliser · ∂loss/∂z. A mean over outputs accumulates in float64. Class targets are indices (N,) or rows
of probabilities (N, C).
"""

from __future__ import annotations

import numpy as np

from nnfast.protocol import Array

from .activations import exp_rows, log_one_plus_exp, logistic

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


def softmax_cross_entropy(
    z: Array,
    y: Array,
    weight: Array | None,
    total: Array,
    dz: Array | None,
    losses: Array | None,
    *,
    normaliser: float,
    label_smoothing: float,
) -> None:
    """−Σ q·log p with p = softmax(z), q = (1 − ε)·target + ε/C; ∂/∂z = p·Σq − q (p − q where the row sums to one).

    A logit of −inf has p = 0 and costs nothing where q is 0 too.
    """
    shifted, e, norm = exp_rows(z)
    log_p = shifted - np.log(norm)
    if y.ndim == 1 and not label_smoothing:  # q is a one: pick it instead of summing a row of zeros
        picked = np.arange(len(y)), y
        _record(-log_p[picked], weight, total, losses)
        if dz is not None:
            np.divide(e, norm, out=dz)
            dz[picked] -= 1
    else:
        classes = z.shape[1]
        q = (1 - label_smoothing) * _rows(y, z) + label_smoothing / classes
        _record(-_q_log_p(q, log_p), weight, total, losses)
        if dz is not None:
            np.divide(e, norm, out=dz)
            dz *= q.sum(axis=1, keepdims=True)
            dz -= q
    _weigh(dz, weight, normaliser)


def sigmoid_binary_cross_entropy(
    z: Array, y: Array, weight: Array | None, total: Array, dz: Array | None, losses: Array | None, *, normaliser: float
) -> None:
    """mean over outputs of log(1 + eᶻ) − y·z; ∂/∂z = (σ(z) − y)/O"""
    _record(_row_mean(log_one_plus_exp(z) - y * z), weight, total, losses)
    if dz is not None:
        np.subtract(logistic(z), y, out=dz)
        _weigh(dz, weight, normaliser * z.shape[1])


def categorical_cross_entropy(
    z: Array, y: Array, weight: Array | None, total: Array, dz: Array | None, losses: Array | None, *, normaliser: float
) -> None:
    """−Σ q·log p with p = clip(z, 1e-7, 1 − 1e-7); ∂/∂z = −q/p, with the clipped p"""
    p = _clip(z)
    if y.ndim == 1:
        picked = np.arange(len(y)), y
        _record(-np.log(p[picked]), weight, total, losses)
        if dz is not None:
            dz[...] = 0
            dz[picked] = -1 / p[picked]
    else:
        _record(-_q_log_p(y, np.log(p)), weight, total, losses)
        if dz is not None:
            np.divide(-y, p, out=dz)
    _weigh(dz, weight, normaliser)


def binary_cross_entropy(
    z: Array, y: Array, weight: Array | None, total: Array, dz: Array | None, losses: Array | None, *, normaliser: float
) -> None:
    """mean over outputs of −y·log p − (1 − y)·log(1 − p), p clipped; ∂/∂z = ((1 − y)/(1 − p) − y/p)/O

    1 − p is clipped by itself: in float32 the largest p is 1 − 1.2e-7, and 1e-7 must not become 1.2e-7.
    """
    p, not_p = _clip(z), _clip(1 - z)
    _record(_row_mean(-y * np.log(p) - (1 - y) * np.log(not_p)), weight, total, losses)
    if dz is not None:
        np.subtract((1 - y) / not_p, y / p, out=dz)
        _weigh(dz, weight, normaliser * z.shape[1])


def mean_squared_error(
    z: Array, y: Array, weight: Array | None, total: Array, dz: Array | None, losses: Array | None, *, normaliser: float
) -> None:
    """mean over outputs of (z − y)²; ∂/∂z = 2·(z − y)/O"""
    error = z - y
    _record(_row_mean(np.square(error, dtype=np.float64)), weight, total, losses)
    if dz is not None:
        np.multiply(error, 2, out=dz)
        _weigh(dz, weight, normaliser * z.shape[1])


def mean_absolute_error(
    z: Array, y: Array, weight: Array | None, total: Array, dz: Array | None, losses: Array | None, *, normaliser: float
) -> None:
    """mean over outputs of |z − y|; ∂/∂z = sign(z − y)/O, 0 where they are equal"""
    error = z - y
    _record(_row_mean(np.abs(error)), weight, total, losses)
    if dz is not None:
        np.sign(error, out=dz)
        _weigh(dz, weight, normaliser * z.shape[1])


def huber(
    z: Array,
    y: Array,
    weight: Array | None,
    total: Array,
    dz: Array | None,
    losses: Array | None,
    *,
    normaliser: float,
    delta: float,
) -> None:
    """mean over outputs of e²/2 if |e| <= delta else delta·(|e| − delta/2), e = z − y; ∂/∂z = clip(e, ±delta)/O"""
    error = z - y
    size = np.abs(error)
    loss = np.where(size <= delta, error * error / 2, delta * (size - delta / 2))
    _record(_row_mean(loss), weight, total, losses)
    if dz is not None:
        np.minimum(np.maximum(error, -delta), delta, out=dz)
        _weigh(dz, weight, normaliser * z.shape[1])


def poisson(
    z: Array, y: Array, weight: Array | None, total: Array, dz: Array | None, losses: Array | None, *, normaliser: float
) -> None:
    """mean over outputs of eᶻ − y·z, z the log of the rate; ∂/∂z = (eᶻ − y)/O"""
    rate = np.exp(z)
    _record(_row_mean(rate - y * z), weight, total, losses)
    if dz is not None:
        np.subtract(rate, y, out=dz)
        _weigh(dz, weight, normaliser * z.shape[1])


def _record(loss: Array, weight: Array | None, total: Array, losses: Array | None) -> None:
    """total += Σ weight·loss in float64, and losses = loss"""
    loss = loss.astype(np.float64, copy=False)
    total += loss.sum() if weight is None else weight.astype(np.float64) @ loss
    if losses is not None:
        losses[...] = loss


def _weigh(dz: Array | None, weight: Array | None, normaliser: float) -> None:
    """dz *= weight/normaliser, row by row. Both times a power of two where their sum would leave float32."""
    if dz is not None:
        power = 2.0**-64 if normaliser > 2.0**60 else 2.0**64 if normaliser < 2.0**-60 else 1.0
        dz /= normaliser * power
        if weight is not None:
            dz *= (weight * weight.dtype.type(power))[:, None]


def _row_mean(a: Array) -> Array:
    """The mean along each row in float64; a product with ones is faster than mean(axis=1, dtype=float64)."""
    outputs = a.shape[1]
    return a @ np.ones(outputs) / outputs


def _rows(y: Array, z: Array) -> Array:
    """Targets as rows of probabilities in z's dtype: (N, C) as they are, indices (N,) one-hot."""
    if y.ndim == 2:
        return y
    rows = np.zeros_like(z)
    rows[np.arange(len(y)), y] = 1
    return rows


def _q_log_p(q: Array, log_p: Array) -> Array:
    """Σ q·log p along each row, with 0·log 0 = 0"""
    return np.where(q == 0, 0, q * log_p).sum(axis=1)


def _clip(p: Array) -> Array:
    """NaN stays NaN, as in np.clip, which takes twice as long on a small array."""
    return np.minimum(np.maximum(p, CLIP), 1 - CLIP)
