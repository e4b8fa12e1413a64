"""CuPy's RawModule on the simulated device: the kernels of `kernels/cupy_gpu/src` run through the host simulator."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np

from .build import library, sources
from .fake_arrays import Array
from .fake_device import Device
from .fake_errors import CompileException, CUDADriverError, CUDARuntimeError

__all__ = ["CPointer", "Function", "RawKernel", "RawModule"]

SHARED_DEFAULT, SHARED_LIMIT = 48 << 10, 227 << 10


class CPointer:
    """The address of a kernel argument in host memory."""

    def __init__(self, p: int = 0) -> None:
        self.address = int(p)


@functools.cache
def pointers(unit: str, struct: str, dtype: str) -> tuple[tuple[str, int], ...]:
    """Where a struct has pointers: (name, offset) of each, also of those in structs inside it."""
    bodies = dict(sources._STRUCT.findall(sources.expanded(unit)))
    layout = sources.struct_dtype(unit, struct, dtype)
    found = []
    for line in bodies[struct].strip().splitlines():
        match = sources._FIELD.match(line)
        kind, stars, name = match[1].strip(), match[2].strip(), match[3]
        offset = layout.fields[name][1]
        if stars:
            found.append((name, offset))
        elif kind in bodies:
            found += [(f"{name}.{inner}", offset + at) for inner, at in pointers(unit, kind, dtype)]
    return tuple(found)


class Function:
    """A kernel of one module, as `RawKernel.kernel` gives it."""

    def __init__(self, device: Device, source: Any, dtype: str, each: bool) -> None:
        self._device, self._source, self._dtype, self._each = device, source, dtype, each
        self._layout = sources.struct_dtype(source.unit, source.struct, dtype)
        self._pointers = pointers(source.unit, source.struct, dtype)
        self.shared_limit = SHARED_DEFAULT

    def __call__(
        self,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Any,
        shared_mem: int = 0,
        stream: Any = None,
        enable_cooperative_groups: bool = False,
    ) -> None:
        if not isinstance(grid, tuple) or not isinstance(block, tuple):
            raise TypeError("grid and block must be tuples")
        self._check((*map(int, grid), 1, 1)[:3], (*map(int, block), 1, 1)[:3], int(shared_mem))
        blocks = (*map(int, grid), 1, 1)[:3]
        raw = self._read_address(args) if self._each else self._read(args)
        queue = self._device.current if stream is None else stream.queue
        if not self._each:
            self._check_pointers(raw)
        name, counts = self._source.name, self._device.counts

        def run() -> None:
            records = self._table(raw, blocks[2]) if self._each else np.frombuffer(raw, self._layout)
            addresses = [address for record in records for address in self._check_pointers(record.tobytes())]
            counts.kernels_run += 1
            kernels = library(self._dtype, self._device.sanitize)
            more = {"shared": int(shared_mem), "order": self._device.order}
            if self._each:
                kernels.launch_each(name, blocks[:2], records, **more)
            else:
                kernels.launch(name, blocks[:2], records[0], **more)
            self._device.check_guards(name, set(addresses))

        if queue.push(name, run):
            counts.launches += 1

    def _check(self, grid: tuple[int, ...], block: tuple[int, ...], shared: int) -> None:
        name = self._source.name
        if any(n < 1 for n in grid) or grid[0] >= 1 << 31 or max(grid[1:]) > 65535:
            raise CUDADriverError(1, f"{name}: a grid of {grid} blocks")
        if block != (self._source.threads, 1, 1):
            raise CUDADriverError(701, f"{name}: blocks of {block} threads, not of {self._source.threads}")
        if grid[2] != 1 and not self._each:
            raise NotImplementedError("the kernels for one model have no third axis")
        if not 0 <= shared <= self.shared_limit:
            raise CUDADriverError(1, f"{name}: {shared} bytes of shared memory, allowed are {self.shared_limit}")

    def _read(self, args: Any) -> bytes:
        """The struct, as it is now."""
        if len(args) != 1:
            raise TypeError(f"{self._source.name} takes one struct, got {len(args)} arguments")
        (value,) = args
        if isinstance(value, CPointer):
            if not value.address:
                raise CUDADriverError(1, "the argument's address is 0")
            return ctypes.string_at(value.address, self._layout.itemsize)
        if isinstance(value, (np.void, np.ndarray)) and value.ndim == 0:
            if value.dtype.itemsize != self._layout.itemsize:
                raise TypeError(f"{self._source.name}: {value.dtype.itemsize} bytes, not {self._layout.itemsize}")
            return value.tobytes()
        if isinstance(value, Array):
            raise TypeError(f"{self._source.name} takes its struct by value, not an array")
        raise TypeError(f"Unsupported type {type(value)}")

    def _read_address(self, args: Any) -> bytes:
        """A kernel for many models takes the address of its table."""
        if len(args) != 1 or not isinstance(args[0], CPointer) or not args[0].address:
            raise TypeError(f"{self._source.name}: the address of a table is to be given by a CPointer")
        return ctypes.string_at(args[0].address, 8)

    def _table(self, raw: bytes, models: int) -> np.ndarray[Any, Any]:
        """The records in device memory, as they are when the kernel runs."""
        address, size = int.from_bytes(raw, "little"), models * self._layout.itemsize
        if fault := self._device.fault(address, size):
            raise CUDARuntimeError(700, f"{self._source.name}: its table: {fault}")
        return np.frombuffer(ctypes.string_at(address, size), self._layout)

    def _check_pointers(self, raw: bytes) -> list[int]:
        """A pointer to anything but living device memory (or pinned memory) would stop a GPU."""
        found = [(name, int.from_bytes(raw[offset : offset + 8], "little")) for name, offset in self._pointers]
        for name, address in found:
            if address and (fault := self._device.fault(address)):
                raise CUDARuntimeError(700, f"{self._source.name}: {name}: {fault}")
        return [address for _, address in found if address]


class RawKernel:
    _device: Device

    def __init__(self, function: Function) -> None:
        self.kernel = function
        self.name = function._source.name

    def __call__(self, grid: Any, block: Any, args: Any, *, shared_mem: int = 0) -> None:
        self.kernel(grid, block, args, shared_mem)

    def compile(self, log_stream: Any = None) -> None:
        pass

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self.kernel.shared_limit

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        if not 0 <= size <= SHARED_LIMIT:
            raise CUDADriverError(1, f"{size} bytes of dynamic shared memory")
        self.kernel.shared_limit = size

    @property
    def max_threads_per_block(self) -> int:
        return self.kernel._source.threads


class RawModule:
    """Compiles nothing: it knows the kernels whose source it is given."""

    _device: Device

    def __init__(
        self,
        code: str | None = None,
        *,
        path: str | None = None,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        translate_cucomplex: bool = False,
        enable_cooperative_groups: bool = False,
        name_expressions: Any = None,
        jitify: Any = None,
    ) -> None:
        if (code is None) == (path is None):
            raise TypeError("Exactly one of `code` and `path` keyword arguments must be given.")
        if not isinstance(code, str):
            raise TypeError("code must be a str; binaries are not simulated")
        if not isinstance(options, tuple) or not all(isinstance(o, str) for o in options):
            raise TypeError("options must be a tuple of str")
        if backend not in ("nvrtc", "nvcc"):
            raise ValueError(f"Invalid value for backend: {backend!r}")
        self.code, self.options, self.backend = code, options, backend
        self._kernels: dict[str, RawKernel] = {}

    def compile(self, log_stream: Any = None) -> None:
        unknown = [o for o in self.options if not o.startswith(("-", "/"))]
        if unknown:
            raise CompileException(f"nvrtc: error: invalid value for options: {unknown}")
        if not self._names():
            raise CompileException("only the kernels of kernels/cupy_gpu/src are simulated, from unchanged sources")

    def _names(self) -> set[str]:
        """Of the kernels, if the code is that of a unit, for one model or for many, and nothing else."""
        for unit in sources.units():
            text = sources.expanded(unit)
            for whole, ending in ((text, ""), (sources.for_each(text), sources.EACH)):
                if self.code == whole:
                    return {n + ending for n, source in sources.kernels().items() if source.unit == unit}
        return set()

    def get_function(self, name: str) -> RawKernel:
        self.compile()
        if name not in self._kernels:
            if name not in self._names():
                raise CUDADriverError(500, name)
            source, each = sources.kernels()[name.removesuffix(sources.EACH)], name.endswith(sources.EACH)
            dtype = "float64" if "-DNNF_DOUBLE=1" in self.options else "float32"
            self._kernels[name] = RawKernel(Function(self._device, source, dtype, each))
        return self._kernels[name]
