"""Dropout: N rows, I features; 8 bytes per element. The mask follows from an element's place and is never stored."""

from __future__ import annotations

from .emitter import THREADS, Emitter, Ref, Scalar

__all__ = ["dropout", "dropout_backward"]


def dropout(
    e: Emitter, x: Ref, y: Ref, *, rate: Scalar, key: Scalar, step: Scalar, layer: Scalar, first_row: Scalar
) -> None:
    """y = x·mask/(1 − rate)"""
    e.launch(
        "nnf_dropout",
        e.grid(x.size, THREADS * 4),
        x=x,
        y=y,
        n=x.size,
        width=x.shape[1],
        rate=rate,
        key=key,
        step=step,
        layer=layer,
        first_row=first_row,
    )


def dropout_backward(
    e: Emitter, dy: Ref, dx: Ref, *, rate: Scalar, key: Scalar, step: Scalar, layer: Scalar, first_row: Scalar
) -> None:
    """dx = dy·mask/(1 − rate): the same linear map"""
    dropout(e, dy, dx, rate=rate, key=key, step=step, layer=layer, first_row=first_row)
