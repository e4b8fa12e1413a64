"""Explicit vectors of the Numba backend: memory, operators, elementary functions, in every mode and at every width."""

from __future__ import annotations

import ctypes
import importlib
import mmap
import os
import platform
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

numba = pytest.importorskip("numba")
modes = importlib.import_module("nnfast.kernels.numba_cpu.modes")
simd = importlib.import_module("nnfast.kernels.numba_cpu.simd")
vmath = importlib.import_module("nnfast.kernels.numba_cpu.vmath")
width = importlib.import_module("nnfast.kernels.numba_cpu.simd_width")
jit = modes.jit

compiled = pytest.mark.skipif(modes.PLAIN, reason="nothing is compiled here")
FUSED = width.HAS_FMA and not modes.PLAIN
LONG = np.longdouble
HOSTILE = [0.0, -0.0, 1.0, -1.5, np.nan, np.inf, -np.inf, 1e-40, -1e-40, 3.3e38, -3.3e38, 7.0]


@pytest.fixture(autouse=True)
def _quiet():
    """In plain Python the operators are NumPy's, and whoever calls a body holds its warnings back."""
    with np.errstate(all="ignore"):
        yield


def width_of(dtype):
    return simd.VECTOR_BYTES // dtype.itemsize


def hostile(dtype, shift=0):
    """Vectors of awkward values: as many lanes as a multiple of W has."""
    return np.resize(np.roll(np.array(HOSTILE, dtype), shift), 48)


# ---- memory ---------------------------------------------------------------------------------------------------------


@jit
def copy(a, i, out, k):
    simd.vstore(out, k, simd.vload(a, i))


@jit
def load_n(a, i, n, fill, out):
    w = simd.lanes(a)
    simd.vstore(out, 0, simd.vload_n(a, i, n))
    simd.vstore(out, w, simd.vload_n_or(a, i, n, fill))


@jit
def store_n(source, a, i, n):
    simd.vstore_n(a, i, simd.vload(source, 0), n)


@jit
def gather(a, i, stride, n, out):
    simd.vstore(out, 0, simd.vgather(a, i, stride, n))


@jit
def scatter(source, a, i, stride, n):
    simd.vscatter(a, i, stride, simd.vload(source, 0), n)


@jit
def every(a, x, out):
    w = simd.lanes(a)
    simd.vstore(out, 0, simd.vset(a, x))
    simd.vstore(out, w, simd.vzero(a))
    return w


def test_full_loads_and_stores_at_any_index_and_rank(rng, dtype):
    w = width_of(dtype)
    a = rng.standard_normal((3, 2, 16)).astype(dtype)
    for i in (0, 1, 5, a.size - w):
        out = np.full((4, 12), 77, dtype)
        copy(a, i, out, 3)
        expected = np.full(48, 77, dtype)
        expected[3 : 3 + w] = a.ravel()[i : i + w]
        assert np.array_equal(out.ravel(), expected)


def test_the_first_n_lanes(rng, dtype):
    w = width_of(dtype)
    a, source = rng.standard_normal((2, 40)).astype(dtype)
    for n in [-(2**40), -1, *range(w + 1), w + 1, 2**32, 2**62]:
        count = min(max(n, 0), w)
        out = np.full(2 * w, 77, dtype)
        load_n(a, 3, n, -0.1, out)
        expected = np.zeros((2, w), dtype)
        expected[1] = -0.1
        expected[:, :count] = a[3 : 3 + count]
        assert np.array_equal(out, expected.ravel()), n
        stored = np.full(w + 4, 77, dtype)
        store_n(source, stored, 2, n)
        expected = np.full(w + 4, 77, dtype)
        expected[2 : 2 + count] = source[:count]
        assert np.array_equal(stored, expected), n


@pytest.mark.parametrize("stride", [0, 1, 2, 5, -3])
def test_gather_and_scatter(rng, dtype, stride):
    w = width_of(dtype)
    a, source = rng.standard_normal((2, 130)).astype(dtype)
    for n in [-5, *range(w + 1), w + 3]:
        lanes = np.arange(min(max(n, 0), w))
        out = np.full(w, 77, dtype)
        gather(a, 50, stride, n, out)
        expected = np.zeros(w, dtype)
        expected[lanes] = a[50 + lanes * stride]
        assert np.array_equal(out, expected), n
        stored = np.full(130, 77, dtype)
        scatter(source, stored, 50, stride, n)
        expected = np.full(130, 77, dtype)
        for lane in lanes:
            expected[50 + lane * stride] = source[lane]
        assert np.array_equal(stored, expected), n


