"""A stand-in for the module `cupy` on a machine without a GPU, as strict as CuPy 14.2 or stricter.

    cupy = make()                # a device of its own, with nothing on it
    cupy.counts.snapshot()       # how many launches, copies, allocations … there were
    cupy.cublaslt                # for the binding: the stand-in of libcublasLt whose products go into streams

Kernels run in the host simulator (`build.py`), products in `fake_cublaslt.cpp`; work in a stream is done only when
something waits for it. What is not here raises AttributeError, also where CuPy has it.
"""

from __future__ import annotations

import functools
import types
from typing import Any

import numpy as np

from . import fake_kernels, fake_memory, fake_streams
from .fake_arrays import Array, as_dtype, of_interface
from .fake_device import Device
from .fake_errors import CompileException, CUDADriverError, CUDARuntimeError, OutOfMemoryError
from .fake_lt import CublasLt
from .fake_operators import REDUCTIONS
from .fake_runtime import ATTRIBUTES, runtime

__all__ = ["make"]

_TYPES = (
    "bool_",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
)
_UFUNCS = (
    *(
        "isfinite",
        "isnan",
        "isinf",
        "abs",
        "sqrt",
        "exp",
        "log",
        "tanh",
        "sign",
        "square",
        "add",
        "subtract",
        "multiply",
    ),
    *(
        "divide",
        "maximum",
        "minimum",
        "negative",
        "equal",
        "not_equal",
        "less",
        "greater",
        "logical_and",
        "logical_not",
    ),
)


def make(sanitize: bool = False) -> Any:
    """The module with a fresh device. `sanitize`: in a process that was started for it, see `simulator.sanitized`."""
    device = Device(sanitize)
    cupy: Any = types.ModuleType("cupy")
    cupy.__version__ = "14.2.0"
    cupy.device, cupy.counts = device, device.counts
    cupy.cublaslt = CublasLt(device)
    cupy.cuda = _cuda(device)
    for name in _TYPES:
        setattr(cupy, name, getattr(np, name))
    cupy.dtype, cupy.newaxis, cupy.nan, cupy.inf, cupy.pi = np.dtype, None, np.nan, np.inf, np.pi
    alloc = staticmethod(cupy.cuda.alloc)
    cupy.ndarray = type("ndarray", (Array,), {"_device": device, "_alloc": alloc, "_cupy": cupy})
    for name in _UFUNCS:
        setattr(cupy, name, functools.partial(_elementwise, cupy.ndarray, getattr(np, name)))
    for name in REDUCTIONS:
        setattr(cupy, name, lambda a, *args, _name=name, **options: getattr(a, _name)(*args, **options))
    for function in (asarray, array, ascontiguousarray, empty, zeros, ones, full, arange, from_dlpack, asnumpy, matmul,
                     get_array_module, empty_like, zeros_like, concatenate, array_equal):  # fmt: skip
        setattr(cupy, function.__name__, functools.update_wrapper(functools.partial(function, cupy), function))
    cupy.RawModule = type("RawModule", (fake_kernels.RawModule,), {"_device": device})
    cupy.RawKernel = fake_kernels.RawKernel
    cupy.get_default_memory_pool = lambda: cupy.cuda.pool
    cupy.get_default_pinned_memory_pool = lambda: None
    return cupy


