"""Behind `nnfast.validation`: single numbers, and their ranges in words."""

from __future__ import annotations

import math
import numbers
import operator
import reprlib
from typing import Any

import numpy as np

from nnfast.errors import DTypeError, OptionError

__all__ = ["flag", "integer", "number", "range_words"]


def number(
    name: str,
    value: Any,
    low: float | None = None,
    high: float | None = None,
    low_open: bool = False,
    high_open: bool = False,
) -> float:
    """A finite number within the range, as float."""
    # The first look is for speed alone: floats are what is nearly always given.
    if type(value) is float or (not isinstance(value, (bool, np.bool_)) and isinstance(value, numbers.Real)):
        try:
            x = float(value)
        except OverflowError:
            x = math.inf
        above = low is None or (x > low if low_open else x >= low)
        below = high is None or (x < high if high_open else x <= high)
        if math.isfinite(x) and above and below:
            return x
    words = range_words(low, high, low_open, high_open)
    raise OptionError(f"{name} is {reprlib.repr(value)}; expected a finite number{words and ' ' + words}")


def flag(name: str, value: Any) -> bool:
    """True or False; other things that Python would take for either are refused."""
    if not isinstance(value, (bool, np.bool_)):
        raise DTypeError(f"{name} is {reprlib.repr(value)}; expected True or False")
    return bool(value)


def integer(name: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """A whole number within [low, high] as int; 2.0 is not one, nor is True."""
    if not isinstance(value, (bool, np.bool_, np.ndarray)):
        try:
            n = operator.index(value)
        except TypeError:
            pass
        else:
            if (low is None or n >= low) and (high is None or n <= high):
                return n
    words = range_words(low, high)
    raise OptionError(f"{name} is {reprlib.repr(value)}; expected a whole number{words and ' ' + words}")


def range_words(
    low: float | None, high: float | None, low_open: bool = False, high_open: bool = False, *, of: str = "of "
) -> str:
    """ "of at least 0 and below 1", "from 0 to 1", … or nothing where there is no limit."""
    if low is not None and high is not None and not low_open and not high_open:
        return f"from {low} to {high}"
    parts = []
    if low is not None:
        parts.append(f"above {low}" if low_open else f"{of}at least {low}")
    if high is not None:
        parts.append(f"below {high}" if high_open else f"{of}at most {high}")
    return " and ".join(parts)
