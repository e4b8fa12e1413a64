"""The barrier at which the executors of one job meet: a counter that only grows, and a wait that gives way.

    state = barrier_state()                # one per job
    phase += 1; barrier(state, n, phase)   # compiled, by each of the n executors, with phase = 1, 2, …

Whatever an executor wrote before the barrier, all see after it. Who waits spins for a moment, since the others are
usually as good as there; then lets other threads have the processor; then sleeps, so that a machine with more to do
than it has cores still gets on.
"""

from __future__ import annotations

import sys
import time
from _thread import allocate_lock
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .modes import PLAIN, jit

__all__ = ["barrier", "barrier_state"]

LINE = 128  # bytes: two cache lines of most processors, which fetch them in pairs; one of Apple's
# Pauses before the first system call, some 10 µs. On an overloaded machine every barrier costs them all: two threads on
# one core took 51 µs per barrier with 2,000 of them, 11 µs with 400, 1.4 µs with none.
SPINS = 400
YIELDS = 5_000  # 1 to 2 ms where nobody else wants the processor, longer where somebody does
NAP = 50  # µs

if sys.platform == "win32":
    import ctypes

    from llvmlite import binding

    for _name in ("SwitchToThread", "Sleep"):
        _function = getattr(ctypes.windll.kernel32, _name)
        binding.add_symbol(_name, ctypes.cast(_function, ctypes.c_void_p).value)
    _let_others = types.ExternalFunction("SwitchToThread", types.int32())
    _sleep = types.ExternalFunction("Sleep", types.void(types.uint32))
    NAP = 1  # ms; Windows knows nothing shorter
else:
    _let_others = types.ExternalFunction("sched_yield", types.int32())
    _sleep = types.ExternalFunction("usleep", types.int32(types.uint32))


def barrier_state() -> np.ndarray[Any, Any]:
    """A counter at 0, alone in its cache line."""
    raw = np.zeros(2 * LINE // 8, np.int64)
    start = -raw.ctypes.data % LINE // 8
    return raw[start : start + LINE // 8]


def _wait_compiled(state: Any, n: int, phase: int) -> None:
    target = n * phase
    _arrive(state)
    for _ in range(SPINS):
        if _arrived(state) >= target:
            return
        _pause()
    for _ in range(YIELDS):
        if _arrived(state) >= target:
            return
        _let_others()
    while _arrived(state) < target:
        _sleep(NAP)


def _wait_plain(state: Any, n: int, phase: int) -> None:
    with _counting:
        state[0] += 1
    while state[0] < n * phase:
        time.sleep(0)  # gives the GIL to the others


_counting = allocate_lock()
barrier: Any = _wait_plain if PLAIN else jit(_wait_compiled)


# The increment releases what this executor wrote; increments form one chain, so a load that sees the last of them
# acquires what all of them released, also on processors that reorder memory accesses more freely than x86.


@intrinsic
def _arrive(context: Any, state: Any) -> Any:
    """state[0] += 1, as one step."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        counter = context.make_array(signature.args[0])(context, builder, values[0]).data
        builder.atomic_rmw("add", counter, ir.Constant(ir.IntType(64), 1), "acq_rel")
        return context.get_dummy_value()

    return types.void(state), build


@intrinsic
def _arrived(context: Any, state: Any) -> Any:
    """state[0], never from a register."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        counter = context.make_array(signature.args[0])(context, builder, values[0]).data
        return builder.load_atomic(counter, "acquire", 8)

    return types.int64(state), build


@intrinsic
def _pause(context: Any) -> Any:
    """Tell the core that it is only waiting: it saves power and lets the other thread of the core go first."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        machine = builder.module.triple.partition("-")[0]
        number = ir.IntType(32)
        if machine in ("x86_64", "i386", "i686"):
            kind = ir.FunctionType(ir.VoidType(), ())
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), kind), ())
        elif machine.startswith(
            ("aarch64", "arm64")
        ):  # where `yield` does nothing, but a barrier for instructions waits
            kind = ir.FunctionType(ir.VoidType(), (number,))
            builder.call(builder.module.declare_intrinsic("llvm.aarch64.isb", (), kind), (number(15),))
        return context.get_dummy_value()

    return types.void(), build
