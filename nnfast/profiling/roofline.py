"""This machine's roofline, measured here and now: how fast it computes, and how fast it moves bytes.

The peak comes from matrix products that fit the cache, the bandwidths from adding one array to another, for a working
set that fits a core's own cache, one that does not, and one that only main memory holds. All of it is NumPy's code, the
best of several tries, in about a quarter of a second, once per process. Source of the model: Williams, Waterman and
Patterson, "Roofline: an insightful visual performance model for multicore architectures", 2009.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from threading import Barrier, Thread
from typing import Any, NamedTuple

import numpy as np

from nnfast.program import Cost
from nnfast.text import quantity

__all__ = ["Roofline", "measure"]

PRODUCTS = (192, 384)  # rows of the square matrices
NEAR, FAR = 256 << 10, 4 << 20  # bytes per core
MEMORY = 96 << 20  # bytes in all
WINDOW = 0.004  # seconds of one try
TRIES = 6


class Roofline(NamedTuple):
    """What `threads` cores can do at best, in one dtype."""

    threads: int
    dtype: str
    core_flops: float  # floating-point operations per second of one core
    flops: float  # and of all that are used
    bandwidths: tuple[tuple[int, float], ...]  # (bytes of the working set per core, bytes per second of all), rising

    def bandwidth(self, moved: int) -> float:
        """Bytes per second for an op that moves this many: of the smallest working set measured that holds them."""
        fitting = [speed for size, speed in self.bandwidths if moved <= size * self.threads]
        return fitting[0] if fitting else self.bandwidths[-1][1]

    def seconds(self, cost: Cost) -> float:
        """What an op takes at least: the longer of computing and moving."""
        return max(cost.flops / self.flops, cost.bytes / self.bandwidth(cost.bytes))

    def bound(self, cost: Cost) -> str:
        """Which of the two is the longer: "compute" or "memory"; "" for an op that does neither."""
        if not cost.bytes and not cost.flops:
            return ""
        return "compute" if cost.flops / self.flops > cost.bytes / self.bandwidth(cost.bytes) else "memory"

    def __str__(self) -> str:
        cores = f"{quantity(self.flops, 'FLOP/s')} in {self.dtype}"
        if self.threads > 1:
            cores += f" with {self.threads} threads ({quantity(self.core_flops, 'FLOP/s')} with one)"
        near, far, memory = (quantity(speed, "B/s") for _, speed in self.bandwidths)
        sizes = (quantity(size * self.threads, "B") for size, _ in self.bandwidths[:2])
        return f"{cores}; {near} over up to {next(sizes)}, {far} up to {next(sizes)}, {memory} beyond"


@functools.cache
def measure(dtype: str, threads: int) -> Roofline:
    """The roofline of this many threads; measured at the first call."""
    with _single_threaded_blas() as single:
        core = max(_rate(_product(n, dtype), 2 * n**3, 1) for n in PRODUCTS)
        every = max(core, *(_rate(_product(n, dtype), 2 * n**3, threads) for n in PRODUCTS)) if single else core
    if not single:  # then the products have used whatever BLAS uses
        core /= threads
    near = threads * _rate(*_addition(NEAR, dtype), 1)  # too short for threads that take turns in Python
    far = _rate(*_addition(FAR, dtype), threads)
    memory = _rate(*_addition(MEMORY // threads, dtype), threads)
    sizes = (NEAR, FAR, max(MEMORY // threads, FAR))
    return Roofline(threads, dtype, core, every, tuple(zip(sizes, (near, far, memory), strict=True)))


def _product(n: int, dtype: str) -> Callable[[], Callable[[], Any]]:
    """Makes a product of two n × n matrices, with arrays of its own."""

    def make() -> Callable[[], Any]:
        a, b, c = np.ones((3, n, n), dtype)
        return lambda: np.matmul(a, b, out=c)

    return make


def _addition(size: int, dtype: str) -> tuple[Callable[[], Callable[[], Any]], int]:
    """Makes a += b over arrays of `size` bytes together, and the bytes that it moves: two read, one written."""

    def make() -> Callable[[], Any]:
        a, b = np.ones((2, size // 2 // np.dtype(dtype).itemsize), dtype)
        return lambda: np.add(a, b, out=a)

    return make, size // 2 * 3


def _rate(make: Callable[[], Callable[[], Any]], amount: int, threads: int) -> float:
    """How much of what a call does `amount` of is done per second by this many threads at once; the best of TRIES."""
    calls = [make() for _ in range(threads)]
    once = min(_seconds(calls[0], 1) for _ in range(2))  # the first one also touches the arrays
    again = max(1, int(WINDOW / max(once, 1e-7)))
    return max(threads * again * amount / _together(calls, again) for _ in range(TRIES))


def _together(calls: list[Callable[[], Any]], again: int) -> float:
    """Seconds that a call takes on the average when each is made `again` times, each in a thread of its own."""
    if len(calls) == 1:
        return _seconds(calls[0], again)
    barrier = Barrier(len(calls))
    taken = [0.0] * len(calls)

    def work(i: int) -> None:
        barrier.wait()
        taken[i] = _seconds(calls[i], again)

    others = [Thread(target=work, args=(i,)) for i in range(1, len(calls))]
    for other in others:
        other.start()
    work(0)
    for other in others:
        other.join()
    return sum(taken) / len(taken)


def _seconds(call: Callable[[], Any], again: int) -> float:
    """Of this thread's processor, so that what other programs take away does not count as the machine's limit."""
    begin = _clock()
    for _ in range(again):
        call()
    return _clock() - begin


# On Windows the time of a thread is counted in steps of 16 ms.
_clock = time.perf_counter if sys.platform == "win32" else time.thread_time


def _single_threaded_blas() -> AbstractContextManager[Any]:
    """A context in which a product uses one core; it gives None where nothing can see to that."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    limits: AbstractContextManager[Any] = threadpool_limits(1, "blas")
    return limits
