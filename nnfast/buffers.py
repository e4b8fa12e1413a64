"""Flat arrays: allocating them, and moving their contents where another layout or another memory needs them."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnfast.program import Layout
from nnfast.protocol import Backend, Buffers

__all__ = ["allocate", "realign", "realigned", "repack"]


def allocate(backend: Backend, layout: Layout, dtype: Any) -> Buffers:
    """Parameters and gradients, all zero; slots and state come with the first Program that needs them."""
    flat = [backend.zeros(layout.size, dtype) for _ in range(2)]
    return Buffers(flat[0], flat[1], {}, backend.zeros(0, np.float64), _foreign(backend))


def _foreign(backend: Backend) -> Backend | None:
    """The backend, if its arrays are not NumPy's."""
    return None if backend.device == "cpu" else backend


def realign(buffers: Buffers, backend: Backend) -> None:
    """Copy flat arrays that came out of a pickle into ones that begin where the backend wants them."""
    buffers.parameters = realigned(buffers.parameters, backend)
    buffers.gradients = realigned(buffers.gradients, backend)
    buffers.slots = {name: realigned(slot, backend) for name, slot in buffers.slots.items()}
    buffers.state = backend.asarray(buffers.state)
    buffers.backend = _foreign(backend)


def realigned(flat: Any, backend: Backend) -> Any:
    """A copy of one flat array that begins where the backend wants it."""
    fresh = backend.zeros(flat.shape, flat.dtype)
    fresh[...] = backend.asarray(flat)
    return fresh


def repack(flat: np.ndarray[Any, Any], old: Layout, new: Layout, dtype: Any) -> np.ndarray[Any, Any]:
    """A flat array in another layout: the same blocks, which may lie elsewhere for another dtype."""
    packed = np.zeros(new.size, dtype=dtype)
    for source, target in zip(old.blocks, new.blocks, strict=True):
        packed[target.offset : target.offset + target.size] = flat[source.offset : source.offset + source.size]
    return packed
