"""A PopulationJob inside compiled code: each executor has tables and memory of its own, and takes the next model.

Of each model only a row of numbers is made, all rows at once: see `population_driver.py`. A model is one share, so its
bits are those of a model that is trained alone by one thread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnfast.protocol import Job, PopulationJob, Result, num_threads

from ..reference.runner import batches_of, flat_arrays, idle_groups
from .addresses import address_of, words_apart
from .binding import HIDDEN, Binding
from .interpreter import H
from .interpreter import address as interpreter_address
from .jobs import Data, data_of, gather_ops
from .memory import Memory
from .pace import AWAKE
from .placing import Placing
from .plan import Plan, make_plan
from .population_driver import C, Part, Row, drive

if TYPE_CHECKING:
    from .runner import NumbaRunner

__all__ = ["PopulationRunner"]

BINDINGS = 256  # kept ready at most; each is some kilobytes


class RowBinding(Binding):
    """Tables in which the flat arrays, the scalars and the key are those of whatever model has its turn."""

    def __init__(self, placed: Placing, memory: Memory, columns: dict[str, int]) -> None:
        """`columns` of the table of models, by the name of a flat array or a scalar."""
        super().__init__(placed, memory)
        words = {w: (columns[name], 0) for w, name in placed.named} | placed.moving
        self.patches = np.array([(w, *of) for w, of in sorted(words.items())], np.int64).reshape(-1, 3)

    def ready(self, job: PopulationJob, kind: Kind) -> None:
        """What is the same for all models of a job."""
        h = self.header
        h[H.FIRST_BATCH], h[H.BATCHES], h[H.SIZE], h[H.ROWS] = job.first_batch, kind.batches, kind.size, kind.rows
        h[H.LAST], h[H.STEPS], h[H.PAUSES] = len(self._rows) - 1, job.steps, 0
        self.span((0, job.steps), (0, len(self.plan.instructions)), begins=True)

    def attach(self, pauses: Any, apart: int) -> None:
        """What is run aside: after which steps, and how far apart its sums lie."""
        h = self.header
        h[H.PAUSES], h[H.PAUSES_AT] = len(pauses), address_of(pauses)
        h[H.INTERPRETER_AT], h[H.ASIDE_BYTES] = interpreter_address(), apart


class Kind(NamedTuple):
    """What the tables of a job follow from: the job of its first model, and how its rows fall into batches."""

    first: Job
    rows: int
    size: int
    batches: int
    variants: int  # of batches: 2 where the last is short
    data: Data


@dataclass
class Lane:
    """What one executor works with."""

    memory: Memory
    bindings: dict[Any, RowBinding]


class Laid(NamedTuple):
    """One program of a job, laid out: words for the driver, the sums to come, and what must stay alive meanwhile."""

    part: Any
    sums: Any  # (models, steps or pauses · steps, columns)
    bindings: list[RowBinding]
    kept: Any


class PopulationRunner:
    """Runs one Program for many models; owns a lane per executor."""

    def __init__(self, runner: NumbaRunner) -> None:
        self._runner, self._program, self._backend = runner, runner.program, runner.backend
        self._lanes: list[Lane] = []
        self._plans: dict[Any, Plan] = {}
        self._groups: tuple[bytes, Any, list[frozenset[int]]] | None = None  # of the last scalars
        flat = ("parameters", *self._program.slots)
        self._columns = {name: Row.END + i for i, name in enumerate(dict.fromkeys((*flat, *self._program.scalars)))} | {
            "key": int(Row.KEY)
        }

    def run(self, job: PopulationJob) -> Result:
        models = len(job.models)
        kind = _kind(job)
        seconds = self._runner.seconds(kind.size) * job.steps * models
        executors = 1 if seconds < AWAKE else min(num_threads(), models)
        laid = [self._lay(job, kind, executors)]
        if job.aside is not None and len(job.pauses):
            laid.append(self._aside(job, laid[0], executors))
        counter = words_apart(1)
        control = np.zeros(C.END + len(laid) * Part.END, np.int64)
        control[: C.END] = models, address_of(counter), interpreter_address(), len(laid)
        for i, one in enumerate(laid):
            control[C.END + i * Part.END : C.END + (i + 1) * Part.END] = one.part
        job.done = np.zeros(models, np.int64)
        try:
            drive(control, executors)
        finally:  # Ctrl-C is heard when all is done
            if counter[0] >= models:
                job.done[:] = job.steps
        if job.aside is not None and len(laid) > 1:
            columns = len(job.aside.runner.program.sums)
            turns = (models, len(job.pauses), job.aside.job.steps, -1)
            job.aside.sums = np.ascontiguousarray(laid[1].sums.reshape(turns)[..., :columns])
        return _result(laid[0].sums, len(self._program.sums))

    def _aside(self, job: PopulationJob, main: Laid, executors: int) -> Laid:
        """What is run at the pauses, by lanes of its own; the training's tables are told where it is."""
        assert job.aside is not None
        pauses = np.ascontiguousarray(job.pauses, np.int64)
        other: PopulationRunner = job.aside.runner.population()  # type: ignore[attr-defined]
        laid = other._lay(job.aside.job, _kind(job.aside.job), executors, times=len(pauses))
        turns = laid.sums.reshape(len(job.models), len(pauses), job.aside.job.steps, -1)
        for binding in main.bindings:
            binding.attach(pauses, turns.strides[1])
        return laid._replace(kept=(laid.kept, pauses))

    # ---- laying out -------------------------------------------------------------------------------------------------

    def _lay(self, job: PopulationJob, kind: Kind, executors: int, times: int = 1) -> Laid:
        """Tables for each executor and each group of models, and the table of models."""
        group_of, idle = self._grouped(job)
        plans = [self._plan(kind, ops) for ops in idle]
        lanes = self._lanes_for(executors, kind, plans)
        bindings = [self._binding(lane, kind, plan) for lane in lanes for plan in plans]
        for binding in bindings:
            binding.ready(job, kind)
        headers = np.array([address_of(b.header) for b in bindings], np.int64)
        patches = np.array([(address_of(b.patches), len(b.patches), kind.variants) for b in bindings], np.int64)
        sums = np.zeros((len(job.models), times * job.steps, len(self._program.sums) + HIDDEN))
        table, kept = self._table(job, sums)
        places = map(address_of, (group_of, headers, patches, table))
        part = np.array([len(idle), *places, table.shape[1]], np.int64)
        return Laid(part, sums, bindings, (group_of, headers, patches, table, kept))

    def _table(self, job: PopulationJob, sums: Any) -> tuple[Any, Any]:
        """A row per model, see `Row`; and the arrays that its addresses point into."""
        models = np.asarray(job.models, np.int64)
        table = np.zeros((len(models), 1 + max(*self._columns.values(), Row.END)), np.int64)
        data = (("x", job.x), ("y", job.y), ("sample_weight", job.sample_weight))
        for column, (name, array) in enumerate(data):
            if array is not None:
                table[:, column] = address_of(array)
                if name in job.own:
                    table[:, column] += models * array.strides[0]
        if job.output is not None:
            table[:, Row.OUTPUT_AT] = address_of(job.output) + models * job.output.strides[0]
        kept = []
        for column, given, kind in (
            (Row.ORDER_AT, job.order, np.int64),
            (Row.RATES_AT, job.learning_rates, np.float64),
            (Row.NORMALISERS_AT, job.normalisers, np.float64),
            (Row.SUMS_AT, sums, np.float64),
        ):
            if given is not None:
                array = np.ascontiguousarray(given, kind)
                kept.append(array)
                table[:, column] = address_of(array) + np.arange(len(models)) * array.strides[0]
        if job.first_steps is not None:
            table[:, Row.FIRST_STEP] = job.first_steps
        if job.keys is not None:
            table[:, Row.KEY] = np.asarray(job.keys, np.uint64).view(np.int64)
        for name, flat in flat_arrays(job.buffers).items():
            if name in self._columns:
                table[:, self._columns[name]] = address_of(flat) + models * flat.strides[0]
        scalars = np.ascontiguousarray(job.scalars, np.float64).view(np.int64)
        table[:, [self._columns[name] for name in self._program.scalars]] = scalars
        return table, kept

    def _grouped(self, job: PopulationJob) -> tuple[Any, list[frozenset[int]]]:
        """Which ops each model leaves out; remembered, as most jobs of a fit have the same scalars."""
        known = np.ascontiguousarray(job.scalars, np.float64).tobytes()
        if self._groups is None or self._groups[0] != known:
            self._groups = known, *idle_groups(self._program, job.scalars)
        return self._groups[1], self._groups[2]

    def _plan(self, kind: Kind, idle: frozenset[int]) -> Plan:
        key = idle, kind.data
        if key not in self._plans:
            if len(self._plans) >= BINDINGS:
                self._plans.clear()
            gathered = gather_ops(kind.first) if kind.data.ordered else ()
            self._plans[key] = make_plan(self._program, 1, idle, gathered=gathered)
        return self._plans[key]

    def _lanes_for(self, executors: int, kind: Kind, plans: list[Plan]) -> list[Lane]:
        """Lanes with room for these batches; where one's memory moves, its tables are void."""
        program, backend = self._program, self._backend
        while len(self._lanes) < executors:
            flat = {"gradients": backend.zeros(program.layout.size, program.dtype)}
            self._lanes.append(Lane(Memory(flat, [], [], {}, backend.empty(0, program.dtype), [], []), {}))
        for lane in self._lanes[:executors]:
            for plan in plans:
                if lane.memory.grow(backend, plan, kind.size, 1, kind.data, apart=False):
                    lane.bindings.clear()
        return self._lanes[:executors]

    def _binding(self, lane: Lane, kind: Kind, plan: Plan) -> RowBinding:
        short = kind.rows - (kind.batches - 1) * kind.size
        variants = (kind.size, short) if kind.variants > 1 else (kind.size,)
        key = variants, kind.data, id(plan)
        found = lane.bindings.get(key)
        if found is None or found.plan is not plan:
            if len(lane.bindings) >= BINDINGS:
                lane.bindings.clear()
            placed = Placing(plan, variants, 1, kind.data, columns=self._columns)
            found = lane.bindings[key] = RowBinding(placed, lane.memory, self._columns)
        return found


def _kind(job: PopulationJob) -> Kind:
    first = job.alone(0, job.buffers)
    rows, size, batches = batches_of(first)
    return Kind(first, rows, size, batches, 1 + (rows % size > 0 if size else 0), data_of(first))


def _result(sums: Any, columns: int) -> Result:
    """The sums that the program names, and for each model the first step that was not finite, or −1."""
    nonfinite = np.full(len(sums), -1)
    if not math.isfinite(sums.sum()):  # no more than a first look: finite numbers can add up to infinity
        finite = np.isfinite(sums[..., :2]).all(axis=2) & np.isfinite(sums[..., columns])
        nonfinite = np.where(finite.all(axis=1), -1, finite.argmin(axis=1))
    return Result(np.ascontiguousarray(sums[..., :columns]), nonfinite)  # type: ignore[arg-type]
