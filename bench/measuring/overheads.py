"""What no computation can be quicker than here: a call into compiled code, a barrier, the waking of a thread.

With Numba a call is that of an empty compiled function and a barrier is nnfast's own, both measured many thousand times
in a row; without it there is only the waking.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

__all__ = ["limits"]

TRIES = 5
BARRIERS = 20_000
CALLS = 20_000
WAKINGS = 200


def limits(threads: int) -> dict[str, float]:
    """Seconds each, the best of several tries."""
    found = {"seconds to wake a thread and hear of it": min(_waking() for _ in range(TRIES))}
    try:
        import numba
    except ImportError:
        return found
    if numba.config.DISABLE_JIT:
        return found
    empty = numba.njit(lambda x: x)
    empty(1)  # compiles
    found["seconds to call compiled code"] = min(_call(empty) for _ in range(TRIES))
    if threads > 1:
        meet = _compiled_barriers(numba)
        found["seconds for a barrier of all threads"] = min(_barrier(meet, threads) for _ in range(TRIES))
    return found


def _waking() -> float:
    """There and back between two Python threads that sleep."""
    there: SimpleQueue[bool] = SimpleQueue()
    back: SimpleQueue[bool] = SimpleQueue()

    def echo() -> None:
        while there.get():
            back.put(True)

    other = Thread(target=echo)
    other.start()
    begin = time.perf_counter()
    for _ in range(WAKINGS):
        there.put(True)
        back.get()
    taken = time.perf_counter() - begin
    there.put(False)
    other.join()
    return taken / WAKINGS


def _call(empty: Callable[[int], int]) -> float:
    begin = time.perf_counter()
    for _ in range(CALLS):
        empty(1)
    return (time.perf_counter() - begin) / CALLS


def _compiled_barriers(numba: Any) -> Callable[[Any, int], None]:
    barrier = importlib.import_module("nnfast.kernels.numba_cpu.barrier").barrier

    @numba.njit(nogil=True)
    def meet(state: Any, n: int) -> None:
        for phase in range(1, BARRIERS + 1):
            barrier(state, n, phase)

    def run(state: Any, n: int) -> None:
        meet(state, n)

    return run


def _barrier(meet: Callable[[Any, int], None], threads: int) -> float:
    """Seconds per barrier of so many threads, which do nothing in between."""
    state = importlib.import_module("nnfast.kernels.numba_cpu.addresses").words_apart(1)
    others = [Thread(target=meet, args=(state, threads)) for _ in range(threads - 1)]
    for other in others:
        other.start()
    begin = time.perf_counter()  # the first barrier waits for all to come
    meet(state, threads)
    taken = time.perf_counter() - begin
    for other in others:
        other.join()
    return taken / BARRIERS
