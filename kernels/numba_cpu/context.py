"""What a compiled op is given beside its arrays and numbers: an int64 array of `WORDS` words per share of the work.

    0           address of the product of this dtype (`products.product`)
    1           address of scratch memory, aligned, for this share alone
    2           address of memory for the product's own use (`products.PACK_BYTES`)
    8 … 31      room for the arguments of a call through an address

In compiled code scratch memory lies there, so that a step allocates nothing; elsewhere it is made when asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numba import carray, types

from .addresses import at_address
from .modes import COMPILED, jit
from .simd_width import VECTOR_BYTES

__all__ = ["WORDS", "scratch", "scratch_bytes", "scratch_float64"]

WORDS = 32


def scratch_bytes(dims: Mapping[str, int], dtype: str) -> int:
    """How much scratch memory a call with these dimensions needs at most."""
    if "I" not in dims or "O" not in dims:
        return 0
    itemsize = np.dtype(dtype).itemsize
    inputs, outputs, lanes = dims["I"], dims["O"], VECTOR_BYTES // itemsize
    sums = 8 * (outputs * lanes if outputs < lanes else outputs + lanes)
    return max(sums, inputs * outputs * itemsize) + 64


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
