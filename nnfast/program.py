"""A Program: one step of a model as data. Pure description: nothing here computes, allocates or knows a backend.

`Layout` says where every parameter block lies in the flat arrays; `Program` lists the ops of a step in order, each with
its buffers. `nnfast.lowering` builds them, a backend's `compile` runs them, `print(program)` shows them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np

from nnfast.errors import UnknownNameError
from nnfast.protocol import ALIGNMENT, OPS, PENALTIES, Buffer, Op
from nnfast.text import quantity, table

__all__ = ["Block", "Cost", "Layout", "Program"]

# Ops that change nothing while their scalars have these values.
_NEUTRAL = {
    **{name: {"l1": 0.0, "l2": 0.0} for name in PENALTIES},
    "clip_by_global_norm": {"clip_norm": math.inf},
}

ARENA_ROWS = 64  # the arena's rows are rounded up to this, which keeps each of its columns blocks aligned


class Block(NamedTuple):
    """Where one parameter array lies: `flat[offset:offset + size].reshape(shape)`."""

    name: str
    offset: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Layout:
    """The blocks of a model's flat arrays, in layer order, each aligned; `size` elements in all, padding included."""

    blocks: tuple[Block, ...]
    size: int

    @staticmethod
    def of(shapes: list[tuple[str, tuple[int, ...]]], dtype: str) -> Layout:
        step = ALIGNMENT // np.dtype(dtype).itemsize
        blocks, offset = [], 0
        for name, shape in shapes:
            block = Block(name, offset, shape)
            blocks.append(block)
            offset += -(-block.size // step) * step
        return Layout(tuple(blocks), offset)

    def __getitem__(self, name: str) -> Block:
        found = next((b for b in self.blocks if b.name == name), None)
        if found is None:
            raise UnknownNameError("parameter array", name, [b.name for b in self.blocks])
        return found

    @property
    def n_parameters(self) -> int:
        """Parameters without padding."""
        return sum(b.size for b in self.blocks)


class Cost(NamedTuple):
    """What an op moves and computes at least, at a given number of rows."""

    bytes: int
    flops: int


@dataclass(frozen=True, slots=True)
class Program:
    """The ops of one step, in order, over flat buffers. Equal structures give equal Programs.

    `mode` is "train" (forward, loss, metrics, backward, update), "accumulate" (all but the update), "gradient" (neither
    metrics nor update), "update" (only that), "evaluate" (forward, loss, metrics) or "predict"; `training` says whether
    dropout acts. Rows, row order, rates, penalties, seeds and steps are not in here: they are data of the `Job`.
    """

    mode: str
    training: bool
    dtype: str
    ops: tuple[Op, ...]
    layout: Layout
    n_inputs: int
    n_outputs: int
    slots: tuple[str, ...] = ()  # further flat arrays like the parameters
    state: int = 0  # float64 numbers that live as long as the model
    sums: tuple[str, ...] = ()  # the columns of a step's sums
    scalars: tuple[str, ...] = ()  # names of the numbers in Job.scalars
    arena_columns: int = 0  # working memory per row, in elements
    # What runners have worked out from it, by names of their own, for other runners of this very Program.
    notes: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are without the notes: these hold addresses of this process."""
        return Program, tuple(getattr(self, f.name) for f in fields(self) if f.init)

    def arena_size(self, rows: int) -> int:
        """Elements of the arena for batches of up to `rows` rows."""
        return self.arena_columns * self.arena_rows(rows)

    @staticmethod
    def arena_rows(rows: int) -> int:
        return -(-rows // ARENA_ROWS) * ARENA_ROWS

    def costs(self, rows: int) -> list[Cost]:
        """Bytes moved and floating-point operations of each op for a batch of `rows` rows, counted, not measured.

        Every array an op names is read or written once (both, where it is updated in place).
        """
        return [self._cost(op, rows) for op in self.ops]

    @property
    def strengths(self) -> frozenset[str]:
        """Names of the numbers that are strengths of penalties."""
        penalties = [op for op in self.ops if op.name in PENALTIES]
        return frozenset(n for op in penalties for k, n in op.scalars if k in ("l1", "l2") and isinstance(n, str))

    def idle_ops(self, scalars: Iterable[float]) -> frozenset[int]:
        """The ops that change nothing with these numbers (as in `Job.scalars`): penalties of strength 0, a clip
        without a limit."""
        values: dict[str | float, float] = dict(zip(self.scalars, scalars, strict=True))

        def is_idle(op: Op) -> bool:
            neutral = _NEUTRAL.get(op.name)
            return neutral is not None and all(
                values.get(source, source) == neutral[keyword] for keyword, source in op.scalars if keyword in neutral
            )

        return frozenset(i for i, op in enumerate(self.ops) if is_idle(op))

    def floor(self, rows: int, *, flops_per_second: float, bytes_per_second: float) -> float:
        """Seconds that a step takes at least on a machine of this speed: the larger of both limits, op by op."""
        return sum(max(c.flops / flops_per_second, c.bytes / bytes_per_second) for c in self.costs(rows))

    def _cost(self, op: Op, rows: int) -> Cost:
        spec, size = OPS.get(op.name), np.dtype(self.dtype).itemsize
        if spec is None:  # a plain Python call: what it does is its own affair
            moved = sum(_elements(b, rows) for b in op.args if b is not None)
            return Cost(moved * size, 0)
        dims: dict[str, int] = {}
        moved = 0
        absent = set()
        for arg, buffer in zip(spec.args, op.args, strict=True):
            if buffer is None:
                absent.add(arg.name)
                continue
            for name, n in zip(arg.shape, buffer.shape, strict=False):
                dims[name] = rows if isinstance(n, str) else n
            elements = rows if arg.dtype == "label" else _elements(buffer, rows)
            moved += elements * (size if arg.dtype == "T" else 8) * (2 if arg.role == "inout" else 1)
        return Cost(moved, spec.flops(dims, frozenset(absent)))

    def table(self, rows: int | None = None) -> str:
        """The ops as text, costed at `rows` rows (128 if not given)."""
        rows = 128 if rows is None else rows
        costs = self.costs(rows)
        lines = [
            [
                str(i),
                op.stage,
                _title(op),
                _arguments(op),
                quantity(cost.bytes, "B"),
                quantity(cost.flops, ""),
            ]
            for i, (op, cost) in enumerate(zip(self.ops, costs, strict=True))
        ]
        lines.append(
            ["", "", "", "", quantity(sum(c.bytes for c in costs), "B"), quantity(sum(c.flops for c in costs), "")]
        )
        head = (
            f"{self.mode} program, {self.dtype}, {self.n_inputs} → {self.n_outputs}, "
            f"{self.layout.n_parameters:,} parameters; bytes and FLOPs at N = {rows} rows; "
            f"arena {quantity(self.arena_size(rows) * np.dtype(self.dtype).itemsize, 'B')}"
        )
        return (
            head + "\n" + table(["#", "stage", "op", "buffers", "bytes", "FLOPs"], lines, right=(0, 4, 5), total=True)
        )

    def __str__(self) -> str:
        return self.table()


def _elements(buffer: Buffer, rows: int) -> int:
    return buffer.width * (rows if "N" in buffer.shape else 1)


def _title(op: Op) -> str:
    extra = [str(v) for k, v in op.attributes if k != "call" and v not in ("linear", False)]
    call = dict(op.attributes).get("call")
    owner = getattr(call, "__self__", call)
    return " ".join([op.name, *extra, *([type(owner).__name__] if call else [])])


def _arguments(op: Op) -> str:
    spec = OPS.get(op.name)
    before: list[str] = []
    after: list[str] = []
    for i, buffer in enumerate(op.args):
        if buffer is None:
            continue
        shape = "×".join(map(str, buffer.shape))
        role = "in" if spec is None else spec.args[i].role
        (before if role == "in" else after).append(f"{buffer.name}[{shape}]" if shape else buffer.name)
    return " ".join([*before, *(["→", *after] if after else [])])
