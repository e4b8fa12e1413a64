"""The front door: every array and number that a caller hands over is checked here, once, before any state changes.

Each function takes the argument's name first and gives back what kernels need (C-contiguous, native, aligned, of the
working dtype; the caller's own array where it is that already) or raises an error of `nnfast.errors` that says which
argument, what it was, what was expected and what mends it. Compiled kernels check nothing.
Where a `backend` of a device is named, arrays on that device stay there: looked at are their shape and dtype alone.
Dimensions: N rows, C classes.
"""

from __future__ import annotations

import os
import reprlib
from typing import Any

import numpy as np

from nnfast._numbers import choice, flag, integer, number, range_words
from nnfast._refusals import in_code, no_numbers, rank_hint, refuse_foreign
from nnfast.devices import adopted, own_memory, takes
from nnfast.errors import DataError, DTypeError, OptionError, ShapeError

__all__ = [
    "any_array",
    "choice",
    "convert",
    "features",
    "file_name",
    "flag",
    "host_array",
    "integer",
    "labels",
    "number",
    "targets",
    "weights",
    "working_dtype",
    "writable",
]

Array = np.ndarray[Any, Any]
DType = np.dtype[Any]

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
SUM_TOLERANCE = 1e-3  # how far the sum of a row of soft labels may be from 1


def file_name(name: str, given: Any) -> str:
    """A path as text. Raises DTypeError for what is none, OptionError for an impossible one."""
    try:
        path = os.fsdecode(given)
    except TypeError:
        raise DTypeError(f"{name} is {given!r}; expected a str or a pathlib.Path") from None
    if not path or "\0" in path:
        raise OptionError(f"{name} is {path!r}, which names no file")
    return path


def working_dtype(dtype: Any) -> DType:
    """The dtype to compute in: float32 or float64, given as a string, a NumPy type or a NumPy dtype."""
    try:
        found: DType | None = np.dtype(dtype).newbyteorder("=")
    except (TypeError, ValueError):
        found = None
    # None must be told apart first: NumPy reads it as float64, and `np.dtype("f8") == None` is true.
    if dtype is None or found is None or found not in (FLOAT32, FLOAT64):
        raise DTypeError(f"dtype is {reprlib.repr(dtype)}; supported are 'float32' and 'float64'")
    return found


def host_array(name: str, a: Any) -> Array:
    """`a` as a NumPy array of booleans, integers or floats; not copied where that can be avoided.

    Takes what `np.asarray` or DLPack take. An array on a GPU is an error, never a copy that nobody asked for.
    """
    if type(a) is not np.ndarray:
        refuse_foreign(name, a)
        try:
            a = np.asarray(a) if hasattr(a, "__array__") or not hasattr(a, "__dlpack__") else np.from_dlpack(a)
        except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
            raise DTypeError(f"{name} cannot be read as an array of numbers: {error}") from error
    array: Array = a
    if array.dtype.kind not in "biuf":
        raise no_numbers(name, array)
    return array


def any_array(name: str, a: Any, backend: Any = None) -> Array:
    """As `host_array`, or an array of the backend's own where `a` lies on its device."""
    if type(a) is np.ndarray or not takes(backend, a):
        return host_array(name, a)
    array: Array = adopted(name, a, backend)
    if array.dtype.kind not in "biuf":
        raise no_numbers(name, array)
    return array


def convert(name: str, a: Array, dtype: DType) -> Array:
    """`a` as C-contiguous, native, aligned array of `dtype`: itself where it is one, else a copy."""
    if not isinstance(a, np.ndarray):  # on a device, where nobody looks at the values
        return a.astype(dtype, order="C", copy=False)
    if a.dtype == dtype and a.flags.c_contiguous and a.flags.aligned:
        return a
    try:
        with np.errstate(over="raise", under="ignore", invalid="ignore"):
            made = a.astype(dtype, order="C", copy=False)
    except FloatingPointError:
        largest = np.finfo(dtype).max
        raise DataError(
            f"{name} holds finite values beyond the range of {dtype}, ±{largest:.4g}; scale them or use dtype='float64'"
        ) from None
    return made if made.flags.aligned else made.copy()


