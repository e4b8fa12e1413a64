"""A runner with a clock around every op: what `nnfast.profiling.measuring` asks the Numba runner for.

The table of what the interpreter calls (`binding.py`) gets, in the place of each function, one of a few instructions
that reads the processor's counter, calls the function, reads it again and adds the difference to a number of its own.
Nothing else about a step changes, and an op of a microsecond is timed to a percent or so. The timed runner has its own
working memory, so that the runner it stands in for is left as it is.
"""

from __future__ import annotations

import ctypes
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from nnfast.protocol import Job, Op

from ..reference.runner import batches_of
from .addresses import address_of
from .binding import Binding
from .interpreter import H, execute
from .jobs import Span
from .pace import AWAKE
from .plan import BARRIER
from .runner import NumbaRunner

if TYPE_CHECKING:
    from nnfast.protocol import Program

    from . import NumbaBackend
    from .aside import Turns

__all__ = ["TimedRunner", "timed_runner"]

Line = tuple[int | str, float]

LINE = 16  # numbers between those of two shares, so that no cache line belongs to two threads

# Processors whose counter any program can read.
COUNTERS = ("x86_64", "amd64", "i386", "i686", "aarch64", "arm64")

# What the plan adds to the program's ops, in words. Other instructions belong to an op of the program.
INTERNAL = {
    "gather": "gather rows",
    "gather_labels": "gather rows",
    "combine": "add up shares",
    "check": "check for NaN",
}


class TimedRunner(NumbaRunner):
    """Runs a Program as `NumbaRunner` does, and notes how long each instruction takes."""

    def __init__(self, program: Program, backend: NumbaBackend) -> None:
        super().__init__(program, backend)
        self._clocks: WeakKeyDictionary[Binding, Clocks] = WeakKeyDictionary()
        self._plain: dict[int, float] = {}  # seconds of plain Python, by place in the plan
        self._wanted_alone = self._alone = True

    def profile(self, job: Job) -> tuple[list[Line], float, int]:
        """Run the job; what took how long, the whole, and how many threads it had: by turns one, and one per share.

        Which of the two is faster, and so what the plain runner does, depends on who else wants the processor.
        """
        binding = self._binding(job, *batches_of(job))
        if binding not in self._clocks:
            self._clocks[binding] = Clocks(binding, self.program)
        clocks = self._clocks[binding]
        clocks.ticks[...] = 0
        self._plain, self._wanted_alone = {}, not self._wanted_alone
        begin, first = time.perf_counter(), clocks.now()
        self.run_alone(job)
        seconds, ticks = time.perf_counter() - begin, clocks.now() - first
        lines = self._lines(binding, clocks.owners, clocks.ticks * (seconds / max(ticks, 1)))
        threads = 1 if self._alone else binding.shares
        if threads > 1:
            lines.append(("waiting", seconds - sum(t for _, t in lines)))
        return lines, seconds, threads

    def _straight(
        self, job: Job, binding: Binding, span: Span, count: int, each: float, turns: Turns | None = None
    ) -> None:
        """All steps in one piece, where the plain runner would try out who is faster."""
        self._alone = self._wanted_alone or each * count < AWAKE or binding.shares == 1
        binding.span((job.done, job.done + count), (span.first, span.last), begins=True)
        if turns is not None:
            turns.attach(binding.header, job.done, job.done + count)
        execute(binding.header, binding.shares, alone=self._alone)
        job.done = int(binding.header[H.DONE])

    def _step(self, job: Job, binding: Binding, spans: list[Span], s: int, sums: Any, alone: bool) -> None:
        self._alone = alone or binding.shares == 1
        super()._step(job, binding, spans, s, sums, alone)

    def _call(self, op: Op, job: Job, binding: Binding, s: int, sums: Any) -> None:
        begin = time.perf_counter()
        super()._call(op, job, binding, s, sums)
        taken = time.perf_counter() - begin
        i = next(i for i, step in enumerate(binding.plan.instructions) if step.op is op)
        self._plain[i] = self._plain.get(i, 0.0) + taken

    def _lines(self, binding: Binding, owners: list[int | str], seconds: Any) -> list[Line]:
        """Seconds by op of the program, or by name where the plan has added something, in the order of the step.

        Between two barriers the share that took longest counts, since the others wait for it: what it took is divided
        among the instructions there as the work of all shares is. Where one thread did all shares, their sum counts.
        """
        found: dict[int | str, float] = {}
        for group in _groups(binding):
            taken = seconds[:, group]
            whole = taken.sum()
            held_up = whole if self._alone else taken.sum(axis=1).max()
            for i, t in zip(group, taken.sum(axis=0), strict=True):
                found[owners[i]] = found.get(owners[i], 0.0) + float(t * held_up / whole if whole else 0.0)
                if not binding.plan.instructions[i].compiled:
                    found[owners[i]] += self._plain.get(i, 0.0)
        return list(found.items())


