"""The memory and the bookkeeping of a simulated CUDA device: what CuPy's stand-in (`fake_cupy.py`) is built on.

Device memory is host memory, a block of its own per allocation (so that AddressSanitizer sees overruns), filled with
0xFF bytes when given out and again when given back. Work that is put into a stream waits there until something
synchronises: see `fake_queues.py`.
"""

from __future__ import annotations

import ctypes
import threading
import time
import weakref
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from .fake_errors import CUDARuntimeError, OutOfMemoryError
from .fake_queues import Queue

__all__ = ["Block", "Counts", "Device", "Snapshot", "view"]

ALIGNMENT = 512
KEPT = 64 << 20  # bytes of given-back memory that stay addressable, so that late readers find 0xFF instead of crashing

_libc = ctypes.CDLL(None)
GUARD = b"" if hasattr(_libc, "__asan_init") else bytes(range(64, 128))  # bytes behind a block, where nobody else looks
_libc.posix_memalign.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t, ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]
_libc.free.restype = None


class Block:
    """One allocation: `size` bytes at `start`."""

    def __init__(self, size: int) -> None:
        pointer = ctypes.c_void_p()
        if _libc.posix_memalign(ctypes.byref(pointer), ALIGNMENT, size + len(GUARD)) or not pointer.value:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes")
        self.start, self.size, self.dead = pointer.value, size, False
        self.poison()
        ctypes.memmove(self.start + size, GUARD, len(GUARD))

    def intact(self) -> bool:
        """Whether nothing was written right behind it."""
        return ctypes.string_at(self.start + self.size, len(GUARD)) == GUARD

    def poison(self) -> None:
        ctypes.memset(self.start, 0xFF, self.size)

    def __del__(self, free: Any = _libc.free) -> None:
        if getattr(self, "start", 0):
            free(self.start)


class Snapshot(NamedTuple):
    launches: int  # kernels put into a stream
    products: int  # matrix products of the library put into a stream
    captured: int  # kernels, products and copies recorded into a graph instead
    graph_launches: int
    kernels_run: int  # kernels that ran, by themselves or in a graph
    products_run: int
    array_ops: int  # kernels of CuPy's own: arithmetic, filling, indexing, cupy.matmul
    h2d: int
    h2d_bytes: int
    d2h: int
    d2h_bytes: int
    d2d: int
    memsets: int
    allocations: int
    allocated_bytes: int
    pinned_allocations: int
    synchronisations: int


