"""Losses: N rows, O outputs (C of them where they are classes).

Each fills up to three results: `losses` the unweighted loss of each row, `total` += Σ weight·loss in float64, and
dz = weight/normaliser · ∂loss/∂z, where dz may be the array z. Class targets are indices (N,) or rows (N, C).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import sources
from .emitter import Emitter, Ref, Scalar, Sum
from .spans import span_blocks

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

_THREADS = 256

# Bytes of a row that a block keeps in shared memory without having to ask for leave. Longer rows keep as much as the
# device allows; logits beyond are read again, with the same result.
_PLAIN_SHARED = 47 * 1024


def softmax_cross_entropy(
    e: Emitter,
    z: Ref,
    y: Ref,
    weight: Ref | None,
    total: Sum,
    dz: Ref | None,
    losses: Ref | None,
    *,
    normaliser: Scalar,
    label_smoothing: Scalar,
) -> None:
    """−Σ q·log p with p = softmax(z), q = (1 − ε)·target + ε/C; ∂/∂z = p·Σq − q. 8 B a logit."""
    rows, classes = z.shape
    kernel, lanes, kept = _softmax_kernel(e, classes)
    labels, targets = _targets(y)
    blocks = e.grid(rows, _THREADS // lanes)
    e.launch(
        kernel,
        blocks,
        shared=kept * np.dtype(e.dtype).itemsize,
        z=z,
        labels=labels,
        targets=targets,
        weight=weight,
        dz=dz,
        losses=losses,
        normaliser=normaliser,
        label_smoothing=label_smoothing,
        total=total,
        scratch=(blocks, 1),
        rows=rows,
        classes=classes,
        lanes=lanes,
        kept=kept,
    )


def sigmoid_binary_cross_entropy(
    e: Emitter,
    z: Ref,
    y: Ref,
    weight: Ref | None,
    total: Sum,
    dz: Ref | None,
    losses: Ref | None,
    *,
    normaliser: Scalar,
) -> None:
    """mean over outputs of log(1 + eᶻ) − y·z; ∂/∂z = (σ(z) − y)/O"""
    _pairs(e, "sigmoid_binary_cross_entropy", z, y, weight, total, dz, losses, normaliser)


def categorical_cross_entropy(
    e: Emitter,
    z: Ref,
    y: Ref,
    weight: Ref | None,
    total: Sum,
    dz: Ref | None,
    losses: Ref | None,
    *,
    normaliser: Scalar,
) -> None:
    """−Σ q·log p with p = clip(z, 1e-7, 1 − 1e-7); ∂/∂z = −q/p, with the clipped p. 4 B an output for indices."""
    if len(y.shape) == 2:
        _pairs(e, "categorical_cross_entropy", z, y, weight, total, dz, losses, normaliser)
        return
    rows, outputs = z.shape
    lanes = _lanes(outputs)
    blocks = e.grid(rows, _THREADS // lanes)
    e.launch(
        "nnf_label_loss",
        blocks,
        z=z,
        labels=y,
        weight=weight,
        dz=dz,
        losses=losses,
        normaliser=normaliser,
        total=total,
        scratch=(blocks, 1),
        rows=rows,
        outputs=outputs,
        lanes=lanes,
    )


def binary_cross_entropy(
    e: Emitter,
    z: Ref,
    y: Ref,
    weight: Ref | None,
    total: Sum,
    dz: Ref | None,
    losses: Ref | None,
    *,
    normaliser: Scalar,
) -> None:
    """mean over outputs of −y·log p − (1 − y)·log(1 − p), p clipped; ∂/∂z = ((1 − y)/(1 − p) − y/p)/O"""
    _pairs(e, "binary_cross_entropy", z, y, weight, total, dz, losses, normaliser)


def mean_squared_error(
    e: Emitter,
    z: Ref,
    y: Ref,
    weight: Ref | None,
    total: Sum,
    dz: Ref | None,
    losses: Ref | None,
    *,
    normaliser: Scalar,
) -> None:
    """mean over outputs of (z − y)²; ∂/∂z = 2·(z − y)/O"""
    _pairs(e, "mean_squared_error", z, y, weight, total, dz, losses, normaliser)


def mean_absolute_error(
    e: Emitter,
    z: Ref,
    y: Ref,
    weight: Ref | None,
    total: Sum,
    dz: Ref | None,
    losses: Ref | None,
    *,
    normaliser: Scalar,
) -> None:
    """mean over outputs of |z − y|; ∂/∂z = sign(z − y)/O, 0 where they are equal"""
    _pairs(e, "mean_absolute_error", z, y, weight, total, dz, losses, normaliser)


def huber(
    e: Emitter,
    z: Ref,
    y: Ref,
    weight: Ref | None,
    total: Sum,
    dz: Ref | None,
    losses: Ref | None,
    *,
    normaliser: Scalar,
    delta: Scalar,
) -> None:
    """mean over outputs of e²/2 if |e| <= delta else delta·(|e| − delta/2), e = z − y; ∂/∂z = clip(e, ±delta)/O"""
    _pairs(e, "huber", z, y, weight, total, dz, losses, normaliser, delta)


def poisson(
    e: Emitter,
    z: Ref,
    y: Ref,
    weight: Ref | None,
    total: Sum,
    dz: Ref | None,
    losses: Ref | None,
    *,
    normaliser: Scalar,
) -> None:
    """mean over outputs of eᶻ − y·z, z the log of the rate; ∂/∂z = (eᶻ − y)/O"""
    _pairs(e, "poisson", z, y, weight, total, dz, losses, normaliser)


def _pairs(
    e: Emitter,
    name: str,
    z: Ref,
    y: Ref,
    weight: Ref | None,
    total: Sum,
    dz: Ref | None,
    losses: Ref | None,
    normaliser: Scalar,
    delta: Scalar = 0.0,
) -> None:
    """A loss that is known output by output: 12 B each, and another 8 where the losses of rows are asked for."""
    rows, outputs = z.shape
    kind = sources.constants("losses.cu", "LossKind")[name]
    common: dict[str, Any] = {"z": z, "y": y, "delta": delta, "rows": rows, "outputs": outputs, "kind": kind}
    if losses is not None:  # first, since dz may be z
        lanes = _lanes(outputs)
        e.launch("nnf_row_losses", e.grid(rows, _THREADS // lanes), losses=losses, lanes=lanes, **common)
    blocks = span_blocks(e, z.size)
    e.launch(
        "nnf_pair_loss",
        blocks,
        weight=weight,
        dz=dz,
        normaliser=normaliser,
        total=total,
        scratch=(blocks, 1),
        **common,
    )


def _softmax_kernel(e: Emitter, classes: int) -> tuple[str, int, int]:
    """The kernel for rows of so many classes, the threads that it has for each, and the logits that they keep."""
    if classes <= 128:
        return "nnf_softmax_xent_narrow", _lanes(-(-classes // 4)), 0
    if classes <= 1024:
        return "nnf_softmax_xent_warp", 32, 0
    itemsize = np.dtype(e.dtype).itemsize
    if classes * itemsize <= _PLAIN_SHARED:
        return "nnf_softmax_xent_block", _THREADS, classes
    return "nnf_softmax_xent_wide", _THREADS, min(classes, e.most_shared // itemsize)


def _targets(y: Ref) -> tuple[Ref | None, Ref | None]:
    """Class targets as (labels, rows), one of which is None."""
    return (y, None) if len(y.shape) == 1 else (None, y)


def _lanes(outputs: int) -> int:
    """Threads for a row: a power of two up to a warp."""
    return 1 << (min(outputs, 32) - 1).bit_length()
