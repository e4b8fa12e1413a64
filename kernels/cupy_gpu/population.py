"""A PopulationJob on the GPU: every launch is for all models, every product a batch, and a step a few launches.

Of each model there is a block of memory (`population_memory.py`) with its parameters, its batch and its activations.
The step is planned for the first two, which says where everything of the others lies (`many.py`). Kernels, their grids
and the algorithms of products are those of a model alone, and so are its bits.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnfast.protocol import Array, Buffers, PopulationAside, PopulationJob, Result

from ..reference.runner import batches_of, flat_arrays, idle_groups
from . import table
from .binding import Binder
from .control import address_of
from .cublaslt import CublasLtError
from .device import tell
from .emitter import Emitter, Ref, Separate
from .joining import mask_bytes
from .many import MOST_MODELS, Noted, Repeated, rounded, spread_plan
from .memory import Memory
from .plan import Batch, Places, Plan, plan_of, spaces_of
from .population_memory import Blocks, Numbers
from .step import Step
from .stretches import DIRECT_STEPS, stretches

if TYPE_CHECKING:
    from .runner import CupyRunner

__all__ = ["PopulationRunner"]

PLANS = 64  # steps kept ready
_OF_MODELS = ("models", "order", "learning_rates", "normalisers", "first_steps", "keys", "scalars")
_DATA = {"x": "x", "y": "y", "weight": "sample_weight", "output": "output"}  # by space


class Part(NamedTuple):
    """Models of a job that make their steps together: the same ops, and memory for all of them."""

    where: Any  # among those of the job
    job: PopulationJob  # of all models; as it is run, of these
    idle: frozenset[int]
    rows: int
    size: int
    batches: int

    def stretches(self) -> Iterator[tuple[int, int, int]]:
        pauses = self.job.pauses if self.job.aside is not None else ()
        return stretches(self.rows, self.size, self.batches, self.job.first_batch, self.job.steps, pauses)


class _Key(NamedTuple):
    """What a plan depends on beside the program and where the blocks lie."""

    models: int
    rows: int
    kinds: tuple[Any, ...]  # of the data's arrays
    direct: tuple[int, ...] | None
    idle: frozenset[int]


class PopulationRunner:
    """Runs one Program for many models."""

    def __init__(self, runner: CupyRunner) -> None:
        self._runner, self._program = runner, runner.program
        self._device, self._cupy = runner.device, runner.device.cupy
        self._uses = spaces_of(self._program)
        self._moving = ("parameters", *self._program.slots)  # copied to the blocks, and back
        self._memory = Memory(self._cupy)
        self._blocks, self._numbers = Blocks(self._cupy), Numbers(self._cupy, self._program)
        self._steps: OrderedDict[_Key, Step] = OrderedDict()
        self._direct: tuple[int, ...] | None = None  # addresses of the data that the job's steps read where they lie
        self._seen: tuple[int, ...] = ()  # those of the data of the job before
        self._separately = False  # where the library refuses epilogues in batches
        self._refuses = False  # where it refuses plain products as well

    def ready(self, job: PopulationJob) -> bool:
        """Make all ready for a job, but for what `run` does; False where it must be run model by model.

        `run` may be called again and again for the same job, as for what has its turn at pauses.
        """
        ops = self._program.ops
        if self._refuses or self._device.lt is None or self._program.state or not all(table.has(o.name) for o in ops):
            return False
        with self._runner.stream():
            try:
                self._make_room(job)
                for part in self._parts(job):
                    for rows in {rows for _, _, rows in part.stretches()}:
                        self._step(part, rows)
            except CublasLtError as error:
                tell(f"models of a population run one after the other: {error}")
                self._refuses = True
                self._forget()
                return False
            except self._cupy.cuda.memory.OutOfMemoryError as error:
                tell(f"there is no memory to run models of a population at once: {error}")
                self._forget()
                return False
        return job.aside is None or job.aside.runner.population().ready(job.aside.job)  # type: ignore[attr-defined]

    def run(self, job: PopulationJob, at: Any = None) -> Result:
        """`at` says in which rows of the flat arrays the models are, where these are not their numbers."""
        models = len(job.models)
        at = np.asarray(job.models) if at is None else at
        job.done = np.zeros(models, np.int64)
        sums, nonfinite = np.zeros((models, job.steps, len(self._program.sums))), np.full(models, -1)
        beside = []
        with self._runner.stream():
            for whole in self._parts(job):
                part = whole._replace(job=_of(job, whole.where))
                try:
                    sums[part.where], nonfinite[part.where] = self._run(part, at[part.where])
                finally:
                    job.done[part.where] = part.job.done
                if part.job.aside is not None and part.job.aside.sums is not None:
                    beside.append((part.where, part.job.aside.sums))
        if job.aside is not None and beside:
            job.aside.sums = np.zeros((models, *beside[0][1].shape[1:]))
            for where, found in beside:
                job.aside.sums[where] = found
        return Result(sums, nonfinite)  # type: ignore[arg-type]

    # ---- one part after the other -----------------------------------------------------------------------------------

    def _parts(self, job: PopulationJob) -> Iterator[Part]:
        """The job's models by the ops that they leave out, as many at a time as there is memory for.

        A part is filled up with its last model, again and again: it is trained more than once, with the same bits.
        """
        rows, size, batches = batches_of(job.alone(0, job.buffers))
        group_of, groups = idle_groups(self._program, job.scalars)
        most = min(self._blocks.models, MOST_MODELS)
        for g, idle in enumerate(groups):
            members = np.flatnonzero(group_of == g)
            for few in np.array_split(members, -(-len(members) // most)):
                more = min(rounded(len(few)), most) - len(few)
                where = np.concatenate([few, np.repeat(few[-1:], more)])
                yield Part(where, job, idle, rows, size, batches)

    def _make_room(self, job: PopulationJob) -> None:
        """Blocks for the job; decides whether its data are read where they lie."""
        program, itemsize, data = self._program, np.dtype(self._program.dtype).itemsize, self._data(job)
        _, size, batches = batches_of(job.alone(0, job.buffers))
        addresses = tuple(address_of(a) for _, a, _ in data)
        alike = job.order is None and batches <= 1 and not any(own for _, _, own in data)
        pays = job.steps >= DIRECT_STEPS or addresses == self._seen
        self._direct, self._seen = addresses if alike and pays else None, addresses
        flat = {*self._moving} | ({"gradients"} & self._uses)
        sizes = {
            **dict.fromkeys(sorted(flat), program.layout.size * itemsize),
            **{name: a.dtype.itemsize * _width(a, own) * size for name, a, own in data if self._direct is None},
            "arena": program.arena_size(size) * itemsize,
            "masks": mask_bytes(program, size),
        }
        models = rounded(len(job.models))
        if not self._blocks.fit(sizes, models):
            self._forget()
            self._blocks.make(sizes, models, self._numbers.beside(job))
            self._numbers.make_room(self._blocks.models)
            if "gradients" in sizes:  # optimizers go over what lies between two layers' as well
                self._blocks.rows("gradients", program.dtype, self._blocks.models, program.layout.size).fill(0)

    def _forget(self) -> None:
        """Drop all plans, which hold addresses, and then what lies there."""
        self._steps.clear()
        self._blocks.release()

    def _run(self, part: Part, at: Any) -> tuple[Any, Any]:
        """Sums and first steps that were not finite; `part.job.done` is right even where this raises."""
        job, models = part.job, len(part.where)
        for step in self._steps.values():
            step.is_cut_short = False
        job.done = 0
        self._copy(job.buffers, at, models, back=False)
        self._numbers.begin(job, part.rows, part.size, part.batches)
        turns = []
        try:
            for first, count, rows in part.stretches():
                step = self._step(part, rows)
                step.run(count)
                if step.why_no_graph:
                    tell(f"steps are launched one kernel at a time, not as a graph: {step.why_no_graph}")
                job.done = first + count
                if job.aside is not None and job.done in job.pauses:
                    turns.append(self._turn(job.aside, models))
            sums, noted = self._numbers.results(models)
        except BaseException:
            with contextlib.suppress(Exception):  # a device that has failed tells nothing
                begun = self._numbers.begun() - any(step.is_cut_short for step in self._steps.values())
                job.done = max(job.done, begun)
            raise
        finally:
            if job.learning_rates is not None:
                self._copy(job.buffers, at, models, back=True)
            self._cupy.cuda.get_current_stream().synchronize()
        if job.aside is not None and turns:
            job.aside.sums = np.stack(turns, axis=1)
        return sums, _first_bad(sums, noted)

    def _turn(self, aside: PopulationAside, models: int) -> Any:
        """What has its turn at a pause, on the parameters as they are now in the blocks: sums (models, steps, …)."""
        size = self._program.layout.size
        parameters = self._blocks.rows("parameters", self._program.dtype, models, size)
        nothing = parameters[:, :0]
        job = replace(aside.job, buffers=Buffers(parameters, nothing, {}, nothing, aside.job.buffers.backend))
        return aside.runner.population().run(job, np.arange(models)).sums  # type: ignore[attr-defined]

    def _copy(self, buffers: Buffers, at: Any, models: int, *, back: bool) -> None:
        """The models' parameters and slots, between the flat arrays and the blocks."""
        flat = flat_arrays(buffers)
        one_after_the_other = np.array_equal(at, np.arange(at[0], at[0] + models))
        rows = slice(int(at[0]), int(at[0]) + models) if one_after_the_other else self._cupy.asarray(at)
        for name in self._moving:
            here = self._blocks.rows(name, self._program.dtype, models, flat[name].shape[1])
            if back:
                flat[name][rows] = here
            else:
                here[...] = flat[name][rows]

    # ---- one step ---------------------------------------------------------------------------------------------------

    def _data(self, job: PopulationJob) -> list[tuple[str, Array, bool]]:
        """The job's arrays that the program reads or writes: space, array, whether there is one for each model."""
        given = [(space, getattr(job, name), name in job.own) for space, name in _DATA.items()]
        return [(s, a, own or s == "output") for s, a, own in given if a is not None and s in self._uses]

    def _step(self, part: Part, rows: int) -> Step:
        data = self._data(part.job)
        kinds = tuple((space, a.ndim - own, a.dtype.str) for space, a, own in data)
        key = _Key(len(part.where), rows, kinds, self._direct, part.idle)
        if key not in self._steps:
            self._steps[key] = self._planned(part, rows, data)
            while len(self._steps) > PLANS:
                self._steps.popitem(last=False)
        self._steps.move_to_end(key)
        return self._steps[key]

    def _planned(self, part: Part, rows: int, data: list[tuple[str, Array, bool]]) -> Step:
        """The step of two models, made one of all of them."""
        emitter, other = (Emitter(self._program.dtype, most_shared=self._device.most_shared) for _ in range(2))
        binder = Binder(self._device, self._memory, emitter, tune=True)
        emitter.policy = noted = Noted(Separate() if self._separately else emitter.policy)
        first = self._plan(0, part, rows, data, emitter)
        other.policy = Repeated(noted.answers)
        second = self._plan(1, part, rows, data, other)
        models, partials, tickets = len(part.where), emitter.partials, emitter.tickets
        scratch = self._memory.scratch(models * partials, models * tickets)
        binder.kept.append(scratch)
        at = [address_of(a) for a in scratch]
        emitter.place_scratch(at[0], at[1])
        other.place_scratch(at[0] + 8 * partials, at[1] + 4 * tickets)
        try:
            return Step(spread_plan(first, second, models), binder, self._device)
        except CublasLtError as error:
            if not any(noted.answers):
                raise
            tell(f"cublasLt refuses a product for many models, which costs some speed: {error}")
            self._separately = True
            return self._planned(part, rows, data)

    def _plan(self, model: int, part: Part, rows: int, data: list[tuple[str, Array, bool]], emitter: Emitter) -> Plan:
        """The step of one model."""
        direct = self._direct is not None
        refs = {
            space: Ref(
                address_of(a) if direct else self._blocks.address(space, model),
                (rows, *a.shape[1 + own :]),
                a.dtype.str[1:],
            )
            for space, a, own in data
        }
        x, y, weight, output = map(refs.get, _DATA)
        flat = {name: self._blocks.address(name, model) for name in self._blocks.room.starts}
        places = Places(flat, flat["arena"], *self._numbers.addresses(model), flat["masks"])
        return plan_of(self._program, places, Batch(rows, x, y, weight, output, not direct), emitter, part.idle)


def _of(job: PopulationJob, where: Any) -> PopulationJob:
    """The job of some of its models."""
    if len(where) == len(job.models) and np.array_equal(where, np.arange(len(where))):
        aside = None if job.aside is None else replace(job.aside)
        return replace(job, aside=aside, pauses=tuple(int(p) for p in job.pauses))
    given = {name: getattr(job, name) for name in _OF_MODELS}
    some = {name: np.asarray(table)[where] for name, table in given.items() if table is not None}
    aside = None if job.aside is None else replace(job.aside, job=_of(job.aside.job, where))
    return replace(job, **some, aside=aside, pauses=tuple(int(p) for p in job.pauses))


def _width(a: Array, own: bool) -> int:
    """Elements per row."""
    return int(np.prod(a.shape[1 + own :], dtype=np.int64))


def _first_bad(sums: Any, noted: Any) -> Any:
    """The first step of each model whose gradient was not finite, as the device noted, or whose sums are not."""
    bad = ~np.isfinite(sums[..., :2]).all(axis=2)
    last = sums.shape[1]
    first = np.minimum(np.where(bad.any(axis=1), bad.argmax(axis=1), last), np.where(noted < 0, last, noted))
    return np.where(first == last, -1, first)
