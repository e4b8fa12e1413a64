"""The interpreter's loop, which is compiled; see `interpreter.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import carray, types

from .barrier import barrier
from .interpreter import Fix, H
from .pointers import at_address, call, enter

__all__ = ["build"]


def build() -> Callable[..., None]:
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
