"""What is said of an array that cannot be used: which kinds there are, and what would mend it."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np

from nnfast.devices import device_of
from nnfast.errors import DTypeError

__all__ = ["in_code", "no_numbers", "rank_hint", "refuse_foreign"]

Array = np.ndarray[Any, Any]

_KINDS = {
    "c": "nnfast computes with real numbers: give its real and imaginary part as two columns",
    "O": "it mixes types, or its rows differ in length: use np.asarray(…, dtype=float) on rows of numbers",
    "S": "text must be encoded first, as in np.unique(…, return_inverse=True)",
    "U": "text must be encoded first, as in np.unique(…, return_inverse=True)",
    "M": "turn dates into numbers first, as in (t - t[0]) / np.timedelta64(1, 's')",
    "m": "turn time differences into numbers first, as in dt / np.timedelta64(1, 's')",
    "V": "take the fields that you need as columns of numbers, or use .astype(np.float32)",
}


def in_code(name: str) -> str:
    """An argument as it may stand in code: "validation y", "batch 3: y" are y."""
    return name.rpartition(" ")[2]


def no_numbers(name: str, a: Array) -> DTypeError:
    small = a.dtype.kind == "V" and a.dtype.names is None  # bfloat16 and its like, which are no part of NumPy
    hint = "convert it to float32 first" if small else _KINDS.get(a.dtype.kind, "convert it")
    return DTypeError(f"{name} has dtype {a.dtype}, not numbers; {hint}")


def refuse_foreign(name: str, a: Any) -> None:
    """Raise for what `np.asarray` would take or copy without a word although it should not."""
    used = in_code(name)
    if a is None:
        raise DTypeError(f"{name} is None; expected an array")
    if isinstance(a, Iterator):
        raise DTypeError(
            f"{name} is a {type(a).__name__}, not an array; an iterable of batches is given alone, without y"
        )
    if isinstance(a, Mapping | Set):
        raise DTypeError(f"{name} is a {type(a).__name__}, not an array")
    if "numpy.ma" in sys.modules and isinstance(a, np.ma.MaskedArray):
        raise DTypeError(f"{name} is a masked array, and the mask would be lost; use {used}.filled(value) first")
    if hasattr(a, "tocsr") and hasattr(a, "toarray"):
        raise DTypeError(f"{name} is a sparse matrix ({type(a).__name__}); make it dense with {used}.toarray()")
    device = device_of(a)
    if device:
        raise DTypeError(
            f"{name} ({type(a).__module__}.{type(a).__name__}) lives on {device}, and this backend computes on the "
            f"CPU; copy it first (CuPy: {used}.get(), PyTorch: {used}.cpu()) or choose a backend of "
            "that device"
        )


def rank_hint(name: str, a: Array, width: int | None) -> str:
    if a.ndim == 1 and width == 1:
        return f"; for one column use {in_code(name)}.reshape(-1, 1)"
    if a.ndim == 1 and width is None:
        return f"; for one column use {in_code(name)}.reshape(-1, 1), for one sample {in_code(name)}.reshape(1, -1)"
    if a.ndim == 1 and width == a.size:
        return f"; for one sample use {in_code(name)}.reshape(1, -1)"
    if a.ndim > 2 and width in (None, math.prod(a.shape[1:])):
        return f"; use {in_code(name)}.reshape({a.shape[0]}, -1)"
    return ""
