"""The runner: buffers planned once, steps replayed as graphs, and the host woken once per job.

A job's numbers go to the device in one or two copies, its rows lie there already, and its sums come back at its end.
All work of a runner is on a stream of its own, which begins after what the caller's stream holds.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnfast.protocol import Array, Buffers, Job, OpReport, PopulationJob, Result

from ..reference.runner import batches_of, flat_arrays
from .binding import Binder, ref_of
from .control import Control
from .cuts import Cuts
from .device import tell
from .emitter import Emitter
from .joining import mask_bytes
from .memory import Memory
from .plan import Batch, Places, plan_of, spaces_of
from .report import report_of
from .step import Step
from .stopwatch import OpClock
from .stretches import DIRECT_STEPS, stretches

if TYPE_CHECKING:
    from nnfast.protocol import Program

    from .device import Device
    from .population import PopulationRunner

__all__ = ["CupyRunner"]

PLANS = 16  # steps kept ready, for batches of different size or data at other addresses


class _Key(NamedTuple):
    """What a plan depends on beside the program: rows, which arrays there are, and their addresses if read directly."""

    rows: int
    labels: bool
    weighted: bool
    direct: tuple[int, ...] | None
    idle: frozenset[int]


class CupyRunner:
    """Runs a Program on one GPU."""

    takes_pauses = True

    def __init__(self, program: Program, device: Device) -> None:
        self.program = program
        self.device, self._cupy = device, device.cupy
        self._dtype = np.dtype(program.dtype)
        with device.current():
            self._stream = device.cupy.cuda.Stream(non_blocking=True)
            with self._stream:
                self._control = Control(device.cupy, program)
                self._memory = Memory(device.cupy)
        self._steps: OrderedDict[_Key, Step] = OrderedDict()
        self._bound_to: Buffers | None = None
        self._seen: tuple[int, ...] | None = None  # the addresses of the last job that could be read directly
        self._idle: frozenset[int] = frozenset()
        self._direct: tuple[int, ...] | None = None  # those of the running job, if it is
        self._pauses: frozenset[int] = frozenset()
        self._uses = spaces_of(program)
        self._clock = OpClock(device.cupy)
        self._population: PopulationRunner | None = None

    # ---- running ----------------------------------------------------------------------------------------------------

    def run(self, job: Job) -> Result:
        job.done = 0
        for step in self._steps.values():
            step.is_cut_short = False
        with self.stream():
            try:
                self._prepare(job)
                for first, count, rows in self._stretches(job):
                    self._stretch(job, first, count, rows)
                    job.done = first + count
                    if job.done in self._pauses:
                        job.aside.run()  # type: ignore[union-attr]
                sums, nonfinite = self._control.results(job.steps)
            except BaseException:
                self._count_done(job)
                raise
            finally:
                self._stream.synchronize()  # nothing of this job is in flight when the caller goes on
        return self._result(sums, nonfinite)

    def _count_done(self, job: Job) -> None:
        """How many steps the device has made of a job that was interrupted: more than one may be in a graph."""
        with contextlib.suppress(Exception):  # a device that has failed tells nothing
            begun = self._control.begun()
            job.done = max(job.done, begun - any(step.is_cut_short for step in self._steps.values()))

    @contextlib.contextmanager
    def stream(self) -> Iterator[None]:
        """The runner's stream, made to wait for what is on the caller's, and on the usual one."""
        with self.device.current():
            for stream in {self._cupy.cuda.get_current_stream(), self._cupy.cuda.Stream.null}:
                self._stream.wait_event(stream.record())
            with self._stream:
                yield

    def _result(self, sums: Any, nonfinite: int) -> Result:
        """With the first step whose gradient was not finite, as the device noted, or whose sums are not."""
        bad = np.flatnonzero(~np.isfinite(sums[:, :2]).all(axis=1))
        first = [int(n) for n in (nonfinite, *bad[:1]) if n >= 0]
        return Result(sums, min(first, default=-1))

    def _stretches(self, job: Job) -> Iterator[tuple[int, int, int]]:
        return stretches(*batches_of(job), job.first_batch, job.steps, self._pauses)

    def _stretch(self, job: Job, first: int, count: int, rows: int) -> None:
        step = self._step(job, rows)
        if step.plan.is_whole and job.on_gradients is None and not self._clock.runs:
            step.run(count)
            if step.why_no_graph and self.device.lt is not None:  # else that was said when the device was opened
                tell(f"steps are launched one kernel at a time, not as a graph: {step.why_no_graph}")
            return
        cuts = Cuts(self.program, job, self._memory.arena, self._arrays(job, rows), rows)
        for s in range(first, first + count):
            step.is_cut_short = True
            cuts.begin(s, self._control.sums_of(s))
            for i, (piece, calls) in enumerate(zip(step.plan.pieces, step.bound, strict=True)):
                if i == step.plan.update_at:
                    self._hook(job)
                with self._clock.around(piece.op):
                    if calls is None:
                        cuts.run(self.program.ops[piece.op])
                    for call in calls or ():
                        call()
            if step.plan.update_at == len(step.plan.pieces):
                self._hook(job)
            step.is_cut_short = False
            job.done = s + 1

    def _hook(self, job: Job) -> None:
        if job.on_gradients is not None and "gradients" in self._uses:
            job.on_gradients(job.buffers.gradients)

    def profile(self, job: Job) -> tuple[list[tuple[int | str, float]], float, int]:
        """`run` call by call with events around each op, on the device's own clock; see `nnfast.profiling`."""
        with self._clock.running():
            begin = time.perf_counter()
            self.run(job)
            whole = time.perf_counter() - begin
            return self._clock.seconds(), whole, 1

    # ---- many models ------------------------------------------------------------------------------------------------

    def run_population(self, job: PopulationJob) -> Result | None:
        """The jobs of many models, all at a time; None where something needs Python, or cublasLt is missing."""
        runners = [self] if job.aside is None else [self, job.aside.runner]
        if not all(isinstance(runner, CupyRunner) for runner in runners) or not self.population().ready(job):
            return None
        return self.population().run(job)

    def population(self) -> PopulationRunner:
        """What runs this program for many models; made when first asked for."""
        from .population import PopulationRunner

        if self._population is None:
            self._population = PopulationRunner(self)
        return self._population

    # ---- getting ready ----------------------------------------------------------------------------------------------

    def _prepare(self, job: Job) -> None:
        """Room for the job's batches, and its numbers on the device."""
        rows, size, batches = batches_of(job)
        self._pauses = frozenset(job.pauses) if job.aside is not None else frozenset()
        if self._bound_to is not job.buffers:
            self._steps.clear()
            self._bound_to = job.buffers
        if self._memory.grow_arena(self.program.arena_size(size) * self._dtype.itemsize):
            self._steps.clear()
        self._direct = self._directly(job, batches)
        if self._direct is None and self._memory.grow_batch(self._widths(job), size):
            self._steps.clear()
        self._idle = self.program.idle_ops(job.scalars)
        self._control.begin(job, rows, size, batches)

    def _directly(self, job: Job, batches: int) -> tuple[int, ...] | None:
        """The addresses of the job's arrays, if each of its steps takes all rows as they lie and that pays."""
        given = (job.x, job.y, job.sample_weight, job.output)
        if job.x is None:
            return ()
        if job.order is not None or batches > 1:
            return None
        addresses = tuple(0 if a is None else a.data.ptr for a in given)
        seen, self._seen = self._seen, addresses
        return addresses if job.steps >= DIRECT_STEPS or addresses == seen else None

    def _widths(self, job: Job) -> dict[str, tuple[int, Any]]:
        """Elements per row, and the dtype, of each array of a batch that the program reads or writes."""
        return {name: (int(np.prod(a.shape[1:], dtype=np.int64)), a.dtype) for name, a in self._given(job).items()}

    def _given(self, job: Job) -> dict[str, Array]:
        """The job's arrays that the program reads or writes."""
        arrays = {"x": job.x, "y": job.y, "weight": job.sample_weight, "output": job.output}
        return {name: a for name, a in arrays.items() if a is not None and name in self._uses}

    def _arrays(self, job: Job, rows: int) -> dict[str, Array]:
        """The arrays of a batch of so many rows, where its ops find them."""
        given = self._given(job)
        if self._direct is not None:
            return given
        return {
            name: self._memory.batch(name, kind, rows * width).reshape(rows, *given[name].shape[1:])
            for name, (width, kind) in self._widths(job).items()
        }

    def _step(self, job: Job, rows: int) -> Step:
        labels = job.y is not None and job.y.ndim == 1
        key = _Key(rows, labels, job.sample_weight is not None, self._direct, self._idle)
        if key not in self._steps:
            self._steps[key] = self._planned(job, rows)
            while len(self._steps) > PLANS:
                self._steps.popitem(last=False)
        self._steps.move_to_end(key)
        return self._steps[key]

    def _planned(self, job: Job, rows: int) -> Step:
        refs = {name: ref_of(a) for name, a in self._arrays(job, rows).items()}
        x, y, weight, output = map(refs.get, ("x", "y", "weight", "output"))
        batch = Batch(rows, x, y, weight, output, self._direct is None)
        masks = self._memory.masks(mask_bytes(self.program, rows))
        places = Places(
            {name: a.data.ptr for name, a in flat_arrays(job.buffers).items()},
            self._memory.arena_address,
            self._control.job_address,
            self._control.step_address,
            self._control.scalars_address,
            int(masks.data.ptr),
        )
        emitter = Emitter(self._dtype, most_shared=self.device.most_shared)
        binder = Binder(self.device, self._memory, emitter, tune=True)
        binder.kept.append(masks)
        plan = plan_of(self.program, places, batch, emitter, self._idle)
        return Step(plan, binder, self.device)

    # ---- words ------------------------------------------------------------------------------------------------------

    def report(self) -> list[OpReport]:
        return report_of(self.program, next(reversed(self._steps.values()), None))
