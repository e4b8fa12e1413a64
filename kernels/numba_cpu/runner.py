"""The compiled runner: whole jobs inside the interpreter, out of it only where plain Python has its turn.

A step is cut into spans. All of them are compiled but those of a layer in plain Python, of an op without a kernel here,
and of `on_gradients`; without any, a job of a thousand steps is one call. See `plan.py` for what is split how.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnfast.protocol import Buffer, Job, Op, OpReport, Result, num_threads

from ..reference.runner import batches_of, report_of, scalars_of_job, scalars_of_step
from . import table
from .binding import Binding, Data, Memory, part_starts
from .context import scratch_bytes
from .features import make_features_plan
from .interpreter import H, execute, repeated
from .plan import ONE_AT_A_TIME, Plan, is_compiled, make_plan
from .products import PACK_BYTES
from .search import SplitSearch, is_independent

if TYPE_CHECKING:
    from nnfast.protocol import Program

    from . import NumbaBackend
    from .profiling import TimedRunner

__all__ = ["NumbaRunner"]

SHARE_FLOPS = 100_000  # what a share has to do in a step: with less, waiting for each other costs more than it saves
AWAKE = 150e-6  # seconds: what is over sooner is done before others are awake
LONG = 32  # steps from which on it pays to copy columns of weights to memory of their share's own, and back
BRIEF = 20e-6  # what is over sooner keeps the GIL: giving it up and taking it back would cost as much again
SPEED = 5e10  # floating-point operations per second of one core, roughly
BANDWIDTH = 1e10  # bytes per second, likewise


class Span(NamedTuple):
    """Instructions first … last − 1, compiled, or the one call of plain Python at `first`."""

    first: int
    last: int
    compiled: bool


class NumbaRunner:
    """Runs a Program compiled; owns the arena and other working memory, all of which only grows."""

    def __init__(self, program: Program, backend: NumbaBackend) -> None:
        self.program = program
        self.backend = backend
        self._search = any(op.name in ONE_AT_A_TIME for op in program.ops)
        self._split = SplitSearch(self) if is_independent(program) else None
        self._memory = Memory({}, [], [], {}, backend.empty(0, program.dtype), [], [])
        self._bindings: dict[Any, Binding] = {}
        self._costs: dict[int, float] = {}
        self._timed: TimedRunner | None = None
        self._python = [i for i, op in enumerate(program.ops) if not is_compiled(op)]
        for i in self._python:
            if program.ops[i].name != "python" and backend.kernel(program.ops[i].name) is None:
                raise LookupError(f"backend {backend.name!r} has no kernel for the op {program.ops[i].name!r}")

    def __reduce__(self) -> Any:
        raise TypeError("a runner holds addresses of its own memory: copy the model, which compiles another")

    def report(self) -> list[OpReport]:
        return [_report(op, i in self._python, self.backend) for i, op in enumerate(self.program.ops)]

    def run(self, job: Job) -> Result:
        found = self._split.run(job) if self._split is not None and not self._python else None
        return self.run_alone(job) if found is None else found

    def twin(self) -> NumbaRunner:
        """Another runner of the same program, with working memory of its own."""
        return NumbaRunner(self.program, self.backend)

    def run_alone(self, job: Job) -> Result:
        """The job as one sequence of steps."""
        rows, size, batches = batches_of(job)
        binding = self._binding(job, rows, size, batches)
        sums = binding.fill(job, size, batches)
        spans = _spans(binding.plan, cut=job.on_gradients is not None)
        if len(spans) == 1:
            with binding.apart():
                self._straight(job, binding, spans[0], brief=self._seconds(size) * job.steps < AWAKE)
        else:
            alone = self._seconds(size) / len(spans) < AWAKE
            for s in range(job.steps):
                self._step(job, binding, spans, s, sums, alone)
                job.done = s + 1
        return _result(sums, len(self.program.sums))

    def repeat(self, job: Job) -> Callable[[], None] | None:
        """The job as a call that costs next to nothing beside the work, for predictions one after the other.

        The job's arrays and numbers stay the same; what they hold may change. None where plain Python has a turn.
        """
        binding = self._binding(job, len(job.x), len(job.x), 1)
        spans = _spans(binding.plan, cut=False)
        if len(spans) > 1 or not spans[0].compiled:
            return None
        whole = spans[0].first, spans[0].last
        self._kept = binding.fill(job, len(job.x), 1)
        binding.span((0, 1), whole, begins=True)
        if self._seconds(len(job.x)) < BRIEF:
            return repeated(binding.header)

        def again() -> None:
            binding.span((0, 1), whole, begins=True)  # those who meet at barriers count from 0 again
            execute(binding.header, binding.shares, alone=False)

        return again

    def profile(self, job: Job) -> tuple[list[tuple[int | str, float]], float, int] | None:
        """`run` with a clock around each instruction, see `profiling.py`; None where no clock can be read."""
        from .profiling import timed_runner

        self._timed = self._timed or timed_runner(self)
        return None if self._timed is None else self._timed.profile(job)

    # ---- one step with cuts -----------------------------------------------------------------------------------------

    def _straight(self, job: Job, binding: Binding, span: Span, *, brief: bool) -> None:
        """All steps without Python, by whom it is faster: alone or together."""
        brief = brief or binding.shares == 1
        for steps, alone in [(job.steps, True)] if brief else binding.pace.pieces(job.steps):
            binding.span((job.done, job.done + steps), (span.first, span.last), begins=True)
            begin = time.perf_counter()
            try:
                execute(binding.header, binding.shares, alone=alone)
            finally:  # Ctrl-C is heard when the steps are done
                job.done = int(binding.header[H.DONE])
            if not brief:
                binding.pace.took(steps, alone, time.perf_counter() - begin)

    def _step(self, job: Job, binding: Binding, spans: list[Span], s: int, sums: Any, alone: bool) -> None:
        begins = True
        for span in spans:
            if span.compiled:
                binding.span((s, s + 1), (span.first, span.last), begins=begins)
                execute(binding.header, binding.shares, alone=alone)
                begins = False
            else:
                self._call(binding.plan.instructions[span.first].op, job, binding, s, sums[0, s])
            if job.on_gradients is not None and span.last == binding.plan.update_at:
                job.on_gradients(job.buffers.gradients)

    def _call(self, op: Op, job: Job, binding: Binding, s: int, sums: Any) -> None:
        """One op outside compiled code, on the whole batch."""
        rows, size, batches = batches_of(job)
        batch = (job.first_batch + s) % batches
        values = scalars_of_job(self.program, job) | scalars_of_step(job, s, min(size, rows - batch * size))
        attributes = dict(op.attributes)
        kernel: Any = attributes.pop("call") if op.name == "python" else self.backend.kernel(op.name)
        arrays = [binding.view(b, job, batch, sums) for b in op.args]
        kernel(*arrays, **{k: values.get(n, n) for k, n in op.scalars}, **attributes)

    # ---- bindings ---------------------------------------------------------------------------------------------------

    def _binding(self, job: Job, rows: int, size: int, batches: int) -> Binding:
        """The tables for jobs of this kind, made when the first comes."""
        flat = {
            "parameters": job.buffers.parameters,
            "gradients": job.buffers.gradients,
            "state": job.buffers.state,
            **job.buffers.slots,
        }
        known = self._memory.flat
        if known.keys() != flat.keys() or any(known[name] is not array for name, array in flat.items()):
            self._bindings.clear()
            self._memory.flat = flat
            self._memory.own.clear()
        data = _data(job)
        idle = self._idle(job)
        shares = self._shares(size)
        short = rows - (batches - 1) * size if rows else 0
        variants = (size, short) if short != size else (size,)
        watched, long = job.on_gradients is not None, job.steps >= LONG
        key = variants, data, idle, shares, watched, long
        found = self._bindings.get(key)
        if found is None:
            gathered = _gathered(job)
            plan = make_features_plan(self.program, shares, idle, size, gathered) or make_plan(
                self.program, shares, idle, cut=watched, gathered=gathered
            )
            apart = bool(plan.owned) and long and not watched
            self._grow(plan, size, shares, data, apart)
            found = self._bindings[key] = Binding(plan, variants, shares, data, self._memory, apart=apart)
        return found

    def _shares(self, size: int) -> int:
        """How many shares the work is cut into: by shapes and the configured number of threads, nothing else."""
        if self._search:
            return 1
        return max(1, min(num_threads(), int(self._seconds(size) * SPEED / SHARE_FLOPS)))

    def _seconds(self, size: int) -> float:
        """What a step takes, very roughly."""
        if size not in self._costs:
            costs = self.program.costs(size)
            self._costs[size] = sum(max(c.flops / SPEED, c.bytes / 4 / BANDWIDTH) for c in costs)
        return self._costs[size]

    def _idle(self, job: Job) -> frozenset[int]:
        """The ops that would change nothing with the job's numbers: penalties of strength 0, a limit of infinity."""
        values: dict[Any, Any] = dict(zip(self.program.scalars, job.scalars, strict=True))
        idle = []
        for i, op in enumerate(self.program.ops):
            numbers: dict[str, Any] = {keyword: values.get(source, source) for keyword, source in op.scalars}
            if (op.name == "penalty" and not (numbers["l1"] or numbers["l2"])) or (
                op.name == "clip_by_global_norm" and numbers["clip_norm"] == np.inf
            ):
                idle.append(i)
        return frozenset(idle)

    def _grow(self, plan: Plan, size: int, shares: int, data: Data, apart: bool) -> None:
        """Make the working memory large enough; what moves takes all bindings with it."""
        program, backend, memory = self.program, self.backend, self._memory
        copies = len(plan.owned) or 1
        moved = _enlarge(memory.arenas, copies, program.arena_size(size), program.dtype, backend)
        if data.ordered:
            for name, row_bytes in (("x", data.x), ("y", data.y), ("weight", data.weight)):
                moved |= _enlarge(memory.staged.setdefault(name, []), copies, row_bytes * size, "uint8", backend)
        needed = plan.exchange_columns * program.arena_rows(size)
        if needed > memory.exchange.size:
            memory.exchange, moved = backend.empty(needed, program.dtype), True
        while apart and len(memory.own) < shares:
            memory.own.append({name: backend.empty(a.shape, a.dtype) for name, a in memory.flat.items()})
        runs = part_starts(plan.parts)
        part = runs[-1][2] + runs[-1][1] if runs else 0
        if len(memory.parts) < shares - 1 or (memory.parts and part > memory.parts[0].size):
            # Zero, because padding between blocks is added along with them.
            memory.parts, moved = [backend.zeros(part, program.dtype) for _ in range(shares - 1)], True
        scratch = max((_scratch(op, program.dtype) for op in program.ops), default=0) + PACK_BYTES
        if len(memory.scratch) < shares or scratch > memory.scratch[0].nbytes:
            memory.scratch, moved = [backend.empty(scratch, np.uint8) for _ in range(shares)], True
        if moved:
            self._bindings.clear()