def _cuda(device: Device) -> Any:
    """The module `cupy.cuda`."""
    cuda: Any = types.ModuleType("cupy.cuda")
    cuda.runtime = runtime(device)
    cuda.driver = types.SimpleNamespace(CUDADriverError=CUDADriverError)
    cuda.compiler = types.SimpleNamespace(CompileException=CompileException)
    cuda.function = types.SimpleNamespace(CPointer=fake_kernels.CPointer, Function=fake_kernels.Function)
    cuda.Event = type("Event", (fake_streams.Event,), {"_device": device})
    cuda.Graph = type("Graph", (fake_streams.Graph,), {"_device": device})
    inside = {"_device": device, "_graph": cuda.Graph, "_event": cuda.Event}
    cuda.Stream = type("Stream", (fake_streams.Stream,), inside)
    cuda.Stream.null = cuda.Stream(null=True)
    cuda.get_elapsed_time = fake_streams.get_elapsed_time
    cuda.get_current_stream = lambda device_id=-1: getattr(device.local, "stream", None) or cuda.Stream.null
    cuda.stream = types.SimpleNamespace(
        Stream=cuda.Stream, Event=cuda.Event, get_current_stream=cuda.get_current_stream
    )
    cuda.MemoryPool = type("MemoryPool", (fake_memory.MemoryPool,), {"_device": device})
    cuda.pool = cuda.MemoryPool()
    cuda.alloc = functools.partial(fake_memory.alloc, device, cuda.pool)
    cuda.using_allocator = functools.partial(fake_memory.using_allocator, device)
    cuda.MemoryPointer, cuda.UnownedMemory = fake_memory.MemoryPointer, fake_memory.UnownedMemory
    cuda.memory = types.SimpleNamespace(
        OutOfMemoryError=OutOfMemoryError, MemoryPointer=cuda.MemoryPointer, UnownedMemory=cuda.UnownedMemory
    )
    cuda.alloc_pinned_memory = functools.partial(fake_memory.alloc_pinned_memory, device)
    cuda.Device = type("Device", (_Device,), {"_device": device})
    cuda.get_device_id = lambda: 0
    cuda.is_available = lambda: True
    return cuda


class _Device:
    """cupy.cuda.Device: there is one, with the number 0."""

    _device: Device
    compute_capability = "90"

    def __init__(self, device: Any = None) -> None:
        self.id = 0 if device is None else int(device)

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Device) and self.id == other.id

    def __hash__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def use(self) -> _Device:
        if self.id:
            raise CUDARuntimeError(101)
        return self

    def __enter__(self) -> _Device:
        return self.use()

    def __exit__(self, *error: object) -> None:
        pass

    def synchronize(self) -> None:
        self.use()._device.synchronize()

    @property
    def attributes(self) -> dict[str, int]:
        self.use()
        return dict(ATTRIBUTES)

    @property
    def mem_info(self) -> tuple[int, int]:
        return self._device.MEMORY - self._device.allocated, self._device.MEMORY


def _elementwise(ndarray: Any, function: Any, *inputs: Any, out: Any = None) -> Any:
    arrays = [a for a in inputs if isinstance(a, ndarray)]
    if not arrays:
        raise TypeError(f"Unsupported type {type(inputs[0])}")
    return arrays[0]._map(function, *inputs, out=out)


def array(
    cupy: Any,
    obj: Any,
    dtype: Any = None,
    copy: bool | None = True,
    order: str = "K",
    subok: bool = False,
    ndmin: int = 0,
    *,
    blocking: bool = False,
) -> Any:
    if not isinstance(obj, Array) and hasattr(obj, "__cuda_array_interface__"):
        obj = of_interface(cupy.ndarray, obj)
    if isinstance(obj, Array):
        kind = obj.dtype if dtype is None else as_dtype(dtype)
        same = kind == obj.dtype and (order in ("K", "A") or obj.flags[order])
        if copy is False and not same:
            raise ValueError("Unable to avoid copy while creating an array as requested.")
        found = obj.astype(kind, order) if copy or not same else obj
        return found.reshape((1,) * (ndmin - found.ndim) + found.shape) if found.ndim < ndmin else found
    if copy is False:
        raise ValueError("Unable to avoid copy while creating an array as requested.")
    host = np.array(obj, None if dtype is None else as_dtype(dtype), order=order, ndmin=ndmin)  # type: ignore[call-overload]
    host = host.astype(as_dtype(host.dtype), copy=False)
    fortran = host.flags.f_contiguous and not host.flags.c_contiguous and order != "C"
    found = cupy.ndarray(host.shape, host.dtype, order="F" if fortran else "C")
    if host.size:
        found.set(host)
        if blocking:
            cupy.cuda.get_current_stream().synchronize()
    return found


