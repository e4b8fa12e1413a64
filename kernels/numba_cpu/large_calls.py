"""A large call by hand, cut into shares like an instruction of a program, for several threads.

All but the addresses and the numbers is laid out once for calls of equal shapes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nnfast.protocol import Arg, OpSpec

from . import table
from .addresses import address_of
from .context import WORDS
from .interpreter import H, execute
from .memory import ELEMENT_STEP, ROW_STEP, scratch_memory, share_bounds
from .plan import split_of
from .tiles import TALL

__all__ = ["Layout", "Shared"]


class Layout(NamedTuple):
    """What calls with equal shapes have in common."""

    function: Any  # the compiled op
    template: Any  # context, arrays, dims, numbers, one word each
    arrays: int  # where each of these stands
    dims: int
    numbers: int
    scratch: int  # bytes, 0 if the op wants no context
    shares: int
    sizes: dict[str, int]
    sparse: int  # whether labels are indices


class Shared:
    """Calls of one op with arrays of equal shapes, cut into shares, each of which is a call of its own."""

    def __init__(self, spec: OpSpec, layout: Layout, dtype: str, attributes: Any, arrays: tuple[Any, ...]) -> None:
        shares, sizes = layout.shares, layout.sizes
        cut, step = {"rows": ("N", ROW_STEP), "elements": ("P", ELEMENT_STEP)}[split_of(spec.name)]
        bounds = share_bounds(sizes[cut], shares, step)
        names = [arg.name for arg in spec.args]
        self._written = [arg.role == "out" for arg in spec.args]
        # What is summed over the rows: each share its own, added in order; but for dw, which is cut by inputs.
        sums = {k for k, (arg, a) in enumerate(zip(spec.args, arrays, strict=True)) if _is_sum(arg, a, cut)}
        self._dw = names.index("dw") if "dw" in names and names.index("dw") in sums else -1
        self._sums = sorted(sums - {self._dw})
        starts = np.zeros((shares, len(names)), np.int64)  # bytes into each array
        for k, (arg, a) in enumerate(zip(spec.args, arrays, strict=True)):
            if k in self._sums:
                starts[:, k] = np.arange(shares) * a.nbytes
            elif a is not None and a.size and arg.shape[:1] == (cut,):
                starts[:, k] = [low * a.strides[0] for low, _ in bounds]
        dims = [sizes | {cut: high - low} for low, high in bounds]
        self._rows = Cut(spec, dtype, attributes, dims, cut, layout, starts)
        if "first_row" in spec.scalars:
            self._rows.first_rows = spec.scalars.index("first_row"), [low for low, _ in bounds]
        if self._dw >= 0:
            rows, inputs = arrays[names.index("x")].shape
            spans, itemsize = share_bounds(inputs, shares, TALL), arrays[self._dw].itemsize
            dims = [{"N": rows, "L": inputs, "O": sizes["O"], "I": high - low} for low, high in spans]
            starts = np.array([(low * itemsize, 0, low * sizes["O"] * itemsize) for low, _ in spans], np.int64)
            self._by_inputs = Cut(table.spec_of("dense_weights"), dtype, (), dims, "I", layout, starts)

    def run(self, arrays: tuple[Any, ...], numbers: list[int]) -> None:
        parts = {k: np.zeros((self._rows.shares, *arrays[k].shape), arrays[k].dtype) for k in self._sums}
        bases = [0 if a is None or k == self._dw else address_of(parts.get(k, a)) for k, a in enumerate(arrays)]
        self._rows.run(bases, numbers)
        for k, part in parts.items():
            if self._written[k]:
                arrays[k][...] = 0
            for share in part:
                arrays[k][...] += share
        if self._dw >= 0:
            x, _, _, dy, dz = arrays[:5]
            self._by_inputs.run([address_of(a) for a in (x, dy if dz is None else dz, arrays[self._dw])], [])


class Cut:
    """One instruction for the interpreter, a call per share; all but the addresses and the numbers."""

    def __init__(
        self,
        spec: OpSpec,
        dtype: str,
        attributes: Any,
        dims: list[dict[str, int]],
        cut: str,
        layout: Layout,
        starts: Any,
    ) -> None:
        letters = table.letters(spec)
        n_dims, self.shares, self._starts = len(letters) + 1, len(dims), starts
        self._product = table.address("product", dtype)
        self._scratch = layout.scratch if spec.name in table.NEEDS_CONTEXT else 0
        self.first_rows: tuple[int, list[int]] | None = None  # which number that is, and how many rows come before
        self._dims = WORDS + len(spec.args)
        self._numbers = self._dims + n_dims
        self._words = np.zeros((self.shares, self._numbers + len(spec.scalars)), np.int64)
        self._words[:, self._dims : self._numbers] = [[*(d.get(n, 0) for n in letters), layout.sparse] for d in dims]
        function = table.address(spec.name, dtype, attributes)
        self._calls = np.array([function if d[cut] or t == 0 else 0 for t, d in enumerate(dims)], np.int64)
        self._offsets = np.array([0, WORDS, self._dims, self._numbers], np.int64)
        self._nothing = np.zeros(16, np.int64)
        self._header = h = np.zeros(max(H) + 1, np.int64)
        h[[H.TO_STEP, H.TO_INSTRUCTION, H.INSTRUCTIONS, H.BATCHES, H.SIZE]] = 1
        h[H.SHARES], h[H.WORDS] = self._words.shape
        h[H.CALLS_AT], h[H.OFFSETS_AT] = address_of(self._calls), address_of(self._offsets)
        h[H.FIXES_AT] = h[H.STARTS_AT] = h[H.BASES_AT] = h[H.BARRIER_AT] = address_of(self._nothing)

    def run(self, bases: list[int], numbers: list[int]) -> None:
        """`bases`: where the arrays lie; `numbers`: the scalars."""
        words, header = self._words.copy(), self._header.copy()  # several threads may call at once
        np.add(self._starts, bases, out=words[:, WORDS : self._dims])
        if numbers:
            words[:, self._numbers :] = numbers
        if self.first_rows is not None:
            words[:, self._numbers + self.first_rows[0]] += self.first_rows[1]
        memory = [scratch_memory(self._scratch) for _ in words] if self._scratch else []
        for own, (start, pack, _) in zip(words, memory, strict=False):
            own[:3] = self._product, start, pack
        header[H.WORDS_AT] = address_of(words)
        execute(header, self.shares, alone=False)


def _is_sum(arg: Arg, a: Any, along: str) -> bool:
    return a is not None and arg.role != "in" and along not in arg.shape
