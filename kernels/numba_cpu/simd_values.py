"""Vectors compiled, the part without memory: each function is a few LLVM instructions, put where it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, errors, types
from numba.extending import intrinsic

from .simd_types import FLAGS, Mask, Vec, as_lanes, common_vec
from .simd_width import HAS_FMA

_I32 = ir.IntType(32)


def _want_vec(*kinds: Any) -> Vec:
    vec = common_vec(kinds)
    if vec is None:
        raise errors.TypingError(f"expected vectors of one type, and numbers; got {kinds}")
    return vec


def llvm_name(kind: Any) -> str:
    """How LLVM names a vector type in the name of a function."""
    return f"v{kind.count}f{32 if kind.element == ir.FloatType() else 64}"


def _elementwise(name: str, count: int, emit: Any, result: Callable[[Vec], Any] = lambda vec: vec) -> Any:
    """An intrinsic of `count` vectors, some of which may be numbers: emit(builder, *vectors)."""

    def typed(*kinds: Any) -> Any:
        vec = _want_vec(*kinds)

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            vectors = [as_lanes(context, builder, a, kind, vec) for a, kind in zip(args, kinds, strict=True)]
            return emit(builder, *vectors)

        return result(vec)(*kinds), code

    # Numba reads the parameters off the function, so each count has its own.
    forms: list[Callable[..., Any]] = [
        lambda typing, x: typed(x),
        lambda typing, x, y: typed(x, y),
        lambda typing, x, y, z: typed(x, y, z),
    ]
    form = forms[count - 1]
    form.__name__ = name
    return intrinsic(form)


def _call(name: str) -> Callable[..., Any]:
    """The LLVM function of that name on vectors."""

    def emit(builder: Any, *vectors: Any) -> Any:
        kind = vectors[0].type
        signature = ir.FunctionType(kind, [kind] * len(vectors))
        function = cgutils.get_or_insert_function(builder.module, signature, f"{name}.{llvm_name(kind)}")
        return builder.call(function, vectors)

    return emit


def _fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """In one rounding where the processor can; elsewhere LLVM would call the C library lane by lane."""
    if HAS_FMA:
        return _call("llvm.fma")(builder, x, y, z)
    return builder.fadd(builder.fmul(x, y, flags=FLAGS), z, flags=FLAGS)


def _extreme(sign: str) -> Callable[..., Any]:
    """y unless x is beyond it or NaN; a comparison with a NaN in y is false, so y carries it on."""

    def emit(builder: Any, x: Any, y: Any) -> Any:
        chosen = builder.select(builder.fcmp_ordered(sign, x, y), x, y)
        return builder.select(builder.fcmp_unordered("uno", x, x), x, chosen)

    return emit


vfma = _elementwise("vfma", 3, _fma)
vmax = _elementwise("vmax", 2, _extreme(">"))
vmin = _elementwise("vmin", 2, _extreme("<"))
vabs = _elementwise("vabs", 1, _call("llvm.fabs"))
vsqrt = _elementwise("vsqrt", 1, _call("llvm.sqrt"))
vfloor = _elementwise("vfloor", 1, _call("llvm.floor"))
vcopysign = _elementwise("vcopysign", 2, _call("llvm.copysign"))
visnan = _elementwise("visnan", 1, lambda builder, x: builder.fcmp_unordered("uno", x, x), lambda vec: Mask(vec.lanes))


@intrinsic
def vselect(typing: Any, mask: Any, x: Any, y: Any) -> Any:
    vec = _want_vec(x, y)
    if mask != Mask(vec.lanes):
        raise errors.TypingError(f"cannot choose between lanes of {vec} by {mask}")

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        chosen = [as_lanes(context, builder, a, kind, vec) for a, kind in zip(args[1:], (x, y), strict=True)]
        return builder.select(args[0], *chosen)

    return vec(mask, x, y), code


def _over_mask(whole: Callable[[int], int], sign: str) -> Any:
    @intrinsic
    def over(typing: Any, mask: Any) -> Any:
        if not isinstance(mask, Mask):
            raise errors.TypingError(f"expected a mask, got {mask}")
        bits = ir.IntType(mask.lanes)

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.icmp_unsigned(sign, builder.bitcast(args[0], bits), bits(whole(mask.lanes)))

        return types.boolean(mask), code

    return over


vany = _over_mask(lambda lanes: 0, "!=")
vall = _over_mask(lambda lanes: (1 << lanes) - 1, "==")


# Over the lanes.


def _fold(builder: Any, v: Any, combine: Callable[..., Any]) -> Any:
    """All lanes into one, the upper half onto the lower: a tree whose order is the same everywhere."""
    while v.type.count > 1:
        half = v.type.count // 2
        v = combine(builder, _part(builder, v, 0, half), _part(builder, v, half, half))
    return builder.extract_element(v, _I32(0))


def _part(builder: Any, v: Any, first: int, count: int) -> Any:
    chosen = ir.Constant(ir.VectorType(_I32, count), list(range(first, first + count)))
    return builder.shuffle_vector(v, ir.Constant(v.type, ir.Undefined), chosen)


def add(builder: Any, x: Any, y: Any) -> Any:
    return builder.fadd(x, y, flags=FLAGS)


def widen(builder: Any, v: Any) -> Any:
    wide = ir.VectorType(ir.DoubleType(), v.type.count)
    return v if v.type == wide else builder.fpext(v, wide)


def wide_vec(vec: Vec) -> Vec:
    return Vec(types.float64, vec.lanes)


vsum = _elementwise("vsum", 1, lambda builder, v: _fold(builder, v, add), lambda vec: vec.dtype)
vmaxlane = _elementwise("vmaxlane", 1, lambda builder, v: _fold(builder, v, _extreme(">")), lambda vec: vec.dtype)
vsum64 = _elementwise("vsum64", 1, lambda builder, v: _fold(builder, widen(builder, v), add), lambda vec: types.float64)
vwiden = _elementwise("vwiden", 1, widen, wide_vec)


# The bits of a number.

_MANTISSA = {types.float32: 23, types.float64: 52}
_ONE = {types.float32: 0x3F800000, types.float64: 0x3FF0000000000000}
_ROOT = {types.float32: 0x3F3504F3, types.float64: 0x3FE6A09E667F3BCD}  # the bits of √½


def _ints(vec: Vec) -> Any:
    return ir.VectorType(ir.IntType(int(vec.dtype.bitwidth)), vec.lanes)


def _every(vec: Vec, number: int) -> Any:
    return ir.Constant(_ints(vec), [number] * vec.lanes)


@intrinsic
def vadd_exponent(typing: Any, x: Any, t: Any) -> Any:
    vec = _want_vec(x, t)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        operands = zip(args, (x, t), strict=True)
        p, k = (builder.bitcast(as_lanes(context, builder, a, kind, vec), _ints(vec)) for a, kind in operands)
        shifted = builder.shl(k, _every(vec, _MANTISSA[vec.dtype]))
        return builder.bitcast(builder.add(p, shifted), vec.llvm)

    return vec(x, t), code


def _from_root(builder: Any, x: Any, vec: Vec) -> Any:
    """The bits of x, moved so that the exponent changes at √½·2ᵏ instead of 2ᵏ."""
    return builder.add(builder.bitcast(x, _ints(vec)), _every(vec, _ONE[vec.dtype] - _ROOT[vec.dtype]))


@intrinsic
def vexponent(typing: Any, x: Any) -> Any:
    vec = _want_vec(x)
    mantissa, one = _MANTISSA[vec.dtype], _ONE[vec.dtype]
    two = float(2**mantissa)  # its last bit counts ones, so a small whole number can be put into its mantissa
    bits_of_two = (mantissa << mantissa) + one

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        biased = builder.lshr(_from_root(builder, args[0], vec), _every(vec, mantissa))
        number = builder.bitcast(builder.or_(biased, _every(vec, bits_of_two)), vec.llvm)
        return builder.fsub(number, ir.Constant(vec.llvm, [two + (one >> mantissa)] * vec.lanes), flags=FLAGS)

    return vec(x), code


@intrinsic
def vsignificand(typing: Any, x: Any) -> Any:
    vec = _want_vec(x)
    mantissa, root = _MANTISSA[vec.dtype], _ROOT[vec.dtype]

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kept = builder.and_(_from_root(builder, args[0], vec), _every(vec, (1 << mantissa) - 1))
        return builder.bitcast(builder.add(kept, _every(vec, root)), vec.llvm)

    return vec(x), code


# What depends on the dtype.


def by_dtype(single: float, double: float) -> Any:
    @intrinsic
    def constant(typing: Any, x: Any) -> Any:
        vec = _want_vec(x)
        number = np.float32(single) if vec.dtype == types.float32 else double
        return vec(x), lambda context, builder, sig, args: ir.Constant(vec.llvm, [float(number)] * vec.lanes)

    return constant


def polynomial(single: tuple[float, ...], double: tuple[float, ...]) -> Any:
    @intrinsic
    def horner(typing: Any, x: Any) -> Any:
        vec = _want_vec(x)
        table = [float(np.float32(c)) for c in single] if vec.dtype == types.float32 else double

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            *rest, y = [ir.Constant(vec.llvm, [coefficient] * vec.lanes) for coefficient in table]
            for coefficient in reversed(rest):
                y = _fma(builder, y, args[0], coefficient)
            return y

        return vec(x), code

    return horner
