"""A Program as the instructions of several shares of the work: what is split how, and where shares wait for each other.

The batch's rows are cut into shares, and so are the flat arrays. An op over rows runs on each share of them; what it
sums over its rows (a weight gradient, a loss) goes to a part of the share's own, and the parts are added in order. An
update runs on each share of the flat arrays. Large weight gradients are cut by inputs instead, which needs no parts.
Nothing here depends on who runs a share: the cuts follow from shapes and the number of shares alone, hence the bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnfast.protocol import ALIGNMENT, CUSTOM, PENALTIES, Buffer, Op

from . import table

if TYPE_CHECKING:
    from nnfast.protocol import Program

__all__ = [
    "BARRIER",
    "ONE_AT_A_TIME",
    "WAIT",
    "Instruction",
    "Plan",
    "check_of",
    "cut_by_inputs",
    "is_compiled",
    "make_plan",
    "split_of",
]

BARRIER = "barrier"
CUT_BY_INPUTS = 16_384  # weights from this many elements on: adding parts would cost more than waiting twice
COUPLED = frozenset({"r2_moments"})  # rows that need each other
ONE_AT_A_TIME = frozenset({"random_search_propose", "random_search_accept"})


class Instruction(NamedTuple):
    """One op as all shares run it, or a barrier, or a call of plain Python (`op.name` "python" or without a kernel).

    `split`: "rows"; "elements" of the flat arrays; "inputs" of a weight gradient; "once", by the first share.
    `parts`: the arguments that are sums over rows, of which each share but the first has a part of its own.
    In a plan by features, "rows" are all rows, and there are "pieces" of the flat arrays. `own`: the op of each share,
    where they differ.
    """

    op: Op
    split: str
    parts: tuple[int, ...] = ()
    compiled: bool = True
    own: tuple[Op, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The instructions of one step, and the blocks of the gradient, (offset, size), that come in parts.

    By features, each share has an arena of its own and owns pieces, (offset, size), of the flat arrays, `owned`; and of
    some blocks, (offset, shape, columns of each share), it owns columns, the pieces `apart`; in the spaces "own …"
    these may lie in memory of its own.
    """

    program: Program
    instructions: tuple[Instruction, ...]
    parts: tuple[tuple[int, int], ...]
    update_at: int  # where to stop before the update, in a plan with a cut
    owned: tuple[tuple[tuple[int, int], ...], ...] = ()  # of each share, in a plan by features
    apart: tuple[tuple[tuple[int, int], ...], ...] = ()
    blocks: tuple[tuple[int, tuple[int, int], tuple[tuple[int, int], ...]], ...] = ()
    exchange_columns: int = 0  # likewise: memory for sums over shares, in elements per row


def make_plan(
    program: Program, shares: int, idle: frozenset[int], *, cut: bool = False, gathered: tuple[Op, ...] = ()
) -> Plan:
    """The plan for this many shares; `idle` are the ops (by place in the program) that would change nothing now.

    `gathered` come first, and bring the rows of the batch together. With `cut` all wait before the update, so that
    somebody else may look at the gradient there.
    """
    forward = [Instruction(op, "rows") for op in gathered]
    update: list[Instruction] = []
    read = _read_before_update(program)
    for i, op in enumerate(program.ops):
        if i not in idle:
            into = update if op.stage == "update" or update else forward
            into += _instructions(op, shares, read)
    blocks = {(b.offset, b.width) for step in forward for b in map(step.op.args.__getitem__, step.parts) if b}
    parts = _runs(sorted(blocks), program.dtype) if shares > 1 else []
    forward += [_combine(run, share) for share in range(1, shares) for run in parts]
    if any(b is not None and b.space == "gradients" for op in program.ops for b in op.args):
        update.insert(0, check_of(program))
    if cut:
        forward = _with_barriers(forward)
    return Plan(program, tuple(_with_barriers([*forward, *update])), tuple(parts), len(forward))


# Sums of a share that the program does not name: they stand behind its own columns.
_CHECKED = Buffer("finite", "hidden", 0, ())
_SQUARES = Buffer("squares", "squares", 0, ())
WAIT = Instruction(Op(BARRIER, ()), "all")


def is_compiled(op: Op) -> bool:
    """Whether the op runs in compiled code; else plain Python has its turn."""
    return op.name != "python" and table.has(op.name)