@compiled
@pytest.mark.skipif(not hasattr(mmap, "PROT_READ"), reason="needs pages that can be closed")
def test_nothing_beyond_the_last_element_is_touched(dtype):
    """An array that ends where the readable memory ends: one element too many would be a segmentation fault."""
    w = width_of(dtype)
    pages = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    first = np.frombuffer(pages, dtype, mmap.PAGESIZE // dtype.itemsize)
    libc = ctypes.CDLL(None)
    closed = ctypes.c_void_p(first.ctypes.data + mmap.PAGESIZE)
    assert libc.mprotect(closed, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    try:
        for n in range(w + 1):
            a = first[first.size - n :]
            a[...] = 3
            out = np.empty(2 * w, dtype)
            load_n(a, 0, n, 0.0, out)
            store_n(out, a, 0, n)
            gather(a, 0, 1, n, out)
            scatter(out, a, 0, 1, n)
            assert (a == 3).all()
            assert np.count_nonzero(out[:w]) == n
    finally:
        libc.mprotect(closed, ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_WRITE)


@pytest.mark.skipif(modes.COMPILED, reason="compiled kernels have no bounds checks")
def test_indices_out_of_bounds_are_errors(dtype):
    w = width_of(dtype)
    a, source, out = np.zeros(20, dtype), np.ones(16, dtype), np.zeros(40, dtype)
    calls = [
        *((copy, (a, i, out, 0)) for i in (-1, 21 - w, 20)),
        *((copy, (source, 0, a, i)) for i in (-1, 21 - w, 20)),
        *((load_n, (a, i, 2, 0.0, out)) for i in (-1, 19)),
        (load_n, (a, 21 - w, 2**40, 0.0, out)),
        *((store_n, (source, a, i, 2)) for i in (-1, 19)),
        *((gather, (a, i, stride, 2, out)) for i, stride in ((-1, 1), (15, 5), (2, -3), (20, -1))),
        *((scatter, (source, a, i, stride, 2)) for i, stride in ((-1, 1), (15, 5), (2, -3), (20, -1))),
    ]
    for function, arguments in calls:
        with pytest.raises(IndexError):
            function(*arguments)
    assert not a.any(), "the check comes before the first write"
    load_n(a, 99, 0, 0.0, out)
    store_n(source, a, -99, -1)
    gather(a, 99, 1, 0, out)
    scatter(source, a, 99, 1, 0)
    copy(a, 20 - w, out, 0)


def test_numbers_are_rounded_to_the_dtype_of_the_array(dtype):
    w = width_of(dtype)
    for x in (0.1, np.float64(1e-50), np.float32(0.1), 3, np.nan, -np.inf):
        out = np.full(2 * w, 77, dtype)
        assert every(out, x, out) == w
        assert np.array_equal(out[:w], np.full(w, x, dtype), equal_nan=True)
        assert not out[w:].any()


@compiled
@pytest.mark.parametrize(
    ("a", "source"),
    [
        (np.zeros(40, np.float32), np.zeros(40)),
        (np.zeros(40), np.zeros(40, np.float32)),
        (np.zeros(80)[::2], np.zeros(40)),
        (np.zeros((40, 2)).T, np.zeros(40)),
        (np.broadcast_to(np.zeros(40), (1, 40))[0], np.zeros(40)),
        (np.zeros(40, int), np.zeros(40)),
    ],
    ids=["narrow", "wide", "strided", "transposed", "read-only", "integer"],
)
def test_what_cannot_be_stored_into_does_not_compile(a, source):
    if source.flags.c_contiguous and a.flags.c_contiguous and a.dtype == source.dtype:
        a.flags.writeable = False
    with pytest.raises(numba.core.errors.TypingError):
        store_n(source, a, 0, 1)


# ---- operators ------------------------------------------------------------------------------------------------------


@jit
def arithmetic(a, b, s, out):
    w = simd.lanes(a)
    x, y = simd.vload(a, 0), simd.vload(b, 0)
    simd.vstore(out, 0, x + y)
    simd.vstore(out, w, x - y)
    simd.vstore(out, 2 * w, x * y)
    simd.vstore(out, 3 * w, x / y)
    simd.vstore(out, 4 * w, -x)
    simd.vstore(out, 5 * w, x + s)
    simd.vstore(out, 6 * w, s - x)
    simd.vstore(out, 7 * w, x * 0.1)
    simd.vstore(out, 8 * w, 3 / x)
    z = simd.vload(a, 0)
    z += y
    z *= 0.3
    z -= x
    z /= s
    simd.vstore(out, 9 * w, z)
    simd.vstore(out, 10 * w, simd.vmax(x, y))
    simd.vstore(out, 11 * w, simd.vmin(x, y))
    simd.vstore(out, 12 * w, simd.vmax(x, 0.0))
    simd.vstore(out, 13 * w, simd.vmin(0.5, x))


@jit
def unary(a, b, out):
    w = simd.lanes(a)
    x, y = simd.vload(a, 0), simd.vload(b, 0)
    simd.vstore(out, 0, simd.vabs(x))
    simd.vstore(out, w, simd.vsqrt(x))
    simd.vstore(out, 2 * w, simd.vfloor(x))
    simd.vstore(out, 3 * w, simd.vcopysign(x, y))
    simd.vstore(out, 4 * w, simd.vcopysign(2.0, y))
    simd.vstore(out, 5 * w, simd.vselect(simd.visnan(x), 1.0, x))


@jit
def masks(a, b, out):
    w = simd.lanes(a)
    x, y = simd.vload(a, 0), simd.vload(b, 0)
    simd.vstore(out, 0, simd.vselect(x < y, x, y))
    simd.vstore(out, w, simd.vselect(x <= y, x, 0.25))
    simd.vstore(out, 2 * w, simd.vselect(x > y, 4.0, y))
    one = simd.vset(a, 1.0)
    simd.vstore(out, 3 * w, simd.vselect(x >= y, one, 0))
    simd.vstore(out, 4 * w, simd.vselect(x == y, one, 0))
    simd.vstore(out, 5 * w, simd.vselect(x != y, one, 0))
    simd.vstore(out, 6 * w, simd.vselect(x < 1.0, one, 0))
    simd.vstore(out, 7 * w, simd.vselect((x < y) & (x < 0.0), one, 0))
    simd.vstore(out, 8 * w, simd.vselect((x < y) | ~(x > 0.0), one, 0))
    return simd.vany(x == 7.0), simd.vall(x != 7.0), simd.vall(x == x), simd.vany(x < x)


def same(got, want):
    """Equal, or both NaN; and the same sign of 0 except where NumPy does not promise one."""
    assert np.array_equal(got, want, equal_nan=True), (got, want)


@pytest.mark.parametrize("shift", range(0, 12, 2))
def test_operators_are_numpys(dtype, shift):
    w = width_of(dtype)
    for start in range(0, 48, w):
        x, y = hostile(dtype)[start : start + w], hostile(dtype, shift + 1)[start : start + w]
        out = np.empty((14, w), dtype)
        s = dtype.type(0.7)
        arithmetic(x, y, s, out)
        z = ((x + y) * dtype.type(0.3) - x) / s
        tenth, three = dtype.type(0.1), dtype.type(3)
        same(out[:9], np.stack([x + y, x - y, x * y, x / y, -x, x + s, s - x, x * tenth, three / x]))
        np.testing.assert_allclose(out[9], z, rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)
        same(out[10:], [np.maximum(x, y), np.minimum(x, y), np.maximum(x, 0), np.minimum(x, dtype.type(0.5))])
        assert np.array_equal(np.signbit(out[4][x == x]), np.signbit(-x[x == x]))
        unary(x, y, out)
        same(out[:3], [np.abs(x), np.sqrt(x), np.floor(x)])
        same(out[5], np.where(np.isnan(x), 1, x))
        number = ~np.isnan(y)
        same(out[3:5, number], [np.copysign(x, y)[number], np.copysign(dtype.type(2), y)[number]])


@pytest.mark.parametrize("shift", range(0, 12, 3))
def test_comparisons_and_masks_are_numpys(dtype, shift):
    w = width_of(dtype)
    for start in range(0, 48, w):
        x, y = hostile(dtype)[start : start + w], hostile(dtype, shift)[start : start + w]
        out = np.empty((9, w), dtype)
        facts = masks(x, y, out)
        same(out[:3], [np.where(x < y, x, y), np.where(x <= y, x, 0.25), np.where(x > y, 4, y)])
        same(out[3:7], [x >= y, x == y, x != y, x < 1])
        same(out[7:], [(x < y) & (x < 0), (x < y) | ~(x > 0)])
        assert facts == (bool((x == 7).any()), bool((x != 7).all()), bool((x == x).all()), False)


@jit
def multiply_add(a, b, c, out):
    w = simd.lanes(a)
    x, y, z = simd.vload(a, 0), simd.vload(b, 0), simd.vload(c, 0)
    simd.vstore(out, 0, simd.vfma(x, y, z))
    simd.vstore(out, w, simd.vfma(x, 0.5, 2))
    simd.vstore(out, 2 * w, simd.vfma(3.0, x, z))


def test_multiply_add(rng, dtype):
    """With z = −round(x·y) the result is the rounding itself, exactly, where the processor has the instruction."""
    w = width_of(dtype)
    x, y = rng.standard_normal((2, w)).astype(dtype)
    z = -(x * y)
    out = np.empty((3, w), dtype)
    multiply_add(x, y, z, out)
    exact = [
        float(Fraction(float(p)) * Fraction(float(q)) + Fraction(float(r))) for p, q, r in zip(x, y, z, strict=True)
    ]
    assert any(exact)
    same(out[0], np.array(exact, dtype) if FUSED else np.zeros(w, dtype))
    np.testing.assert_allclose(out[1:], [x * 0.5 + 2, 3 * x + z], rtol=8 * np.finfo(dtype).eps)


@jit
def round_to_whole(a, magic, out):
    x = simd.vload(a, 0)
    simd.vstore(out, 0, (x + magic) - magic)
    simd.vstore(out, simd.lanes(a), x + (magic - x))


def test_roundings_are_not_optimised_away(rng, dtype):
    """The surrounding function has the flag "reassoc", which would turn the first into x and the second into magic."""
    w = width_of(dtype)
    x = (100 * rng.standard_normal(w)).astype(dtype)
    magic = dtype.type(1.5 * 2.0 ** np.finfo(dtype).nmant)
    out = np.empty((2, w), dtype)
    round_to_whole(x, magic, out)
    same(out, [np.rint(x), x + (magic - x)])
    assert (out[0] != x).any()


# ---- over the lanes -------------------------------------------------------------------------------------------------


@jit
def fold(a):
    v = simd.vload(a, 0)
    return simd.vsum(v), simd.vsum64(v), simd.vmaxlane(v)


@jit
def accumulate(a, times, wide, n):
    acc = simd.vacc_load(a, wide, 1, n)
    for _ in range(times):
        acc = simd.vacc_add(acc, simd.vload(a, 0))
    simd.vacc_store(acc, wide, 1, n)
    return simd.vacc_sum(acc - simd.vacc_zero(a))


@jit
def widen(a, out):
    v = simd.vwiden(simd.vload(a, 0))
    simd.vstore(out, 0, simd.vnarrow(out, simd.vfma(v, v, 1.0)))


def tree(v):
    while v.size > 1:
        v = v[: v.size // 2] + v[v.size // 2 :]
    return v[0]


def test_sums_and_maxima_over_the_lanes(rng, dtype):
    w = width_of(dtype)
    v = (rng.standard_normal(w) * 10.0 ** rng.integers(-6, 6, w)).astype(dtype)
    total, total64, largest = fold(v)
    assert total == tree(v)
    assert total64 == tree(v.astype(np.float64))
    assert largest == v.max()
    for lane in range(w):
        one = np.full(w, -3, dtype)
        one[lane] = 5
        assert fold(one) == (5 - 3 * (w - 1), 5 - 3 * (w - 1), 5)
        one[lane] = np.nan
        assert np.isnan(fold(one)).all()
        assert fold(np.full(w, -np.inf, dtype)) == (-np.inf, -np.inf, -np.inf)


def test_accumulators_are_float64(rng, dtype):
    w = width_of(dtype)
    v = rng.standard_normal(w).astype(dtype)
    v[0] = 2.0**20
    for n in [-1, *range(w + 1), w + 2]:
        count = min(max(n, 0), w)
        wide = rng.standard_normal(w + 3)
        start = np.zeros(w)
        start[:count] = wide[1 : 1 + count]
        expected = wide.copy()
        expected[1 : 1 + count] += 1000 * v[:count].astype(np.float64)
        total = accumulate(v, 1000, wide, n)
        np.testing.assert_allclose(wide, expected, rtol=1e-13)
        np.testing.assert_allclose(total, (start + 1000 * v.astype(np.float64)).sum(), rtol=1e-13)


def test_widening_and_narrowing(rng, dtype):
    v = rng.standard_normal(width_of(dtype)).astype(dtype)
    out = np.empty_like(v)
    widen(v, out)
    np.testing.assert_allclose(
        out, v.astype(np.float64) ** 2 + 1, rtol=np.finfo(dtype).eps * (0.51 if dtype == np.float32 else 1.01)
    )


# ---- elementary functions -------------------------------------------------------------------------------------------

NAMES = ["vexp", "vexpm1", "vlog", "vlog1p", "vsigmoid", "vtanh", "vsoftplus", "vnormal_cdf"]


@jit
def all_functions(x, y):
    """Row r of y, one row after the other: function r of x."""
    n = x.size
    for i in range(0, n, simd.lanes(x)):
        v = simd.vload(x, i)
        simd.vstore(y, i, vmath.vexp(v))
        simd.vstore(y, n + i, vmath.vexpm1(v))
        simd.vstore(y, 2 * n + i, vmath.vlog(v))
        simd.vstore(y, 3 * n + i, vmath.vlog1p(v))
        simd.vstore(y, 4 * n + i, vmath.vsigmoid(v))
        simd.vstore(y, 5 * n + i, vmath.vtanh(v))
        simd.vstore(y, 6 * n + i, vmath.vsoftplus(v))
        simd.vstore(y, 7 * n + i, vmath.vnormal_cdf(v))
        cdf, density = vmath.vnormal(v)
        simd.vstore(y, 8 * n + i, cdf)
        simd.vstore(y, 9 * n + i, density)
        cosine, sine = vmath.vsincos_2pi(v)
        simd.vstore(y, 10 * n + i, cosine)
        simd.vstore(y, 11 * n + i, sine)


def apply_all(x):
    """All functions at all points, by name."""
    n = -(-x.size // 16) * 16
    y = np.empty((12, n), x.dtype)
    all_functions(np.resize(x, n), y)
    return dict(zip([*NAMES, "cdf", "density", "cosine", "sine"], y[:, : x.size], strict=True))


def normal_cdf(x):
    """Φ in extended precision: a series of positive terms near 0, a continued fraction in the tail."""
    a = np.abs(x)
    density = np.exp(-a * a / 2) / np.sqrt(2 * PI)
    term, series = a.copy(), a.copy()
    for k in range(3, 121, 2):
        term = term * a * a / k
        series = series + term
    fraction = a.copy()
    for k in range(120, 0, -1):
        fraction = a + k / fraction
    tail = np.where(a < 2.5, LONG(0.5) - density * series, density / fraction)
    return np.where(x <= 0, tail, 1 - tail)


PI = LONG("3.14159265358979323846264338327950288")


def quarter_turns(u, shift):
    """cos(2πu − shift·π/2), through the nearest quarter, where the argument is exact."""
    q = np.rint(4 * u)
    r = 2 * PI * (u - q / 4)
    return np.choose((q.astype(int) - shift) % 4, [np.cos(r), -np.sin(r), -np.cos(r), np.sin(r)])


# name: the function in extended precision, its domain, the limit in ULP
EXACT = {
    "vexp": (np.exp, (-np.inf, np.inf), 1.5),
    "vexpm1": (np.expm1, (-np.inf, np.inf), 2.5),
    "vlog": (np.log, (0, np.inf), 1.5),
    "vlog1p": (np.log1p, (-0.999, np.inf), 2.5),
    "vsigmoid": (lambda x: 1 / (1 + np.exp(-x)), (-np.inf, np.inf), 3),
    "vtanh": (np.tanh, (-np.inf, np.inf), 3),
    "vsoftplus": (lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), (-np.inf, np.inf), 3),
    "vnormal_cdf": (normal_cdf, (-np.inf, np.inf), 6),
    "cdf": (normal_cdf, (-np.inf, np.inf), 6),
    "density": (lambda x: np.exp(-x * x / 2) / np.sqrt(2 * PI), (-np.inf, np.inf), 4),
    "cosine": (lambda u: quarter_turns(u, 0), (0, 1), 1.2 if FUSED else 2.5),
    "sine": (lambda u: quarter_turns(u, 1), (0, 1), 1.2 if FUSED else 2.5),
}


def points(rng, dtype):
    """Dense where the functions bend, and the neighbours of every place where the code changes its mind."""
    finfo = np.finfo(dtype)
    n = 500 if modes.PLAIN else 12_000
    edge = np.log(float(finfo.max))
    seams = [
        *(0, 1, finfo.eps, 0.5, 2, -40, 40, -1, 20, 2.0**30, 2.0**60, np.sqrt(0.5), np.sqrt(2), *np.arange(1, 8) / 8),
        *(edge, -edge, np.log(float(finfo.tiny)), -np.log(float(finfo.tiny)), 14, -14, 39, -39, finfo.tiny, finfo.max),
        *((k + 0.5) * np.log(2) for k in (-126, -20, -2, -1, 0, 1, 2, 20, 126)),
    ]
    near = [s + np.spacing(dtype.type(s)) * np.arange(-20, 21) for s in np.array(seams, dtype)]
    return np.concatenate(
        [
            *near,
            rng.uniform(-edge, edge, n),
            3 * rng.standard_normal(n),
            rng.uniform(0, 1, n),
            rng.uniform(-12, 6, n),
            rng.choice([-1, 1], n) * np.exp(rng.uniform(np.log(float(finfo.tiny)), edge, n)),
        ]
    ).astype(dtype)


def test_elementary_functions_against_extended_precision(rng, dtype):
    finfo = np.finfo(dtype)
    x = points(rng, dtype)
    long = x.astype(LONG)
    # Where long double is no longer than double, the reference has roundings of its own.
    slack = 0 if np.finfo(LONG).eps < 1e-18 or dtype == np.float32 else 2
    cdf = normal_cdf(long)
    for name, got in apply_all(x).items():
        exact, (low, high), limit = EXACT[name]
        want = cdf if exact is normal_cdf else exact(long)
        rounded = want.astype(dtype)
        inside = (x >= low) & (x <= high) & np.isfinite(rounded)
        unit = np.maximum(np.spacing(np.abs(rounded)), finfo.tiny * finfo.eps)
        allowed = (limit + slack) * unit + np.where(np.abs(want) < 4 * finfo.tiny, finfo.tiny, 0)
        if name in ("vnormal_cdf", "cdf", "density") and not FUSED:
            allowed = allowed + x.astype(np.float64) ** 2 / 2 * unit  # the exponential magnifies the rounding of x²
        error = np.abs(got.astype(LONG) - want)
        bad = inside & ~(error <= allowed)
        assert not bad.any(), f"{name}({x[bad][:4]!r}) = {got[bad][:4]!r}, exactly {want[bad][:4]!r}"
        overflowed = (x >= low) & np.isinf(rounded)
        same(got[overflowed], rounded[overflowed])
        assert inside.sum() > 100


def test_nan_infinities_and_zeros(dtype):
    inf, nan = np.inf, np.nan
    payload = np.array([nan], dtype)
    payload.view(f"u{dtype.itemsize}")[0] += 0x1FF  # a NaN that carries something in its low bits
    x = np.array([nan, -nan, payload[0], inf, -inf, 0.0, -0.0, -3.0], dtype)
    x[2:3] = payload
    want = {
        "vexp": [inf, 0, 1, 1],
        "vexpm1": [inf, -1, 0, 0],
        "vlog": [inf, nan, -inf, -inf, nan],
        "vlog1p": [inf, None, 0, 0],
        "vsigmoid": [1, 0, 0.5, 0.5],
        "vtanh": [1, -1, 0, -0.0],
        "vsoftplus": [inf, 0, np.log(2), np.log(2)],
        "vnormal_cdf": [1, 0, 0.5, 0.5],
        "cdf": [1, 0, 0.5, 0.5],
        "density": [0, 0, 1 / np.sqrt(2 * np.pi), 1 / np.sqrt(2 * np.pi)],
        "cosine": [nan, nan, 1, 1],
        "sine": [nan, nan, 0, 0],
    }
    for name, got in apply_all(x).items():
        assert np.isnan(got[:3]).all(), name
        for value, expected in zip(got[3:], want[name], strict=False):
            if expected is not None:
                np.testing.assert_allclose(value, expected, rtol=2 * np.finfo(dtype).eps, err_msg=name)
    assert np.signbit(apply_all(x)["vtanh"][6])


# ---- loops over arrays ----------------------------------------------------------------------------------------------


@jit
def twice(v):
    return v + v


@jit
def difference(v, u):
    return v - u


@jit
def scaled(v, alpha):
    return v * alpha


@jit
def mixed(v, u, alpha):
    return v + u * alpha


LOOPS = (vmath.map1(twice), vmath.map2(difference), vmath.map1_scalar(scaled), vmath.map2_scalar(mixed))


def test_loops_over_arrays_of_any_size(rng, dtype):
    map1, map2, map1_scalar, map2_scalar = LOOPS
    w = width_of(dtype)
    for shape in [(0, 5), (1, 1), (1, w - 1), (w, 1), (1, w + 1), (3, 7), (2, 3 * w), (1, 2 * w + 3)]:
        a, b = rng.standard_normal((2, *shape)).astype(dtype)
        fence = np.full(a.size + 64, 77, dtype)
        out = fence[32 : 32 + a.size].reshape(shape)
        map1(a, out)
        assert np.array_equal(out, a + a)
        map2(a, b, out)
        assert np.array_equal(out, a - b)
        map1_scalar(a, out, 0.1)
        assert np.array_equal(out, a * dtype.type(0.1))
        map2_scalar(a, b, out, 2.0)
        assert np.array_equal(out, a + b * 2)
        assert (fence[:32] == 77).all()
        assert (fence[-32:] == 77).all()
        c = a.copy()
        map2_scalar(c, b, c, 2.0)
        assert np.array_equal(c, a + b * 2)
        map1(b, b)


@pytest.mark.skipif(modes.PLAIN or platform.machine() not in ("x86_64", "AMD64"), reason="reads x86 instructions")
@pytest.mark.skipif(not width.HAS_FMA, reason="reads AVX instructions")
def test_the_loop_is_made_of_packed_instructions():
    loop = vmath.map1(vmath.vexp)
    loop = getattr(loop, "from_python", loop)
    loop(np.ones(9, np.float32), np.ones(9, np.float32))
    (asm,) = loop.inspect_asm().values()
    widest = 64 if "avx512f" in width._FEATURES else 32  # wider vectors than that are split
    register = {64: "%zmm", 32: "%ymm", 16: "%xmm"}[min(simd.VECTOR_BYTES, widest)]
    fused = [line for line in asm.splitlines() if line.split()[:1] and line.split()[0].startswith("vfm")]
    assert len(fused) >= 16, "two copies of a loop body with eight multiply-adds"
    assert all(register in line and "ps" in line.split()[0] for line in fused)
    assert "expf" not in asm


# ---- widths and modes -----------------------------------------------------------------------------------------------


def test_the_width_follows_the_processor(monkeypatch):
    monkeypatch.delenv("NNFAST_VECTOR_BYTES", raising=False)
    for features, expected in {"avx512f avx2 avx": 64, "avx2 avx fma": 32, "avx": 32, "sse2": 16, "neon": 16}.items():
        assert width._vector_bytes(frozenset(features.split())) == expected
    monkeypatch.setenv("NNFAST_VECTOR_BYTES", "32")
    assert width._vector_bytes(frozenset()) == 32
    for wrong in ("8", "0x10", ""):
        monkeypatch.setenv("NNFAST_VECTOR_BYTES", wrong)
        with pytest.raises(ValueError, match="16, 32 or 64"):
            width._vector_bytes(frozenset())


MODES = {
    "plain": {"NUMBA_DISABLE_JIT": "1"},
    "checked, 16 bytes": {"NUMBA_BOUNDSCHECK": "1", "NNFAST_VECTOR_BYTES": "16"},
    "32 bytes": {"NNFAST_VECTOR_BYTES": "32"},
    "64 bytes": {"NNFAST_VECTOR_BYTES": "64"},
    "no multiply-add": {"NUMBA_CPU_NAME": "generic"},
}
OURS = {"NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK", "NNFAST_VECTOR_BYTES", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"}


@pytest.mark.parametrize("other", [pytest.param(m, marks=[pytest.mark.slow] if m != "plain" else []) for m in MODES])
def test_the_same_in_other_modes(other):
    """All of the above once more, in a process of its own."""
    if modes.COMPILED and MODES[other] == {"NNFAST_VECTOR_BYTES": str(simd.VECTOR_BYTES)}:
        pytest.skip("that is this process")
    environ = {name: value for name, value in os.environ.items() if name not in OURS} | MODES[other]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", "not other_modes", __file__]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
