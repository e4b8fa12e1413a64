"""Grids of the kernels that walk over flat arrays, a pack of 16 bytes per thread."""

from __future__ import annotations

import numpy as np

from .emitter import Emitter

__all__ = ["THREADS", "span_blocks"]

THREADS = 256


def span_blocks(e: Emitter, size: int) -> int:
    """Blocks for an array of so many elements of the working dtype."""
    return e.grid(size, THREADS * 16 // np.dtype(e.dtype).itemsize)
