"""Sizes of the tiles of a matrix product; see `products.py`."""

from __future__ import annotations

import sys

from .simd_width import VECTOR_BYTES

__all__ = ["GROUP", "INNER", "PACKED", "PACK_BYTES", "TALL", "WIDE"]

# Vectors per tile: with 32 registers (AVX-512, ARM) 6·4 sums, 4 of B and one of A; with 16 registers 6·2, 2 and 1.
WIDE = 4 if VECTOR_BYTES == 64 or sys.platform == "darwin" else 2
TALL = 6
# Measured: rows that share a strip of B from which on copying it pays; how many strips are copied together; and the
# pieces in which the inner size is taken, so that these strips stay in the second-level cache.
PACKED, GROUP, INNER = (192, 1, 1024) if VECTOR_BYTES == 64 else (24, 8, 512)
PACK_BYTES = INNER * GROUP * WIDE * VECTOR_BYTES  # of the memory for such a copy
