"""Small batches cut by features: each share owns some of the weights, which nobody else reads or writes.

Cut by rows, all shares read all weights and add to all gradients; but to store to a cache line that another core has
read costs several times the work on what is in it. Here layers go in pairs instead. Of the first, cut by outputs, share
t owns some columns; of the second, cut by inputs, the rows of weights that belong to them:

    yₜ = act(x·W[:, t] + b[t]),   zₜ = yₜ·W'[t, :],   y' = act'(b' + Σₜ zₜ)

That sum over shares is all that a pair exchanges, and one more backwards where its dx is wanted. All else, y' and the
loss and layers without a partner, each share computes for itself, in an arena of its own, and it updates what it owns:
no gradients are added up.

Columns of weights lie between those of the others, and a core that reads its own fetches the neighbours' ahead. So in
long jobs each share has them in memory of its own, copied there before and back afterwards (`Binding.apart`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nnfast.protocol import CUSTOM, PENALTIES, Buffer, Op

from . import table
from .memory import share_bounds
from .plan import WAIT, Instruction, Plan, check_of, cut_by_inputs
from .simd_width import VECTOR_BYTES
from .tiles import TALL, WIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnfast.protocol import Program

__all__ = ["make_features_plan"]

LINE = 64  # bytes: columns are cut at multiples of it
# What shares exchange counts as so many times as much as weights that they would have in common. Measured on two cores:
# with half of it (64-128-64-10 at batch 128, 784-128-128-10 at 256) nothing or little is gained.
EXCHANGED = 2
ALONE = 8  # layers without a partner have at most one in so many of the weights: each share computes them whole

_REDUNDANT = Buffer("redundant", "hidden", 1, ())  # where sums go that the first share has already

Bounds = list[tuple[int, int]]
Pieces = tuple[tuple[int, int], ...]


class Layer(NamedTuple):
    """A dense layer, how it is cut ("outputs", "inputs" or "whole"), and which of those each share owns."""

    forward: Op
    backward: Op | None
    cut: str
    bounds: Bounds


def make_features_plan(
    program: Program, shares: int, idle: frozenset[int], rows: int, gathered: tuple[Op, ...] = ()
) -> Plan | None:
    """The plan by features for batches of so many rows, or None where the cut by rows is better or the only one."""
    ops = [op for i, op in enumerate(program.ops) if i not in idle]
    layers = _layers(ops, shares, program.dtype) if shares > 1 and all(map(_is_known, ops)) else {}
    if not any(layer.cut == "outputs" for layer in layers.values()) or not _pays(layers, shares, rows):
        return None
    made = _Steps(shares)
    made.steps += [Instruction(op, "rows") for op in gathered]
    update: list[Instruction] = []
    for op in ops:
        if op.name == "dense":
            made.forward(layers[op.args[1]])
        elif op.name == "dense_backward":
            made.backward(layers[op.args[1]])
        elif op.stage == "loss":
            made.add([op._replace(args=tuple(map(_elsewhere, op.args))) if t else op for t in range(shares)])
        elif op.name in PENALTIES:
            made.steps += _in_pieces(op)
        elif op.stage == "update":
            update += _in_pieces(op)
        else:
            made.steps.append(Instruction(op, "once"))
    # Whole layers are read by all until here, and sums over shares too.
    steps = [*made.steps, WAIT]
    update = [*_in_pieces(check_of(program).op), *update]
    if next(iter(layers.values())).cut == "whole":  # the next step reads it at once
        update.append(WAIT)
    blocks = [
        (w.offset, (int(w.shape[0]), int(w.shape[1])), tuple(layer.bounds))
        for w, layer in layers.items()
        if w is not None and layer.cut == "outputs"
    ]
    owned, apart = _owned(layers, shares), tuple(_apart(blocks, t) for t in range(shares))
    return Plan(program, (*steps, *update), (), len(steps), owned, apart, tuple(blocks), made.columns)


def _is_known(op: Op) -> bool:
    """Whether the op is one that can be done by features, or whole, or in pieces."""
    if op.name in CUSTOM or op.name == "python":
        return False
    return op.stage in ("loss", "metric") or op.name in ("dense", "dense_backward") or op.name in table.IN_PIECES


def _layers(ops: list[Op], shares: int, dtype: str) -> dict[Buffer | None, Layer]:
    """The dense layers by their weights, in order: as many pairs as there can be; nothing unless all is as usual."""
    forward = [op for op in ops if op.name == "dense"]
    backward = {op.args[1]: op for op in ops if op.name == "dense_backward"}
    if not any(op.stage == "update" for op in ops) or len({op.args[1] for op in forward}) < len(forward):
        return {}
    itemsize = np.dtype(dtype).itemsize
    tile = WIDE * VECTOR_BYTES // itemsize
    layers: dict[Buffer | None, Layer] = {}
    bounds: Bounds = []
    cut = "whole"
    for i, op in enumerate(forward):
        w = op.args[1]
        assert w is not None
        inputs, outputs = map(int, w.shape)
        if cut == "outputs":
            cut = "inputs"
        else:
            bounds = share_bounds(outputs, shares, LINE // itemsize)
            cut = "outputs" if i + 1 < len(forward) and bounds[-1][1] - bounds[-1][0] >= tile else "whole"
            if cut == "whole":
                bounds = share_bounds(inputs, shares, TALL)
        layers[w] = Layer(op, backward.get(w), cut, bounds)
    return layers


def _pays(layers: dict[Buffer | None, Layer], shares: int, rows: int) -> bool:
    """Whether less is shared than by rows, where all weights are, and little is computed more than once."""
    weights = sum(w.width for w in layers if w is not None)
    alone = sum(w.width for w, layer in layers.items() if w is not None and layer.cut == "whole")
    exchanged = 0
    for w, layer in layers.items():
        assert w is not None
        if layer.cut == "inputs":
            exchanged += int(w.shape[1])
        elif layer.cut == "outputs" and layer.backward is not None and layer.backward.args[5] is not None:
            exchanged += int(w.shape[0])
    return EXCHANGED * shares * rows * exchanged <= weights and ALONE * alone <= weights


def _elsewhere(b: Buffer | None) -> Buffer | None:
    return _REDUNDANT if b is not None and b.space == "sums" else b


def _in_pieces(op: Op) -> list[Instruction]:
    """An op over flat arrays, for the pieces in the arrays themselves and for those that may lie apart."""
    own = [b and (b._replace(space=f"own {b.space}") if b.space not in ("sums", "hidden") else b) for b in op.args]
    return [Instruction(op, "pieces"), Instruction(op._replace(args=tuple(own)), "pieces")]


def _apart(blocks: Sequence[tuple[int, tuple[int, int], tuple[tuple[int, int], ...]]], t: int) -> Pieces:
    """The pieces of a share in blocks that are cut by columns: some elements of every row."""
    return tuple(
        (offset + i * length + bounds[t][0], bounds[t][1] - bounds[t][0])
        for offset, (rows, length), bounds in blocks
        for i in range(rows)
    )


def _owned(layers: dict[Buffer | None, Layer], shares: int) -> tuple[Pieces, ...]:
    """What else each share owns of the flat arrays: (offset, size) of each piece, in order."""
    owned: list[list[tuple[int, int]]] = [[] for _ in range(shares)]
    for w, layer in layers.items():
        b = layer.forward.args[2]
        assert w is not None
        assert b is not None
        outputs = int(w.shape[1])
        for t, (low, high) in enumerate(layer.bounds):
            if layer.cut == "outputs":
                owned[t].append((b.offset + low, high - low))
            else:
                owned[t].append((w.offset + low * outputs, (high - low) * outputs))
                owned[t] += [(b.offset, b.width)] * (t == 0)
    return tuple(tuple(_joined(sorted(pieces))) for pieces in owned)


def _joined(pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pieces, those that follow on each other as one."""
    joined: list[tuple[int, int]] = []
    for offset, size in pieces:
        if joined and sum(joined[-1]) == offset:
            joined[-1] = (joined[-1][0], joined[-1][1] + size)
        elif size:
            joined.append((offset, size))
    return joined


