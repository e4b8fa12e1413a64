"""The rows that one of several ranks has of each batch: which they are, what they weigh, and as the data of a job."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.random import permutation
from nnfast.training.batches import Data
from nnfast.training.shares import Part

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = ["RankRows", "pieces"]

OWN_ORDER = 64  # the bit from which on the number of a row order holds the rank whose own rows it is

Array = np.ndarray[Any, Any]


class RankRows:
    """What a rank holds, and its order in each epoch; `owner` is the rank where the rows are its own, else 0."""

    def __init__(self, model: Model, data: Data, owner: int) -> None:
        self._model, self._held, self._owner = model, data, owner
        self._arrays: tuple[Any, Any] = data.x, data.y
        self._orders: dict[int, Array] = {}

    def of(self, epochs: Array, part: Part, *, shuffled: bool) -> list[Any]:
        """The rows of each of these batches: their numbers, or a slice of consecutive ones.

        Of an empty part it is one row, which will weigh nothing: the one before, of the same batch if rows are shared.
        """
        empty = part.own == 0
        starts = np.where(empty, np.maximum(part.start - 1, 0), part.start).tolist()
        places = [slice(at, at + max(n, 1)) for at, n in zip(starts, part.own.tolist(), strict=True)]
        if not shuffled:
            return places
        self._orders = {epoch: order for epoch, order in self._orders.items() if epoch >= epochs[0]}
        return [self._order(epoch)[place] for epoch, place in zip(epochs.tolist(), places, strict=True)]

    def _order(self, epoch: int) -> Array:
        """As in one process; of shards, each rank orders its own rows."""
        if epoch not in self._orders:
            number = epoch + (self._owner << OWN_ORDER)
            self._orders[epoch] = permutation(self._model._key, number, self._held.rows)
        return self._orders[epoch]

    def weights(self, rows: list[Any], counts: Array) -> Array:
        """Σ weight of each of these parts."""
        weight = self._held.weight
        if weight is None:
            return counts.astype(np.float64)
        return np.array([weight[r].sum(dtype=np.float64) if n else 0.0 for r, n in zip(rows, counts, strict=True)])

    def data(self, rows: list[Any], count: int, *, whole: bool = False) -> Data:
        """The rows of some batches one after the other, as a data set in batches of `count`.

        Where a batch is the `whole` set they are the same over and over, and are there once.
        """
        held, model = self._held, self._model
        index = _joined(rows[:1] if whole else rows)
        if held.staged is not None:
            x, y = held.staged.take(index)
        else:
            where: Any = model.backend.asarray(index) if isinstance(index, np.ndarray) else index
            all_x, all_y = self._arrays
            x, y = all_x[where], all_y[where]
        weight = None if held.weight is None else held.weight[index]
        return Data(model, x, y, weight if count else np.zeros(1, model.dtype), max(count, 1))


def _joined(rows: list[Any]) -> Any:
    if len(rows) == 1:
        return rows[0]
    if isinstance(rows[0], slice):
        if all(a.stop == b.start for a, b in pairwise(rows)):
            return slice(rows[0].start, rows[-1].stop)
        rows = [np.arange(part.start, part.stop) for part in rows]
    return np.concatenate(rows)


def pieces(counts: Array) -> Iterator[tuple[int, int]]:
    """From which to which step one job can go: all of its batches are of one size, but for a smaller last one."""
    low = 0
    while low < len(counts):
        high = low + 1
        if counts[low]:
            others = np.flatnonzero(counts[low:] != counts[low])
            high = low + (int(others[0]) if len(others) else len(counts) - low)
            if high < len(counts) and 0 < counts[high] < counts[low]:
                high += 1
        yield low, high
        low = high
