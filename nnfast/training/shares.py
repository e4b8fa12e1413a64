"""Who has which rows of each batch, where several ranks train one model.

Shared: every rank holds all rows, and takes its contiguous part of each batch; the first ranks take one more where the
batch does not divide. Which rows a batch has does not depend on the number of ranks.

Sharded: rank r holds nᵣ of the N rows; the data set is their union in the order of the ranks. The batch of the rows
p to q, q = p + batch_size, takes from each rank in proportion: of its own order the rows ⌊nᵣ·p/N + r/R⌋ to
⌊nᵣ·q/N + r/R⌋. Equal shards make batches of exactly `batch_size` rows (Hermite's identity), others of up to R − 1 more
or fewer. Within a batch the rows of rank 0 come first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nnfast.errors import DataError, OptionError

__all__ = ["Part", "Shares", "sharded", "shared"]

MOST_ROWS = 3_000_000_000  # N² must stay below 2⁶³
AT_ONCE = 4096  # batches

Array = np.ndarray[Any, Any]


class Part(NamedTuple):
    """What this rank has of some batches; an array each, one number per batch."""

    start: Array  # where its rows begin in its own order
    own: Array  # how many it has
    before: Array  # rows of the batch that lower ranks have
    total: Array  # rows of the whole batch


class Shares:
    """An epoch of `rows` rows in batches of `size`, and what rank `rank` has of them."""

    def __init__(self, rank: int, rows: int, size: int) -> None:
        self.rank, self.rows, self.size = rank, rows, min(size, rows)
        self.batches = -(-rows // self.size)

    @property
    def batch_rows(self) -> Array:
        """Rows of each batch of an epoch, as float64."""
        some = [np.arange(lo, min(lo + AT_ONCE, self.batches)) for lo in range(0, self.batches, AT_ONCE)]
        return np.concatenate([self.parts(batches).total for batches in some]).astype(np.float64)

    @property
    def most(self) -> int:
        """Rows that any rank has of a batch, at most."""
        raise NotImplementedError

    def parts(self, batches: Array) -> Part:
        """What this rank has of these batches of an epoch."""
        raise NotImplementedError

    def _ends(self, batches: Array) -> tuple[Array, Array]:
        return batches * self.size, np.minimum((batches + 1) * self.size, self.rows)


class _Shared(Shares):
    def __init__(self, rank: int, ranks: int, rows: int, size: int) -> None:
        super().__init__(rank, rows, size)
        self._ranks = ranks

    @property
    def most(self) -> int:
        return -(-self.size // self._ranks)

    def parts(self, batches: Array) -> Part:
        low, high = self._ends(batches)
        each, over = np.divmod(high - low, self._ranks)
        before = self.rank * each + np.minimum(self.rank, over)
        return Part(low + before, each + (self.rank < over), before, high - low)


class _Sharded(Shares):
    def __init__(self, rank: int, held: Array, size: int) -> None:
        super().__init__(rank, int(held.sum()), size)
        self._held = held
        self._offsets = np.arange(len(held)) * self.rows // len(held)

    @property
    def most(self) -> int:
        return int(self._held.max() * self.size // self.rows) + 1

    def parts(self, batches: Array) -> Part:
        low, high = (self._taken(ends) for ends in self._ends(batches))
        counts = high - low
        return Part(low[:, self.rank], counts[:, self.rank], counts[:, : self.rank].sum(axis=1), counts.sum(axis=1))

    def _taken(self, ends: Array) -> Array:
        """How many of its rows each rank has given before these boundaries: (boundaries, ranks)."""
        taken: Array = (self._held * ends[:, None] + self._offsets) // self.rows
        return taken


def shared(rank: int, ranks: int, rows: int, batch_size: int | None) -> Shares:
    """Every rank holds all rows."""
    return _Shared(rank, ranks, rows, rows if batch_size is None else batch_size)


def sharded(rank: int, held: Array, batch_size: int | None) -> Shares:
    """Rank r holds held[r] rows. Raises OptionError for batches so small that one might have no rows at all."""
    rows = int(held.sum())
    if batch_size is not None and batch_size < len(held):
        raise OptionError(
            f"batch_size is {batch_size}; with sharded=True it is at least the number of ranks, {len(held)}"
        )
    if rows > MOST_ROWS:
        raise DataError(f"the shards have {rows} rows in all; at most {MOST_ROWS} can be shared out")
    return _Sharded(rank, held, rows if batch_size is None else batch_size)
