"""Behind `nnfast.functional`: which memory an op may write to."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from nnfast.devices import address_of, adopted
from nnfast.errors import DataError, DTypeError, ShapeError
from nnfast.protocol import Backend
from nnfast.validation import Array, DType

__all__ = ["refuse_overlap", "shape_of", "writable_on_device"]


def shape_of(a: Any) -> tuple[int, ...]:
    """The shape of an array, here or on a device, as it says; () of what is none, which `writable` refuses."""
    return tuple(a.shape) if hasattr(a, "shape") else ()


def writable_on_device(
    name: str, a: Any, dtype: DType, backend: Backend, shape: tuple[int, ...] | None = None
) -> Array:
    """The caller's own memory on a device as an array of the backend's: writable, C-contiguous, of this dtype."""
    array: Array = adopted(name, a, backend)
    if type(a).__module__.partition(".")[0] in ("jax", "jaxlib"):
        raise DTypeError(
            f"{name} is a JAX array, which never changes, and it is updated in place; give cupy.array({name})"
        )
    if array.dtype != dtype:
        raise DTypeError(f"{name} has dtype {array.dtype}; it is updated in place, so it must be {dtype}")
    if shape is not None and array.shape != shape:
        raise ShapeError(f"{name} has shape {array.shape}; expected {shape}")
    if (array is a and array.flags.c_contiguous) or not array.size:
        return array
    if address_of(a) is None or address_of(a) != address_of(array):
        raise DataError(f"{name} is not a C-contiguous array; it is updated in place: give {name}.copy()")
    if a.__cuda_array_interface__["data"][1]:
        raise DataError(f"{name} is read-only, and it is updated in place; give a copy")
    return array


def refuse_overlap(arrays: Mapping[str, Array], written: set[str]) -> None:
    """Raise where two arrays share memory and the op writes to one of them."""
    for (name, a), (other, b) in combinations(arrays.items(), 2):
        if (name in written or other in written) and _share(a, b):
            raise DataError(f"{name} and {other} share memory, and the op writes to one of them; give {other}.copy()")


def _share(a: Array, b: Array) -> bool:
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray):
        return _share_on_device(a, b)
    try:
        return np.shares_memory(a, b, max_work=100_000)  # type: ignore[arg-type]  # the stub lacks this form
    except np.exceptions.TooHardError:
        return True


def _share_on_device(a: Array, b: Array) -> bool:
    """Contiguous arrays share memory where their stretches of it meet; one of them may be on the host."""
    if a is b:
        return True
    start, other = address_of(a), address_of(b)
    if start is None or other is None:
        return False
    return start < other + b.nbytes and other < start + a.nbytes
