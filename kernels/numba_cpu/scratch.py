"""Scratch memory inside bodies: see `context.py` for where it lies."""

from __future__ import annotations

import numpy as np
from numba import carray, types

from .modes import COMPILED, jit
from .pointers import at_address

__all__ = ["scratch", "scratch_float64"]

if COMPILED:

    @jit
    def scratch(context, like, count):
        """`count` elements of the dtype of `like`; overwritten by the next one who asks"""
        return carray(at_address(context[1], like.dtype), (count,))

    @jit
    def scratch_float64(context, count):
        """`count` float64 numbers, in the same place"""
        return carray(at_address(context[1], types.float64), (count,))

else:

    @jit
    def scratch(context, like, count):
        return np.empty(count, like.dtype)

    @jit
    def scratch_float64(context, count):
        return np.empty(count, np.float64)
