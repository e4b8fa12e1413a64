"""Row orders of many models at a time: the permutations of `nnfast.random.permutation`, drawn by compiled code.

NumPy draws them from Philox4x64-10 (Salmon et al. 2011) by Fisher and Yates's shuffle: the place to exchange a row
with is the lowest bits of half a number, drawn again where they are too large. NumPy promises no stream for ever, so
the first use compares; where another version of it draws otherwise, `row_orders` says None. So it does as long as a
process has asked for few: loading what is compiled takes longer than NumPy takes to draw them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from nnfast.protocol import num_threads

from . import cache
from .addresses import address_of, at_address
from .atomics import take_one
from .memory import words_apart
from .modes import COMPILED, OPTIONS, jit
from .pace import AWAKE
from .team import TEAM

__all__ = ["prepare", "row_orders"]

M0, M1 = 0xD2E7470EE14C6C93, 0xCA5A826395121157
W0, W1 = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
LOW = 0xFFFFFFFF
SECONDS = 4e-9  # per row, roughly
WORTH_LOADING = 100_000  # row numbers, in all
PER_ORDER = 2_000  # as many more as NumPy could draw in the time in which it readies a generator
CHECKED = (1, 2, 3, 50, 1000)  # rows of the permutations that are compared

SIGNATURE = types.void(types.CPointer(types.int64), types.int64, types.int64)
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
    from nnfast.random import permutation

    key, epoch = 0x123456789ABCDEF0, 7
    return all(np.array_equal(_drawn([key], [epoch], n)[0], permutation(key, epoch, n)) for n in CHECKED)


@functools.cache
def _compiled() -> Any:
    return cache.compile_cfunc("row orders", _build, SIGNATURE, OPTIONS)


@intrinsic
def _high(typing: Any, a: Any, b: Any) -> Any:
    """The upper half of a product of 64-bit numbers."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(v, wide) for v in values))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), build


def _block(state: Any, key: Any) -> None:
    """The next four numbers: state[4:8] from the counter state[0:4], which moves on before."""
    state[0] += np.uint64(1)
    c0, c1, c2, c3 = state[0], state[1], state[2], state[3]
    k0, k1 = key, np.uint64(0)
    for _ in range(10):
        h0, l0 = _high(np.uint64(M0), c0), np.uint64(M0) * c0
        h1, l1 = _high(np.uint64(M1), c2), np.uint64(M1) * c2
        c0, c1, c2, c3 = h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0
        k0 += np.uint64(W0)
        k1 += np.uint64(W1)
    state[4], state[5], state[6], state[7] = c0, c1, c2, c3


def _shuffle(order: Any, state: Any, key: Any, epoch: Any) -> None:
    for i in range(len(order)):
        order[i] = i
    state[0], state[1], state[2], state[3] = np.uint64(0), epoch, np.uint64(0), np.uint64(0)
    low, used, mask = np.uint64(LOW), 8, np.uint64(1)  # halves of the four numbers, the lower first
    while mask < np.uint64(len(order)):
        mask = (mask << np.uint64(1)) | np.uint64(1)
    for i in range(len(order) - 1, 0, -1):
        while (mask >> np.uint64(1)) >= np.uint64(i):
            mask >>= np.uint64(1)
        j = np.uint64(LOW)
        while j > np.uint64(i):
            if used == 8:
                block(state, key)
                used = 0
            number = state[4 + used // 2]
            number = (number >> np.uint64(32)) if used % 2 else (number & low)
            used += 1
            j = number & mask
        order[i], order[np.int64(j)] = order[np.int64(j)], order[i]


block = jit(_block)
shuffle = jit(_shuffle)


def _build() -> Callable[..., None]:
    i8, u8 = types.int64, types.uint64

    def row_orders(control: Any, executors: Any, executor: Any) -> None:
        c = carray(control, (7,))
        rows, counter = c[ROWS], carray(at_address(c[COUNTER_AT], i8), (1,))
        keys = carray(at_address(c[KEYS_AT], u8), (c[COUNT],))
        epochs = carray(at_address(c[EPOCHS_AT], u8), (c[COUNT],))
        state = carray(at_address(c[STATES_AT] + executor * STATE * 8, u8), (STATE,))
        k = take_one(counter)
        while k < c[COUNT]:
            shuffle(carray(at_address(c[ORDERS_AT] + k * rows * 8, i8), (rows,)), state, keys[k], epochs[k])
            k = take_one(counter)

    return row_orders
