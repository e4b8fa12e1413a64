"""Backends with one wrong way of making arrays."""

from __future__ import annotations

import numpy as np

from . import loaded

__all__ = ["ARRAYS", "with_arrays"]


def with_arrays(**methods):
    """The example backend with these methods instead of its own."""
    return type("Wrong", (loaded().ArrayAPIBackend,), methods)()


def _native(a, dtype):
    a = np.asarray(a)
    dtype = np.dtype(a.dtype if dtype is None else dtype)
    return a, dtype if dtype.isnative else dtype.newbyteorder("=")


def copies(self, a, dtype=None):
    return np.array(*_native(a, dtype), order="C")


def keeps_the_byte_order(self, a, dtype=None):
    return np.require(a, dtype, ["C_CONTIGUOUS", "ALIGNED"])


def keeps_the_order(self, a, dtype=None):
    return np.require(*_native(a, dtype), ["ALIGNED"])


def ignores_the_dtype(self, a, dtype=None):
    return np.require(*_native(a, None), ["C_CONTIGUOUS", "ALIGNED"])


def rounds(self, a, dtype=None):
    return np.require(np.asarray(a, np.float32), _native(a, dtype)[1], ["C_CONTIGUOUS", "ALIGNED"])


ARRAYS = {
    "asarray copies its own": {"asarray": copies},
    "asarray keeps the byte order": {"asarray": keeps_the_byte_order},
    "asarray keeps columns together": {"asarray": keeps_the_order},
    "asarray ignores the dtype": {"asarray": ignores_the_dtype},
    "asarray rounds to float32": {"asarray": rounds},
    "to_numpy gives a list": {"to_numpy": lambda self, a: a.tolist()},
    "empty is not aligned": {"empty": lambda self, shape, dtype: np.empty(shape, dtype)},
    "empty is always float64": {
        "empty": lambda self, shape, dtype: loaded().ArrayAPIBackend().empty(shape, np.float64)
    },
    "empty is flat": {"empty": lambda self, shape, dtype: loaded().ArrayAPIBackend().empty(int(np.prod(shape)), dtype)},
    "zeros are ones": {"zeros": lambda self, shape, dtype: loaded().ArrayAPIBackend().zeros(shape, dtype) + 1},
}
