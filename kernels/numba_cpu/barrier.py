"""The barrier at which the executors of one job meet: a counter that only grows, and a wait that gives way.

    state = words_apart(1)                 # one per job
    phase += 1; barrier(state, n, phase)   # compiled, by each of the n executors, with phase = 1, 2, …

Whatever an executor wrote before the barrier, all see after it. Who waits spins for a moment, since the others are
usually as good as there; then lets other threads have the processor; then sleeps, so that a machine with more to do
than it has cores still gets on.
"""

from __future__ import annotations

import time
from _thread import allocate_lock
from typing import Any

from .atomics import NAP, add_one, let_others, load, nap, pause
from .modes import PLAIN, jit

__all__ = ["SPINS", "YIELDS", "barrier"]

# Pauses before the first system call, some 10 µs. On an overloaded machine every barrier costs them all: two threads on
# one core took 51 µs per barrier with 2,000 of them, 11 µs with 400, 1.4 µs with none.
SPINS = 400
YIELDS = 5_000  # 1 to 2 ms where nobody else wants the processor, longer where somebody does


def _wait_compiled(state: Any, n: int, phase: int) -> None:
    target = n * phase
    add_one(state)
    for _ in range(SPINS):
        if load(state) >= target:
            return
        pause()
    for _ in range(YIELDS):
        if load(state) >= target:
            return
        let_others()
    while load(state) < target:
        nap(NAP)


def _wait_plain(state: Any, n: int, phase: int) -> None:
    with _counting:
        state[0] += 1
    while state[0] < n * phase:
        time.sleep(0)  # gives the GIL to the others


_counting = allocate_lock()
barrier: Any = _wait_plain if PLAIN else jit(_wait_compiled)
