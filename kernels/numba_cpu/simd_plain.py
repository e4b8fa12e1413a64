"""The vectors of `simd` as plain Python: a vector is a NumPy array of W elements, its operators are NumPy's.

For reading, for debugging, and for NUMBA_DISABLE_JIT=1. Every access is checked against the bounds of the array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnfast.protocol import Array

from .simd_width import VECTOR_BYTES

_BITS: dict[np.dtype[Any], tuple[Any, int, int, int]] = {  # integer type, mantissa bits, bits of 1.0, bits of √½
    np.dtype(np.float32): (np.uint32, 23, 0x3F800000, 0x3F3504F3),
    np.dtype(np.float64): (np.uint64, 52, 0x3FF0000000000000, 0x3FE6A09E667F3BCD),
}


def quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` without NumPy's warnings: NaN, inf and overflow are data here."""
    return np.errstate(all="ignore")(function)


def _flat(a: Array, first: int, last: int) -> Array:
    """The elements of `a` in a row, after a look at the first and the last one that will be touched."""
    if min(first, last) < 0 or max(first, last) >= a.size:
        raise IndexError(f"elements {first} to {last} of {a.size}")
    return a.reshape(-1)


def lanes(a: Array) -> int:
    return VECTOR_BYTES // int(a.dtype.itemsize)


def vload(a: Array, i: int) -> Array:
    return _flat(a, i, i + lanes(a) - 1)[i : i + lanes(a)].copy()


def vload_n(a: Array, i: int, n: int) -> Array:
    return vload_n_or(a, i, n, 0)


def vload_n_or(a: Array, i: int, n: int, fill: float) -> Array:
    v = np.full(lanes(a), fill, a.dtype)
    n = min(n, lanes(a))
    if n > 0:
        v[:n] = _flat(a, i, i + n - 1)[i : i + n]
    return v


def vstore(a: Array, i: int, v: Array) -> None:
    vstore_n(a, i, v, v.size)


def vstore_n(a: Array, i: int, v: Array, n: int) -> None:
    n = min(n, v.size)
    if n > 0:
        _flat(a, i, i + n - 1)[i : i + n] = v[:n]


def vgather(a: Array, i: int, stride: int, n: int) -> Array:
    v = np.zeros(lanes(a), a.dtype)
    n = min(n, lanes(a))
    if n > 0:
        v[:n] = _flat(a, i, i + (n - 1) * stride)[[i + lane * stride for lane in range(n)]]
    return v


def vscatter(a: Array, i: int, stride: int, v: Array, n: int) -> None:
    n = min(n, v.size)
    if n > 0:
        flat = _flat(a, i, i + (n - 1) * stride)
        for lane in range(n):  # one after the other: with stride 0 the last one stays
            flat[i + lane * stride] = v[lane]


@quiet
def vset(a: Array, x: float) -> Array:
    return np.full(lanes(a), x, a.dtype)


def vzero(a: Array) -> Array:
    return np.zeros(lanes(a), a.dtype)


def vselect(mask: Array, x: Any, y: Any) -> Array:
    return np.where(mask, x, y)


def vany(mask: Array) -> bool:
    return bool(mask.any())


def vall(mask: Array) -> bool:
    return bool(mask.all())


@quiet
def vfma(x: Any, y: Any, z: Any) -> Any:
    return x * y + z


@quiet
def vmax(x: Any, y: Any) -> Any:
    return np.maximum(x, y)


@quiet
def vmin(x: Any, y: Any) -> Any:
    return np.minimum(x, y)


def vabs(x: Array) -> Any:
    return np.abs(x)


@quiet
def vsqrt(x: Array) -> Any:
    return np.sqrt(x)


@quiet
def vfloor(x: Array) -> Any:
    return np.floor(x)


def vcopysign(x: Any, y: Any) -> Any:
    return np.copysign(x, y)


def visnan(x: Array) -> Any:
    return np.isnan(x)


@quiet
def vsum(v: Array) -> Any:
    while v.size > 1:
        v = v[: v.size // 2] + v[v.size // 2 :]
    return v[0]


def vsum64(v: Array) -> Any:
    return vsum(vwiden(v))


@quiet
def vmaxlane(v: Array) -> Any:
    return np.maximum.reduce(v)


def vwiden(v: Array) -> Array:
    return v.astype(np.float64)


@quiet
def vnarrow(a: Array, v: Array) -> Array:
    return v.astype(a.dtype)


def vacc_zero(a: Array) -> Array:
    return np.zeros(lanes(a), np.float64)


@quiet
def vacc_add(acc: Array, v: Array) -> Any:
    return acc + vwiden(v)


def vacc_sum(acc: Array) -> Any:
    return vsum(acc)


def vacc_load(a: Array, wide: Array, i: int, n: int) -> Array:
    acc = vacc_zero(a)
    n = min(n, acc.size)
    if n > 0:
        acc[:n] = _flat(wide, i, i + n - 1)[i : i + n]
    return acc


def vacc_store(acc: Array, wide: Array, i: int, n: int) -> None:
    vstore_n(wide, i, acc, n)


# The bits of a number.


def vadd_exponent(x: Array, t: Array) -> Array:
    integer, mantissa, _, _ = _BITS[t.dtype]
    x = np.broadcast_to(np.asarray(x, t.dtype), t.shape)
    bits = x.view(integer) + (t.view(integer) << integer(mantissa))
    return np.asarray(bits).view(t.dtype)


def vexponent(x: Array) -> Any:
    integer, mantissa, one, root = _BITS[x.dtype]
    biased = (x.view(integer) + integer(one - root)) >> integer(mantissa)
    return biased.astype(x.dtype) - x.dtype.type(one >> mantissa)


def vsignificand(x: Array) -> Any:
    integer, mantissa, one, root = _BITS[x.dtype]
    kept = (x.view(integer) + integer(one - root)) & integer((1 << mantissa) - 1)
    return (kept + integer(root)).view(x.dtype)


# What depends on the dtype.


def by_dtype(single: float, double: float) -> Any:
    return lambda x: x.dtype.type(single if x.dtype == np.float32 else double)


def polynomial(single: tuple[float, ...], double: tuple[float, ...]) -> Any:
    tables = {np.dtype(np.float32): np.array(single, np.float32), np.dtype(np.float64): np.array(double)}

    @quiet
    def horner(x: Array) -> Any:
        *rest, y = tables[x.dtype]
        for coefficient in reversed(rest):
            y = y * x + coefficient
        return y

    return horner
