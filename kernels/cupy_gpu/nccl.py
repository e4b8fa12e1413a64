"""Sums over GPUs of several processes, by NCCL: what data-parallel training adds its gradients up with.

The processes agree on a group by a number that one of them draws and tells the others, which is not done here.
"""

from __future__ import annotations

import importlib
import platform
from typing import Any

import numpy as np

__all__ = ["Group", "draw", "gpu_name"]

DTYPES = {"float32": "NCCL_FLOAT32", "float64": "NCCL_FLOAT64"}


def _library(cupy: Any) -> Any:
    """`cupy.cuda.nccl` with the library behind it; None where that is not installed."""
    try:
        nccl = getattr(cupy.cuda, "nccl", None) or importlib.import_module("cupy.cuda.nccl")
    except ImportError:
        return None
    return nccl if nccl.available else None


def gpu_name(cupy: Any, device_id: int) -> str:
    """This GPU among all of all machines, as NCCL takes each once; empty where NCCL is not installed."""
    if _library(cupy) is None:
        return ""
    return f"{platform.node()} {cupy.cuda.runtime.deviceGetPCIBusId(device_id)}"


def draw(cupy: Any) -> np.ndarray[Any, Any]:
    """The number of a new group: bytes that all of its processes need."""
    return np.array(_library(cupy).get_unique_id(), np.int8)


class Group:
    """One process's end of a group. It is made on all of them at once, and waits for the others."""

    def __init__(self, cupy: Any, device_id: int, number: np.ndarray[Any, Any], rank: int, size: int) -> None:
        self._cupy, self._device_id, self._nccl = cupy, device_id, _library(cupy)
        with cupy.cuda.Device(device_id):
            self._communicator = self._nccl.NcclCommunicator(size, tuple(number.tolist()), rank)

    def add_up(self, array: Any) -> None:
        """Replace a contiguous array by its sum over all processes, on the current stream; the same bits on each."""
        kind = getattr(self._nccl, DTYPES[array.dtype.name])
        pointer, stream = array.data.ptr, self._cupy.cuda.get_current_stream().ptr
        with self._cupy.cuda.Device(self._device_id):
            self._communicator.allReduce(pointer, pointer, array.size, kind, self._nccl.NCCL_SUM, stream)

    def close(self) -> None:
        """Nothing may be under way."""
        self._communicator.destroy()
