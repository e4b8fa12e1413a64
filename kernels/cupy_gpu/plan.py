"""The plan of a step: a Program becomes an ordered list of launches and products, with every address filled in.

Pure Python over numbers, so it can be read and tested without a GPU. Where the program needs Python in its midst (a
layer in plain Python, an op without a CUDA kernel), the plan has a cut there.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnfast.protocol import RUN_SCALARS, Buffer, Op

from . import gather, joining, table
from .emitter import At, Call, Emitter, InRow, Ref

if TYPE_CHECKING:
    from nnfast.protocol import Program

__all__ = ["Batch", "Piece", "Places", "Plan", "plan_of", "spaces_of"]


class Batch(NamedTuple):
    """The rows of a batch: where ops find them. None for what the program or the job does not have."""

    rows: int
    x: Ref | None
    y: Ref | None
    weight: Ref | None
    output: Ref | None
    copied: bool  # whether they are copied there at the start of each step, or lie there already


@dataclass(slots=True)
class Places:
    """Where everything lies in device memory, as addresses."""

    flat: Mapping[str, int]  # "parameters", "gradients", "state", each slot
    arena: int
    job: int
    step: int
    scalars: int
    masks: int  # bits of ReLU, see `joining.py`


class Piece(NamedTuple):
    """What one op of the program, or the step itself, became: its calls, or None where Python is called instead.

    `op` is the op's index in the program; −1 is what the step needs around it.
    """

    op: int
    calls: list[Call] | None


@dataclass(slots=True)
class Plan:
    """The pieces of a step in order; those from `update_at` on come after the hook that may look at the gradients."""

    pieces: list[Piece] = field(default_factory=list)
    update_at: int = 0

    @property
    def calls(self) -> list[Call]:
        return [call for piece in self.pieces for call in piece.calls or ()]

    @property
    def is_whole(self) -> bool:
        """Whether the step needs no Python between its calls."""
        return all(piece.calls is not None for piece in self.pieces)


def field_of_step(name: str) -> int:
    """The offset of a field of `struct Step`, in bytes."""
    return int(gather.step_layout().fields[name][1])  # type: ignore[index]


# A run's numbers, and the field of `Step` or `Job` that holds each in device memory.
_IN_STEP = {"learning_rate": "learning_rate", "normaliser": "normaliser", "step": "number", "first_row": "first_row"}


def spaces_of(program: Program) -> set[str]:
    """The spaces that a program's buffers lie in."""
    return {b.space for op in program.ops for b in op.args if b is not None}


def plan_of(
    program: Program, places: Places, batch: Batch, emitter: Emitter, idle: frozenset[int] = frozenset()
) -> Plan:
    """Plan one step on so many rows; the emitter learns how much working memory it needs.

    The idle ops (`Program.idle_ops`) are left out: a launch that returns at once still takes more than a microsecond,
    and a model has many of them. A strength that changes from 0 to something is another plan; no other change is.
    """
    return _Planner(program, places, batch, emitter, idle).plan()


class _Planner:
    def __init__(self, program: Program, places: Places, batch: Batch, emitter: Emitter, idle: frozenset[int]) -> None:
        self.program, self.places, self.batch, self.emitter = program, places, batch, emitter
        self.idle = idle
        # Of the pairs whose ReLU is left to the products, by op: a forward op's bits, the layer below a backward op and
        # its bits, the backward ops whose slopes the layer above has made.
        self._masks: dict[int, Ref] = {}
        self._below: dict[int, tuple[Op, Ref]] = {}
        self._made_above: set[int] = set()
        self.itemsize = np.dtype(program.dtype).itemsize
        self._plan = Plan()
        self._scalars = {name: places.scalars + 8 * i for i, name in enumerate(program.scalars)}

    def plan(self) -> Plan:
        self._join()
        self._piece(-1, self._begin)
        stages = [op.stage for op in self.program.ops]
        update = stages.index("update") if "update" in stages else len(stages)
        for i, op in enumerate(self.program.ops):
            if i == update:
                self._plan.update_at = len(self._plan.pieces)
            if i in self.idle:
                continue
            if table.has(op.name):
                self._piece(i, functools.partial(self._emit, i, op))
            else:
                self._plan.pieces.append(Piece(i, None))
        if update == len(stages):
            self._plan.update_at = len(self._plan.pieces)
        self._piece(-1, self._end)
        return self._plan

    def _piece(self, op: int, emit: Any) -> None:
        before = len(self.emitter.calls)
        emit()
        calls = self.emitter.calls[before:]
        if calls:
            self._plan.pieces.append(Piece(op, calls))

    def _begin(self) -> None:
        b, places = self.batch, self.places
        copied = (b.x, b.y, b.weight) if b.copied else (None, None, None)
        gather.begin_step(self.emitter, places.job, places.step, *copied, rows=b.rows)

    def _end(self) -> None:
        b, places = self.batch, self.places
        if b.copied and b.output is not None:
            gather.scatter_output(self.emitter, places.job, places.step, b.output)
        if "gradients" in spaces_of(self.program) and not any(op.name in table.WATCHING for op in self.program.ops):
            size = self.program.layout.size
            flat = Ref(places.flat["gradients"], (size,), self.emitter.dtype)
            gather.check_finite(self.emitter, flat, places.step)

    def _join(self) -> None:
        """Decide, pair by pair, which layers leave their ReLU to the products."""
        start = self.places.masks
        for pair in joining.pairs_of(self.program):
            mask = Ref(start, (self.batch.rows, pair.width), "u1")
            start += self.batch.rows * pair.width
            if self.batch.rows and joining.joins(self.emitter, pair, self.program, self._ref, mask):
                self._masks[pair.forward] = mask
                self._below[pair.above] = self.program.ops[pair.backward], mask
                self._made_above.add(pair.backward)

    def _emit(self, i: int, op: Op) -> None:
        scalars = {keyword: self._scalar(source) for keyword, source in op.scalars}
        if i in self._masks:
            joining.forward(self.emitter, op, self._ref, self._masks[i])
            return
        below, own_done = self._below.get(i), i in self._made_above
        if below or own_done:
            joining.backward(self.emitter, op, self._ref, own_done=own_done, below=below, scalars=scalars)
            return
        watch = {}
        if op.name in table.WATCHING:
            watch["watch"] = (
                self.places.step + field_of_step("nonfinite"),
                self.places.step + field_of_step("current"),
            )
        table.OPS[op.name](self.emitter, *map(self._ref, op.args), **scalars, **dict(op.attributes), **watch)

    def _scalar(self, source: str | float) -> Any:
        if not isinstance(source, str):
            return source
        if source == "key":
            return At(self.places.job + int(gather.job_layout().fields["key"][1]))  # type: ignore[index]
        if source in RUN_SCALARS:
            return At(self.places.step + field_of_step(_IN_STEP[source]))
        return At(self._scalars[source])

    def _ref(self, b: Buffer | None) -> Any:
        """Where a buffer lies: a Ref or an InRow."""
        if b is None:
            return None
        shape = tuple(self.batch.rows if isinstance(n, str) else n for n in b.shape)
        if b.space == "sums":
            return InRow(self.places.step + field_of_step("sums"), b.offset, shape)
        if b.space in ("x", "y", "weight", "output"):
            return getattr(self.batch, b.space)
        if b.space == "arena":
            start = b.offset * self.program.arena_rows(self.batch.rows)
            return Ref(self.places.arena + start * self.itemsize, shape, self.emitter.dtype)
        kind = "f8" if b.space == "state" else self.emitter.dtype
        return Ref(self.places.flat[b.space] + b.offset * np.dtype(kind).itemsize, shape, kind)
