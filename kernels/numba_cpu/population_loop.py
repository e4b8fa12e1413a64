"""The loop over models, which is compiled; see `population_driver.py`."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

from numba import carray, types

from .atomics import take_one
from .interpreter import H
from .modes import jit
from .pointers import at_address, enter
from .population_driver import C, Part, Row

__all__ = ["build"]


def _plain(kind: type[IntEnum]) -> tuple[int, ...]:
    return tuple(int(member) for member in kind if member.name != "END")


HEADER_WORDS = max(H) + 1
I8 = types.int64
BASES_AT, RATES_AT, NORMALISERS_AT, SUMS_AT, FIRST_STEP, WORDS_AT, WORDS, PAUSE, ASIDE_AT, ASIDE_SUMS_AT = (
    int(h)
    for h in (
        *(H.BASES_AT, H.RATES_AT, H.NORMALISERS_AT, H.SUMS_AT, H.FIRST_STEP, H.WORDS_AT, H.WORDS, H.PAUSE),
        *(H.ASIDE_AT, H.ASIDE_SUMS_AT),
    )
)
X_AT, Y_AT, WEIGHT_AT, OUTPUT_AT, ORDER_AT, ROW_RATES, ROW_NORMALISERS, ROW_SUMS, ROW_STEP, _ = _plain(Row)
GROUPS, GROUP_OF_AT, HEADERS_AT, PATCHES_AT, ROWS_AT, WIDTH = _plain(Part)
PART = int(Part.END)


def _place(part: Any, model: Any, executor: Any) -> Any:
    """Fill the tables of this executor for this model; the address of their header."""
    group = carray(at_address(part[GROUP_OF_AT], I8), (model + 1,))[model]
    at = executor * part[GROUPS] + group
    address = carray(at_address(part[HEADERS_AT], I8), (at + 1,))[at]
    row = carray(at_address(part[ROWS_AT] + model * part[WIDTH] * 8, I8), (part[WIDTH],))
    h = carray(at_address(address, I8), (HEADER_WORDS,))
    bases = carray(at_address(h[BASES_AT], I8), (5,))
    for i in range(5):
        bases[i] = row[i]
    h[RATES_AT] = row[ROW_RATES]
    h[NORMALISERS_AT] = row[ROW_NORMALISERS]
    h[SUMS_AT] = row[ROW_SUMS]
    h[FIRST_STEP] = row[ROW_STEP]
    about = carray(at_address(part[PATCHES_AT] + group * 24, I8), (3,))
    patches = carray(at_address(about[0], I8), (3 * about[1],))
    for v in range(about[2]):
        words = carray(at_address(h[WORDS_AT] + v * h[WORDS] * 8, I8), (h[WORDS],))
        for i in range(0, 3 * about[1], 3):
            words[patches[i]] = row[patches[i + 1]] + patches[i + 2]
    return address


place = jit(_place)


def build() -> Callable[..., None]:
    models, counter_at, interpreter_at, parts = _plain(C)
    first = int(C.END)

    def population(control: Any, executors: Any, executor: Any) -> None:
        c = carray(control, (first + 2 * PART,))
        counter = carray(at_address(c[counter_at], I8), (1,))
        model = take_one(counter)
        while model < c[models]:
            header = place(c[first : first + PART], model, executor)
            if c[parts] > 1:
                aside = place(c[first + PART : first + 2 * PART], model, executor)
                h = carray(at_address(header, I8), (HEADER_WORDS,))
                h[PAUSE], h[ASIDE_AT] = 0, aside
                h[ASIDE_SUMS_AT] = carray(at_address(aside, I8), (HEADER_WORDS,))[SUMS_AT]
            enter(c[interpreter_at], header, 1, 0)
            model = take_one(counter)

    return population
