"""The compiled runner: whole jobs inside the interpreter, out of it only where plain Python has its turn.

A step is cut into spans. All of them are compiled but those of a layer in plain Python, of an op without a kernel here,
and of `on_gradients`; without any, a job of a thousand steps is one call. See `plan.py` for what is split how.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nnfast.protocol import Job, Op, OpReport, PopulationJob, Result, num_threads

from ..reference.runner import batches_of, flat_arrays, report_of, scalars_of_job, scalars_of_step
from . import table
from .aside import Turns
from .binding import Binding
from .features import make_features_plan
from .interpreter import H, execute, prepare, repeated
from .jobs import Span, data_of, gather_ops, result_of
from .memory import Memory
from .pace import AWAKE
from .placing import Placing
from .plan import ONE_AT_A_TIME, is_compiled, make_plan
from .search import SplitSearch, is_independent

if TYPE_CHECKING:
    from nnfast.protocol import Program

    from . import NumbaBackend
    from .population import PopulationRunner
    from .profiling import TimedRunner

__all__ = ["NumbaRunner"]

SHARE_FLOPS = 100_000  # what a share has to do in a step: with less, waiting for each other costs more than it saves
LONG = 32  # steps from which on it pays to copy columns of weights to memory of their share's own, and back
BRIEF = 20e-6  # what is over sooner keeps the GIL: giving it up and taking it back would cost as much again
CAUTION = 8  # times as long as usual: first steps touch memory for the first time, and may have to share their cores
BINDINGS = 256  # kept ready for jobs of as many kinds (rows of a batch, mostly), some ten kilobytes each
PLACINGS = 8  # kept ready for other runners of the same Program at most; each is some ten kilobytes
PER_OP = 2e-6  # seconds
SPEED = 5e10  # floating-point operations per second of one core, roughly
BANDWIDTH = 1e10  # bytes per second, likewise


class NumbaRunner:
    """Runs a Program compiled; owns the arena and other working memory, all of which only grows."""

    takes_pauses = True

    def __init__(self, program: Program, backend: NumbaBackend) -> None:
        self.program = program
        self.backend = backend
        self._search = any(op.name in ONE_AT_A_TIME for op in program.ops)
        self._split = SplitSearch(self) if is_independent(program) else None
        self._memory = Memory({}, [], [], {}, backend.empty(0, program.dtype), [], [])
        self._bindings: dict[Any, Binding] = {}
        # What follows from the Program alone is known to all its runners.
        self._placings: dict[Any, Placing] = program.notes.setdefault("numba placings", {})
        self._costs: dict[int, float] = program.notes.setdefault("numba seconds", {})
        self._idle_with: tuple[tuple[float, ...], frozenset[int]] | None = None  # the last numbers, and what they idle
        self._timed: TimedRunner | None = None
        self._population: PopulationRunner | None = None
        self._python = [i for i, op in enumerate(program.ops) if not is_compiled(op)]
        for i in self._python:
            if program.ops[i].name != "python" and backend.kernel(program.ops[i].name) is None:
                raise LookupError(f"backend {backend.name!r} has no kernel for the op {program.ops[i].name!r}")

    def __reduce__(self) -> Any:
        raise TypeError("a runner holds addresses of its own memory: copy the model, which compiles another")

    def report(self) -> list[OpReport]:
        return [_report(op, i in self._python, self.backend) for i, op in enumerate(self.program.ops)]

    def run(self, job: Job) -> Result:
        found = None
        if self._split is not None and not self._python and not job.pauses:
            found = self._split.run(job)
        return self.run_alone(job) if found is None else found

    def twin(self) -> NumbaRunner:
        """Another runner of the same program, with working memory of its own."""
        return NumbaRunner(self.program, self.backend)

    def run_alone(self, job: Job) -> Result:
        """The job as one sequence of steps."""
        rows, size, batches = batches_of(job)
        turns = self._turns(job)
        binding = self._binding(job, rows, size, batches)
        sums = binding.fill(job, size, batches)
        spans = binding.spans[job.on_gradients is not None]
        job.done = 0
        try:
            if len(spans) == 1:
                self._in_one(job, binding, spans[0], size, turns)
            else:
                self._in_spans(job, binding, spans, sums, turns)
        finally:
            if turns is not None and job.aside is not None:
                job.aside.sums.append(turns.sums(job.done, len(job.aside.runner.program.sums)))
        return result_of(sums, len(self.program.sums))

    def turns(self, job: Job, pauses: Any) -> Turns | None:
        """The job, one that changes no state, to be run at each pause of another; None where it takes plain Python."""
        rows, size, batches = batches_of(job)
        binding = self._binding(job, rows, size, batches)
        spans = binding.spans[False]
        if len(spans) > 1 or not spans[0].compiled:
            return None
        assert not binding.is_apart, "programs that update nothing own no weights"
        sums = binding.fill(job, size, batches)
        return Turns(binding, sums, pauses, job.steps, self.seconds(size) * job.steps)

    def repeat(self, job: Job) -> Callable[[], None] | None:
        """The job as a call that costs next to nothing beside the work, for predictions one after the other.

        The job's arrays and numbers stay the same; what they hold may change. None where plain Python has a turn.
        """
        binding = self._binding(job, len(job.x), len(job.x), 1)
        spans = binding.spans[False]
        if len(spans) > 1 or not spans[0].compiled:
            return None
        whole = spans[0].first, spans[0].last
        self._kept = binding.fill(job, len(job.x), 1)
        binding.span((0, 1), whole, begins=True)
        if self.seconds(len(job.x)) < BRIEF:
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

    def run_population(self, job: PopulationJob) -> Result | None:
        """The jobs of many models, several at a time; None where plain Python has a part in them."""
        runners = [self] if job.aside is None else [self, job.aside.runner]
        if any(not isinstance(r, NumbaRunner) or r._python or r._search for r in runners):
            return None
        return self.population().run(job)

    def population(self) -> PopulationRunner:
        """What runs this program for many models; made when first asked for."""
        from .population import PopulationRunner

        self._population = self._population or PopulationRunner(self)
        return self._population

    # ---- one step with cuts -----------------------------------------------------------------------------------------

    def _turns(self, job: Job) -> Turns | None:
        """What the job has aside, if it can be run without Python in between."""
        if job.aside is None or not job.pauses or not isinstance(job.aside.runner, NumbaRunner):
            return None
        return job.aside.runner.turns(job.aside.job, job.pauses)

    def _in_one(self, job: Job, binding: Binding, span: Span, size: int, turns: Turns | None) -> None:
        """Steps without Python, the turns inside; or between two calls, where those can have more executors."""
        inside = turns if turns is not None and turns.suits(binding.shares) else None
        cuts = () if inside is not None else job.pauses
        for end in sorted({*cuts, job.steps}):
            steps = end - job.done
            if steps:
                with binding.apart():
                    self._straight(job, binding, span, steps, self.seconds(size), inside)
            if end in cuts:
                self._take(job, turns)

    def _in_spans(self, job: Job, binding: Binding, spans: list[Span], sums: Any, turns: Turns | None) -> None:
        """Steps that Python has a part in."""
        alone = self.seconds(batches_of(job)[1]) / len(spans) < AWAKE
        for s in range(job.steps):
            self._step(job, binding, spans, s, sums, alone)
            job.done = s + 1
            if job.done in job.pauses:
                self._take(job, turns)

    def _take(self, job: Job, turns: Turns | None) -> None:
        """What is run aside has its turn, between two calls of the interpreter."""
        if turns is not None:
            turns.take()
        elif job.aside is not None:
            job.aside.run()

    def _straight(
        self, job: Job, binding: Binding, span: Span, count: int, each: float, turns: Turns | None = None
    ) -> None:
        """The next steps without Python, `each` of so many seconds, by whom it is faster: alone or together."""
        brief = binding.shares == 1 or each * count < AWAKE
        pieces = iter([(count, True)]) if brief else binding.pace.pieces(count)
        for steps, alone in pieces if turns is None else turns.evened(list(pieces), job.done):
            first = job.done
            binding.span((first, first + steps), (span.first, span.last), begins=True)
            aside = 0.0 if turns is None else turns.attach(binding.header, first, first + steps)
            begin = time.perf_counter()
            try:
                execute(binding.header, binding.shares, alone=alone)
            finally:  # Ctrl-C is heard when the steps are done
                job.done = int(binding.header[H.DONE])
            if not brief:
                binding.pace.took(steps + aside / each, alone, time.perf_counter() - begin)

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
        flat = flat_arrays(job.buffers)
        known = self._memory.flat
        if known.keys() != flat.keys() or any(known[name] is not array for name, array in flat.items()):
            self._bindings.clear()
            self._memory.flat = flat
            self._memory.own.clear()
        data = data_of(job)
        idle = self._idle(job)
        shares = self._shares(size)
        short = rows - (batches - 1) * size if rows else 0
        variants = (size, short) if short != size else (size,)
        watched, long = job.on_gradients is not None, job.steps // (len(job.pauses) + 1) >= LONG
        key = variants, data, idle, shares, watched, long
        found = self._bindings.get(key)
        if found is None:
            if shares > 1:
                prepare()  # with the first job of a kind, not in the midst of a later one
            placed = self._placed(key, job)
            moved = True  # also where memory runs out halfway
            try:
                moved = self._memory.grow(self.backend, placed.plan, size, shares, data, placed.is_apart)
            finally:
                if moved:
                    self._bindings.clear()
            while len(self._bindings) >= BINDINGS:
                del self._bindings[next(iter(self._bindings))]
            found = self._bindings[key] = Binding(placed, self._memory)
        return found

    def _placed(self, key: Any, job: Job) -> Placing:
        """Plan and tables for jobs of this kind."""
        found = self._placings.get(key)
        if found is None:
            variants, data, idle, shares, watched, long = key
            gathered = gather_ops(job)
            plan = make_features_plan(self.program, shares, idle, variants[0], gathered) or make_plan(
                self.program, shares, idle, cut=watched, gathered=gathered
            )
            if len(self._placings) >= PLACINGS:
                self._placings.clear()
            apart = bool(plan.owned) and long and not watched
            found = self._placings[key] = Placing(plan, variants, shares, data, apart=apart)
        return found

    def _shares(self, size: int) -> int:
        """How many shares the work is cut into: by shapes and the configured number of threads, nothing else."""
        if self._search:
            return 1
        return max(1, min(num_threads(), int(self.seconds(size) * SPEED / SHARE_FLOPS)))

    def seconds(self, size: int) -> float:
        """What a step takes, very roughly."""
        if size not in self._costs:
            costs = self.program.costs(size)
            self._costs[size] = sum(max(c.flops / SPEED, c.bytes / 4 / BANDWIDTH) for c in costs)
        return self._costs[size]

    def expected_seconds(self, size: int) -> float:
        """What the first steps may take, before any is measured; 0 where nobody can tell."""
        if self._python or self._search:
            return 0.0
        return CAUTION * max(self.seconds(size), PER_OP * len(self.program.ops))

    def _idle(self, job: Job) -> frozenset[int]:
        """The ops that would change nothing with the job's numbers; kept, since most jobs have those of the last."""
        numbers = tuple(job.scalars)
        if self._idle_with is None or self._idle_with[0] != numbers:
            self._idle_with = numbers, self.program.idle_ops(numbers)
        return self._idle_with[1]


def _report(op: Op, python: bool, backend: NumbaBackend) -> OpReport:
    if not python:
        return OpReport(op.name, f"compiled: {table.origin(op.name)}")
    report = report_of(op, dict(op.attributes).get("call") or backend.kernel(op.name))
    if op.name == "python":
        return report
    return report._replace(reason="no Numba kernel was registered for it: cuts the program")
