"""Elementary functions on the vectors of `simd`, in float32 and float64, and loops over arrays.

Each is within 3 ULP, the normal distribution within 6 (and x²/2 more where the processor has no multiply-add). One
text serves both dtypes: what differs, coefficients and limits, is picked by the type of x. The coefficients are
minimax: of each polynomial of its degree the one whose largest relative error over the reduced range is smallest.

NaN comes out as NaN, an infinity goes where mathematics sends it. Results below the smallest normal number may be 0.

    vexp(x), vexpm1(x)          eˣ, eˣ − 1
    vlog(x), vlog1p(x)          log x; log(1 + x) for x > −1
    vsigmoid(x), vtanh(x)       1/(1 + e⁻ˣ), tanh x
    vsoftplus(x)                log(1 + eˣ)
    vnormal_cdf(x), vnormal(x)  Φ(x) of the normal distribution; Φ(x) and its density φ(x)
    vsincos_2pi(u)              cos 2πu and sin 2πu for 0 <= u <= 1

    map1(f), map2(f)            bodies y = f(x) and out = f(a, b) over whole arrays; y or out may be one of the inputs
    map1_scalar(f), map2_scalar(f)   the same with a number after the arrays: y = f(x, α), out = f(a, b, α)
"""

from __future__ import annotations

from typing import Any

from .modes import PLAIN, jit
from .simd import (
    by_dtype,
    lanes,
    polynomial,
    vabs,
    vadd_exponent,
    vcopysign,
    vexponent,
    vfma,
    vload,
    vload_n,
    vmax,
    vselect,
    vset,
    vsignificand,
    vstore,
    vstore_n,
)
from .simd_plain import quiet

__all__ = [
    "map1",
    "map1_scalar",
    "map2",
    "map2_scalar",
    "vexp",
    "vexpm1",
    "vlog",
    "vlog1p",
    "vnormal",
    "vnormal_cdf",
    "vsigmoid",
    "vsincos_2pi",
    "vsoftplus",
    "vtanh",
]


def _inline(function: Any) -> Any:
    """`function` melted into the loops around it; the order of its roundings stays (see `simd_types`)."""
    return quiet(function) if PLAIN else jit(function, {"error_model": "numpy", "nogil": True, "forceinline": True})


# eˣ: x = k·log 2 + r with |r| <= ½·log 2, and eʳ = 1 + r + r²·Q(r).

_Q = polynomial(
    single=(0.500000006199992108, 0.166665429900668981, 0.0416662818724908739, 8.36658417060105437e-3,
            1.39464584744024185e-3),
    double=(0.500000000000000555, 0.166666666666666861, 0.0416666666665736229, 8.33333333331454725e-3,
            1.38888889323801574e-3, 1.98412699031134391e-4, 2.48015044439959267e-5, 2.75572278890804141e-6,
            2.76263273539260924e-7, 2.51144913108767748e-8),
)  # fmt: skip
_LOG2_E = 1.4426950408889634
# log 2 in two parts; the first is so short that k times it is exact
_LOG_2_HIGH = by_dtype(0.693359375, 0.6931471803691238)
_LOG_2_LOW = by_dtype(-2.1219444005469057e-4, 1.9082149292705877e-10)
_MAGIC = by_dtype(1.5 * 2**23, 1.5 * 2**52)  # the last bit of numbers of this size counts ones: adding it rounds
_EXP_MAX = by_dtype(88.72283, 709.782712893384)  # above, eˣ overflows
_EXP_MIN = by_dtype(-87.33654, -708.3964185322641)  # below, it is no normal number
_INF = float("inf")
_NAN = float("nan")


@_inline
def _reduce(x):
    """t = k + magic, and r"""
    t = vfma(x, _LOG2_E, _MAGIC(x))
    k = t - _MAGIC(x)
    return t, vfma(k, -_LOG_2_LOW(x), vfma(k, -_LOG_2_HIGH(x), x))


@_inline
def vexp(x):
    t, r = _reduce(x)
    y = vadd_exponent(vfma(vfma(_Q(r), r, 1.0), r, 1.0), t)
    y = vselect(x < _EXP_MIN(x), 0.0, y)
    return vselect(x <= _EXP_MAX(x), y, x * _INF)  # inf, or NaN


@_inline
def _half_expm1(x):
    """(eˣ − 1)/2 = 2ᵏ⁻¹·(eʳ − 1) + (2ᵏ⁻¹ − ½) for x below the overflow: half, since 2ᵏ may be too large"""
    x = vselect(x < -40.0, -40.0, x)
    t, r = _reduce(x)
    scale = vadd_exponent(0.5, t)
    return vfma(scale, vfma(_Q(r), r * r, r), scale - 0.5)


