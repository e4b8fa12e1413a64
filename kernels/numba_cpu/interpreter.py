"""The interpreter: the compiled loop that runs a plan's instructions, step after step, without Python.

It reads everything from memory that `placing.py` and `binding.py` have laid out: `H` names the words of its header.
Each executor runs the shares executor, executor + executors, …; with one executor that is all of them, in the same
order, which is why the number of executors changes no bit.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from enum import IntEnum
from typing import Any

from . import cache, handover
from .addresses import address_of
from .modes import OPTIONS
from .team import TEAM

__all__ = ["Fix", "H", "address", "execute", "is_kept", "prepare", "repeated"]

KEY, SIGNATURE = "interpreter", "void(CPointer(int64), int64, int64)"


class H(IntEnum):
    """The header, one word each; *_AT are addresses."""

    FROM_STEP = 0  # steps FROM_STEP … TO_STEP − 1 of the job
    TO_STEP = 1
    FROM_INSTRUCTION = 2  # and of each the instructions FROM_INSTRUCTION … TO_INSTRUCTION − 1
    TO_INSTRUCTION = 3
    INSTRUCTIONS = 4
    SHARES = 5
    FIRST_BATCH = 6
    BATCHES = 7
    SIZE = 8  # rows of a batch
    ROWS = 9  # rows of an epoch
    LAST = 10  # the variant of the last batch: 1 where it is short, else 0
    FIRST_STEP = 11
    STEPS = 12  # of the whole job
    COLUMNS = 13
    WORDS = 14  # of one share
    FIXES = 15
    CALLS_AT = 16  # (variants, instructions, shares): what to call, 0 for nothing
    OFFSETS_AT = 17  # (instructions, 4): whether it is a barrier; where arrays, dims and numbers stand in the words
    WORDS_AT = 18  # (variants, shares, words): the context, then all arguments
    FIXES_AT = 19  # (shares, fixes, 5): word, kind, three numbers
    STARTS_AT = 20  # (variants, shares): the first row of each share
    BASES_AT = 21  # addresses of the job's arrays
    RATES_AT = 22  # learning rate, normaliser and global first row of each step, or 0
    NORMALISERS_AT = 23
    GLOBAL_ROWS_AT = 24
    SUMS_AT = 25  # (shares, steps, columns)
    BARRIER_AT = 26
    BEGINS = 27  # whether the steps begin with this call: then what changes from step to step is put in place
    PAUSES = 28  # how many pauses the job has, and after which steps
    PAUSES_AT = 29
    PAUSE = 30  # the first that is still to come
    ASIDE_AT = 31  # the header that is then run by the same executors; its sums lie ASIDE_BYTES apart from turn to turn
    ASIDE_SUMS_AT = 32
    ASIDE_BYTES = 33
    INTERPRETER_AT = 34
    LENT = 35  # blocks of parameters that shares own in memory of their own: before a turn aside they are copied out
    LENT_AT = 36  # of each: share, from, to, rows, and in words of four bytes their width and distance
    DONE = 40  # steps of the job that are done; apart from what other executors read all the time


class Fix(IntEnum):
    """What changes from step to step, and is put into a share's words when the step begins."""

    WHOLE = 0  # base p
    BATCH = 1  # base p, moved on to this batch by q bytes per row, and by `extra` bytes
    ROWS = 2  # … and to the first row of this share
    ROWS_OF_EPOCHS = 3  # … in an array that has a row for every row of every epoch
    SUMS = 4  # column p of this share's sums of this step
    RATE = 5
    NORMALISER = 6
    STEP = 7
    FIRST_ROW = 8


def execute(header: Any, shares: int, *, alone: bool) -> None:
    """Run what the header describes, with as many executors as there are shares where they can be had.

    Alone where it is over before others would be awake: that changes no bit.
    """
    if not alone and shares > 1 and TEAM.enter(shares, address(), address_of(header)):
        return
    _interpreter()(address_of(header), 1, 0)


def prepare() -> None:
    """Compile the interpreter, or load it, and what hands it to other threads."""
    _interpreter()
    handover.prepare()


def is_kept() -> bool:
    """Whether it will come from the disk."""
    return cache.is_kept(KEY, SIGNATURE, OPTIONS)


def address() -> int:
    """Where the interpreter lies."""
    return int(_compiled().address)


def repeated(header: Any) -> Callable[[], None]:
    """`execute` for the same header again and again, alone and without giving up the GIL."""
    return functools.partial(_interpreter(keep_gil=True), address_of(header), 1, 0)


@functools.cache
def _interpreter(*, keep_gil: bool = False) -> Any:
    """`interpret(header, executors, executor)` as a C function."""
    kind = ctypes.PYFUNCTYPE if keep_gil else ctypes.CFUNCTYPE
    return kind(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(address())


@functools.cache
def _compiled() -> Any:
    return cache.compile_cfunc(KEY, cache.builder("interpreter_loop"), SIGNATURE, OPTIONS)
