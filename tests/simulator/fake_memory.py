"""CuPy's memory of the simulated device: pointers, the pool, pinned host memory."""

from __future__ import annotations

import contextlib
import ctypes
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from .fake_device import Block, Device
from .fake_errors import OutOfMemoryError

__all__ = ["Memory", "MemoryPointer", "MemoryPool", "UnownedMemory", "alloc", "alloc_pinned_memory", "using_allocator"]

ROUND = 512


class Memory:
    """A block of device memory; given back, in the order of its stream, when nothing refers to it any more."""

    def __init__(self, device: Device, pool: MemoryPool, size: int) -> None:
        self.size, self.device_id = size, 0
        self.block: Block | None = device.allocate(size) if size else None
        self.ptr = self.block.start if self.block else 0
        if self.block:
            pool._take(size)
            weakref.finalize(self, _give_back, device, pool, self.block, device.current).atexit = False


def _give_back(device: Device, pool: MemoryPool, block: Block, queue: Any) -> None:
    pool._used -= _rounded(block.size)
    device.release(block, queue)


class UnownedMemory:
    """Device memory that belongs to something else, which is kept alive."""

    def __init__(self, ptr: int, size: int, owner: object, device_id: int = 0) -> None:
        self.ptr, self.size, self.owner, self.device_id = ptr, size, owner, device_id


class MemoryPointer:
    def __init__(self, mem: Memory | UnownedMemory, offset: int) -> None:
        self.mem, self.ptr, self.device_id = mem, mem.ptr + offset, 0

    def __int__(self) -> int:
        return self.ptr

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.mem, self.ptr - self.mem.ptr + offset)

    def __sub__(self, offset: int) -> MemoryPointer:
        return self + -offset


def _rounded(size: int) -> int:
    return -(-size // ROUND) * ROUND


class MemoryPool:
    """Counts as CuPy's pool does; what it hands out is never reused, so that late readers are seen."""

    _device: Device

    def __init__(self, allocator: Any = None) -> None:
        self._used = self._total = self._limit = 0

    def malloc(self, size: int) -> MemoryPointer:
        if self._limit and self._used + _rounded(size) > self._limit:
            raise OutOfMemoryError(
                f"Out of memory allocating {_rounded(size):,} bytes (allocated so far: {self._used:,} bytes, "
                f"limit set to: {self._limit:,} bytes)."
            )
        return MemoryPointer(Memory(self._device, self, size), 0)

    def _take(self, size: int) -> None:
        self._used += _rounded(size)
        self._total = max(self._total, self._used)

    def used_bytes(self) -> int:
        return self._used

    def total_bytes(self) -> int:
        return self._total

    def free_bytes(self) -> int:
        return self._total - self._used

    def n_free_blocks(self) -> int:
        return int(self._total > self._used)

    def free_all_blocks(self, stream: Any = None) -> None:
        self._device.refuse_capture("cudaFree")
        self._total = self._used

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        if size is not None and fraction is not None:
            raise ValueError("size and fraction cannot be specified at the same time")
        self._limit = size or int((fraction or 0) * self._device.MEMORY)

    def get_limit(self) -> int:
        return self._limit


def alloc(device: Device, default: MemoryPool, size: int) -> MemoryPointer:
    allocator = getattr(device.local, "allocator", None) or default.malloc
    return allocator(size)


@contextlib.contextmanager
def using_allocator(device: Device, allocator: Callable[[int], MemoryPointer] | None = None) -> Iterator[None]:
    before = getattr(device.local, "allocator", None)
    device.local.allocator = allocator
    try:
        yield
    finally:
        device.local.allocator = before


class PinnedMemory:
    def __init__(self, block: Block) -> None:
        self.block, self.ptr, self.size = block, block.start, block.size


def alloc_pinned_memory(device: Device, size: int) -> Any:
    """A pointer with the buffer protocol; as with CuPy, the buffer may be longer than what was asked for."""
    block = device.pin(size)
    kind: Any = type("PinnedMemoryPointer", (ctypes.c_char * block.size,), {"size": lambda self: self.mem.size})
    pointer = kind.from_address(block.start)
    pointer.mem, pointer.ptr = PinnedMemory(block), block.start
    return pointer
