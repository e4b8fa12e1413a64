"""Penalties on parameters and the limit on the gradient's length: P parameters. Sums are float64."""

from __future__ import annotations

import math

import numpy as np

from nnfast.protocol import Array

__all__ = ["batch_penalty", "clip_by_global_norm", "penalty"]


def penalty(p: Array, g: Array | None, total: Array, *, l1: float, l2: float) -> None:
    """total += l1·Σ|p| + l2·Σp², g += l1·sign(p) + 2·l2·p; the slope of |p| at 0 is 0"""
    if l1:
        total += l1 * np.abs(p).sum(dtype=np.float64)
        if g is not None:
            g += l1 * np.sign(p)
    if l2:
        total += l2 * np.square(p, dtype=np.float64).sum()
        if g is not None:
            g += 2 * l2 * p


def batch_penalty(p: Array, g: Array | None, total: Array, *, normaliser: float, l1: float, l2: float) -> None:
    """total += (l1·Σ|p| + l2·Σp²)/normaliser, g += (l1·sign(p) + 2·l2·p)/normaliser"""
    penalty(p, g, total, l1=l1 and l1 / normaliser, l2=l2 and l2 / normaliser)


def clip_by_global_norm(g: Array, *, clip_norm: float) -> None:
    """g *= min(1, clip_norm/‖g‖), nothing where ‖g‖ <= clip_norm.

    A NaN norm changes nothing, so the NaN travels on. An infinite one follows the equation: inf becomes NaN, the
    rest 0 (in float64 the squares overflow from 1e154 on).
    """
    if clip_norm == math.inf:
        return
    norm = math.sqrt(np.square(g, dtype=np.float64).sum())
    if norm > clip_norm:
        g *= clip_norm / norm
