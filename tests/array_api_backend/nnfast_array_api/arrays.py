"""What the kernels share: float64 for sums, and class targets as rows."""

from __future__ import annotations

__all__ = ["double", "is_label", "labels_of", "rows_of"]


def double(x):
    """x in float64, in which everything is summed"""
    xp = x.__array_namespace__()
    return xp.astype(x, xp.float64, copy=False)


def is_label(labels, classes):
    """(N, C) booleans, true in each row where its label is"""
    xp = labels.__array_namespace__()
    return labels[:, None] == xp.arange(classes, dtype=labels.dtype, device=labels.device)[None, :]


def rows_of(y, classes):
    """Class targets (N,) or (N, C) as rows of probabilities in float64"""
    return double(is_label(y, classes) if y.ndim == 1 else y)


def labels_of(y):
    """Class targets (N,) or (N, C) as indices"""
    return y if y.ndim == 1 else y.__array_namespace__().argmax(y, axis=1)