def features(
    name: str, x: Any, width: int | None, dtype: DType, *, allow_empty: bool = False, backend: Any = None
) -> Array:
    """`x` as (N, width) array of `dtype`; any width where `width` is None. NaN and inf pass: they propagate."""
    a = any_array(name, x, backend)
    expected = f"(N, {width})" if width is not None else "(N, inputs)" if name in ("X", "x") else "(N, outputs)"
    if a.ndim != 2:
        hint = rank_hint(name, a, width)
        raise ShapeError(f"{name} has shape {a.shape}; expected {expected}, one row per sample{hint}")
    if width is not None and a.shape[1] != width:
        hint = f"; it looks transposed: use {in_code(name)}.T" if a.shape[0] == width else ""
        raise ShapeError(f"{name} has shape {a.shape}: {a.shape[1]} columns where {width} are expected{hint}")
    if a.shape[1] == 0:
        raise ShapeError(f"{name} has shape {a.shape}: no columns; at least one is needed")
    if a.shape[0] == 0 and not allow_empty:
        raise DataError(f"{name} has shape {a.shape}: no rows; at least one sample is needed")
    return convert(name, a, dtype)


def labels(name: str, y: Any, rows: int, classes: int, dtype: DType) -> Array:
    """Class targets: (N,) integers 0 … C−1, given back as int64, or (N, C) one-hot or soft rows, as `dtype`."""
    a = host_array(name, y)
    if a.size == 0:
        raise DataError(f"{name} has shape {a.shape}: no labels; expected one for each of {rows} rows")
    if a.ndim == 1:
        return _class_indices(name, a, rows, classes)
    if a.shape == (rows, classes):
        return _class_rows(name, convert(name, a, dtype))
    hint = f"; use {in_code(name)}.ravel() for class numbers" if a.ndim == 2 and a.shape[1] == 1 else ""
    raise ShapeError(
        f"{name} has shape {a.shape}; expected ({rows},) class numbers, or ({rows}, {classes}) one-hot or soft "
        f"rows{hint}"
    )


def _class_indices(name: str, a: Array, rows: int, classes: int) -> Array:
    if a.shape[0] != rows:
        raise ShapeError(f"{name} has {a.shape[0]} labels for {rows} rows; expected shape ({rows},)")
    if a.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(a))
        if bad.size:
            raise DataError(f"{name}[{bad[0]}] is {a[bad[0]]}; every row needs a class number: drop such rows first")
        raise DTypeError(
            f"{name} has dtype {a.dtype}; class numbers must be integers, 0 to {classes - 1}: "
            f"use {in_code(name)}.astype(np.int64)"
        )
    # A uint64 too large for int64 wraps to a negative number, so the check of the converted array finds it too.
    indices = np.ascontiguousarray(a.astype(np.int64, copy=False))
    if indices.view(np.uint64).max() >= classes:  # where a negative number is a very large one
        row = int(np.flatnonzero((indices < 0) | (indices >= classes))[0])
        raise DataError(
            f"{name}[{row}] is {a[row]}, which is no class; there are {classes} classes, numbered 0 to {classes - 1}"
        )
    return indices if indices.flags.aligned else indices.copy()


def _class_rows(name: str, a: Array) -> Array:
    low = a.min(axis=1)
    total = a.sum(axis=1, dtype=np.float64)
    # NaN fails both comparisons.
    good = (low >= 0) & (np.abs(total - 1) <= SUM_TOLERANCE)
    if not good.all():
        row = int(np.argmin(good))
        if not np.isfinite(a[row]).all():
            fault = "holds NaN or inf"
        elif low[row] < 0:
            fault = f"holds {low[row]}"
        else:
            fault = f"sums to {total[row]:.6g}"
        raise DataError(f"{name}[{row}] {fault}; a row of labels must hold values of at least 0 that sum to 1")
    return a


