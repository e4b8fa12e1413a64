"""Where every array of every share lies, and every number: the words of a plan, as the interpreter reads them.

Each instruction has words for the addresses of its arrays, for its sizes and for its numbers. There is a row of words
for each share in each variant of the batch, a whole one and a short last one. What moves from step to step is noted as
a fix, and is put in its place by the interpreter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from nnfast.protocol import Buffer, Op

from . import table
from .addresses import address_of, words_apart
from .context import WORDS
from .interpreter import Fix
from .jobs import Data, spans_of
from .memory import ELEMENT_STEP, ROW_STEP, Memory, part_starts, share_bounds
from .plan import BARRIER, Instruction, Plan
from .tiles import PACK_BYTES, TALL

__all__ = ["BASES", "Placing"]

# The job's arrays by their place among the bases.
BASES = ("x", "y", "weight", "output", "order")
_RUN_FIXES = {
    "learning_rate": Fix.RATE,
    "normaliser": Fix.NORMALISER,
    "step": Fix.STEP,
    "first_row": Fix.FIRST_ROW,
}
_CUT_LETTERS = {"rows": "N", "elements": "P", "inputs": "I"}

_NONE: Mapping[str, int] = MappingProxyType({})

Bounds = list[list[tuple[int, int]]]  # by variant and share: first, and the one after the last


class Placing:
    """The tables of one plan, whatever memory they will be for: the same for all runners of the same Program.

    template        words by variant and share; an address is counted from its origin
    origin_of       of each word: 0, or 1 + a place among `origins`
    origins         arrays of `Memory`, by attribute and keys; see `words`
    offsets         of each instruction: whether it is a barrier, and where its three kinds of words begin
    calls           by variant, instruction and share: the compiled op, 0 where there is nothing to do
    starts          the first row by variant and share
    fixes           of each share: (word, kind of `Fix`, three numbers)
    named           words of a scalar of the program or of the key, which come with the job
    scalar_words    those of scalars, and in `scalar_places` where each stands in `Job.scalars`
    key_words       those of the key
    moving          words of the flat arrays in `columns`: (column, bytes from the start of the array)
    """

    def __init__(
        self,
        plan: Plan,
        rows: Sequence[int],
        shares: int,
        data: Data,
        *,
        apart: bool = False,
        columns: Mapping[str, int] = _NONE,
    ) -> None:
        program = plan.program
        self.plan, self.rows, self.shares, self.data, self.is_apart = plan, list(rows), shares, data, apart
        self._shares, self._columns = range(shares), columns
        self._dtype, self._size = program.dtype, np.dtype(program.dtype).itemsize
        self._by_features = bool(plan.owned)
        # By features, each share does what is split by rows on all of them.
        self._row_bounds: Bounds = [
            [(0, n)] * shares if self._by_features else share_bounds(n, shares, ROW_STEP) for n in rows
        ]
        self._flat_bounds = share_bounds(program.layout.size, shares, ELEMENT_STEP)
        self._part_starts = part_starts(plan.parts)
        self._column_bytes = [program.arena_rows(n) * self._size for n in rows]
        self._pieces: list[Any] = []  # kept alive
        self._fixes: list[list[tuple[int, ...]]] = [[] for _ in range(shares)]
        self._origins: dict[tuple[Any, ...], int] = {}
        self.named: list[tuple[int, str]] = []
        self.moving: dict[int, tuple[int, int]] = {}
        self._lay_out()
        self.origins = list(self._origins)
        self.fixes = np.array(self._fixes, np.int64).reshape(shares, -1, 5)
        self.starts = np.array([[low for low, _ in bounds] for bounds in self._row_bounds], np.int64)
        self.spans = {cut: spans_of(plan, cut=cut) for cut in (False, True)}
        self._place_named()
        for shared in (self.template, self.origin_of, self.offsets, self.calls, self.fixes, self.starts):
            shared.flags.writeable = False

    def _lay_out(self) -> None:
        steps, rows = self.plan.instructions, self.rows
        self.offsets, end = self._make_offsets()
        self.calls = np.zeros((len(rows), len(steps), self.shares), np.int64)
        # Lists for now: NumPy takes single numbers slowly.
        self._lists, self._origin_of = ([[[0] * end for _ in self._shares] for _ in rows] for _ in range(2))
        self._begin()
        for i, step in enumerate(steps):
            if step.own:
                for t, op in enumerate(step.own):
                    self._place(i, step, op, (t,))
            elif step.compiled and step.op.name != BARRIER:
                self._place(i, step, step.op, self._shares)
        self.template, self.origin_of = np.array(self._lists, np.int64), np.array(self._origin_of, np.intp)
        del self._lists, self._origin_of

    def words(self, memory: Memory, squares: Any) -> Any:
        """The words with the addresses that they have in this memory, for one binding to fill."""
        found = [0]
        for kind, *which in self.origins:
            if kind == "pack":  # at the end of what there is
                scratch = memory.scratch[which[0]]
                found.append(address_of(scratch) + scratch.nbytes - PACK_BYTES)
            else:
                array: Any = squares if kind == "squares" else getattr(memory, kind)
                for key in which:
                    array = array[key]
                found.append(address_of(array))
        words = words_apart(*self.template.shape)
        np.add(self.template, np.array(found, np.int64)[self.origin_of], out=words)
        return words

    def _make_offsets(self) -> tuple[Any, int]:
        """And the number of words in all."""
        steps, end = self.plan.instructions, WORDS
        offsets = [[0, 0, 0, 0] for _ in steps]
        for made, step in zip(offsets, steps, strict=True):
            if step.op.name == BARRIER:
                made[0] = 1
            elif step.compiled:
                spec = table.spec_of(step.op.name)
                dims = end + len(spec.args)
                numbers = dims + len(table.letters(spec)) + 1
                made[1:] = end, dims, numbers
                end = numbers + len(spec.scalars)
        return np.array(offsets, np.int64).reshape(-1, 4), end

    def _begin(self) -> None:
        """What stands before all instructions: the product, scratch memory, and that for the product's own use."""
        product = table.address("product", self._dtype)
        for t in self._shares:
            scratch, pack = self._origin("scratch", t), self._origin("pack", t)
            for lists, origin_of in zip(self._lists, self._origin_of, strict=True):
                lists[t][0] = product
                origin_of[t][1:3] = scratch, pack

    def _origin(self, *key: Any) -> int:
        return self._origins.setdefault(key, len(self._origins) + 1)

    # ---- one instruction --------------------------------------------------------------------------------------------

    def _place(self, i: int, step: Instruction, op: Op, shares: Sequence[int]) -> None:
        """The words of one instruction for these shares."""
        spec = table.spec_of(op.name)
        _, arrays, dims, numbers = self.offsets[i].tolist()
        bounds = self._bounds(step)
        sizes: dict[str, int | str] = {}
        for k, (arg, b) in enumerate(zip(spec.args, op.args, strict=True)):
            if b is not None:
                sizes.update(zip(arg.shape, b.shape, strict=False))
                self._place_array(arrays + k, b, step, k, bounds, shares)
        self._place_sizes(dims, table.letters(spec), sizes, step.split, bounds, shares)
        given = dict(op.scalars)
        for k, name in enumerate(spec.scalars):
            self._place_number(numbers + k, name, given.get(name, 0.0), shares)
        pieces = step.split == "pieces"
        if pieces:
            bounds = self._place_pieces(dims, op, shares)
        call = table.address(op.name, self._dtype, op.attributes, pieces=pieces)
        for v, of_shares in enumerate(bounds):
            for t in shares:
                low, high = of_shares[t]
                if ((t == 0 and not pieces) or low < high) and not self._adds_nothing(op, v):
                    self.calls[v, i, t] = call

    def _bounds(self, step: Instruction) -> Bounds:
        """What each share does of it: rows, elements counted from the first array's own start, inputs."""
        if step.split == "rows":
            return self._row_bounds
        shares = [(0, 1), *[(0, 0)] * (self.shares - 1)]
        if step.split == "elements":
            b = step.op.args[0]
            assert b is not None
            offset, width = b.offset, b.width
            shares = [
                (min(max(low - offset, 0), width), min(max(high - offset, 0), width)) for low, high in self._flat_bounds
            ]
        elif step.split == "inputs":
            dw = step.op.args[2]
            assert dw is not None
            shares = share_bounds(int(dw.shape[0]), self.shares, TALL)
        return [shares] * len(self.rows)

    def _place_sizes(
        self,
        word: int,
        letters: tuple[str, ...],
        sizes: Mapping[str, int | str],
        split: str,
        bounds: Bounds,
        shares: Iterable[int],
    ) -> None:
        """Sizes of an instruction; "R" is what the arena has room for, any other letter the rows of the batch."""
        cut = _CUT_LETTERS.get(split)
        for n, lists, of_shares in zip(self.rows, self._lists, bounds, strict=True):
            of_batch = {"R": self.plan.program.arena_rows(n)}
            given = (sizes.get(letter, 0) for letter in letters)
            whole = [of_batch.get(s, n) if isinstance(s, str) else s for s in given]
            whole.append(self.data.sparse)
            for t in shares:
                lists[t][word : word + len(whole)] = whole
                if cut in letters:
                    low, high = of_shares[t]
                    lists[t][word + letters.index(cut)] = high - low

    def _place_pieces(self, word: int, op: Op, shares: Iterable[int]) -> Bounds:
        """How many pieces of an op's arrays each share owns, and the address of their list, counted from its start."""
        b = op.args[0]
        assert b is not None
        bounds = [(0, 0)] * self.shares
        for t in shares:
            owned = (self.plan.apart if b.space.startswith("own ") else self.plan.owned)[t]
            both = [(max(low, b.offset), min(low + n, b.offset + b.width)) for low, n in owned]
            pieces = np.array([(low - b.offset, high - low) for low, high in both if low < high], np.int64)
            self._pieces.append(pieces)
            bounds[t] = 0, len(pieces)
            for lists in self._lists:
                lists[t][word : word + 2] = len(pieces), address_of(pieces)
        return [bounds] * len(self.rows)

    def _adds_nothing(self, op: Op, v: int) -> bool:
        """Whether this adds the part of a share that has no rows in this variant, and so has not filled it."""
        part = op.args[1] if op.name == "combine" else None
        if part is None:
            return False
        low, high = self._row_bounds[v][int(part.space[5:])]
        return low >= high

    def _place_number(self, word: int, keyword: str, source: str | float, shares: Sequence[int]) -> None:
        if not isinstance(source, str):
            bits = table.number_bits(keyword, source)
            for lists in self._lists:
                for t in shares:
                    lists[t][word] = bits
        elif source in _RUN_FIXES:
            self._fix(word, shares, _RUN_FIXES[source])
        elif 0 in shares:
            self.named.append((word, source))

    def _place_named(self) -> None:
        scalars = {name: i for i, name in enumerate(self.plan.program.scalars)}
        self.scalar_words = np.array([w for w, name in self.named if name in scalars], np.intp)
        self.scalar_places = np.array([scalars[name] for _, name in self.named if name in scalars], np.intp)
        self.key_words = np.array([w for w, name in self.named if name == "key"], np.intp)
        unknown = {name for _, name in self.named} - {"key", *scalars}
        if unknown:
            raise LookupError(f"scalars that the program does not name: {sorted(unknown)}")

    # ---- one array --------------------------------------------------------------------------------------------------

    def _place_array(
        self, word: int, b: Buffer, step: Instruction, k: int, bounds: Bounds, shares: Sequence[int]
    ) -> None:
        """The address of one array for each share, or what the interpreter makes of it."""
        space, stride = b.space, self._stride(b, step, k)
        if space in self._columns:
            self.moving[word] = self._columns[space], b.offset * self._size + bounds[0][0][0] * stride
        elif space == "order":
            self._fix(word, shares, Fix.ROWS_OF_EPOCHS, BASES.index("order"), 8)
        elif space in BASES or space.startswith("source "):
            self._place_data(word, b, step, stride, bounds, shares)
        elif space in ("sums", "hidden"):
            column = b.offset + (len(self.plan.program.sums) if space == "hidden" else 0)
            self._fix(word, shares, Fix.SUMS, column)
        elif space == "squares":
            at = self._origin("squares")
            self._put(word, [(t, at, 0 if b.shape else 8 * t) for t in shares], 0, bounds)
        elif space == "exchange":
            at = self._origin("exchange")
            self._put(word, [(t, at, 0) for t in shares], stride, bounds, b.offset)
        elif space == "arena":
            self._put(word, self._of_shares("arenas", shares=shares), stride, bounds, b.offset)
        else:
            self._put(word, [(t, *self._in_flat(b, step, k, t)) for t in shares], stride, bounds)

    def _place_data(
        self, word: int, b: Buffer, step: Instruction, stride: int, bounds: Bounds, shares: Sequence[int]
    ) -> None:
        """Rows of the job: as they stand, all of them as a source to gather from, or gathered."""
        name, by_rows = b.space.removeprefix("source "), step.split == "rows"
        row_bytes, base = int(getattr(self.data, name)), BASES.index(name)
        if not row_bytes:
            return
        if name != b.space:
            self._fix(word, shares, Fix.WHOLE, base)
        elif self.data.ordered and name != "output":
            starts = self._of_shares("staged", name, shares=shares)
            self._put(word, starts, row_bytes if by_rows else stride, bounds)
        elif by_rows:
            self._fix(word, shares, Fix.ROWS, base, row_bytes)
        else:
            for t in shares:
                self._fix(word, (t,), Fix.BATCH, base, row_bytes, bounds[0][t][0] * stride)

    def _of_shares(self, *array: Any, shares: Iterable[int]) -> list[tuple[int, int, int]]:
        """Where the arrays of the shares begin: each has its own in a plan by features, else all have the first."""
        return [(t, self._origin(*array, t if self._by_features else 0), 0) for t in shares]

    def _in_flat(self, b: Buffer, step: Instruction, k: int, t: int) -> tuple[int, int]:
        """Where an array begins among the flat ones, in a share's part of the gradient, or in memory of its own."""
        part = int(b.space[5:]) if b.space.startswith("part ") else t if k in step.parts else 0
        if part:
            at = next(at + b.offset - low for low, n, at in self._part_starts if low <= b.offset < low + n)
            return self._origin("parts", part - 1), at * self._size
        space = b.space.removeprefix("own ")
        start = b.offset * (8 if space == "state" else self._size)
        own = self.is_apart and space != b.space
        return self._origin("own", t, space) if own else self._origin("flat", space), start

    def _stride(self, b: Buffer, step: Instruction, k: int) -> int:
        """How many bytes further into the array a share begins for each unit of its bounds."""
        if step.split == "rows":
            return b.width * self._size if "N" in b.shape else 0
        if step.split == "elements":
            return self._size if b.shape else 0
        if step.split == "inputs":  # of dense_weights: x at its first input, dw at the row of that
            return (1, 0, int(b.shape[-1]))[k] * self._size
        return 0

    def _put(
        self, word: int, starts: Iterable[tuple[int, int, int]], stride: int, bounds: Bounds, columns: int = 0
    ) -> None:
        """Addresses: of each share an origin and bytes from there, columns of the arena, and what bounds come to."""
        for t, origin, start in starts:
            for v, column_bytes in enumerate(self._column_bytes):
                self._lists[v][t][word] = start + columns * column_bytes + bounds[v][t][0] * stride
                self._origin_of[v][t][word] = origin

    def _fix(self, word: int, shares: Iterable[int], kind: Fix, p: int = 0, q: int = 0, extra: int = 0) -> None:
        for t in shares:
            self._fixes[t].append((word, int(kind), p, q, extra))
