"""What any kernel can do wrong with the arrays that it writes: each wrapper makes a wrong kernel of a right one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nnfast.protocol import OPS
from nnfast.testing import DTYPES

__all__ = ["WRAPPERS", "targets", "touching_inputs", "wrapped"]


def _last_row(array, before):
    array[-1:] = before[-1:]


def _last_column(array, before):
    array[..., -1:] = before[..., -1:]


def _first_element(array, before):
    array.reshape(-1)[:1] = before.reshape(-1)[:1]


def _nothing(array, before):
    array[...] = before


def _sign(array, before):
    array *= -1


def _adds_up(array, before):
    array += np.nan_to_num(before)


def _drift(array, before):
    array *= 1 + 1e-6


def _rounded(array, before):
    array[...] = array.astype(np.float32)


def _rows_exchanged(array, before):
    array[:2] = array[:2][::-1].copy()


def _nan_lost(array, before):
    array[np.isnan(array)] = 0


def _infinity_lost(array, before):
    array[np.isinf(array)] = 0


def _one_too_many(array, before):
    """Writes one element past the end, where that lies in a larger block of memory."""
    block = array.base
    if block is not None and block.ndim == 1 and block.dtype == array.dtype:
        end = (array.ctypes.data - block.ctypes.data) // array.itemsize + array.size
        block[end : end + 1] = 0


class Wrapper(NamedTuple):
    """What it does to an output after the kernel has run, and the least number of dimensions of such an output.

    `which` of those outputs it is tried on (what shows only beside hostile numbers takes longest), and in which dtypes;
    `never` are outputs that it leaves right: they are never so.
    """

    spoil: Callable[..., None]
    least: int = 0
    which: slice = slice(None)
    dtypes: tuple[str, ...] = DTYPES
    never: frozenset[tuple[str, str]] = frozenset()


FINITE = frozenset(
    {
        ("sigmoid", "y"),
        ("tanh", "y"),
        ("softmax", "y"),
        ("binary_cross_entropy", "losses"),
        ("mean_absolute_error", "dz"),
        ("huber", "dz"),
    }
)

WRAPPERS = {
    "does nothing": Wrapper(_nothing),
    "forgets the last row": Wrapper(_last_row, 1),
    "forgets the last column": Wrapper(_last_column, 2),
    "forgets the first element": Wrapper(_first_element, 1),
    "exchanges the first rows": Wrapper(_rows_exchanged, 1),
    "turns the sign": Wrapper(_sign),
    "adds to what was there": Wrapper(_adds_up),
    "writes past the end": Wrapper(_one_too_many),
    "drifts by a millionth": Wrapper(_drift, dtypes=("float64",)),
    "rounds to float32": Wrapper(_rounded, dtypes=("float64",)),
    "loses NaN": Wrapper(_nan_lost, which=slice(1), dtypes=("float32",)),
    "loses infinity": Wrapper(_infinity_lost, which=slice(-1, None), dtypes=("float32",), never=FINITE),
}


def targets(wrapper):
    """The outputs that it spoils, each with its op."""
    for op, spec in OPS.items():
        names = [arg.name for arg in spec.args if arg.role != "in" and len(arg.shape) >= wrapper.least]
        yield from ((op, name) for name in names[wrapper.which] if (op, name) not in wrapper.never)


def wrapped(op, kernel, spoil, name):
    """The kernel of an op that does this to one of its outputs."""
    place = [arg.name for arg in OPS[op].args].index(name)

    @functools.wraps(kernel)
    def wrong(*arrays, **numbers):
        before = None if arrays[place] is None else arrays[place].copy()
        kernel(*arrays, **numbers)
        if before is not None:
            spoil(arrays[place], before)

    return wrong


def touching_inputs(op, kernel, name):
    """The kernel of an op that changes one of its inputs, where it is allowed to."""
    place = [arg.name for arg in OPS[op].args].index(name)

    @functools.wraps(kernel)
    def wrong(*arrays, **numbers):
        kernel(*arrays, **numbers)
        if arrays[place] is not None:
            arrays[place][...] = 0

    return wrong
