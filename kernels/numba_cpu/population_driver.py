"""Many models, one after the other, in compiled code: each executor takes the next one and runs the interpreter on it.

A model is a row of a table: where its arrays lie, its numbers, its sums. An executor has one set of tables for the
interpreter (`Binding`), whose words it fills from the row; so nothing is laid out per model, and who runs which model
changes no bit.
"""

from __future__ import annotations

import functools
from enum import IntEnum
from typing import Any

from . import cache
from .addresses import address_of
from .interpreter import address as interpreter_address
from .modes import OPTIONS
from .team import TEAM

__all__ = ["C", "Part", "Row", "drive", "prepare"]

SIGNATURE = "void(CPointer(int64), int64, int64)"


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


def prepare() -> None:
    """Compile it, or load it from the cache."""
    _compiled()


@functools.cache
def _compiled() -> Any:
    interpreter_address()
    return cache.compile_cfunc("population", cache.builder("population_loop"), SIGNATURE, OPTIONS)
