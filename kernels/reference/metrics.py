"""Metrics: N rows, O outputs. total += Σ weight·value in float64, so batches add up and the host divides once.

A row with a NaN in it, in the output or in the target, never counts as a hit.
"""

from __future__ import annotations

import numpy as np

from nnfast.protocol import Array

__all__ = ["accuracy", "binary_accuracy", "r2_moments", "regression_accuracy", "top_k_accuracy"]


def accuracy(z: Array, y: Array, weight: Array | None, total: Array) -> None:
    """1 if argmax z = argmax y; of equal outputs the first counts"""
    _count(z.argmax(axis=1) == _labels(y), z, y, weight, total)


def top_k_accuracy(z: Array, y: Array, weight: Array | None, total: Array, *, k: int) -> None:
    """1 if fewer than k outputs stand before that of the label: the greater ones, and equal ones of a lower index"""
    label = _labels(y)[:, None]
    of_label = np.take_along_axis(z, label, axis=1)
    before = (z > of_label) | ((z == of_label) & (np.arange(z.shape[1]) < label))
    _count(before.sum(axis=1) < k, z, y, weight, total)


def binary_accuracy(z: Array, y: Array, weight: Array | None, total: Array, *, threshold: float) -> None:
    """mean over outputs of (z > threshold) = (y > 1/2)"""
    _count(((z > threshold) == (y > 0.5)).mean(axis=1), z, y, weight, total)


def regression_accuracy(z: Array, y: Array, weight: Array | None, total: Array, *, precision: float) -> None:
    """mean over outputs of |z − y| <= precision; with precision 0 an exact output still counts"""
    _count((np.abs(z - y) <= precision).mean(axis=1), z, y, weight, total)


def r2_moments(z: Array, y: Array, weight: Array | None, moments: Array) -> None:
    """Per output, in float64: the weighted mean of y, Σ weight·(y − mean)², Σ weight·(y − z)².

    Batches combine by the parallel-variance formula. Where the weights sum to 0, so with no rows, all three are 0.
    """
    z, y = z.astype(np.float64), y.astype(np.float64)
    w = np.ones(len(y)) if weight is None else weight.astype(np.float64)
    moments[0] = w @ y / (w.sum() or 1.0)
    moments[1] = w @ np.square(y - moments[0])
    moments[2] = w @ np.square(y - z)


def _labels(y: Array) -> Array:
    return y if y.ndim == 1 else y.argmax(axis=1)


def _count(value: Array, z: Array, y: Array, weight: Array | None, total: Array) -> None:
    """total += Σ weight·value over the rows without a NaN"""
    nan = np.isnan(z)
    if y.shape == z.shape:
        nan |= np.isnan(y)
    if nan.any():
        value = np.where(nan.any(axis=1), 0, value)
    total += value.sum(dtype=np.float64) if weight is None else weight.astype(np.float64) @ value
