"""A plan made ready for the interpreter: the tables of `placing.py` with addresses in them, and a header to find them.

One binding serves all jobs with the same batch sizes and the same kinds of data; what changes from job to job (the
arrays of the data, scalars, the key) is put in its place when the job begins, by `fill`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from nnfast.protocol import Buffer, Job

from ..reference.runner import in_sums, view_of
from . import table
from .addresses import address_of, words_apart
from .interpreter import H
from .memory import Memory
from .pace import Pace
from .placing import BASES, Placing

__all__ = ["Binding"]

HIDDEN = 2  # sums that the program does not name, behind its own: whether all is finite, and what nobody reads


class Binding:
    """The tables for one plan; `header` is what the interpreter is given."""

    def __init__(self, placed: Placing, memory: Memory) -> None:
        self.placed, self.plan, self.shares, self.spans = placed, placed.plan, placed.shares, placed.spans
        self._memory, self._data, self._rows, self.is_apart = memory, placed.data, placed.rows, placed.is_apart
        self._numbers: tuple[bytes, int] | None = None  # the scalars and the key that are in place
        self._moved = self._views() if self.is_apart else []
        self._lent = self._parameters_apart()
        self.pace = Pace()
        self._squares = np.zeros(self.shares)
        self.calls = placed.calls.copy()  # a profile puts a clock around each
        self._words = placed.words(memory, self._squares)
        self._make_header()

    # ---- what shares own, in memory of their own ---------------------------------------------------------------------

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
        placed = self.placed
        self._bases = words_apart(len(BASES))
        self._barrier = words_apart(1)
        self.header = h = words_apart(max(H) + 1)
        h[H.INSTRUCTIONS], h[H.TO_INSTRUCTION] = len(self.plan.instructions), len(self.plan.instructions)
        h[H.SHARES], h[H.WORDS], h[H.FIXES] = self.shares, self._words.shape[2], placed.fixes.shape[1]
        h[H.COLUMNS] = len(self.plan.program.sums) + HIDDEN
        h[H.LENT] = len(self._lent)
        for at, array in {
            H.CALLS_AT: self.calls,
            H.OFFSETS_AT: placed.offsets,
            H.WORDS_AT: self._words,
            H.FIXES_AT: placed.fixes,
            H.STARTS_AT: placed.starts,
            H.BASES_AT: self._bases,
            H.BARRIER_AT: self._barrier,
            H.LENT_AT: self._lent,
        }.items():
            h[at] = address_of(array)

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
            placed = self.placed
            self._words[:, :, placed.scalar_words] = values[placed.scalar_places]
            self._words[:, :, placed.key_words] = table.number_bits("key", job.key)
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
