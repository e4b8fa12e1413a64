"""The interpreter: the compiled loop that runs a plan's instructions, step after step, without Python.

It reads everything from memory that `binding.py` has laid out: `H` names the words of its header. Each executor runs
the shares executor, executor + executors, …; with one executor that is all of them, in the same order, which is why
the number of executors changes no bit.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from enum import IntEnum
from typing import Any

from numba import carray, types

from . import cache, handover
from .addresses import address_of, at_address, call, enter
from .barrier import barrier
from .modes import OPTIONS
from .team import TEAM

__all__ = ["Fix", "H", "address", "execute", "prepare", "repeated"]

SIGNATURE = types.void(types.CPointer(types.int64), types.int64, types.int64)


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
    return cache.compile_cfunc("interpreter", _build, SIGNATURE, OPTIONS)


def _build() -> Callable[..., None]:
    i8, f8 = types.int64, types.float64
    # Plain numbers, because a compiled function reads no enumeration.
    (from_step, to_step, from_i, to_i, n_instructions, n_shares, first_batch, n_batches, size, n_rows, last, first_step,
     n_steps, columns, n_words, n_fixes, calls_at, offsets_at, words_at, fixes_at, starts_at, bases_at, rates_at,
     normalisers_at, global_rows_at, sums_at, barrier_at, begins, n_pauses, pauses_at, first_pause, aside_at,
     aside_sums_at, aside_bytes, interpreter_at, n_lent, lent_at, done) = (int(h) for h in H)  # fmt: skip
    words_of_header = max(H) + 1
    whole_, batch_, rows_, epochs_, sums_, rate_, normaliser_, step_, _ = (int(f) for f in Fix)

    def interpret(header: Any, executors: Any, executor: Any) -> None:
        h = carray(header, (words_of_header,))
        shares, count, width = h[n_shares], h[n_instructions], h[n_words]
        state = carray(at_address(h[barrier_at], i8), (1,))
        offsets = carray(at_address(h[offsets_at], i8), (count * 4,))
        calls = carray(at_address(h[calls_at], i8), (2 * count * shares,))
        fixes = carray(at_address(h[fixes_at], i8), (shares * h[n_fixes] * 5,))
        starts = carray(at_address(h[starts_at], i8), (2 * shares,))
        bases = carray(at_address(h[bases_at], i8), (8,))
        pauses = carray(at_address(h[pauses_at], i8), (h[n_pauses],))
        pause, phase = h[first_pause], 0
        for s in range(h[from_step], h[to_step]):
            epoch = (h[first_batch] + s) // h[n_batches]
            batch = h[first_batch] + s - epoch * h[n_batches]
            v = h[last] if batch == h[n_batches] - 1 else 0
            if h[begins]:
                for t in range(executor, shares, executors):
                    words = carray(at_address(h[words_at] + (v * shares + t) * width * 8, i8), (width,))
                    floats = carray(at_address(h[words_at] + (v * shares + t) * width * 8, f8), (width,))
                    start = starts[v * shares + t]
                    row = batch * h[size]
                    for i in range(t * h[n_fixes] * 5, (t + 1) * h[n_fixes] * 5, 5):
                        word, kind, p, q, extra = fixes[i], fixes[i + 1], fixes[i + 2], fixes[i + 3], fixes[i + 4]
                        if kind == whole_:
                            words[word] = bases[p]
                        elif kind == batch_:
                            words[word] = bases[p] + row * q + extra
                        elif kind == rows_:
                            words[word] = bases[p] + (row + start) * q
                        elif kind == epochs_:
                            words[word] = bases[p] + (epoch * h[n_rows] + row + start) * q
                        elif kind == sums_:
                            words[word] = h[sums_at] + ((t * h[n_steps] + s) * h[columns] + p) * 8
                        elif kind == rate_:
                            floats[word] = carray(at_address(h[rates_at], f8), (s + 1,))[s] if h[rates_at] else 0.0
                        elif kind == normaliser_:
                            if h[normalisers_at]:
                                floats[word] = carray(at_address(h[normalisers_at], f8), (s + 1,))[s]
                            else:
                                floats[word] = min(h[size], h[n_rows] - row)
                        elif kind == step_:
                            words[word] = h[first_step] + s
                        else:
                            words[word] = start
                            if h[global_rows_at]:
                                words[word] += carray(at_address(h[global_rows_at], i8), (s + 1,))[s]
            for i in range(h[from_i], h[to_i]):
                if offsets[4 * i]:
                    if executors > 1:
                        phase += 1
                        barrier(state, executors, phase)
                else:
                    for t in range(executor, shares, executors):
                        address = calls[(v * count + i) * shares + t]
                        if address:
                            w = h[words_at] + (v * shares + t) * width * 8
                            o = 4 * i
                            call(address, w + offsets[o + 1] * 8, w + offsets[o + 2] * 8, w + offsets[o + 3] * 8, w)
            if executor == 0:
                h[done] = s + 1
            if pause < h[n_pauses] and pauses[pause] == s + 1:
                lent = carray(at_address(h[lent_at], i8), (h[n_lent] * 6,))
                for i in range(0, h[n_lent] * 6, 6):
                    if lent[i] % executors == executor:
                        end, wide, apart = lent[i + 3] * lent[i + 5], lent[i + 4], lent[i + 5]
                        own = carray(at_address(lent[i + 1], types.int32), (end,))
                        flat = carray(at_address(lent[i + 2], types.int32), (end,))
                        for r in range(0, end, apart):
                            for j in range(r, r + wide):
                                flat[j] = own[j]
                # All met since the last turn, so nobody is in there any more; the barrier shows them what changes here.
                if executor == 0:
                    aside = carray(at_address(h[aside_at], i8), (words_of_header,))
                    aside[sums_at] = h[aside_sums_at] + pause * h[aside_bytes]
                    carray(at_address(aside[barrier_at], i8), (1,))[0] = 0
                if executors > 1:
                    phase += 1
                    barrier(state, executors, phase)
                enter(h[interpreter_at], h[aside_at], executors, executor)
                if executors > 1:
                    phase += 1
                    barrier(state, executors, phase)
                pause += 1

    return interpret
