"""Penalties on parameters and the limit on the gradient's length: P parameters. Sums are float64."""

from __future__ import annotations

import math

from .emitter import Emitter, Ref, Scalar, Sum

__all__ = ["batch_penalty", "clip_by_global_norm", "penalty"]


def penalty(e: Emitter, p: Ref, g: Ref | None, total: Sum, *, l1: Scalar, l2: Scalar) -> None:
    """total += l1·Σ|p| + l2·Σp², g += l1·sign(p) + 2·l2·p; the slope of |p| at 0 is 0"""
    batch_penalty(e, p, g, total, normaliser=1.0, l1=l1, l2=l2)


def batch_penalty(e: Emitter, p: Ref, g: Ref | None, total: Sum, *, normaliser: Scalar, l1: Scalar, l2: Scalar) -> None:
    """total += (l1·Σ|p| + l2·Σp²)/normaliser, g += (l1·sign(p) + 2·l2·p)/normaliser"""
    if l1 == l2 == 0:
        return
    blocks = e.span(p)
    e.launch(
        "nnf_penalty",
        blocks,
        p=p,
        g=g,
        l1=l1,
        l2=l2,
        normaliser=normaliser,
        total=total,
        scratch=(blocks, 1),
        n=p.size,
    )


def clip_by_global_norm(e: Emitter, g: Ref, *, clip_norm: Scalar) -> None:
    """g *= min(1, clip_norm/‖g‖); reads g once, and a second time only to change it"""
    if clip_norm == math.inf:
        return
    blocks = e.span(g)
    for kernel in ("nnf_norm", "nnf_clip"):
        # One partial sum more than there are blocks: what to multiply by waits there for the second launch.
        e.launch(kernel, blocks, g=g, clip_norm=clip_norm, scratch=(blocks + 1, 1), n=g.size, factor=blocks)
