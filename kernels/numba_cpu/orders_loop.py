"""Philox and the shuffle, which are compiled; see `orders.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from .atomics import take_one
from .modes import jit
from .orders import COUNT, COUNTER_AT, EPOCHS_AT, KEYS_AT, LOW, ORDERS_AT, ROWS, STATE, STATES_AT
from .pointers import at_address

__all__ = ["build"]

M0, M1 = 0xD2E7470EE14C6C93, 0xCA5A826395121157
W0, W1 = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B


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


def build() -> Callable[..., None]:
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