def timed_runner(runner: NumbaRunner) -> TimedRunner | None:
    """One for the same program, or None where a program may not read this processor's counter."""
    return TimedRunner(runner.program, runner.backend) if _machine() in COUNTERS else None


def _groups(binding: Binding) -> list[list[int]]:
    """The instructions between one barrier and the next, in order; plain Python is a group of its own."""
    groups: list[list[int]] = [[]]
    for i, step in enumerate(binding.plan.instructions):
        if step.op.name == BARRIER:
            groups.append([])
        elif step.compiled:
            groups[-1].append(i)
        else:
            groups += [[i], []]
    return [group for group in groups if group]


def _owner(op: Op, program: Program) -> int | str:
    """The place in the program of the op that an instruction belongs to, or what it is in words."""
    if op.name in INTERNAL:
        return INTERNAL[op.name]
    same = [i for i, own in enumerate(program.ops) if own is op]
    if same:
        return same[0]
    for i, own in enumerate(program.ops):
        if op.name == "dense_weights" and own.name == "dense_backward" and own.args[6] == op.args[2]:
            return i
        if op.name in ("sum_of_squares", "scale_to_norm") and own.name == "clip_by_global_norm":
            return i
        if own.name == op.name and all(a is None or a == b for a, b in zip(op.args, own.args, strict=True)):
            return i  # an op that another has taken an array from
    return _by_features(op, program)


def _by_features(op: Op, program: Program) -> int | str:
    """The same for an instruction of a plan by features, whose arrays are parts "NAME[…]" of those of the program."""
    parts = {b.name.partition("[")[0] for b in op.args if b is not None}
    backward = "backward" in op.name or op.name == "dense_weights"
    for i, own in enumerate(program.ops):
        if own.stage == "update" and own.name == op.name:
            return i
        if own.name not in ("dense", "dense_backward"):
            continue
        weights, made = own.args[1], own.args[3 if own.name == "dense" else 5]
        if op.name.startswith("dense") and op.name != "dense_join":
            same = (own.name == "dense_backward") == backward
            if same and weights is not None and parts & {weights.name, f"d{weights.name}"}:
                return i
        elif made is not None and made.name in parts:  # an activation, or a sum over shares
            return i
    return op.name.replace("_", " ")


# ---- the clocks --------------------------------------------------------------------------------------------------


def _machine() -> str:
    triple: str = llvm.get_process_triple()
    return triple.partition("-")[0]


class Clocks:
    """A clock around each call in a binding's table.

    `ticks` (shares, instructions) is what they have counted; `owners` says what each instruction belongs to.
    """

    def __init__(self, binding: Binding, program: Program) -> None:
        calls = binding.calls
        self.owners = [_owner(step.op, program) for step in binding.plan.instructions]
        _, instructions, shares = calls.shape
        wide = -(-instructions // LINE) * LINE + LINE
        self._ticks = np.zeros((shares, wide), np.int64)
        self.ticks = self._ticks[:, :instructions]
        places = {
            (int(calls[v, i, t]), i, t): address_of(self._ticks) + 8 * (t * wide + i)
            for v, i, t in np.argwhere(calls).tolist()
        }
        self._engine, names = _compile([(target, place) for (target, _, _), place in places.items()])
        for (target, i, t), name in zip(places, names, strict=True):
            calls[:, i, t][calls[:, i, t] == target] = self._engine.get_function_address(name)
        self.now = ctypes.CFUNCTYPE(ctypes.c_int64)(self._engine.get_function_address("now"))


def _compile(calls: list[tuple[int, int]]) -> tuple[Any, list[str]]:
    """One function for each (address of what it calls, address of the number it adds to), and `now`."""
    module = ir.Module("clocks")
    module.triple = llvm.get_process_triple()
    word, words = ir.IntType(64), ir.IntType(64).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [words] * 4)
    names = [f"timed_{i}" for i in range(len(calls))]
    for name, (target, place) in zip(names, calls, strict=True):
        function = ir.Function(module, kind, name)
        b = ir.IRBuilder(function.append_basic_block())
        begin = _counter(b)
        b.call(b.inttoptr(word(target), kind.as_pointer()), function.args)
        taken = b.sub(_counter(b), begin)
        number = b.inttoptr(word(place), words)
        b.store(b.add(b.load(number), taken), number)
        b.ret_void()
    now = ir.IRBuilder(ir.Function(module, ir.FunctionType(word, []), "now").append_basic_block())
    now.ret(_counter(now))
    machine = llvm.Target.from_triple(module.triple).create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    return engine, names


def _counter(b: Any) -> Any:
    """The processor's counter, which runs at one speed on all cores."""
    kind = ir.FunctionType(ir.IntType(64), [])
    if _machine() in ("aarch64", "arm64"):  # where LLVM's own way reads a counter that systems keep to themselves
        return b.asm(kind, "mrs $0, cntvct_el0", "=r", [], True)
    return b.call(b.module.declare_intrinsic("llvm.readcyclecounter", (), kind), [])
