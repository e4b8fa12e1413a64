"""Dropout: N rows, I features. The mask depends on where an element stands in the global batch, and is never stored."""

from __future__ import annotations

from .philox import words

__all__ = ["dropout", "dropout_backward"]


def dropout(x, y, *, rate, key, step, layer, first_row):
    """A dropped value is 0, also where it was NaN. y may be x."""
    xp = x.__array_namespace__()
    rows, width = x.shape
    word = xp.reshape(words(x, key, layer, step, first_row * width, rows * width), x.shape)
    y[...] = xp.where(word >= int(rate * 2**32), x * (1 / (1 - rate)), xp.zeros_like(x))


def dropout_backward(dy, dx, *, rate, key, step, layer, first_row):
    dropout(dy, dx, rate=rate, key=key, step=step, layer=layer, first_row=first_row)
