"""The basis of CuPy's array on the simulated device. All that is computed is work in the current stream, done later."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from .fake_device import Device, view
from .fake_errors import CUDARuntimeError
from .fake_memory import MemoryPointer

__all__ = ["Base", "as_dtype"]


def as_dtype(dtype: Any) -> np.dtype[Any]:
    kind = np.dtype(dtype)
    if kind.kind not in "biufc" or kind.itemsize > 16 or kind in (np.longdouble, np.clongdouble):
        raise ValueError(f"Unsupported dtype {kind}")
    return kind.newbyteorder("=")


class Flags:
    def __init__(self, c: bool, f: bool, own: bool) -> None:
        self.c_contiguous, self.f_contiguous, self.owndata, self.fnc, self.forc = c, f, own, f and not c, c or f

    def __getitem__(self, name: str) -> bool:
        names = {"C": "c_contiguous", "F": "f_contiguous", "O": "owndata"}
        return bool(getattr(self, names.get(name, name.lower())))


class Base:
    """An array on a device: what it looks like, and how work on it gets into a stream."""

    _device: Device
    _alloc: Callable[[int], MemoryPointer]
    _cupy: Any
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self, shape: Any, dtype: Any = float, memptr: MemoryPointer | None = None, strides: Any = None, order: str = "C"
    ) -> None:
        self.shape = (operator.index(shape),) if not isinstance(shape, (tuple, list)) else tuple(map(int, shape))
        if any(n < 0 for n in self.shape):
            raise ValueError("Negative dimensions are not allowed")
        self.dtype = as_dtype(dtype)
        if strides is None:
            steps, sizes = self.dtype.itemsize, []
            for n in self.shape if order == "F" else reversed(self.shape):
                sizes.append(steps)
                steps *= max(n, 1)
            strides = sizes if order == "F" else reversed(sizes)
        self.strides = tuple(strides)
        self.base: Any = None
        self.data = type(self)._alloc(self.nbytes) if memptr is None else memptr

    # what it looks like

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: math.prod(self.shape))
    itemsize = property(lambda self: self.dtype.itemsize)
    nbytes = property(lambda self: self.size * self.dtype.itemsize)
    device = property(lambda self: self._cupy.cuda.Device(0))
    T = property(lambda self: self.transpose())

    @property
    def flags(self) -> Flags:
        flags = self._host().flags
        return Flags(flags.c_contiguous, flags.f_contiguous, self.base is None)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "data": (self.data.ptr, False),
            "strides": None if self.flags.c_contiguous else self.strides,
            "stream": self._device.current.ptr or 1,
            "version": 3,
        }

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __repr__(self) -> str:
        return repr(self.get())

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array "
            "explicitly."
        )

    def __array_function__(self, *args: Any) -> Any:
        return NotImplemented

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options or any(isinstance(a, np.ndarray) and a.ndim for a in inputs):
            return NotImplemented
        return self._map(ufunc, *inputs)

    def __matmul__(self, other: Any) -> Any:
        return self._cupy.matmul(self, other)

    # memory and work

    def _host(self) -> np.ndarray[Any, Any]:
        return view(self.data.ptr, self.shape, self.dtype, self.strides)

    def _like(self, host: np.ndarray[Any, Any]) -> Any:
        """A view of this array, given the same view of its host memory."""
        offset = 0
        if host.size:
            offset = host.__array_interface__["data"][0] - self.data.ptr
        found = type(self)(host.shape, host.dtype, self.data + offset, host.strides)
        found.base = self.base if self.base is not None else self
        return found

    def _living(self, run: Callable[[], None], *touched: Base) -> Callable[[], None]:
        """Work that knows addresses only: it keeps no array alive, and fails where one is gone when it is done."""
        device, addresses = self._device, [a.data.ptr for a in touched if a.size]

        def check_and_run() -> None:
            for address in addresses:
                if fault := device.fault(address):
                    raise CUDARuntimeError(700, fault)
            with np.errstate(all="ignore"):
                run()

        return check_and_run

    def _do(self, label: str, run: Callable[[], None], *touched: Base) -> None:
        """Give the current stream a kernel of CuPy's own."""
        if self._device.current.push(label, self._living(run, self, *touched)):
            self._device.counts.array_ops += 1

    def _map(self, function: Any, *inputs: Any, out: Any = None, **options: Any) -> Any:
        """function(inputs…) elementwise or reduced, in a new array; NumPy's rules for shapes and dtypes."""
        if any(isinstance(a, np.ndarray) and a.ndim for a in inputs):
            raise TypeError(f"Unsupported type {np.ndarray}")
        if not all(isinstance(a, (Base, np.generic, np.ndarray, bool, int, float, complex)) for a in inputs):
            return NotImplemented
        with np.errstate(all="ignore"):
            like = [np.ones(a.shape, a.dtype) if isinstance(a, Base) else a for a in inputs]
            result = np.asarray(function(*like, **options))
        out = type(self)(result.shape, result.dtype) if out is None else out
        if out.shape != result.shape:
            raise ValueError(f"non-broadcastable output operand with shape {out.shape}, wanted {result.shape}")
        values = [a._host() if isinstance(a, Base) else a for a in inputs]
        host = out._host()

        def run() -> None:
            host[...] = function(*values, **options)

        self._do(getattr(function, "__name__", "kernel"), run, out, *(a for a in inputs if isinstance(a, Base)))
        return out

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> Any:
        if out is not None:
            if not isinstance(out, np.ndarray):
                raise TypeError("Only numpy.ndarray can be obtained from cupy.ndarray")
            if out.dtype != self.dtype:
                raise TypeError(f"{out.dtype} array cannot be obtained from {self.dtype} array")
            if out.shape != self.shape:
                raise ValueError(f"Shape mismatch. Expected shape: {self.shape}, actual shape: {out.shape}")
            if not (out.flags.c_contiguous or out.flags.f_contiguous):
                raise RuntimeError("`out` cannot be specified when copying to non-contiguous ndarray")
        else:
            out = np.empty(self.shape, self.dtype, "F" if order == "F" else "C")
        queue = self._device.current if stream is None else stream.queue
        queue.refuse_capture("ndarray.get")
        source = self._host()
        queue.push("memcpy D2H", self._living(lambda: np.copyto(out, source), self))
        self._device.counts.d2h += 1
        self._device.counts.d2h_bytes += self.nbytes
        if blocking or not self._device.is_pinned(out.ctypes.data, out.nbytes):
            queue.synchronize()
        return out

    def set(self, arr: Any, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not (self.flags.c_contiguous or self.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        queue = self._device.current if stream is None else stream.queue
        queue.refuse_capture("ndarray.set")
        source = arr if arr.nbytes and self._device.is_pinned(arr.ctypes.data, arr.nbytes) else arr.copy()
        host = self._host()
        queue.push("memcpy H2D", self._living(lambda: np.copyto(host, source), self))
        self._device.counts.h2d += 1
        self._device.counts.h2d_bytes += self.nbytes

    def item(self, *args: Any) -> Any:
        return self.get().item(*args)

    def tolist(self) -> Any:
        return self.get().tolist()

    def tobytes(self, order: str = "C") -> bytes:
        return self.get().tobytes(order)

    def __float__(self) -> float:
        return float(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __index__(self) -> int:
        return operator.index(self.get())

    def __bool__(self) -> bool:
        return bool(self.get())
