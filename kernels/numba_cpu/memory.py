"""The arrays in which steps are computed. They only grow; where one moves, all bindings to it are void."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.protocol import Op

from . import table
from .addresses import address_of
from .context import scratch_bytes
from .jobs import Data
from .plan import Plan, is_compiled
from .tiles import PACK_BYTES

if TYPE_CHECKING:
    from . import NumbaBackend

__all__ = ["ELEMENT_STEP", "ROW_STEP", "Memory", "part_starts", "scratch_memory", "share_bounds"]

ROW_STEP = 16  # shares of rows begin at multiples of this, so that no cache line of the arena is in two shares
ELEMENT_STEP = 64  # likewise for the flat arrays


@dataclass
class Memory:
    """The arrays that do not change from job to job, as the runner holds them."""

    flat: dict[str, Any]  # "parameters", "gradients", "state" and the slots
    arenas: list[Any]  # one, or in a plan by features one per share
    parts: list[Any]  # one per share but the first
    staged: dict[str, list[Any]]  # "x", "y", "weight": rows in the order of the job; as many as arenas
    exchange: Any  # of a plan by features
    own: list[dict[str, Any]]  # likewise: arrays like the flat ones, one set per share, of which it uses what it owns
    scratch: list[Any]  # one per share

    def grow(self, backend: NumbaBackend, plan: Plan, size: int, shares: int, data: Data, apart: bool) -> bool:
        """Make all large enough for a plan; returns whether anything moved, after which addresses are void."""
        program = plan.program
        copies = len(plan.owned) or 1
        moved = _enlarge(self.arenas, copies, program.arena_size(size), program.dtype, backend)
        if data.ordered:
            for name, row_bytes in (("x", data.x), ("y", data.y), ("weight", data.weight)):
                moved |= _enlarge(self.staged.setdefault(name, []), copies, row_bytes * size, "uint8", backend)
        needed = plan.exchange_columns * program.arena_rows(size)
        if needed > self.exchange.size:
            self.exchange, moved = backend.empty(needed, program.dtype), True
        while apart and len(self.own) < shares:
            self.own.append({name: backend.empty(a.shape, a.dtype) for name, a in self.flat.items()})
        runs = part_starts(plan.parts)
        part = runs[-1][2] + runs[-1][1] if runs else 0
        if len(self.parts) < shares - 1 or (self.parts and part > self.parts[0].size):
            # Zero, because padding between blocks is added along with them.
            self.parts, moved = [backend.zeros(part, program.dtype) for _ in range(shares - 1)], True
        scratch = max((_scratch(op, program.dtype) for op in program.ops), default=0) + PACK_BYTES
        if len(self.scratch) < shares or scratch > self.scratch[0].nbytes:
            self.scratch, moved = [backend.empty(scratch, np.uint8) for _ in range(shares)], True
        return moved


def share_bounds(count: int, shares: int, step: int) -> list[tuple[int, int]]:
    """0 … count − 1 cut into shares of equal size, but for the last, that begin at multiples of `step`."""
    size = -(-count // (shares * step)) * step
    return [(min(t * size, count), min(t * size + size, count)) for t in range(shares)]


def part_starts(runs: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Runs of the flat gradient (offset, size) with the place of each in an array that holds just them."""
    placed, at = [], 0
    for offset, size in runs:
        placed.append((offset, size, at))
        at += -(-size // ELEMENT_STEP) * ELEMENT_STEP
    return placed


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


def _enlarge(arrays: list[Any], count: int, size: int, dtype: str, backend: NumbaBackend) -> bool:
    """See to it that there are so many arrays of this size; returns whether there had to be others."""
    if len(arrays) >= count and all(a.size >= size for a in arrays):
        return False
    size = max(size, *(a.size for a in arrays), 0)
    arrays[:] = [backend.empty(size, dtype) for _ in range(max(count, len(arrays)))]
    return True


def scratch_memory(size: int) -> tuple[int, int, Any]:
    """Addresses of scratch memory and of that for the product's own use, and what they lie in; see `context.py`."""
    size += -size % 64
    memory = np.empty(size + PACK_BYTES + 64, np.uint8)
    start = address_of(memory) + -address_of(memory) % 64
    return start, start + size, memory
