"""Dropout: N rows, I features. The mask is a function of where an element stands, never stored, the same everywhere.

Row n of a batch is row first_row + n of the global batch, so a mask does not depend on how rows are split into calls.
"""

from __future__ import annotations

import numpy as np

from nnfast.protocol import Array

from .philox import stream

__all__ = ["dropout", "dropout_backward"]


def dropout(x: Array, y: Array, *, rate: float, key: int, step: int, layer: int, first_row: int) -> None:
    """y = x·mask/(1 − rate).

    Element e = (first_row + n)·I + i is kept if its Philox word is at least ⌊rate·2³²⌋. A kept value is multiplied by
    1/(1 − rate), rounded to its dtype; a dropped one is 0, also where it was NaN or inf. y may be x. 0 <= rate < 1.
    """
    rows, width = x.shape
    word = stream(key, layer, step, first_row * width, rows * width).reshape(rows, width)
    y[...] = np.where(word >= int(rate * 2**32), x * (1 / (1 - rate)), 0)


def dropout_backward(dy: Array, dx: Array, *, rate: float, key: int, step: int, layer: int, first_row: int) -> None:
    """dx = dy·mask/(1 − rate): the same linear map"""
    dropout(dy, dx, rate=rate, key=key, step=step, layer=layer, first_row=first_row)
