"""Dropout: N rows, I features. The mask is made anew wherever it is needed, 64 elements at a time, and never stored."""

from __future__ import annotations

from .bodies import body
from .modes import jit
from .philox import GROUP, kept, mask_of
from .simd import lanes, vload, vload_n, vselect, vset, vstore, vstore_n

__all__ = ["dropout", "dropout_backward"]


@jit
def _mask(x, y, rate, key, step, layer, first):
    """y = x·mask/(1 − rate), where x begins with element `first` of the stream

    Groups begin at whole blocks of four elements, so the first one may begin before x.
    """
    limit = int(rate * 4294967296.0)
    scale = vset(x, 1.0 / (1.0 - rate))
    for start in range(-(first % 4), x.size, GROUP):
        bits = kept(key, layer, step, (first + start) // 4, limit)
        end = min(start + GROUP, x.size)
        for i in range(max(start, 0), end, lanes(x)):
            mask = mask_of(x, bits, i - start)
            if end - i >= lanes(x):
                vstore(y, i, vselect(mask, vload(x, i) * scale, 0.0))
            else:
                vstore_n(y, i, vselect(mask, vload_n(x, i, end - i) * scale, 0.0), end - i)


@body
def dropout(x, y, rate, key, step, layer, first_row):
    """y = x·mask/(1 − rate); a dropped element is 0, also where it was NaN or inf"""
    _mask(x, y, rate, key, step, layer, first_row * x.shape[1])


@body
def dropout_backward(dy, dx, rate, key, step, layer, first_row):
    """dx = dy·mask/(1 − rate): the same linear map"""
    _mask(dy, dx, rate, key, step, layer, first_row * dy.shape[1])