def _columns(b: Buffer | None, low: int, high: int) -> Buffer | None:
    """Of weights, what begins at column `low`, with rows as long as ever; of a vector, its elements."""
    if b is None:
        return None
    shape, space = (b.shape, f"own {b.space}") if len(b.shape) == 2 else ((high - low,), b.space)
    return Buffer(f"{b.name}[{low}:{high}]", space, b.offset + low, shape)


def _rows(b: Buffer | None, low: int, high: int) -> Buffer | None:
    """Of weights, these rows."""
    if b is None:
        return None
    length = int(b.shape[1])
    return b._replace(name=f"{b.name}[{low}:{high}]", offset=b.offset + low * length, shape=(high - low, length))


def _narrow(b: Buffer | None, low: int, high: int) -> Buffer | None:
    """An array of the arena that holds only these columns, one beside the other."""
    return None if b is None else b._replace(name=f"{b.name}[{low}:{high}]", shape=("N", high - low))


class _Steps:
    """The instructions of layers, as they come."""

    def __init__(self, shares: int) -> None:
        self.steps: list[Instruction] = []
        self.columns = 0  # of the memory for sums over shares
        self._shares = shares

    def add(self, own: list[Op]) -> None:
        """What each share does, on all rows."""
        self.steps.append(Instruction(own[0], "rows", own=tuple(own)))

    def forward(self, layer: Layer) -> None:
        op = layer.forward
        x, w, b, y = op.args
        assert y is not None
        if layer.cut == "whole":
            self.steps.append(Instruction(op, "rows"))
            return
        if layer.cut == "outputs":
            ys = [_narrow(y, *at) for at in layer.bounds]
            ws, bs = ([_columns(a, *at) for at in layer.bounds] for a in (w, b))
            self.add([Op("dense_block", (x, *rest)) for rest in zip(ws, bs, ys, strict=True)])
        else:
            ys = [y] * self._shares
            blocks = [(_narrow(x, *at), _rows(w, *at)) for at in layer.bounds]
            parts, whole = self._exchange(y)
            self.add([Op("dense_block", (*blocks[t], None if t else b, parts[t])) for t in range(self._shares)])
            self._join(whole, y)
        activation = str(dict(op.attributes)["activation"])
        if activation != "linear":
            self.add([Op(activation, (own, own), op.scalars) for own in ys])

    def backward(self, layer: Layer) -> None:
        op = layer.backward
        assert op is not None
        x, w, y, dy, dz, dx, dw, db = op.args
        if layer.cut == "outputs":
            self._backward_by_outputs(op, layer.bounds)
        elif layer.cut == "inputs":
            own = []
            for t, at in enumerate(layer.bounds):
                wide = y, dy, dz, _narrow(dx, *at), _rows(dw, *at), None if t else db
                own.append(op._replace(args=(_narrow(x, *at), _rows(w, *at), *wide)))
            self.add(own)
        else:
            for step in cut_by_inputs(op) if dw is not None else [Instruction(op, "rows")]:
                others = step.op._replace(args=(*step.op.args[:7], None))
                own = [others if t and step.split == "rows" else step.op for t in range(self._shares)]
                self.steps.append(step._replace(parts=(), own=tuple(own)))

    def _backward_by_outputs(self, op: Op, bounds: Bounds) -> None:
        x, w, y, dy, dz, dx, dw, db = op.args
        slopes, products = [], []
        parts, whole = self._exchange(dx) if dx is not None else ([None] * self._shares, None)
        for t, at in enumerate(bounds):
            z = _narrow(dy if dz is None else dz, *at)
            rest = _narrow(y, *at), _narrow(dy, *at), _narrow(dz, *at), None, None, _columns(db, *at)
            # Of the weights, that op wants to know only how many there are.
            slopes.append(op._replace(args=(x, w and w._replace(shape=(w.shape[0], at[1] - at[0])), *rest)))
            products.append(Op("dense_block_backward", (x, _columns(w, *at), z, parts[t], _columns(dw, *at))))
        if dz is not None or db is not None:
            self.add(slopes)
        self.add(products)
        if dx is not None:
            self._join(whole, dx)

    def _exchange(self, y: Buffer | None) -> tuple[list[Buffer | None], Buffer]:
        """Memory for a sum over shares: the parts, and all of them as one array."""
        assert y is not None
        start, width = self.columns, y.width
        self.columns += self._shares * width
        parts = [Buffer(f"part {t}", "exchange", start + t * width, ("N", width)) for t in range(self._shares)]
        return [*parts], Buffer("parts", "exchange", start, (self._shares, "R", width))

    def _join(self, parts: Buffer | None, y: Buffer) -> None:
        self.steps += [WAIT, Instruction(Op("dense_join", (parts, y)), "rows")]
