"""What the book's classes share: reading back what a forward pass left, and fitting arrays to each other.

The book's classes mix dtypes freely (float64 data, float32 weights, targets of any kind), the ops do not. So a layer
computes in the dtype of its weights, and a gradient takes the dtype of the output that it belongs to.
"""

from __future__ import annotations

from typing import Any

from nnfast.compat._data import default_dtype
from nnfast.errors import ShapeError, StateError
from nnfast.layers.python import read_only
from nnfast.protocol import Backend
from nnfast.validation import FLOAT32, FLOAT64, Array, DType, convert, features, host_array

__all__ = ["backward_arrays", "floats", "gradient", "saved", "to_device", "to_host"]


def to_host(backend: Backend, a: Any) -> Any:
    """An array of the backend's, for code that is written for NumPy."""
    return a if backend.device == "cpu" else read_only(backend.to_numpy(a))


def to_device(backend: Backend, name: str, a: Any) -> Any:
    """What such code has made of it, for the backend."""
    return a if backend.device == "cpu" else backend.asarray(host_array(name, a))


def saved(part: Any, name: str) -> Any:
    """The attribute that `forward` leaves for `backward`, or that the program has set itself."""
    if not hasattr(part, name):
        raise StateError(f"{type(part).__name__}.backward() was called before forward(): there is no .{name} yet")
    return getattr(part, name)


def floats(name: str, a: Any) -> Array:
    """`a` as an array of float32 or float64: its own dtype if it is one of them, else that of new weights."""
    host = host_array(name, a)
    own = host.dtype.newbyteorder("=")
    return convert(name, host, own if own in (FLOAT32, FLOAT64) else default_dtype())


def gradient(name: str, a: Any, shape: tuple[int, ...], dtype: DType, of: str) -> Array:
    """A gradient with respect to `of`: it must have the shape of that, and gets its dtype."""
    host = host_array(name, a)
    if host.shape != shape:
        raise ShapeError(f"{name} has shape {host.shape}; expected {shape}, the shape of {of}")
    return convert(name, host, dtype)


def backward_arrays(part: Any, name: str, dvalues: Any) -> tuple[Array, Array]:
    """What an activation's backward needs: the saved array (N, O), and `dvalues` fitted to it."""
    kept = floats(name, saved(part, name))
    kept = features(name, kept, None, kept.dtype, allow_empty=True)
    return kept, gradient("dvalues", dvalues, kept.shape, kept.dtype, "the output")