@_inline
def vexpm1(x):
    y = 2.0 * _half_expm1(x)
    return vselect(x <= _EXP_MAX(x), y, x * _INF)


# log x: x = 2ᵉ·(1 + f) with √½ <= 1 + f < √2, s = f/(2 + f), and log(1 + f) = 2·artanh s = 2s + s³·R(s²),
# written as f − (f²/2 − s·(f²/2 + s²·R)), where f has no rounding.

_R = polynomial(
    single=(0.666667764056335746, 0.399775370273173295, 0.298718731870490023),
    double=(0.666666666666673447, 0.399999999994142972, 0.285714287424789715, 0.222221985631318402,
            0.181835648831781153, 0.153140354369169655, 0.147961093361151599),
)  # fmt: skip
_LOG_2 = 0.6931471805599453
_TINY = by_dtype(2.0**-126, 2.0**-1022)
_MANTISSA = by_dtype(23.0, 52.0)
_NORMALISE = by_dtype(2.0**23, 2.0**52)
_ONE_VANISHES = by_dtype(2.0**30, 2.0**60)  # 1 + x = x from here on, at the latest


@_inline
def _log_of(e, f):
    s = f / (f + 2.0)
    z = s * s
    half = 0.5 * f * f
    return vfma(e, _LOG_2, f - (half - s * vfma(z, _R(z), half)))


@_inline
def vlog(x):
    small = x < _TINY(x)
    normal = vselect(small, x * _NORMALISE(x), x)
    e = vselect(small, vexponent(normal) - _MANTISSA(x), vexponent(normal))
    y = _log_of(e, vsignificand(normal) - 1.0)
    y = vselect(x < _INF, y, x)  # inf and NaN
    y = vselect(x == 0.0, -_INF, y)
    return vselect(x < 0.0, _NAN, y)


@_inline
def vlog1p(x):
    """1 + x = u + c, where u is rounded and c what the rounding left: f = (m − 1) + c·2⁻ᵉ"""
    u = x + 1.0
    c = x - (u - 1.0)
    e, f = vexponent(u), vsignificand(u) - 1.0
    f = vselect(x < _ONE_VANISHES(x), vfma(c, vadd_exponent(1.0, _MAGIC(x) - e), f), f)
    return vselect(x < _INF, _log_of(e, f), x)


# What is made of these.


@_inline
def vsigmoid(x):
    return 1.0 / (vexp(-x) + 1.0)


@_inline
def vtanh(x):
    """tanh |x| = −h/(1 + h), where h = (e^(−2|x|) − 1)/2"""
    h = _half_expm1(-2.0 * vabs(x))
    return vcopysign(h / (h + 1.0), x)


@_inline
def vsoftplus(x):
    """max(x, 0) + log(1 + e^−|x|)"""
    return vmax(x, 0.0) + vlog1p(vexp(-vabs(x)))


# Φ(−a) = e^(−a²/2)·G(a) for a >= 0, where G decays like 1/a: (a + 4)·G(a) is a polynomial of t = (a − 4)/(a + 4).

_H = polynomial(
    single=(0.7552851354586075395, -0.607896597153765019, 0.3871368898276517306, -0.1865232062820118165,
            0.06040414345219444157, -7.526726909462939626e-3, -3.514982341890389062e-3, 1.571858184693222432e-3,
            1.846292713462379237e-4, -1.295284642770037754e-4),
    double=(0.7552851304157514624, -0.6078966419718907595, 0.3871374007422230819, -0.1865218579597984923,
            0.06039657489053035768, -7.540188962433824027e-3, -3.47969235945903183e-3, 1.630818398367281558e-3,
            1.333442282831151903e-4, -2.310944895971738196e-4, -1.907710082845334821e-6, 3.514268713859891708e-5,
            7.143425782010958094e-7, -5.914621575387595126e-6, -6.231859355318970438e-7, 1.012054916906023023e-6,
            2.598730748680147207e-7, -1.455892938943841179e-7, -7.169689752825987208e-8, 9.110264398220600846e-9,
            1.067569465221071024e-8, 1.559662985308606847e-9),
)  # fmt: skip
_DENSITY_AT_0 = 0.3989422804014327  # 1/√(2π)
_TAIL = by_dtype(14.0, 39.0)  # from here on e^(−a²/2) is 0


