"""Many models, one after the other, in compiled code: each executor takes the next one and runs the interpreter on it.

A model is a row of a table: where its arrays lie, its numbers, its sums. An executor has one set of tables for the
interpreter (`Binding`), whose words it fills from the row; so nothing is laid out per model, and who runs which model
changes no bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from enum import IntEnum
from typing import Any

from numba import carray, types

from . import cache
from .addresses import address_of, at_address, enter
from .atomics import take_one
from .interpreter import H
from .interpreter import address as interpreter_address
from .modes import OPTIONS, jit
from .team import TEAM

__all__ = ["C", "Part", "Row", "drive"]

SIGNATURE = types.void(types.CPointer(types.int64), types.int64, types.int64)


class Row(IntEnum):
    """What a model's row of the table begins with; *_AT are addresses. Behind these: whatever the words want."""

    X_AT = 0  # the first five as in `binding.BASES`
    Y_AT = 1
    WEIGHT_AT = 2
    OUTPUT_AT = 3
    ORDER_AT = 4
    RATES_AT = 5
    NORMALISERS_AT = 6
    SUMS_AT = 7
    FIRST_STEP = 8
    KEY = 9
    END = 10


class Part(IntEnum):
    """The description of one program that is run: the training, and what is run aside."""

    GROUPS = 0  # models whose idle ops differ have other instructions
    GROUP_OF_AT = 1  # (models,)
    HEADERS_AT = 2  # (executors, groups): those of the interpreter
    PATCHES_AT = 3  # (groups, 3): address and number of the patches, variants of the words
    ROWS_AT = 4  # (models, width)
    WIDTH = 5
    END = 6


class C(IntEnum):
    """What the driver is given, one word each; behind it the parts."""

    MODELS = 0
    COUNTER_AT = 1  # of the next model
    INTERPRETER_AT = 2
    PARTS = 3
    END = 4


def drive(control: Any, executors: int) -> None:
    """Run all models with so many executors; alone where the others cannot be had."""
    TEAM.work(executors, int(_compiled().address), address_of(control))


@functools.cache
def _compiled() -> Any:
    interpreter_address()
    return cache.compile_cfunc("population", _build, SIGNATURE, OPTIONS)


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


def _build() -> Callable[..., None]:
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