class Counts:
    """What has happened since the last `reset()`: an attribute for each field of `Snapshot`."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        for name in Snapshot._fields:
            setattr(self, name, 0)

    def snapshot(self) -> Snapshot:
        return Snapshot(*(getattr(self, name) for name in Snapshot._fields))


class Device:
    """One device: its blocks of memory, its streams, its clock."""

    NAME = "simulated, no GPU code ran"
    MEMORY = 4 << 30

    def __init__(self, sanitize: bool = False) -> None:
        self.sanitize = sanitize  # kernels and products are compiled with AddressSanitizer
        self.lock = threading.RLock()
        self.counts = Counts()
        self.clock = time.perf_counter  # of events; a test may put its own here
        self.order = "forward"  # of the threads of a block, see the simulator
        self._starts: list[int] = []
        self._blocks: dict[int, Block] = {}
        self._dead: deque[Block] = deque()
        self._dead_bytes = 0
        self.pinned: dict[int, int] = {}  # start -> size
        self.captures = 0  # in progress
        self.allocated = 0
        self.local = threading.local()
        self.null = Queue(self, 0, True)
        self.queues = {0: self.null}
        self._next = 0x7A00_0000

    def new_queue(self, blocking: bool) -> Queue:
        self._next += 0x100
        queue = self.queues[self._next] = Queue(self, self._next, blocking)
        return queue

    def forget(self, queue: Queue) -> None:
        """A stream was destroyed: what it was given still happens."""
        if queue.capture is not None and queue.capture.origin is queue:
            self.captures -= 1
            for other in queue.capture.tails:
                other.capture = None
        if not queue.items:
            self.queues.pop(queue.ptr, None)

    def queue(self, ptr: Any) -> Queue:
        """The stream with this handle; raises for what is none."""
        found = self.queues.get(int(ptr or 0))
        if found is None:
            raise CUDARuntimeError(400, f"{ptr!r} is no stream")
        return found

    @property
    def current(self) -> Queue:
        stream = getattr(self.local, "stream", None)
        return self.null if stream is None else stream.queue

    # memory

    def allocate(self, size: int) -> Block:
        self.refuse_capture("an allocation while a stream is capturing")
        if self.allocated + size > self.MEMORY:
            raise OutOfMemoryError(
                f"Out of memory allocating {size:,} bytes (allocated so far: {self.allocated:,} bytes)."
            )
        block = Block(size)
        with self.lock:
            self.counts.allocations += 1
            self.counts.allocated_bytes += size
            self.allocated += size
            self._blocks[block.start] = block
            insort(self._starts, block.start)
        return block

    def release(self, block: Block, queue: Queue) -> None:
        """Give a block back, in the order of the stream on which it was allocated, as CuPy's pool does."""
        with self.lock:
            self.allocated -= block.size
            queue.behind(lambda: self._bury(block))

    def _bury(self, block: Block) -> None:
        block.poison()
        block.dead = True
        self._dead.append(block)
        self._dead_bytes += block.size
        while self._dead_bytes > KEPT or len(self._dead) > 4096:
            gone = self._dead.popleft()
            self._dead_bytes -= gone.size
            self._starts.remove(gone.start)
            del self._blocks[gone.start]

    def find(self, address: int) -> Block | None:
        """The block that holds this address, or ends there."""
        i = bisect_right(self._starts, address) - 1
        if i < 0:
            return None
        block = self._blocks[self._starts[i]]
        return block if address <= block.start + block.size else None

    def is_pinned(self, address: int, size: int) -> bool:
        return any(start <= address and address + size <= start + n for start, n in self.pinned.items())

    def fault(self, address: int, size: int = 0) -> str:
        """Why a kernel cannot read or write there, or an empty string."""
        block = self.find(address)
        if block is None:
            return "" if self.is_pinned(address, size) else f"{address:#x} is not in device memory"
        if block.dead:
            return f"{address:#x} is in memory that was given back"
        if address + size > block.start + block.size:
            return f"{size} bytes at {address:#x} reach beyond their allocation"
        return ""

    def check_guards(self, who: str, addresses: Iterable[int]) -> None:
        """Raise where something has just been written right behind one of these blocks."""
        for block in filter(None, map(self.find, addresses)):
            if not block.intact():
                ctypes.memmove(block.start + block.size, GUARD, len(GUARD))
                raise CUDARuntimeError(700, f"{who} wrote beyond the {block.size} bytes at {block.start:#x}")

    # capture

    def refuse_capture(self, what: str) -> None:
        """Raise where any stream is capturing, and spoil that capture, as CUDA does."""
        if not self.captures:
            return
        for queue in list(self.queues.values()):
            if queue.capture is not None:
                queue.capture.invalid = True
        raise CUDARuntimeError(900, what)

    def synchronize(self) -> None:
        self.refuse_capture("cudaDeviceSynchronize")
        self.counts.synchronisations += 1
        for queue in list(self.queues.values()):
            queue.drain()

    def pin(self, size: int) -> Block:
        self.refuse_capture("cudaHostAlloc")
        block = Block(-(-max(size, 1) // ALIGNMENT) * ALIGNMENT)
        self.counts.pinned_allocations += 1
        self.pinned[block.start] = block.size
        weakref.finalize(block, self.pinned.pop, block.start, None).atexit = False
        return block


def view(address: int, shape: tuple[int, ...], dtype: np.dtype[Any], strides: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Memory at an address as a NumPy array."""
    if 0 in shape:
        return np.empty(shape, dtype)
    reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
    low = address + sum(r for r in reach if r < 0)
    high = address + sum(r for r in reach if r > 0) + dtype.itemsize
    buffer = (ctypes.c_char * (high - low)).from_address(low)
    return np.ndarray(shape, dtype, buffer, address - low, strides)