@_inline
def _normal_tail(x):
    """e^(−x²/2), and Φ(−|x|)"""
    a = vabs(x)
    a = vselect(a > _TAIL(x), _TAIL(x), a)
    square = a * a
    lost = vfma(a, a, -square)  # the rounding of a², which the exponential would magnify by a²/2
    bell = vexp(-0.5 * square)
    bell = vfma(bell, -0.5 * lost, bell)
    inverse = 1.0 / (a + 4.0)
    return bell, bell * (_H((a - 4.0) * inverse) * inverse)


@_inline
def vnormal(x):
    bell, tail = _normal_tail(x)
    return vselect(x <= 0.0, tail, 1.0 - tail), bell * _DENSITY_AT_0


@_inline
def vnormal_cdf(x):
    _, tail = _normal_tail(x)
    return vselect(x <= 0.0, tail, 1.0 - tail)


# cos and sin of 2πu: u = q/4 + r with |r| <= 1/8.

_SIN = polynomial(  # sin 2πr = 2πr + r³·S(r²)
    single=(-41.3416723277838522, 81.5937645951932019, -75.4454705446111411),
    double=(-41.341702240399671, 81.6052492759651785, -76.7058597078875744, 42.058685391478798,
            -15.0938225952384014, 3.78122029619044964),
)  # fmt: skip
_COS = polynomial(  # cos 2πr = 1 + r²·C(r²)
    single=(-19.7392086815151173, 64.9393218255252007, -85.4432335771228863, 59.2291426952960385),
    double=(-19.739208802178717, 64.9393940226679846, -85.4568172065282056, 60.2446413293696555,
            -26.4262509256274256, 7.90309150497520363, -1.69683304108297092),
)  # fmt: skip
_TWO_PI = 6.283185307179586


@_inline
def vsincos_2pi(u):
    q = vfma(u, 4.0, _MAGIC(u)) - _MAGIC(u)
    r = vfma(q, -0.25, u)
    z = r * r
    s = vfma(r, _TWO_PI, r * (z * _SIN(z)))
    c = vfma(z, _COS(z), 1.0)
    odd = (q == 1.0) | (q == 3.0)
    cosine, sine = vselect(odd, s, c), vselect(odd, c, s)
    cosine = vselect((q == 1.0) | (q == 2.0), -cosine, cosine)
    return cosine, vselect((q == 2.0) | (q == 3.0), -sine, sine)


# Over whole arrays: full vectors, then one that is cut to what is left.


def _loop(body: Any) -> Any:
    return quiet(body) if PLAIN else jit(body)


def map1(f: Any) -> Any:
    """The body (x, y): y = f(x), where f is on vectors."""

    def body(x, y):
        end = x.size - x.size % lanes(x)
        for i in range(0, end, lanes(x)):
            vstore(y, i, f(vload(x, i)))
        if end < x.size:
            vstore_n(y, end, f(vload_n(x, end, x.size - end)), x.size - end)

    return _loop(body)


def map2(f: Any) -> Any:
    """The body (a, b, out): out = f(a, b)."""

    def body(a, b, out):
        end = a.size - a.size % lanes(a)
        for i in range(0, end, lanes(a)):
            vstore(out, i, f(vload(a, i), vload(b, i)))
        if end < a.size:
            n = a.size - end
            vstore_n(out, end, f(vload_n(a, end, n), vload_n(b, end, n)), n)

    return _loop(body)


def map1_scalar(f: Any) -> Any:
    """The body (x, y, alpha): y = f(x, α), where f gets α in every lane of a vector."""

    def body(x, y, alpha):
        every = vset(x, alpha)
        end = x.size - x.size % lanes(x)
        for i in range(0, end, lanes(x)):
            vstore(y, i, f(vload(x, i), every))
        if end < x.size:
            vstore_n(y, end, f(vload_n(x, end, x.size - end), every), x.size - end)

    return _loop(body)


def map2_scalar(f: Any) -> Any:
    """The body (a, b, out, alpha): out = f(a, b, α), where f gets α in every lane of a vector."""

    def body(a, b, out, alpha):
        every = vset(a, alpha)
        end = a.size - a.size % lanes(a)
        for i in range(0, end, lanes(a)):
            vstore(out, i, f(vload(a, i), vload(b, i), every))
        if end < a.size:
            n = a.size - end
            vstore_n(out, end, f(vload_n(a, end, n), vload_n(b, end, n), every), n)

    return _loop(body)
