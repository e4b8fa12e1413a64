"""A plan laid out in memory for the interpreter: where every array of every share lies, and every number.

One binding serves all jobs with the same batch sizes and the same kinds of data; what changes from job to job (the
arrays of the data, scalars, the key) is put in its place when the job begins, by `fill`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from nnfast.protocol import Buffer, Job, Op

from ..reference.runner import in_sums, view_of
from . import table
from .addresses import address_of
from .barrier import barrier_state
from .context import WORDS
from .interpreter import Fix, H
from .jobs import Data, spans_of
from .memory import ELEMENT_STEP, ROW_STEP, Memory, part_starts, share_bounds, words_apart
from .pace import Pace
from .plan import BARRIER, Instruction, Plan
from .products import PACK_BYTES, TALL

__all__ = ["Binding"]

# The job's arrays by their place among the bases.
BASES = ("x", "y", "weight", "output", "order")
HIDDEN = 2  # sums that the program does not name, behind its own: whether all is finite, and what nobody reads

_RUN_FIXES = {
    "learning_rate": Fix.RATE,
    "normaliser": Fix.NORMALISER,
    "step": Fix.STEP,
    "first_row": Fix.FIRST_ROW,
}


class Binding:
    """The tables for one plan; `header` is what the interpreter is given."""

    def __init__(
        self, plan: Plan, rows: Sequence[int], shares: int, data: Data, memory: Memory, *, apart: bool = False
    ) -> None:
        self.plan, self.shares = plan, shares
        self._memory, self._data, self._rows = memory, data, list(rows)
        self._dtype = plan.program.dtype
        self._size = np.dtype(self._dtype).itemsize
        self._by_features = bool(plan.owned)
        # By features, each share does what is split by rows on all of them.
        self._row_bounds = [[(0, n)] * shares if self._by_features else share_bounds(n, shares, ROW_STEP) for n in rows]
        self._flat_bounds = share_bounds(plan.program.layout.size, shares, ELEMENT_STEP)
        self._part_starts = part_starts(plan.parts)
        self._fixes: list[list[tuple[int, ...]]] = [[] for _ in range(shares)]
        self._named: list[tuple[int, str]] = []  # words of a scalar of the program, or of the key
        self._squares = np.zeros(shares)
        self._pieces: list[Any] = []  # kept alive
        self._numbers: tuple[bytes, int] | None = None  # the scalars and the key that are in place
        self.is_apart = apart
        self._moved = self._views() if apart else []
        self._lent = self._parameters_apart()
        self.pace = Pace()
        self.spans = {cut: spans_of(plan, cut=cut) for cut in (False, True)}
        self._lay_out()
        self._make_header()

    # ---- layout -----------------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        """Give every argument of every instruction its word, then fill the words of every share of every variant."""
        steps = self.plan.instructions
        self._offsets = np.zeros((len(steps), 4), np.int64)
        end = WORDS
        for i, step in enumerate(steps):
            if step.op.name == BARRIER:
                self._offsets[i, 0] = 1
            elif step.compiled:
                spec = table.spec_of(step.op.name)
                arrays, dims, numbers = len(spec.args), len(table.letters(spec)) + 1, len(spec.scalars)
                self._offsets[i, 1:] = end, end + arrays, end + arrays + dims
                end += arrays + dims + numbers
        self._words = words_apart(len(self._rows), self.shares, end)
        self._calls = np.zeros((len(self._rows), len(steps), self.shares), np.int64)
        product = table.address("product", self._dtype)
        for v in range(len(self._rows)):
            for t in range(self.shares):
                scratch = self._memory.scratch[t]
                words = [0] * end  # a list: NumPy takes single numbers slowly
                words[:3] = product, address_of(scratch), address_of(scratch) + scratch.nbytes - PACK_BYTES
                for i, step in enumerate(steps):
                    if step.compiled and step.op.name != BARRIER:
                        self._place(words, i, step, v, t)
                self._words[v, t] = words

    def _place(self, words: list[int], i: int, step: Instruction, v: int, t: int) -> None:
        """The words of one instruction for one share."""
        op = step.own[t] if step.own else step.op
        spec = table.spec_of(op.name)
        _, arrays, dims, numbers = self._offsets[i].tolist()
        span = self._span(step, v, t)
        sizes: dict[str, int] = {}
        for k, (arg, b) in enumerate(zip(spec.args, op.args, strict=True)):
            if b is not None:
                for d, n in zip(arg.shape, b.shape, strict=False):
                    sizes[d] = n if isinstance(n, int) else self._size_of(n, v)
                words[arrays + k] = self._array(b, arrays + k, step, k, span, v, t)
        cut = {"rows": "N", "elements": "P", "inputs": "I"}.get(step.split)
        if cut:
            sizes[cut] = span[1] - span[0]
        names = table.letters(spec)
        words[dims : dims + len(names) + 1] = [*(sizes.get(name, 0) for name in names), self._data.sparse]
        pieces = step.split == "pieces"
        if pieces:
            words[dims : dims + 2] = self._pieces_of(op, t)
            span = 0, words[dims]
        given = dict(op.scalars)
        for k, name in enumerate(spec.scalars):
            self._number(words, numbers + k, name, given.get(name, 0.0), v, t)
        if ((t == 0 and not pieces) or span[0] < span[1]) and not self._adds_nothing(step, v):
            self._calls[v, i, t] = table.address(op.name, self._dtype, op.attributes, pieces=pieces)

    def _size_of(self, n: str, v: int) -> int:
        """A dimension that follows from the batch; "R" is what the arena has room for."""
        return self.plan.program.arena_rows(self._rows[v]) if n == "R" else self._rows[v]

    def _pieces_of(self, op: Op, t: int) -> tuple[int, int]:
        """How many pieces of an op's arrays a share owns, and the address of their list, counted from its start."""
        b = op.args[0]
        assert b is not None
        owned = (self.plan.apart if b.space.startswith("own ") else self.plan.owned)[t]
        bounds = [(max(low, b.offset), min(low + n, b.offset + b.width)) for low, n in owned]
        pieces = np.array([(low - b.offset, high - low) for low, high in bounds if low < high], np.int64)
        self._pieces.append(pieces)
        return len(pieces), address_of(pieces)

    def _adds_nothing(self, step: Instruction, v: int) -> bool:
        """Whether this adds the part of a share that has no rows in this variant, and so has not filled it."""
        part = step.op.args[1] if step.op.name == "combine" else None
        if part is None:
            return False
        low, high = self._row_bounds[v][int(part.space[5:])]
        return low >= high

    def _span(self, step: Instruction, v: int, t: int) -> tuple[int, int]:
        """What this share does of the instruction: rows, elements counted from the first array's own start, inputs."""
        if step.split == "rows":
            return self._row_bounds[v][t]
        if step.split == "elements":
            b = step.op.args[0]
            assert b is not None
            low, high = (min(max(bound - b.offset, 0), b.width) for bound in self._flat_bounds[t])
            return low, high
        if step.split == "inputs":
            dw = step.op.args[2]
            assert dw is not None
            return share_bounds(int(dw.shape[0]), self.shares, TALL)[t]
        return (0, 1) if t == 0 else (0, 0)

    def _array(self, b: Buffer, word: int, step: Instruction, k: int, span: tuple[int, int], v: int, t: int) -> int:
        """The address of one array for one share; what moves from step to step is noted for the interpreter."""
        memory, space, by_rows = self._memory, b.space, step.split == "rows"
        shift = self._shift(b, step, k, span)
        if space == "order":
            return self._note(word, t, v, Fix.ROWS_OF_EPOCHS, BASES.index("order"), 8, 0)
        if space in BASES or space.startswith("source "):
            name = space.removeprefix("source ")
            row_bytes = int(getattr(self._data, name))
            if not row_bytes:
                return 0
            if space != name:
                return self._note(word, t, v, Fix.WHOLE, BASES.index(name), 0, 0)
            if self._data.ordered and name != "output":
                moved = span[0] * row_bytes if by_rows else shift * self._size
                return address_of(memory.staged[name][t if self._by_features else 0]) + moved
            if by_rows:
                return self._note(word, t, v, Fix.ROWS, BASES.index(name), row_bytes, 0)
            return self._note(word, t, v, Fix.BATCH, BASES.index(name), row_bytes, shift * self._size)
        if space in ("sums", "hidden"):
            column = b.offset + (len(self.plan.program.sums) if space == "hidden" else 0)
            return self._note(word, t, v, Fix.SUMS, column, 0, 0)
        if space == "squares":
            return address_of(self._squares) + (0 if b.shape else 8 * t)
        if space in ("arena", "exchange"):
            own = memory.exchange if space == "exchange" else memory.arenas[t if self._by_features else 0]
            at = b.offset * self.plan.program.arena_rows(self._rows[v])
            return address_of(own) + (at + shift) * self._size
        part = int(space[5:]) if space.startswith("part ") else t if k in step.parts else 0
        if part:
            return address_of(memory.parts[part - 1]) + (self._in_part(b.offset) + shift) * self._size
        flat, space = memory.flat, space.removeprefix("own ")
        if self.is_apart and space != b.space:
            flat = memory.own[t]
        return address_of(flat[space]) + (b.offset + shift) * (8 if space == "state" else self._size)

    def _shift(self, b: Buffer, step: Instruction, k: int, span: tuple[int, int]) -> int:
        """How many elements into the array this share begins."""
        if step.split == "rows":
            return span[0] * b.width if "N" in b.shape else 0
        if step.split == "elements":
            return span[0] if b.shape else 0
        if step.split == "inputs":  # of dense_weights: x at its first input, dw at the row of that
            return (span[0], 0, span[0] * int(b.shape[-1]))[k]
        return 0

    def _in_part(self, offset: int) -> int:
        """Where an element of the flat gradient lies in the parts."""
        return next(at + offset - start for start, size, at in self._part_starts if start <= offset < start + size)

    def _number(self, words: list[int], word: int, keyword: str, source: str | float, v: int, t: int) -> None:
        if not isinstance(source, str):
            words[word] = table.number_bits(keyword, source)
        elif source in _RUN_FIXES:
            self._note(word, t, v, _RUN_FIXES[source], 0, 0, 0)
        elif v == t == 0:
            self._named.append((word, source))

    def _note(self, word: int, t: int, v: int, kind: Fix, p: int, q: int, extra: int) -> int:
        if v == 0:
            self._fixes[t].append((word, int(kind), p, q, extra))
        return 0

    def _views(self) -> list[tuple[int, str, Any, Any]]:
        """What shares own in memory of their own: share, name, and the same columns there and in the flat array."""
        views = []
        for offset, (rows, length), bounds in self.plan.blocks:
            whole = slice(offset, offset + rows * length)
            for t, (own, (low, high)) in enumerate(zip(self._memory.own, bounds, strict=False)):
                for name, flat in self._memory.flat.items():
                    if name != "state":
                        both = (a[whole].reshape(rows, length)[:, low:high] for a in (own[name], flat))
                        views.append((t, name, *both))
        return views

    def _parameters_apart(self) -> Any:
        """For the interpreter, which copies them in words of four bytes: the parameters among these."""
        lent = [
            (t, address_of(own), address_of(flat), len(own), own.shape[1] * own.itemsize // 4, own.strides[0] // 4)
            for t, name, own, flat in self._moved
            if name == "parameters"
        ]
        return np.array(lent, np.int64).reshape(-1, 6)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Meanwhile what shares own of blocks lies in memory of their own."""
        for _, _, own, flat in self._moved:
            own[...] = flat
        try:
            yield
        finally:
            for _, _, own, flat in self._moved:
                flat[...] = own

    # ---- for plain Python -------------------------------------------------------------------------------------------

    def view(self, b: Buffer | None, job: Job, batch: int, sums: Any) -> Any:
        """The array that a call of plain Python is given: the whole batch; `sums` is the row of this step."""
        if b is None:
            return None
        low = batch * int(self.header[H.SIZE])
        rows = self._rows[-1] if batch == self.header[H.BATCHES] - 1 else self._rows[0]
        if b.space == "sums":
            return in_sums(sums, b)
        if b.space in BASES:
            source = {"x": job.x, "y": job.y, "weight": job.sample_weight, "output": job.output}[b.space]
            if source is None or b.space == "output" or not self._data.ordered:
                return None if source is None else source[low : low + rows]
            staged = self._memory.staged[b.space][0].view(source.dtype)
            return staged[: rows * source[:1].size].reshape(rows, *source.shape[1:])
        return view_of(b, rows, self.plan.program, {"arena": self._memory.arenas[0], **self._memory.flat})

    # ---- the header, and what a job puts into it --------------------------------------------------------------------

    def _make_header(self) -> None:
        self._fix_table = np.array([f or [(0,) * 5] for f in self._fixes], np.int64)
        self._starts = np.array([[low for low, _ in bounds] for bounds in self._row_bounds], np.int64)
        self._bases = words_apart(len(BASES))
        self._barrier = barrier_state()
        self.header = h = words_apart(max(H) + 1)
        h[H.INSTRUCTIONS], h[H.TO_INSTRUCTION] = len(self.plan.instructions), len(self.plan.instructions)
        h[H.SHARES], h[H.WORDS], h[H.FIXES] = self.shares, self._words.shape[2], len(self._fixes[0])
        h[H.COLUMNS] = len(self.plan.program.sums) + HIDDEN
        h[H.LENT] = len(self._lent)
        for at, array in {
            H.CALLS_AT: self._calls,
            H.OFFSETS_AT: self._offsets,
            H.WORDS_AT: self._words,
            H.FIXES_AT: self._fix_table,
            H.STARTS_AT: self._starts,
            H.BASES_AT: self._bases,
            H.BARRIER_AT: self._barrier,
            H.LENT_AT: self._lent,
        }.items():
            h[at] = address_of(array)
        scalars = {name: i for i, name in enumerate(self.plan.program.scalars)}
        self._scalar_words = np.array([w for w, name in self._named if name in scalars], np.intp)
        self._scalar_places = np.array([scalars[name] for _, name in self._named if name in scalars], np.intp)
        self._key_words = np.array([w for w, name in self._named if name == "key"], np.intp)
        unknown = {name for _, name in self._named} - {"key", *scalars}
        if unknown:
            raise LookupError(f"scalars that the program does not name: {sorted(unknown)}")

    def fill(self, job: Job, batch_size: int, batches: int) -> np.ndarray[Any, Any]:
        """Put a job's arrays and numbers in their places; returns the (shares, steps, columns) array for its sums."""
        h = self.header
        for i, array in enumerate((job.x, job.y, job.sample_weight, job.output, job.order)):
            self._bases[i] = 0 if array is None else address_of(array)
        sums = np.zeros((self.shares, job.steps, int(h[H.COLUMNS])))
        rows = 0 if job.x is None else len(job.x)
        h[H.FIRST_BATCH], h[H.BATCHES], h[H.SIZE], h[H.ROWS] = job.first_batch, batches, batch_size, rows
        h[H.LAST], h[H.FIRST_STEP], h[H.STEPS] = len(self._rows) - 1, job.first_step, job.steps
        self._kept = [
            None if values is None else np.ascontiguousarray(values, kind)
            for values, kind in (
                (job.learning_rates, np.float64),
                (job.normalisers, np.float64),
                (job.first_rows, np.int64),
            )
        ]
        for at, values in zip((H.RATES_AT, H.NORMALISERS_AT, H.GLOBAL_ROWS_AT), self._kept, strict=True):
            h[at] = 0 if values is None else address_of(values)
        h[H.SUMS_AT] = address_of(sums)
        h[H.PAUSES] = 0
        numbers = np.asarray(job.scalars, np.float64).tobytes(), job.key
        if numbers != self._numbers:
            self._numbers = None  # until all are in their places
            values = np.frombuffer(numbers[0], np.int64)
            self._words[:, :, self._scalar_words] = values[self._scalar_places]
            self._words[:, :, self._key_words] = table.number_bits("key", job.key)
            self._numbers = numbers
        return sums

    def span(self, steps: tuple[int, int], instructions: tuple[int, int], *, begins: bool) -> None:
        """Which steps and which instructions the next call of the interpreter runs, and whether steps begin there."""
        h = self.header
        h[H.BEGINS] = begins
        h[H.FROM_STEP], h[H.TO_STEP] = steps
        h[H.DONE] = steps[0]
        h[H.FROM_INSTRUCTION], h[H.TO_INSTRUCTION] = instructions
        self._barrier[0] = 0
