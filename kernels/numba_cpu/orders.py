"""Row orders of many models at a time: the permutations of `nnfast.protocol.permutation`, drawn by compiled code.

NumPy draws them from Philox4x64-10 (Salmon et al. 2011) by Fisher and Yates's shuffle: the place to exchange a row
with is the lowest bits of half a number, drawn again where they are too large. NumPy promises no stream for ever, so
the first use compares; where another version of it draws otherwise, `row_orders` says None. So it does as long as a
process has asked for few: loading what is compiled takes longer than NumPy takes to draw them.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from nnfast.protocol import num_threads, permutation

from . import cache
from .addresses import address_of, words_apart
from .modes import COMPILED, OPTIONS
from .pace import AWAKE
from .team import TEAM

__all__ = ["prepare", "row_orders"]

SECONDS = 4e-9  # per row, roughly
WORTH_LOADING = 100_000  # row numbers, in all
PER_ORDER = 2_000  # as many more as NumPy could draw in the time in which it readies a generator
CHECKED = (1, 2, 3, 50, 1000)  # rows of the permutations that are compared

LOW = 2**32 - 1  # rows, at most so many: half a number chooses among them

SIGNATURE = "void(CPointer(int64), int64, int64)"
# What it is given, one word each: orders, rows of each, and addresses: of the next, keys, epochs, orders, a state.
COUNT, ROWS, COUNTER_AT, KEYS_AT, EPOCHS_AT, ORDERS_AT, STATES_AT = range(7)
# The state of one executor: counter (four words), numbers drawn (four words).
STATE = 16  # words, a cache line or two

_asked = 0  # row numbers that this process has asked for


def row_orders(keys: Any, epochs: Any, rows: int) -> Any:
    """(len(keys), rows) int64: the row order of each key's epoch; None where NumPy has to draw them, or better does."""
    if not COMPILED or not 0 < rows < LOW or not _is_worth_loading(len(keys), rows) or not _is_numpys():
        return None
    return _drawn(keys, epochs, rows)


def prepare() -> None:
    """Compile it, or load it from the cache."""
    _compiled()


def _drawn(keys: Any, epochs: Any, rows: int) -> Any:
    keys, epochs = np.ascontiguousarray(keys, np.uint64), np.ascontiguousarray(epochs, np.int64)
    orders = np.empty((len(keys), rows), np.int64)
    executors = 1 if len(keys) * rows * SECONDS < AWAKE else min(num_threads(), len(keys))
    counter, states = words_apart(1), words_apart(executors, STATE)
    addresses = map(address_of, (counter, keys, epochs, orders, states))
    control = np.array([len(keys), rows, *addresses], np.int64)
    TEAM.work(executors, int(_compiled().address), address_of(control))
    return orders


def _is_worth_loading(orders: int, rows: int) -> bool:
    global _asked
    _asked += orders * (PER_ORDER + rows)
    return _asked >= WORTH_LOADING or bool(_compiled.cache_info().currsize)


@functools.cache
def _is_numpys() -> bool:
    key, epoch = 0x123456789ABCDEF0, 7
    return all(np.array_equal(_drawn([key], [epoch], n)[0], permutation(key, epoch, n)) for n in CHECKED)


@functools.cache
def _compiled() -> Any:
    return cache.compile_cfunc("row orders", cache.builder("orders_loop"), SIGNATURE, OPTIONS)
