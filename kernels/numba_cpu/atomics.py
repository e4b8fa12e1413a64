"""What threads say to each other without a lock: single words, each read and written as one step.

Words are given as arrays, of which the first element counts. Increments and exchanges form one chain, so who loads what
another has stored also sees everything that the other wrote before, on processors that reorder memory accesses too.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from .modes import jit
from .pointers import at_address

__all__ = [
    *("NAP", "add_one", "current_cpu", "let_others", "load", "nap", "now", "pause", "store", "swap"),
    "take_one",
]

NAP = 50  # what `nap` is called with: µs

if sys.platform == "win32":
    from .helpers import provide

    provide(("SwitchToThread", "Sleep", "QueryPerformanceCounter"))
    let_others = types.ExternalFunction("SwitchToThread", types.int32())
    nap = types.ExternalFunction("Sleep", types.void(types.uint32))
    NAP = 1  # ms; Windows knows nothing shorter
    _counter = types.ExternalFunction("QueryPerformanceCounter", types.int32(types.CPointer(types.int64)))

    def _now(at: int) -> int:
        _counter(at_address(at, types.int64))
        return int(carray(at_address(at, types.int64), (1,))[0]) * 100  # it counts 10 million per second

else:
    let_others = types.ExternalFunction("sched_yield", types.int32())
    nap = types.ExternalFunction("usleep", types.int32(types.uint32))
    _clock = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.CPointer(types.int64)))
    MONOTONIC = int(time.CLOCK_MONOTONIC)

    def _now(at: int) -> int:
        _clock(MONOTONIC, at_address(at, types.int64))
        read = carray(at_address(at, types.int64), (2,))
        return int(read[0] * 1_000_000_000 + read[1])


if sys.platform == "linux":
    _get_cpu = types.ExternalFunction("sched_getcpu", types.int32())

    def _current_cpu() -> int:
        return int(_get_cpu())

else:

    def _current_cpu() -> int:
        return -1


now: Any = jit(_now)  # a clock's nanoseconds; it writes to two words at this address
current_cpu: Any = jit(_current_cpu)  # the number of the processor that this thread runs on; −1: unknown


def _word(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    return context.make_array(signature.args[0])(context, builder, values[0]).data


@intrinsic
def add_one(typing: Any, word: Any) -> Any:
    """word[0] += 1."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        at = _word(context, builder, signature, values)
        builder.atomic_rmw("add", at, ir.Constant(ir.IntType(64), 1), "acq_rel")
        return context.get_dummy_value()

    return types.void(word), build


@intrinsic
def take_one(typing: Any, word: Any) -> Any:
    """word[0] += 1; what it was before: each number goes to one of those who ask."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        at = _word(context, builder, signature, values)
        return builder.atomic_rmw("add", at, ir.Constant(ir.IntType(64), 1), "acq_rel")

    return types.int64(word), build


@intrinsic
def load(typing: Any, word: Any) -> Any:
    """word[0], never from a register."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load_atomic(_word(context, builder, signature, values), "acquire", 8)

    return types.int64(word), build


@intrinsic
def store(typing: Any, word: Any, value: Any) -> Any:
    """word[0] = value, after everything that this thread wrote before."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store_atomic(values[1], _word(context, builder, signature, values), "release", 8)
        return context.get_dummy_value()

    return types.void(word, types.int64), build


@intrinsic
def swap(typing: Any, word: Any, old: Any, new: Any) -> Any:
    """word[0] = new if it is `old`; whether it was."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        at = _word(context, builder, signature, values)
        found = builder.cmpxchg(at, values[1], values[2], "acq_rel", "acquire")
        return builder.extract_value(found, 1)

    return types.boolean(word, types.int64, types.int64), build


@intrinsic
def pause(typing: Any) -> Any:
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
