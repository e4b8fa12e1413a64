"""A large call by hand, cut into shares like an instruction of a program, for several threads.

All but the addresses and the numbers is laid out once for calls of equal shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.protocol import Arg, OpSpec

from . import table
from .addresses import address_of
from .context import WORDS
from .interpreter import H, execute
from .memory import ELEMENT_STEP, ROW_STEP, scratch_memory, share_bounds
from .plan import split_of
from .products import TALL

if TYPE_CHECKING:
    from .eager import Layout

__all__ = ["Shared"]


class Shared:
    """Calls of one op with arrays of equal shapes, cut into shares, each of which is a call of its own."""

    def __init__(self, spec: OpSpec, layout: Layout, dtype: str, attributes: Any, arrays: tuple[Any, ...]) -> None:
        self._spec, shares, sizes = spec, layout.shares, layout.sizes
        cut, step = {"rows": ("N", ROW_STEP), "elements": ("P", ELEMENT_STEP)}[split_of(spec.name)]
        bounds = share_bounds(sizes[cut], shares, step)
        names = [arg.name for arg in spec.args]
        # What is summed over the rows: each share its own, added in order; but for dw, which is cut by inputs.
        sums = {k for k, (arg, a) in enumerate(zip(spec.args, arrays, strict=True)) if _is_sum(arg, a, cut)}
        self._dw = names.index("dw") if "dw" in names and names.index("dw") in sums else -1
        self._sums = sorted(sums - {self._dw})
        # Bytes into each array at which a share begins; None where there is none.
        self._starts: list[list[int] | None] = [
            None
            if a is None or k == self._dw
            else [low * a.strides[0] if a.size and arg.shape[:1] == (cut,) else 0 for low, _ in bounds]
            for k, (arg, a) in enumerate(zip(spec.args, arrays, strict=True))
        ]
        self._bounds = bounds
        dims = [sizes | {cut: high - low} for low, high in bounds]
        self._rows = Cut(spec, dtype, attributes, dims, cut, layout.scratch, layout.sparse)
        if self._dw >= 0:
            rows, inputs = arrays[names.index("x")].shape
            self._inputs = share_bounds(inputs, shares, TALL)
            dims = [{"N": rows, "L": inputs, "O": sizes["O"], "I": high - low} for low, high in self._inputs]
            self._by_inputs = Cut(table.spec_of("dense_weights"), dtype, (), dims, "I", layout.scratch, layout.sparse)

    def run(self, arrays: tuple[Any, ...], numbers: list[int]) -> None:
        shares = len(self._bounds)
        parts = {k: np.zeros((shares, *arrays[k].shape), arrays[k].dtype) for k in self._sums}
        columns = []
        for k, starts in enumerate(self._starts):
            if k in parts:
                columns.append([address_of(parts[k]) + t * parts[k].strides[0] for t in range(shares)])
            else:
                columns.append([0] * shares if starts is None else [address_of(arrays[k]) + s for s in starts])
        own = [numbers[:] for _ in self._bounds]
        if "first_row" in self._spec.scalars:
            for share, (low, _) in zip(own, self._bounds, strict=True):
                share[self._spec.scalars.index("first_row")] += low
        self._rows.run(columns, own)
        for k, part in parts.items():
            if self._spec.args[k].role == "out":
                arrays[k][...] = 0
            for share in part:
                arrays[k][...] += share
        if self._dw >= 0:
            self._weights(arrays)

    def _weights(self, arrays: tuple[Any, ...]) -> None:
        """The weight gradient of `dense_backward`, cut by inputs."""
        x, _, _, dy, dz = arrays[:5]
        dw, shares = arrays[self._dw], len(self._inputs)
        from_x, into = address_of(x), address_of(dw)
        columns = [
            [from_x + low * x.itemsize for low, _ in self._inputs],
            [address_of(dy if dz is None else dz)] * shares,
            [into + low * dw.shape[1] * dw.itemsize for low, _ in self._inputs],
        ]
        self._by_inputs.run(columns, [[]] * shares)


class Cut:
    """One instruction for the interpreter, a call per share; all but the addresses and the numbers."""

    def __init__(
        self, spec: OpSpec, dtype: str, attributes: Any, dims: list[dict[str, int]], cut: str, scratch: int, sparse: int
    ) -> None:
        letters = table.letters(spec)
        self._arrays, n_dims, n = len(spec.args), len(letters) + 1, len(dims)
        self._product = table.address("product", dtype)
        self._scratch = scratch if spec.name in table.NEEDS_CONTEXT else 0
        self._words = np.zeros((n, WORDS + self._arrays + n_dims + len(spec.scalars)), np.int64)
        self._words[:, WORDS + self._arrays : WORDS + self._arrays + n_dims] = [
            [*(d.get(letter, 0) for letter in letters), sparse] for d in dims
        ]
        self._numbers = WORDS + self._arrays + n_dims
        function = table.address(spec.name, dtype, attributes)
        self._calls = np.array([function if d[cut] or t == 0 else 0 for t, d in enumerate(dims)])
        self._offsets = np.array([0, WORDS, WORDS + self._arrays, self._numbers], np.int64)
        self._nothing = np.zeros(16, np.int64)
        self._header = h = np.zeros(max(H) + 1, np.int64)
        h[[H.TO_STEP, H.TO_INSTRUCTION, H.INSTRUCTIONS, H.BATCHES, H.SIZE]] = 1
        h[H.SHARES], h[H.WORDS] = self._words.shape
        h[H.CALLS_AT], h[H.OFFSETS_AT] = address_of(self._calls), address_of(self._offsets)
        h[H.FIXES_AT] = h[H.STARTS_AT] = h[H.BASES_AT] = h[H.BARRIER_AT] = address_of(self._nothing)

    def run(self, columns: list[list[int]], numbers: list[list[int]]) -> None:
        """`columns`: the addresses of each array, one per share; `numbers`: the scalars of each share."""
        words, header = self._words.copy(), self._header.copy()  # several threads may call at once
        words[:, WORDS : WORDS + self._arrays] = np.array(columns).T
        words[:, self._numbers :] = numbers
        memory = [scratch_memory(self._scratch) for _ in words] if self._scratch else []
        for own, (start, pack, _) in zip(words, memory, strict=False):
            own[:3] = self._product, start, pack
        header[H.WORDS_AT] = address_of(words)
        execute(header, len(words), alone=False)


def _is_sum(arg: Arg, a: Any, along: str) -> bool:
    return a is not None and arg.role != "in" and along not in arg.shape
