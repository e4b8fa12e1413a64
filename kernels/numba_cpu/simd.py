"""Explicit vectors: so many float32 or float64 numbers as fill one register, handled as one value inside a kernel.

With them a kernel does not depend on what a compiler can prove about loops. A vector has W lanes, `lanes(a)` for the
arrays that it is made from and goes to: 16 float32 or 8 float64 numbers with AVX-512, half with AVX, a quarter with SSE
and NEON. Arrays are C-contiguous, of any rank; an index i is flat, into the elements in a row. n counts lanes from the
first one; it may be above W, which is all of them, or below 1, which is none. Elements beyond are never touched.

    lanes(a)                    W, a constant
    vload(a, i)                 a[i … i+W−1]
    vload_n(a, i, n)            the first n of them, 0 in the other lanes
    vload_n_or(a, i, n, fill)   … `fill` in the other lanes
    vstore(a, i, v), vstore_n(a, i, v, n)
    vgather(a, i, stride, n)    lane l = a[i + l·stride] for l < n, else 0
    vscatter(a, i, stride, v, n)
    vset(a, x), vzero(a)        x, rounded to the dtype of a, or 0 in every lane

    x + y, −, *, /, −x          and +=, −=, *=, /=; one of the two may be a number, which is rounded to the dtype
    x < y, <=, >, >=, ==, !=    a mask: as in NumPy, NaN is not less, equal or greater
    m & k, m | k, ~m            of masks; vany(m), vall(m) are truth values
    vselect(m, x, y)            x where m, else y
    vfma(x, y, z)               x·y + z, in one rounding where the processor can (here and below, a number may stand
    vmax(x, y), vmin(x, y)      for a vector); NaN if either is, as np.maximum
    vabs, vsqrt, vfloor, vcopysign(x, y), visnan

    vsum(v)                     Σ lanes as a tree, upper half onto lower
    vsum64(v)                   the same in float64
    vmaxlane(v)                 the largest lane, NaN if one is

Accumulators are vectors of W float64 numbers whatever the dtype; operators and `vfma` take them like others.

    vwiden(v), vnarrow(a, w)    v in float64; w rounded to the dtype of a
    vacc_zero(a), vacc_add(acc, v), vacc_sum(acc)
    vacc_load(a, wide, i, n), vacc_store(acc, wide, i, n)   from and to a float64 array

The rest is for `vmath`. With t = k + 1.5·2^mantissa, where k is a whole number:

    vadd_exponent(x, t)         x·2ᵏ, where x and the result are normal numbers
    vexponent(x)                e of x = m·2ᵉ with √½ <= m < √2, for normal x > 0
    vsignificand(x)             m
    by_dtype(single, double)    makes a function: (x) -> the one that goes with the dtype of the vector x
    polynomial(single, double)  makes a function: (x) -> c₀ + c₁·x + c₂·x² + …, from the coefficients of its dtype

In plain Python (NUMBA_DISABLE_JIT=1) a vector is a NumPy array, and its operators warn as NumPy does: who
calls a body holds the warnings back.
"""

from __future__ import annotations

from .modes import PLAIN
from .simd_width import VECTOR_BYTES

if PLAIN:
    from .simd_plain import (
        by_dtype,
        lanes,
        polynomial,
        vabs,
        vacc_add,
        vacc_load,
        vacc_store,
        vacc_sum,
        vacc_zero,
        vadd_exponent,
        vall,
        vany,
        vcopysign,
        vexponent,
        vfloor,
        vfma,
        vgather,
        visnan,
        vload,
        vload_n,
        vload_n_or,
        vmax,
        vmaxlane,
        vmin,
        vnarrow,
        vscatter,
        vselect,
        vset,
        vsignificand,
        vsqrt,
        vstore,
        vstore_n,
        vsum,
        vsum64,
        vwiden,
        vzero,
    )
else:
    from .simd_memory import (
        lanes,
        vacc_add,
        vacc_load,
        vacc_store,
        vacc_sum,
        vacc_zero,
        vgather,
        vload,
        vload_n,
        vload_n_or,
        vnarrow,
        vscatter,
        vset,
        vstore,
        vstore_n,
        vzero,
    )
    from .simd_values import (
        by_dtype,
        polynomial,
        vabs,
        vadd_exponent,
        vall,
        vany,
        vcopysign,
        vexponent,
        vfloor,
        vfma,
        visnan,
        vmax,
        vmaxlane,
        vmin,
        vselect,
        vsignificand,
        vsqrt,
        vsum,
        vsum64,
        vwiden,
    )

__all__ = [
    "VECTOR_BYTES",
    "by_dtype",
    "lanes",
    "polynomial",
    "vabs",
    "vacc_add",
    "vacc_load",
    "vacc_store",
    "vacc_sum",
    "vacc_zero",
    "vadd_exponent",
    "vall",
    "vany",
    "vcopysign",
    "vexponent",
    "vfloor",
    "vfma",
    "vgather",
    "visnan",
    "vload",
    "vload_n",
    "vload_n_or",
    "vmax",
    "vmaxlane",
    "vmin",
    "vnarrow",
    "vscatter",
    "vselect",
    "vset",
    "vsignificand",
    "vsqrt",
    "vstore",
    "vstore_n",
    "vsum",
    "vsum64",
    "vwiden",
    "vzero",
]
