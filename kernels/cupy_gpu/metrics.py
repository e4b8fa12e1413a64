"""Metrics: N rows, O outputs. total += Σ weight·value in float64; each output is read once."""

from __future__ import annotations

from typing import Any

from . import sources
from .emitter import THREADS, Emitter, Ref, Scalar, Sum, power_of_two
from .losses import class_targets

__all__ = ["accuracy", "binary_accuracy", "r2_moments", "regression_accuracy", "top_k_accuracy"]

_CHUNKS = 128  # of rows, at most, for the moments


def accuracy(e: Emitter, z: Ref, y: Ref, weight: Ref | None, total: Sum) -> None:
    """1 if argmax z = argmax y; of equal outputs the first counts"""
    top_k_accuracy(e, z, y, weight, total, k=1)  # the same for a row without a NaN


def top_k_accuracy(e: Emitter, z: Ref, y: Ref, weight: Ref | None, total: Sum, *, k: Scalar) -> None:
    """1 if fewer than k outputs stand before that of the label: the greater ones, and equal ones of a lower index"""
    labels, targets = class_targets(y)
    _over_rows(e, "nnf_rank_metric", z, weight, total, labels=labels, targets=targets, k=k)


def binary_accuracy(e: Emitter, z: Ref, y: Ref, weight: Ref | None, total: Sum, *, threshold: Scalar) -> None:
    """mean over outputs of (z > threshold) = (y > 1/2)"""
    _over_rows(e, "nnf_hit_metric", z, weight, total, y=y, limit=threshold, kind=_kind("binary_accuracy"))


def regression_accuracy(e: Emitter, z: Ref, y: Ref, weight: Ref | None, total: Sum, *, precision: Scalar) -> None:
    """mean over outputs of |z − y| <= precision; with precision 0 an exact output still counts"""
    _over_rows(e, "nnf_hit_metric", z, weight, total, y=y, limit=precision, kind=_kind("regression_accuracy"))


def r2_moments(e: Emitter, z: Ref, y: Ref, weight: Ref | None, moments: Sum) -> None:
    """Per output: the weighted mean of y, Σ weight·(y − mean)², Σ weight·(y − z)². The rows are read twice."""
    rows, outputs = z.shape
    lanes = power_of_two(min(outputs, 32))
    tiles = -(-outputs // lanes)
    chunks = max(1, min(_CHUNKS, -(-rows * lanes // (4 * THREADS))))
    chunk = -(-rows // chunks)
    e.launch(
        "nnf_r2_moments",
        (chunks, tiles),
        z=z,
        y=y,
        weight=weight,
        moments=moments,
        scratch=(tiles * chunks * 4 * lanes, tiles),
        rows=rows,
        outputs=outputs,
        chunk=chunk,
        lanes=lanes,
    )


def _over_rows(e: Emitter, kernel: str, z: Ref, weight: Ref | None, total: Sum, **fields: Any) -> None:
    rows, outputs = z.shape
    lanes = THREADS if outputs > 1024 else power_of_two(min(-(-outputs // 4), 32))
    blocks = e.grid(rows, THREADS // lanes)
    e.launch(
        kernel,
        blocks,
        z=z,
        weight=weight,
        total=total,
        scratch=(blocks, 1),
        rows=rows,
        outputs=outputs,
        lanes=lanes,
        **fields,
    )


def _kind(name: str) -> int:
    return sources.constants("metrics.cu", "HitKind")[name]
