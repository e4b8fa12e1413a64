"""The last steps of lowering: gradients linked backwards through the layers, and arrays placed in the arena."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence

from nnfast.errors import OptionError
from nnfast.protocol import OPS, Buffer, Op

__all__ = ["Part", "check_penalties", "link_backward", "place", "rename"]


class Part:
    """What one layer emitted. `dy` and `dx` are placeholders until the gradients are linked."""

    def __init__(self, prefix: str, x: Buffer, trainable: bool) -> None:
        self.prefix = prefix
        self.x = x
        self.y = x  # unless the layer has an output of its own
        self.trainable = trainable
        self.forward: list[Op] = []
        self.backward: list[Op] = []

    @property
    def dy(self) -> Buffer:
        return Buffer(f"{self.prefix}.dy", "arena", -1, self.y.shape)

    @property
    def dx(self) -> Buffer:
        return Buffer(f"{self.prefix}.dx", "arena", -1, self.x.shape)


def link_backward(parts: Sequence[Part], loss_gradient: Buffer, trainable: set[str]) -> list[Op]:
    """Backward ops, last layer first: each dy becomes the dx of the layer after, or None where no one needs it.

    `trainable` are the prefixes of the layers whose parameters train; below the lowest of them nothing is computed.
    """
    wanted = [i for i, part in enumerate(parts) if part.prefix in trainable]
    lowest = wanted[0] if wanted else len(parts)
    gradient: Buffer | None = loss_gradient
    linked: list[Op] = []
    for i in range(len(parts) - 1, lowest - 1, -1):
        part = parts[i]
        if not part.forward:  # passes its input on
            continue
        if not part.backward:
            raise OptionError(f"layer {part.prefix} emits no backward op, but a gradient must pass through it")
        below = part.dx if i > lowest or not _may_be_none(part.dx, part.backward) else None
        linked += rename(part.backward, {part.dy.name: gradient, part.dx.name: below})
        gradient = below
    return linked


def check_penalties(penalties: Sequence[Op], ops: Sequence[Op], parts: Sequence[Part]) -> None:
    """A penalty adds to a gradient that an op has filled before; plain Python fills its own."""
    filled = {(b.space, b.offset) for op in ops for b in op.args if b is not None}
    plain = {part.prefix for part in parts if any(op.name == "python" for op in part.backward)}
    for penalty in penalties:
        g = penalty.args[1]
        if g is not None and (g.space, g.offset) not in filled and g.name[1:].partition(".")[0] not in plain:
            raise OptionError(f"the gradient of {g.name[1:]!r} has a penalty, but no backward op fills it")


def _may_be_none(dx: Buffer, ops: Sequence[Op]) -> bool:
    """Whether every op that names dx can do without it."""
    places = [(op, i) for op in ops for i, b in enumerate(op.args) if b == dx]
    return all(op.name not in OPS or OPS[op.name].args[i].optional for op, i in places)


def rename(ops: list[Op], names: Mapping[str, Buffer | None]) -> list[Op]:
    """The ops with other buffers in the place of these arrays of the arena."""

    def now(b: Buffer | None) -> Buffer | None:
        return names.get(b.name, b) if b is not None and b.space == "arena" else b

    return [op._replace(args=tuple(map(now, op.args))) for op in ops]


def place(ops: list[Op]) -> tuple[list[Op], int]:
    """Give every arena array its columns: first fit over the spans from first to last use. Returns ops and columns."""
    spans: dict[str, tuple[Buffer, int, int]] = {}
    for i, op in enumerate(ops):
        for b in op.args:
            if b is not None and b.space == "arena":
                spans[b.name] = (b, spans[b.name][1] if b.name in spans else i, i)
    placed: dict[str, Buffer] = {}
    taken: list[tuple[int, int, int, int]] = []  # columns and span of those that are placed, by their first column
    for name, (b, first, last) in sorted(spans.items(), key=lambda s: s[1][1]):
        offset, width = 0, b.width
        for low, high, start, end in taken:
            if start <= last and end >= first and low < offset + width and offset < high:
                offset = high
        placed[name] = b._replace(offset=offset)
        insort(taken, (offset, offset + width, first, last))
    return rename(ops, placed), max((high for _, high, _, _ in taken), default=0)