def _instructions(op: Op, shares: int, read: list[Buffer]) -> list[Instruction]:
    """What one op of the program becomes; `read` are blocks of the gradient that must be filled in one piece."""
    if not is_compiled(op) or _touches(op, read):
        return [Instruction(op, "once", compiled=is_compiled(op))]
    if op.name == "dense_backward" and shares > 1:
        dw = op.args[6]
        if dw is not None and dw.width >= CUT_BY_INPUTS:
            return cut_by_inputs(op)
    if op.name == "clip_by_global_norm" and shares > 1:
        squares = _internal("sum_of_squares", (op.args[0], _SQUARES), op.stage)
        every = _SQUARES._replace(shape=(shares,))
        return [squares, WAIT, _internal("scale_to_norm", (op.args[0], every), op.stage, op.scalars)]
    spec = table.spec_of(op.name)
    split = split_of(op.name)
    parts = [
        i
        for i, (arg, b) in enumerate(zip(spec.args, op.args, strict=True))
        if split == "rows" and b is not None and b.space == "gradients" and arg.role != "in"
    ]
    return [Instruction(op, split, tuple(parts))]


def _read_before_update(program: Program) -> list[Buffer]:
    """Blocks of the gradient that an op of one's own reads or changes: whoever fills those does so in one piece.

    A penalty only adds, which it may do before the parts of the shares are added too.
    """
    return [
        b
        for op in program.ops
        if op.name in CUSTOM and op.stage != "update"
        for arg, b in zip(table.spec_of(op.name).args, op.args, strict=True)
        if b is not None and b.space == "gradients" and arg.role != "out"
    ]


def _touches(op: Op, blocks: list[Buffer]) -> bool:
    """Whether the op, not one of the update or a penalty, names any of these blocks of the gradient."""
    return (
        op.stage != "update"
        and op.name not in PENALTIES
        and any(
            b is not None and b.space == "gradients" and b.offset < c.offset + c.width and c.offset < b.offset + b.width
            for b in op.args
            for c in blocks
        )
    )


def split_of(name: str) -> str:
    """How an op is cut: its rows, its elements, or not at all."""
    spec = table.spec_of(name)
    dims = table.letters(spec)
    if name in COUPLED | ONE_AT_A_TIME or (name in CUSTOM and not spec.by_rows):
        return "once"
    if "N" in dims:
        return "rows"
    return "elements" if "P" in dims and name not in CUSTOM else "once"


def cut_by_inputs(op: Op) -> list[Instruction]:
    """A backward op without its weight gradient, then the weight gradient, cut by inputs."""
    x, _, _, dy, dz, dx, dw, db = op.args
    rest = op._replace(args=(*op.args[:6], None, db))
    weights = _internal("dense_weights", (x, dy if dz is None else dz, dw), op.stage)._replace(split="inputs")
    if dx is None and db is None and dz is None:
        return [weights]
    return [Instruction(rest, "rows", (7,) if db is not None else ()), weights]


def check_of(program: Program) -> Instruction:
    """Look whether all of the gradient is finite."""
    return _internal("check", (_flat("gradients", 0, program.layout.size), _CHECKED))


def _internal(name: str, args: tuple[Buffer | None, ...], stage: str = "update", scalars: Any = ()) -> Instruction:
    return Instruction(Op(name, args, scalars, (), stage), "elements")


def _flat(space: str, offset: int, size: int) -> Buffer:
    return Buffer(f"{space}[{offset}:{offset + size}]", space, offset, (size,))


def _combine(run: tuple[int, int], share: int) -> Instruction:
    return _internal("combine", (_flat("gradients", *run), _flat(f"part {share}", *run)), "backward")


def _runs(blocks: list[tuple[int, int]], dtype: str) -> list[tuple[int, int]]:
    """The blocks, joined to longer runs where only padding lies between them."""
    step = ALIGNMENT // np.dtype(dtype).itemsize
    runs: list[tuple[int, int]] = []
    for offset, width in blocks:
        if runs and offset - sum(runs[-1]) < step:
            runs[-1] = (runs[-1][0], offset + width - runs[-1][0])
        else:
            runs.append((offset, width))
    return runs


def _with_barriers(steps: list[Instruction]) -> list[Instruction]:
    """The steps with a barrier wherever a share could meet what another has not finished.

    Steps that are cut alike need none between them, with one exception: two arrays of the arena that share memory but
    not their shape are cut at other places.
    """
    out: list[Instruction] = []
    touched: list[Buffer] = []
    split = ""
    for step in steps:
        arena = [b for b in step.op.args if b is not None and b.space == "arena"]
        waited = not out or out[-1] is WAIT
        if not waited and (step.split != split or any(_clash(a, b) for a in arena for b in touched)):
            if step is not WAIT:
                out.append(WAIT)
            waited = True
        touched = arena if waited else touched + arena
        out.append(step)
        split = step.split
    return out if not out or out[-1] is WAIT else [*out, WAIT]


def _clash(a: Buffer, b: Buffer) -> bool:
    low, high, its_low, its_high = a.offset, a.offset + a.width, b.offset, b.offset + b.width
    return low < its_high and its_low < high and (low, high) != (its_low, its_high)
