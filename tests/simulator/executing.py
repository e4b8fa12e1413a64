"""Runs what an emitter has collected on arrays in this process's memory, and ops as ordinary kernels on NumPy arrays.

Launches go through the simulator, products through NumPy in the working dtype.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nnfast.protocol import API_VERSION, OPS
from simulator.build import Library, SimulatorError, library

__all__ = ["SimulatedBackend", "execute", "memory", "op_function", "op_kernel"]

emitting = importlib.import_module("nnfast.kernels.cupy_gpu.emitter")
eager = importlib.import_module("nnfast.kernels.cupy_gpu.eager")

COUNTS = ("key", "step", "first_row")  # whole numbers in device memory; all others are float64 there
STRUCTURE = ("layer", "offset")  # numbers of the program itself, never in device memory


def op_function(op: str) -> Callable[..., None] | None:
    """The function of `kernels/cupy_gpu` that emits an op, or None where there is none."""
    found: Callable[..., None] | None = importlib.import_module("nnfast.kernels.cupy_gpu.table").OPS.get(op)
    return found


def memory(ref: Any) -> np.ndarray[Any, Any]:
    """The array that lies where a Ref says."""
    kind = np.dtype(ref.dtype)
    if not ref.size:
        return np.empty(ref.shape, kind)
    raw = (ctypes.c_byte * (ref.size * kind.itemsize)).from_address(ref.address)
    return np.frombuffer(raw, kind).reshape(ref.shape)


def execute(lib: Library, emitter: Any, arrays: Sequence[Any] = (), order: str = "forward", seed: int = 0) -> None:
    """Run all calls of an emitter. `arrays` are only kept alive: calls know addresses.

    Partial sums are NaN before, and tickets must be zero again after every launch.
    """
    partials = np.full(emitter.partials, np.nan)
    tickets = np.zeros(emitter.tickets, np.uint32)
    emitter.place_scratch(partials.ctypes.data, tickets.ctypes.data)
    for call in emitter.calls:
        if isinstance(call, emitting.Product):
            multiply(call)
            continue
        lib.launch(call.kernel, call.blocks, call.args, call.shared, order, seed)
        if tickets.any():
            raise SimulatorError(f"{call.kernel}: tickets are {tickets[:8]} afterwards, not zero")
    del arrays


def multiply(product: Any) -> None:
    """One matrix product with its epilogue, as cublasLt computes it."""
    a, b, c = memory(product.a), memory(product.b), memory(product.c)
    a, b = a.T if product.transpose_a else a, b.T if product.transpose_b else b
    epilogue = product.epilogue
    with np.errstate(all="ignore"):
        result = a @ b
        if epilogue == "bias_grad":
            memory(product.bias)[...] = b.sum(axis=0, dtype=np.float64)
        elif epilogue == "drelu_bias_grad":
            result = np.where(mask_bits(product.aux, c.shape), result, 0).astype(c.dtype)
            memory(product.bias)[...] = result.sum(axis=0, dtype=np.float64)
        elif epilogue:
            result = result + memory(product.bias)
            if epilogue != "bias":
                assert epilogue in ("relu_bias", "relu_aux_bias"), epilogue
                result = np.fmax(result, 0)  # fmax(NaN, 0) is 0
            if epilogue == "relu_aux_bias":
                write_mask_bits(product.aux, result > 0)
    c[...] = result


def mask_bits(aux: Any, shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    """The mask of a matrix c: a row of bits for each of its rows, padded to 128 bits; the first bit is the lowest."""
    return np.unpackbits(_mask_rows(aux, shape), axis=1, count=shape[1], bitorder="little").astype(bool)


def write_mask_bits(aux: Any, mask: np.ndarray[Any, Any]) -> None:
    packed = np.packbits(mask, axis=1, bitorder="little")
    _mask_rows(aux, mask.shape)[:, : packed.shape[1]] = packed


def _mask_rows(aux: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    rows, columns = shape
    return memory(emitting.Ref(aux.address, (rows, -(-columns // 128) * 16), "u1"))


def op_kernel(
    function: Callable[..., None],
    dtype: Any,
    lib: Library,
    order: str = "forward",
    *,
    op: str | None = None,
    seed: int = 0,
    from_memory: bool = False,
    in_row: bool = False,
    policy: Any = None,
) -> Callable[..., None]:
    """An op as `nnfast.protocol` describes a kernel: on NumPy arrays by position, scalars and attributes by keyword.

    `from_memory` lets the kernels read all scalars from device memory that may lie there, `in_row` has sums added to
    the row of sums that a running step writes.
    """
    spec = OPS[op or function.__name__]

    def kernel(*arrays: Any, **keywords: Any) -> None:
        kept: list[Any] = list(arrays)
        emitter = emitting.Emitter(dtype, policy)
        refs = [
            None
            if a is None
            else _row_of_sums(a, kept)
            if in_row and arg.dtype == "f8" and arg.name != "best"
            else emitting.Ref(a.ctypes.data, a.shape, a.dtype.str[1:])
            for arg, a in zip(spec.args, arrays, strict=True)
        ]
        if from_memory:
            keywords = {name: _in_memory(spec, name, value, kept) for name, value in keywords.items()}
        function(emitter, *refs, **keywords)
        execute(lib, emitter, kept, order, seed)

    kernel.__signature__ = eager.signature_of(spec)  # type: ignore[attr-defined]
    return kernel


def _row_of_sums(array: np.ndarray[Any, Any], kept: list[Any]) -> Any:
    """The array as a part of a row: its third column is where the array lies."""
    row = np.array([array.ctypes.data - 3 * 8], np.uint64)
    kept.append(row)
    return emitting.InRow(row.ctypes.data, 3, array.shape)


def _in_memory(spec: Any, name: str, value: Any, kept: list[Any]) -> Any:
    if name in spec.attributes or name in STRUCTURE:
        return value
    number = np.array([value], np.uint64).view(np.int64) if name in COUNTS else np.array([value], np.float64)
    kept.append(number)
    return emitting.At(number.ctypes.data)


class SimulatedBackend:
    """The ops of `kernels/cupy_gpu` on NumPy arrays, as far as `nnfast.testing` needs a backend.

    `shift` places every array so many elements past a boundary of 16 bytes.
    """

    name = "simulated"
    device = "cpu"
    api_version = API_VERSION

    def __init__(self, dtype: Any, order: str = "forward", *, shift: int = 0, sanitize: bool = False, **more: Any):
        self.dtype = np.dtype(dtype)
        self.order = order
        self.shift = shift
        self.library = library(self.dtype.name, sanitize)
        self._more = more
        self._kernels: dict[str, Any] = {}

    def unavailable(self) -> str | None:
        return None

    def kernel(self, op: str) -> Callable[..., None] | None:
        if op not in self._kernels:
            function = op_function(op)
            self._kernels[op] = function and op_kernel(
                function, self.dtype, self.library, self.order, op=op, **self._more
            )
        return self._kernels[op]

    def asarray(self, a: Any, dtype: Any = None) -> np.ndarray[Any, Any]:
        """A copy: from malloc, so that a sanitizer's red zones lie around it, `shift` elements into it."""
        a = np.asarray(a, dtype)
        placed = np.empty(self.shift + a.size, a.dtype)[self.shift :].reshape(a.shape)
        placed[...] = a
        return placed

    def to_numpy(self, a: Any) -> np.ndarray[Any, Any]:
        return np.asarray(a)

    def empty(self, shape: Any, dtype: Any) -> np.ndarray[Any, Any]:
        return self.asarray(np.empty(shape, dtype))

    def zeros(self, shape: Any, dtype: Any) -> np.ndarray[Any, Any]:
        return self.asarray(np.zeros(shape, dtype))

    def synchronize(self) -> None:
        """A launch has ended when it returns."""


@functools.cache
def simulated(dtype: str, order: str = "forward", **more: Any) -> SimulatedBackend:
    """One backend of each kind per process."""
    return SimulatedBackend(dtype, order, **more)
