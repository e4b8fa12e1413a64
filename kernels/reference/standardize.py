"""Standardizing: N rows, I features, each shifted and scaled by constants of its own."""

from __future__ import annotations

import numpy as np

from nnfast.protocol import Array

__all__ = ["standardize", "standardize_backward"]


def standardize(x: Array, mean: Array, std: Array, y: Array) -> None:
    """y = (x − mean)/std: a difference and a quotient, each rounded once, where x·(1/std) − mean/std could cancel"""
    np.subtract(x, mean, out=y)
    np.divide(y, std, out=y)


def standardize_backward(dy: Array, std: Array, dx: Array) -> None:
    """dx = dy/std"""
    np.divide(dy, std, out=dx)