def targets(
    name: str, y: Any, rows: int, width: int, dtype: DType, low: float | None = None, high: float | None = None
) -> Array:
    """Real targets of shape (rows, width), all finite and, where given, within [low, high]; as `dtype`."""
    a = host_array(name, y)
    if a.size == 0:
        raise DataError(f"{name} has shape {a.shape}: no targets; expected ({rows}, {width})")
    if a.shape != (rows, width):
        hint = ""
        if a.ndim == 1 and width == 1:
            hint = f"; use {in_code(name)}.reshape(-1, 1)"
        elif a.ndim == 1 and a.size == width and rows == 1:
            hint = f"; use {in_code(name)}.reshape(1, -1)"
        elif a.shape == (width, rows):
            hint = f"; it looks transposed: use {in_code(name)}.T"
        raise ShapeError(f"{name} has shape {a.shape}; expected ({rows}, {width}), the shape of the output{hint}")
    made = convert(name, a, dtype)
    good = np.isfinite(made)
    _first_bad_row(name, made, good, "targets must be finite: drop or mend such rows first")
    if low is not None or high is not None:
        for limit, compare in ((low, np.greater_equal), (high, np.less_equal)):
            good = good & compare(made, limit) if limit is not None else good
        _first_bad_row(name, made, good, f"targets must be {range_words(low, high, of='')}")
    return made


def _first_bad_row(name: str, a: Array, good: Array, rule: str) -> None:
    if not good.all():
        row, column = (int(i) for i in np.argwhere(~good)[0])
        raise DataError(f"{name}[{row}, {column}] is {a[row, column]}; {rule}")


def weights(name: str, w: Any, rows: int, dtype: DType) -> Array | None:
    """Sample weights of shape (rows,): finite, at least 0, not all 0; as `dtype`. None stays None."""
    if w is None:
        return None
    a = host_array(name, w)
    if a.shape != (rows,):
        hint = f"; use {in_code(name)}.ravel()" if a.ndim > 1 and a.size == rows else ""
        raise ShapeError(f"{name} has shape {a.shape}; expected ({rows},), one weight per row{hint}")
    made = convert(name, a, dtype)
    good = np.isfinite(made) & (made >= 0)
    if not good.all():
        row = int(np.argmin(good))
        raise DataError(f"{name}[{row}] is {made[row]}; weights must be finite and at least 0")
    if not made.any():
        raise DataError(f"{name} has no weight above 0, so there is nothing to average over")
    return made


def writable(name: str, a: Any, shape: tuple[int, ...], dtype: DType) -> Array:
    """The caller's own array for an op that works in place: writable, of this shape and dtype, in any memory layout.

    One of another library comes as a view of its memory.
    """
    a = own_memory(a)
    if not isinstance(a, np.ndarray):
        refuse_foreign(name, a)
        raise DTypeError(f"{name} is a {type(a).__name__}; it is updated in place, so it must be a NumPy array")
    refuse_foreign(name, a)
    if a.dtype.newbyteorder("=") != dtype:
        raise DTypeError(f"{name} has dtype {a.dtype}; it is updated in place, so it must be {dtype}")
    if a.shape != tuple(shape):
        raise ShapeError(f"{name} has shape {a.shape}; expected {tuple(shape)}")
    if not a.flags.writeable:
        raise DataError(f"{name} is read-only, and it is updated in place; give a copy, {name}.copy()")
    if _overlaps_itself(a):
        raise DataError(f"{name} is a view whose elements share memory, and it is updated in place; give {name}.copy()")
    return a.view(np.ndarray)


def _overlaps_itself(a: Array) -> bool:
    """True where two elements may share memory, as after broadcasting; every array of slices and transposes is fine."""
    if a.flags.c_contiguous or a.size < 2:
        return False
    reach = a.itemsize
    for stride, n in sorted((abs(s), n) for s, n in zip(a.strides, a.shape, strict=True) if n > 1):
        if stride < reach:
            return True
        reach += stride * (n - 1)
    return False