def asarray(
    cupy: Any, a: Any, dtype: Any = None, order: Any = None, *, copy: bool | None = None, blocking: bool = False
) -> Any:
    return array(cupy, a, dtype, copy, order or "K", blocking=blocking)


def ascontiguousarray(cupy: Any, a: Any, dtype: Any = None) -> Any:
    found = array(cupy, a, dtype, None, "C")
    return found if found.ndim else found.reshape(1)


def empty(cupy: Any, shape: Any, dtype: Any = float, order: str = "C") -> Any:
    return cupy.ndarray(shape, dtype, order=order)


def full(cupy: Any, shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> Any:
    if dtype is None:
        dtype = fill_value.dtype if isinstance(fill_value, Array) else np.array(fill_value).dtype
    found = cupy.ndarray(shape, dtype, order=order)
    found.fill(fill_value)
    return found


def zeros(cupy: Any, shape: Any, dtype: Any = float, order: str = "C") -> Any:
    return full(cupy, shape, 0, dtype, order)


def ones(cupy: Any, shape: Any, dtype: Any = float, order: str = "C") -> Any:
    return full(cupy, shape, 1, dtype, order)


def empty_like(cupy: Any, prototype: Any, dtype: Any = None) -> Any:
    return cupy.ndarray(prototype.shape, prototype.dtype if dtype is None else dtype)


def zeros_like(cupy: Any, a: Any, dtype: Any = None) -> Any:
    return zeros(cupy, a.shape, a.dtype if dtype is None else dtype)


def arange(cupy: Any, start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Any:
    first, last = (0, start) if stop is None else (start, stop)
    host = np.arange(first, last, step, dtype)
    found = cupy.ndarray(host.shape, host.dtype)
    target = found._host()
    found._do("arange", lambda: np.copyto(target, host))
    return found


def concatenate(cupy: Any, tup: Any, axis: int = 0) -> Any:
    arrays = list(tup)
    if not all(isinstance(a, Array) for a in arrays):
        raise TypeError("Only cupy arrays can be concatenated")
    return arrays[0]._map(lambda *parts: np.concatenate(parts, axis), *arrays)


def array_equal(cupy: Any, a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    if a1.shape != a2.shape:
        return array(cupy, False)
    return a1._map(lambda x, y: np.array_equal(x, y, equal_nan=equal_nan), a1, a2)


def asnumpy(
    cupy: Any, a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True
) -> np.ndarray[Any, Any]:
    if isinstance(a, Array):
        return a.get(stream, order, out, blocking)
    found = np.asarray(a, order=order)  # type: ignore[call-overload]
    if out is not None:
        out[...] = found
    return found if out is None else out


def get_array_module(cupy: Any, *args: Any) -> Any:
    return cupy if any(isinstance(a, Array) for a in args) else np


def matmul(cupy: Any, x1: Any, x2: Any, /, out: Any = None) -> Any:
    """By cuBLAS, which CuPy refuses to capture."""
    if not isinstance(x1, Array) or not isinstance(x2, Array):
        raise TypeError(f"Unsupported type {type(x2 if isinstance(x1, Array) else x1)}")
    if cupy.device.current.capture is not None:
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    return x1._map(np.matmul, x1, x2, out=out)


def from_dlpack(cupy: Any, array: Any, *, device: Any = None, copy: bool | None = None) -> Any:
    kind, number = array.__dlpack_device__()
    if (kind, number) != (2, 0):
        raise BufferError(f"only memory of the simulated device (2, 0) can be taken over, not of {(kind, number)}")
    capsule = array.__dlpack__(stream=cupy.device.current.ptr or 1, copy=copy)
    if not isinstance(capsule, tuple):
        raise BufferError("the simulated device takes over its own arrays only")
    source = capsule[0]
    shared = cupy.ndarray(source.shape, source.dtype, source.data, source.strides)
    shared.base = source
    return shared
