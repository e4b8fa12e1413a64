"""The row orders of the epochs of a training, of one model or of many."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnfast.random import row_orders

__all__ = ["EpochOrders"]

Array = np.ndarray[Any, Any]


class EpochOrders:
    """Draws the orders of consecutive epochs; those of the last are kept, since a job may end in the midst of it."""

    def __init__(self, backend: Any, rows: int) -> None:
        self._backend, self._rows = backend, rows
        self._last: tuple[Array, Array, Array] | None = None  # keys, numbers of the epoch, orders

    def draw(self, keys: Array, first: Array, epochs: int) -> Array:
        """(models, epochs, rows): for each of the keys (uint64), so many epochs from its number in `first` (int64) on.

        Each order follows from the key and the number of the epoch alone.
        """
        kept = self._kept(keys, first)
        if kept is not None and epochs == 1:
            return kept
        begin = 0 if kept is None else 1
        numbers = first[:, None] + np.arange(begin, epochs)
        drawn = row_orders(self._backend, np.repeat(keys, epochs - begin), numbers.reshape(-1), self._rows)
        orders = drawn.reshape(*numbers.shape, self._rows)
        if kept is not None:
            orders = np.concatenate([kept, orders], axis=1)
        last = orders[:, -1]
        self._last = keys.copy(), first + epochs - 1, last if epochs == 1 else last.copy()
        return orders

    def _kept(self, keys: Array, number: Array) -> Array | None:
        if self._last is None or not (np.array_equal(self._last[0], keys) and np.array_equal(self._last[1], number)):
            return None
        return self._last[2][:, None]
