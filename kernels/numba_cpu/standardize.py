"""Standardizing: N rows, I features, each shifted and scaled by constants of its own; vectors along the features."""

from __future__ import annotations

from .bodies import body
from .simd import lanes, vload, vload_n, vstore, vstore_n

__all__ = ["standardize", "standardize_backward"]


@body
def standardize(x, mean, std, y):
    """y = (x − mean)/std"""
    rows, width = x.shape
    whole = width - width % lanes(x)
    for start in range(0, rows * width, width):
        for i in range(0, whole, lanes(x)):
            vstore(y, start + i, (vload(x, start + i) - vload(mean, i)) / vload(std, i))
        if whole < width:
            n, at = width - whole, start + whole
            vstore_n(y, at, (vload_n(x, at, n) - vload_n(mean, whole, n)) / vload_n(std, whole, n), n)


@body
def standardize_backward(dy, std, dx):
    """dx = dy/std"""
    rows, width = dy.shape
    whole = width - width % lanes(dy)
    for start in range(0, rows * width, width):
        for i in range(0, whole, lanes(dy)):
            vstore(dx, start + i, vload(dy, start + i) / vload(std, i))
        if whole < width:
            n, at = width - whole, start + whole
            vstore_n(dx, at, vload_n(dy, at, n) / vload_n(std, whole, n), n)
