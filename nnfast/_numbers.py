"""Behind `nnfast.validation`: single numbers, and their ranges in words."""

from __future__ import annotations

import math
import numbers
import operator
import reprlib
from collections.abc import Collection
from typing import Any

import numpy as np

from nnfast.errors import DTypeError, OptionError, UnknownNameError

__all__ = ["choice", "flag", "integer", "number", "range_words"]

_NO_NUMBERS = (bool, np.bool_, np.timedelta64)  # which Python or NumPy take for real numbers
LARGEST = 2**63 - 1  # of a whole number without a limit of its own: compiled code counts in 64 bits


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
    if type(value) is float or (isinstance(value, numbers.Real) and not isinstance(value, _NO_NUMBERS)):
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


def choice(name: str, value: Any, options: Collection[str]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in options:
        raise UnknownNameError(name, value, options)
    return value


def integer(name: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """A whole number within [low, high] as int, at most `LARGEST` without `high`; 2.0 is not one, nor is True."""
    limit = LARGEST if high is None else high
    if not isinstance(value, (bool, np.bool_, np.ndarray)):
        try:
            n = operator.index(value)
        except TypeError:
            pass
        else:
            if (low is None or n >= low) and n <= limit:
                return n
            high = high if n <= limit else limit
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
