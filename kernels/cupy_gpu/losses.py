"""Losses: N rows, O outputs (C of them where they are classes).

Each fills up to three results: `losses` the unweighted loss of each row, `total` += Σ weight·loss in float64, and
dz = weight/normaliser · ∂loss/∂z, where dz may be the array z. Class targets are indices (N,) or rows (N, C).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import sources
from .emitter import THREADS, Emitter, Ref, Scalar, Sum, power_of_two

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
    labels, targets = class_targets(y)
    blocks = e.grid(rows, THREADS // lanes)
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
        _categorical_rows(e, z, y, weight, total, dz, losses, normaliser=normaliser)
        return
    rows, outputs = z.shape
    lanes = _lanes(outputs)
    blocks = e.grid(rows, THREADS // lanes)
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


def _pairs(name: str, equation: str) -> Callable[..., None]:
    """A loss that is known output by output: 12 B each, and another 8 where the losses of rows are asked for."""

    def loss(
        e: Emitter,
        z: Ref,
        y: Ref,
        weight: Ref | None,
        total: Sum,
        dz: Ref | None,
        losses: Ref | None,
        *,
        normaliser: Scalar,
        delta: Scalar = 0.0,
    ) -> None:
        rows, outputs = z.shape
        kind = sources.constants("losses.cu", "LossKind")[name]
        common: dict[str, Any] = {"z": z, "y": y, "delta": delta, "rows": rows, "outputs": outputs, "kind": kind}
        if losses is not None:  # first, since dz may be z
            lanes = _lanes(outputs)
            e.launch("nnf_row_losses", e.grid(rows, THREADS // lanes), losses=losses, lanes=lanes, **common)
        blocks = e.span(z)
        common |= {"weight": weight, "dz": dz, "normaliser": normaliser, "total": total}
        e.launch("nnf_pair_loss", blocks, scratch=(blocks, 1), **common)

    loss.__name__ = loss.__qualname__ = name
    loss.__doc__ = equation
    return loss


sigmoid_binary_cross_entropy = _pairs(
    "sigmoid_binary_cross_entropy", "mean over outputs of log(1 + eᶻ) − y·z; ∂/∂z = (σ(z) − y)/O"
)
binary_cross_entropy = _pairs(
    "binary_cross_entropy",
    "mean over outputs of −y·log p − (1 − y)·log(1 − p), p clipped; ∂/∂z = ((1 − y)/(1 − p) − y/p)/O",
)
mean_squared_error = _pairs("mean_squared_error", "mean over outputs of (z − y)²; ∂/∂z = 2·(z − y)/O")
mean_absolute_error = _pairs(
    "mean_absolute_error", "mean over outputs of |z − y|; ∂/∂z = sign(z − y)/O, 0 where they are equal"
)
huber = _pairs(
    "huber",
    "mean over outputs of e²/2 if |e| <= delta else delta·(|e| − delta/2), e = z − y; ∂/∂z = clip(e, ±delta)/O",
)
poisson = _pairs("poisson", "mean over outputs of eᶻ − y·z, z the log of the rate; ∂/∂z = (eᶻ − y)/O")
_categorical_rows = _pairs("categorical_cross_entropy", "−Σ q·log p for rows of targets")


def _softmax_kernel(e: Emitter, classes: int) -> tuple[str, int, int]:
    """The kernel for rows of so many classes, the threads that it has for each, and the logits that they keep."""
    if classes <= 128:
        return "nnf_softmax_xent_narrow", _lanes(-(-classes // 4)), 0
    if classes <= 1024:
        return "nnf_softmax_xent_warp", 32, 0
    itemsize = np.dtype(e.dtype).itemsize
    if classes * itemsize <= _PLAIN_SHARED:
        return "nnf_softmax_xent_block", THREADS, classes
    return "nnf_softmax_xent_wide", THREADS, min(classes, e.most_shared // itemsize)


def class_targets(y: Ref) -> tuple[Ref | None, Ref | None]:
    """Class targets as (labels, rows), one of which is None."""
    return (y, None) if len(y.shape) == 1 else (None, y)


def _lanes(outputs: int) -> int:
    """Threads for a row: a power of two up to a warp."""
    return power_of_two(min(outputs, 32))
