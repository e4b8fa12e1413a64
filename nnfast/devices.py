"""Where arrays lie: on the host, or on a device. A backend of that device takes them as they are.

Anything with DLPack or `__cuda_array_interface__` counts: CuPy, PyTorch, JAX, Numba. Such an array is never copied to
the host unasked; what must be looked at value by value, targets and sample weights, is `fetched` once per call.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnfast.errors import DTypeError
from nnfast.protocol import Array, Backend

__all__ = ["address_of", "adopted", "device_of", "fetched", "own_memory", "takes"]

# DLPack's device types; an array is on the host where it is in ordinary (1) or in pinned memory (3).
_HOST = (1, 3)
_CUDA = (2, 13)
_DEVICES = {2: "CUDA", 4: "OpenCL", 7: "Vulkan", 8: "Metal", 10: "ROCm", 13: "CUDA managed", 14: "oneAPI"}

_UNREADABLE = (AttributeError, BufferError, RuntimeError, TypeError, ValueError)
_own: dict[int, tuple[Backend, tuple[int, int] | None]] = {}  # by id(): where a backend's own arrays lie


def device_of(a: Any) -> str:
    """Where an array lies that is not on the host, in words; empty for those that are, or that have no place."""
    if hasattr(a, "__dlpack_device__"):
        place = _place(a)  # None: an array that DLPack cannot describe; reading it will tell why
        return "" if place is None or place[0] in _HOST else _words(place)
    return "a CUDA device" if hasattr(a, "__cuda_array_interface__") else ""


def takes(backend: Any, a: Any) -> bool:
    """Whether `a` lies on a device and the backend computes on one; which, `adopted` finds out."""
    return type(a) is not np.ndarray and backend is not None and backend.device != "cpu" and bool(device_of(a))


def adopted(name: str, a: Any, backend: Backend) -> Array:
    """An array on the backend's device as one of the backend's own: itself, or a view; C-contiguous.

    Raises DTypeError where it lies on another device.
    """
    here, own = _place(a), _own_place(backend)
    if here is not None and own is not None and here != own and not (13 in (here[0], own[0]) and here[0] in _CUDA):
        raise DTypeError(
            f"{name} ({type(a).__module__}.{type(a).__name__}) lives on {_words(here)}, and the backend "
            f"{backend.name!r} computes on {_words(own)}; copy it there first"
        )
    try:
        return backend.asarray(a)
    except _UNREADABLE as error:
        raise DTypeError(f"{name} cannot be read as an array on {device_of(a)}: {error}") from error


def fetched(name: str, a: Any, backend: Any) -> Any:
    """`a` itself, or its copy on the host where it lies on the backend's device."""
    return backend.to_numpy(adopted(name, a, backend)) if takes(backend, a) else a


def own_memory(a: Any) -> Any:
    """A NumPy view of an array of another library on the host, to be written to; `a` itself where DLPack gives none."""
    if isinstance(a, np.ndarray) or not hasattr(a, "__dlpack__") or device_of(a):
        return a
    try:
        return np.from_dlpack(a, copy=False)
    except _UNREADABLE:
        return a


def address_of(a: Any) -> int | None:
    """Where an array's memory on a CUDA device begins; None where it does not say."""
    try:
        return int(a.__cuda_array_interface__["data"][0])
    except _UNREADABLE:
        return None


def _place(a: Any) -> tuple[int, int] | None:
    try:
        kind, index = a.__dlpack_device__()
        return int(kind), int(index)
    except _UNREADABLE:
        return None


def _own_place(backend: Backend) -> tuple[int, int] | None:
    known = _own.get(id(backend))
    if known is None or known[0] is not backend:
        known = _own[id(backend)] = backend, _place(backend.empty(0, np.float32))
    return known[1]


def _words(place: tuple[int, int]) -> str:
    return f"the device {_DEVICES.get(place[0], f'of DLPack type {place[0]}')}:{place[1]}"
