"""The stand-in for libcublasLt with its products in streams: what `ctypes.CDLL` of the library would look like.

The C function computes when it is called. Here the call is checked and all it needs is copied; the computation itself
goes where a GPU has it, into the stream that the call names, or into the graph that this stream is capturing.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

from .fake_build import cublaslt as compiled
from .fake_device import Device
from .fake_errors import CUDARuntimeError

__all__ = ["CublasLt"]

_AREAS = ("a", "b", "c", "d", "bias", "aux", "workspace")


class CublasLt:
    """Attributes are the library's functions, on which a binding sets `argtypes` and `restype`."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._library: ctypes.CDLL | None = None

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cublasLt"):
            raise AttributeError(name)
        if self._library is None:
            self._library = ctypes.CDLL(compiled(self._device.sanitize))
        found = Matmul(self._device, self._library) if name == "cublasLtMatmul" else getattr(self._library, name)
        setattr(self, name, found)
        return found


class Matmul:
    """cublasLtMatmul"""

    def __init__(self, device: Device, library: ctypes.CDLL) -> None:
        self._device, self._library = device, library
        self.argtypes: Any = None
        self.restype: Any = ctypes.c_int
        self._prepare = ctypes.CDLL(library._name).nnf_fake_matmul_prepare  # with types of its own
        for name in ("nnf_fake_matmul_run", "nnf_fake_matmul_free"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
            getattr(library, name).restype = None
        library.nnf_fake_matmul_areas.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        library.nnf_fake_matmul_areas.restype = None

    def __call__(self, *args: Any) -> int:
        if self.argtypes is None or len(self.argtypes) != 16:
            raise TypeError("cublasLtMatmul: without argtypes ctypes cuts pointers to 32 bits")
        if len(args) != 16:
            raise TypeError(f"cublasLtMatmul takes 16 arguments, got {len(args)}")
        record = ctypes.c_void_p()
        self._prepare.argtypes = [*self.argtypes, ctypes.c_void_p]
        status = int(self._prepare(*args, ctypes.byref(record)))
        if status:
            return status
        work = Record(self._device, self._library, record.value or 0)
        work.check()
        stream = args[15]
        queue = self._device.queue(getattr(stream, "value", stream))
        if queue.push("cublasLt", work.run):
            self._device.counts.products += 1
        return 0


class Record:
    """One product as it was asked for."""

    def __init__(self, device: Device, library: ctypes.CDLL, address: int) -> None:
        self._device, self._library, self._address = device, library, address
        weakref.finalize(self, library.nnf_fake_matmul_free, address).atexit = False
        areas = (ctypes.c_uint64 * 14)()
        library.nnf_fake_matmul_areas(address, areas)
        self._areas = [(name, areas[2 * i], areas[2 * i + 1]) for i, name in enumerate(_AREAS) if areas[2 * i + 1]]

    def check(self) -> None:
        """What lies outside of living device memory would stop a GPU."""
        for name, address, size in self._areas:
            if fault := self._device.fault(address, size):
                raise CUDARuntimeError(700, f"cublasLtMatmul: {name}: {fault}")

    def run(self) -> None:
        self.check()
        self._device.counts.products_run += 1
        self._library.nnf_fake_matmul_run(self._address)
        self._device.check_guards("cublasLtMatmul", (address for _, address, _ in self._areas))