def _enlarge(arrays: list[Any], count: int, size: int, dtype: str, backend: NumbaBackend) -> bool:
    """See to it that there are so many arrays of this size; returns whether there had to be others."""
    if len(arrays) >= count and all(a.size >= size for a in arrays):
        return False
    size = max(size, *(a.size for a in arrays), 0)
    arrays[:] = [backend.empty(size, dtype) for _ in range(max(count, len(arrays)))]
    return True


def _data(job: Job) -> Data:
    def row_bytes(array: Any) -> int:
        return 0 if array is None else array.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))

    sparse = job.y is not None and job.y.ndim == 1
    x, y, weight, output = map(row_bytes, (job.x, job.y, job.sample_weight, job.output))
    return Data(x, y, weight, output, sparse, job.order is not None)


def _gathered(job: Job) -> tuple[Op, ...]:
    """What brings the rows of a batch together, where the job gives them an order."""
    if job.order is None:
        return ()
    ops = []
    for name, array in (("x", job.x), ("y", job.y), ("weight", job.sample_weight)):
        if array is not None:
            width = () if array.dtype == np.int64 else (int(np.prod(array.shape[1:], dtype=np.int64)),)
            order = Buffer("order", "order", 0, ("N",))
            source = Buffer(f"source {name}", f"source {name}", 0, ("M", *width))
            kernel = "gather" if width else "gather_labels"
            ops.append(Op(kernel, (order, source, Buffer(name, name, 0, ("N", *width))), stage="gather"))
    return tuple(ops)


