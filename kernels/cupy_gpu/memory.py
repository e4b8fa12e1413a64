"""Device memory of a runner: allocated when a job first needs it, grown to the largest batch, never shrunk.

Graphs hold addresses, so whoever grows a room that they name drops them; `grow_…` says when that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nnfast.protocol import Array

__all__ = ["Memory"]


class Memory:
    """The arena of activations, the rows of the running batch, and working memory of kernels and products."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self.arena: Array = cupy.empty(0, np.uint8)
        self._batch: dict[str, Array] = {}
        self._partials: Array = cupy.empty(0, np.float64)
        self._tickets: Array = cupy.empty(0, np.uint32)
        self._workspace: Array = cupy.empty(0, np.uint8)
        self._masks: Array = cupy.empty(0, np.uint8)

    @property
    def arena_address(self) -> int:
        return int(self.arena.data.ptr)

    def grow_arena(self, nbytes: int) -> bool:
        """Room for so many bytes; true where it moved."""
        if nbytes <= self.arena.size:
            return False
        self.arena = self._cupy.empty(nbytes, np.uint8)
        return True

    def grow_batch(self, widths: Mapping[str, tuple[int, Any]], rows: int) -> bool:
        """Room for the named arrays of a batch, each of so many elements per row; true where one moved."""
        moved = False
        for name, (width, dtype) in widths.items():
            key, size = _key(name, dtype), rows * width
            if key not in self._batch or self._batch[key].size < size:
                self._batch[key] = self._cupy.empty(size, dtype)
                moved = True
        return moved

    def batch(self, name: str, dtype: Any, size: int) -> Array:
        """The first elements of a batch's array."""
        return self._batch[_key(name, dtype)][:size]

    def scratch(self, partials: int, tickets: int) -> tuple[Array, Array]:
        """Partial sums, and tickets, which are zero; earlier ones stay good for those who hold them."""
        if partials > self._partials.size:
            self._partials = self._cupy.empty(partials, np.float64)
        if tickets > self._tickets.size:
            self._tickets = self._cupy.zeros(tickets, np.uint32)
        return self._partials, self._tickets

    def masks(self, nbytes: int) -> Array:
        """Bits of ReLU; earlier ones stay good for those who hold them."""
        if nbytes > self._masks.size:
            self._masks = self._cupy.empty(nbytes, np.uint8)
        return self._masks

    def workspace(self, nbytes: int) -> Array:
        """Working memory of a product."""
        if nbytes > self._workspace.size:
            self._workspace = self._cupy.empty(nbytes, np.uint8)
        return self._workspace


def _key(name: str, dtype: Any) -> str:
    return f"{name}:{np.dtype(dtype).str}"
