"""Standardizing: N rows, I features, each shifted and scaled by constants of its own; 8 bytes per element."""

from __future__ import annotations

from .emitter import THREADS, Emitter, Ref

__all__ = ["standardize", "standardize_backward"]


def standardize(e: Emitter, x: Ref, mean: Ref | None, std: Ref, y: Ref) -> None:
    """y = (x − mean)/std"""
    blocks = e.grid(x.size, THREADS)
    e.launch("nnf_standardize", blocks, x=x, mean=mean, std=std, y=y, n=x.size, width=x.shape[1])


def standardize_backward(e: Emitter, dy: Ref, std: Ref, dx: Ref) -> None:
    """dx = dy/std"""
    standardize(e, dy, None, std, dx)