def _scratch(op: Op, dtype: str) -> int:
    if not is_compiled(op):
        return 0
    dims = {
        d: n
        for arg, b in zip(table.spec_of(op.name).args, op.args, strict=True)
        if b is not None
        for d, n in zip(arg.shape, b.shape, strict=False)
        if not isinstance(n, str)
    }
    return scratch_bytes(dims, dtype)


def _spans(plan: Plan, *, cut: bool) -> list[Span]:
    """The instructions cut where plain Python has its turn."""
    spans: list[Span] = []
    first = 0
    for i, step in enumerate(plan.instructions):
        if not step.compiled:
            spans += [Span(first, i, True)] * (first < i) + [Span(i, i + 1, False)]
            first = i + 1
        elif cut and i + 1 == plan.update_at:
            spans.append(Span(first, i + 1, True))
            first = i + 1
    end = len(plan.instructions)
    if first < end:
        spans.append(Span(first, end, True))
    return spans


def _result(sums: Any, columns: int) -> Result:
    """The shares' sums added up in order, and the first step that was not finite."""
    total = sums[0] if len(sums) == 1 else sums.sum(axis=0)
    finite = np.isfinite(total[:, :2]).all(axis=1) & np.isfinite(total[:, columns])
    nonfinite = -1 if finite.all() else int(np.argmin(finite))
    return Result(np.ascontiguousarray(total[:, :columns]), nonfinite)


def _report(op: Op, python: bool, backend: NumbaBackend) -> OpReport:
    if not python:
        return OpReport(op.name, f"compiled: {table.origin(op.name)}")
    report = report_of(op, dict(op.attributes).get("call") or backend.kernel(op.name))
    if op.name == "python":
        return report
    return report._replace(reason="no Numba kernel was registered for it: cuts the program")
