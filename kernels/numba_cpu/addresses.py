"""Addresses: where an array's elements lie, and arrays in cache lines of their own."""

from __future__ import annotations

import ctypes
import math
import sys
from typing import Any

import numpy as np

__all__ = ["LINE", "address_of", "words_apart"]

LINE = 128  # bytes: two cache lines of most processors, which fetch them in pairs; one of Apple's


def _address_of(array: Any) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


_word_at = ctypes.c_size_t.from_address


def _address_in_header(array: Any) -> int:
    """The same, ten times faster: CPython's header of an object has two words, and NumPy's first field is the data."""
    return _word_at(id(array) + _HEADER).value


_HEADER = object.__basicsize__
_tried = [np.empty(3), np.empty((2, 0)), np.arange(4)[1:]]
_same = sys.implementation.name == "cpython" and all(_address_in_header(a) == _address_of(a) for a in _tried)
address_of = _address_in_header if _same else _address_of


def words_apart(*shape: int) -> Any:
    """int64 zeros in cache lines of their own: others write beside them, from other cores."""
    count, line = math.prod(shape), LINE // 8
    raw = np.zeros(count + 2 * line, np.int64)
    start = -address_of(raw) % LINE // 8
    return raw[start : start + count].reshape(shape)
