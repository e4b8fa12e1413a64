"""What a compiled op is given beside its arrays and numbers: an int64 array of `WORDS` words per share of the work.

    0           address of the product of this dtype (`products.product`)
    1           address of scratch memory, aligned, for this share alone
    2           address of memory for the product's own use (`tiles.PACK_BYTES`)
    8 … 31      room for the arguments of a call through an address

In compiled code scratch memory lies there, so that a step allocates nothing; elsewhere it is made when asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .simd_width import VECTOR_BYTES

__all__ = ["WORDS", "scratch_bytes"]

WORDS = 32


def scratch_bytes(dims: Mapping[str, int], dtype: str) -> int:
    """How much scratch memory a call with these dimensions needs at most."""
    if "I" not in dims or "O" not in dims:
        return 0
    itemsize = np.dtype(dtype).itemsize
    inputs, outputs, lanes = dims["I"], dims["O"], VECTOR_BYTES // itemsize
    sums = 8 * (outputs * lanes if outputs < lanes else outputs + lanes)
    return max(sums, inputs * outputs * itemsize) + 64
