"""Vectors compiled, the part with memory: what takes an array, to read it, to write it, or for its dtype alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, errors, types
from numba.extending import intrinsic

from .modes import CHECKED
from .simd_types import Vec, splat
from .simd_values import add, llvm_name, vsum64, wide_vec, widen
from .simd_width import VECTOR_BYTES

_I1, _I32, _I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
vacc_sum = vsum64


def _vec_of(a: Any) -> Vec:
    """The vector type of an array's elements."""
    if not isinstance(a, types.Array) or a.dtype not in (types.float32, types.float64):
        raise errors.TypingError(f"vectors are of float32 or float64 arrays, not of {a}")
    return Vec(a.dtype, VECTOR_BYTES // (a.dtype.bitwidth // 8))


def _memory(a: Any, v: Any = None, *, write: bool = False) -> Vec:
    """The vector type of an array that is addressed by flat indices; `v` is what goes into it."""
    vec = _vec_of(a)
    if a.layout != "C":
        raise errors.TypingError(f"flat indices need a C-contiguous array, not {a}")
    if write and not a.mutable:
        raise errors.TypingError(f"cannot store into {a}")
    if v is not None and (not isinstance(v, Vec) or v.dtype != a.dtype):
        raise errors.TypingError(f"cannot store {v} into {a}")
    return vec


def _check(context: Any, builder: Any, array: Any, ends: list[Any], touched: Any = None) -> None:
    """IndexError unless both ends are elements of the array, or nothing is touched; without CHECKED nothing at all."""
    if not CHECKED:
        return
    outside: Any = _I1(0)
    for end in ends:
        outside = builder.or_(outside, builder.icmp_unsigned(">=", end, array.nitems))
    if touched is not None:
        outside = builder.and_(outside, touched)
    with cgutils.if_unlikely(builder, outside):
        context.call_conv.return_user_exc(builder, IndexError, ("vector is out of bounds",))


def _array(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return context.make_array(kind)(context, builder, value)


def _bytes(vec: Vec) -> int:
    return int(vec.dtype.bitwidth) // 8


def _first(builder: Any, n: Any, lanes: int) -> Any:
    """Mask of the first n lanes; n may be beyond both ends."""
    n = builder.select(builder.icmp_signed("<", n, _I64(lanes)), n, _I64(lanes))
    n = builder.select(builder.icmp_signed(">", n, _I64(0)), n, _I64(0))
    count = ir.Constant(ir.VectorType(_I32, lanes), list(range(lanes)))
    return builder.icmp_unsigned("<", count, splat(builder, builder.trunc(n, _I32), lanes))


def _address(context: Any, builder: Any, kind: Any, value: Any, i: Any, n: Any, vec: Vec) -> Any:
    """Pointer to the vector whose first n lanes, or all, are the elements i, i + 1, … of the array."""
    array = _array(context, builder, kind, value)
    touched = None if n is None else builder.icmp_signed(">", n, _I64(0))
    if n is None:
        n = _I64(vec.lanes)
    elif CHECKED:
        n = builder.select(builder.icmp_signed("<", n, _I64(vec.lanes)), n, _I64(vec.lanes))
    if CHECKED:
        _check(context, builder, array, [i, builder.sub(builder.add(i, n), _I64(1))], touched)
    return builder.bitcast(builder.gep(array.data, [i]), vec.llvm.as_pointer())


def _load_n(context: Any, builder: Any, kind: Any, args: Any, fill: Any, vec: Vec) -> Any:
    a, i, n = args
    pointer = _address(context, builder, kind, a, i, n, vec)
    mask = _first(builder, n, vec.lanes)
    kinds = [pointer.type, _I32, mask.type, vec.llvm]
    name = f"llvm.masked.load.{llvm_name(vec.llvm)}.p0"
    load = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vec.llvm, kinds), name)
    return builder.call(load, [pointer, _I32(_bytes(vec)), mask, fill])


def _store_n(context: Any, builder: Any, kind: Any, args: Any, vec: Vec) -> Any:
    a, i, v, n = args
    pointer = _address(context, builder, kind, a, i, n, vec)
    mask = _first(builder, n, vec.lanes)
    kinds = [vec.llvm, pointer.type, _I32, mask.type]
    name = f"llvm.masked.store.{llvm_name(vec.llvm)}.p0"
    store = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), kinds), name)
    builder.call(store, [v, pointer, _I32(_bytes(vec)), mask])
    return context.get_dummy_value()


def _zeros(vec: Vec) -> Any:
    return ir.Constant(vec.llvm, [0.0] * vec.lanes)


@intrinsic
def lanes(typing: Any, a: Any) -> Any:
    count = _vec_of(a).lanes
    return types.intp(a), lambda context, builder, sig, args: _I64(count)


@intrinsic
def vload(typing: Any, a: Any, i: Any) -> Any:
    vec = _memory(a)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _address(context, builder, a, args[0], args[1], None, vec)
        return builder.load(pointer, align=_bytes(vec))

    return vec(a, types.intp), code


@intrinsic
def vload_n(typing: Any, a: Any, i: Any, n: Any) -> Any:
    vec = _memory(a)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _load_n(context, builder, a, args, _zeros(vec), vec)

    return vec(a, types.intp, types.intp), code


@intrinsic
def vload_n_or(typing: Any, a: Any, i: Any, n: Any, fill: Any) -> Any:
    vec = _memory(a)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _load_n(context, builder, a, args[:3], splat(builder, args[3], vec.lanes), vec)

    return vec(a, types.intp, types.intp, vec.dtype), code


@intrinsic
def vstore(typing: Any, a: Any, i: Any, v: Any) -> Any:
    _memory(a, v, write=True)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _address(context, builder, a, args[0], args[1], None, v)
        builder.store(args[2], pointer, align=_bytes(v))
        return context.get_dummy_value()

    return types.void(a, types.intp, v), code


@intrinsic
def vstore_n(typing: Any, a: Any, i: Any, v: Any, n: Any) -> Any:
    _memory(a, v, write=True)
    return (
        types.void(a, types.intp, v, types.intp),
        lambda context, builder, sig, args: _store_n(context, builder, a, args, v),
    )


def _strided(context: Any, builder: Any, kind: Any, args: Any, vec: Vec, one: Callable[[Any, Any], None]) -> None:
    """one(address of element i + lane·stride, lane) for the first n lanes, unrolled where that is all of them."""
    a, i, stride, n = args
    array = _array(context, builder, kind, a)
    n = builder.select(builder.icmp_signed("<", n, _I64(vec.lanes)), n, _I64(vec.lanes))
    last = builder.add(i, builder.mul(builder.sub(n, _I64(1)), stride))
    _check(context, builder, array, [i, last], builder.icmp_signed(">", n, _I64(0)))

    def address(lane: Any) -> Any:
        return builder.gep(array.data, [builder.add(i, builder.mul(lane, stride))])

    with builder.if_else(builder.icmp_signed("==", n, _I64(vec.lanes))) as (full, part):
        with full:
            for lane in range(vec.lanes):
                one(address(_I64(lane)), _I64(lane))
        with part, cgutils.for_range(builder, n) as loop:
            one(address(loop.index), loop.index)


@intrinsic
def vgather(typing: Any, a: Any, i: Any, stride: Any, n: Any) -> Any:
    vec = _memory(a)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        gathered = cgutils.alloca_once_value(builder, _zeros(vec))

        def one(address: Any, lane: Any) -> None:
            with_it = builder.insert_element(builder.load(gathered), builder.load(address), lane)
            builder.store(with_it, gathered)

        builder.store(_zeros(vec), gathered)
        _strided(context, builder, a, args, vec, one)
        return builder.load(gathered)

    return vec(a, types.intp, types.intp, types.intp), code


@intrinsic
def vscatter(typing: Any, a: Any, i: Any, stride: Any, v: Any, n: Any) -> Any:
    _memory(a, v, write=True)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def one(address: Any, lane: Any) -> None:
            builder.store(builder.extract_element(args[3], lane), address)

        _strided(context, builder, a, [*args[:3], args[4]], v, one)
        return context.get_dummy_value()

    return types.void(a, types.intp, types.intp, v, types.intp), code


# Made with an array's dtype.


@intrinsic
def vset(typing: Any, a: Any, x: Any) -> Any:
    vec = _vec_of(a)
    return vec(a, vec.dtype), lambda context, builder, sig, args: splat(builder, args[1], vec.lanes)


@intrinsic
def vzero(typing: Any, a: Any) -> Any:
    vec = _vec_of(a)
    return vec(a), lambda context, builder, sig, args: _zeros(vec)


@intrinsic
def vnarrow(typing: Any, a: Any, v: Any) -> Any:
    vec = _vec_of(a)
    if v != wide_vec(vec):
        raise errors.TypingError(f"cannot round {v} to a vector of {a}")

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return args[1] if v == vec else builder.fptrunc(args[1], vec.llvm)

    return vec(a, v), code


@intrinsic
def vacc_zero(typing: Any, a: Any) -> Any:
    wide = wide_vec(_vec_of(a))
    return wide(a), lambda context, builder, sig, args: _zeros(wide)


@intrinsic
def vacc_add(typing: Any, acc: Any, v: Any) -> Any:
    if not isinstance(v, Vec) or acc != wide_vec(v):
        raise errors.TypingError(f"cannot add {v} to the accumulator {acc}")
    return acc(acc, v), lambda context, builder, sig, args: add(builder, args[0], widen(builder, args[1]))


@intrinsic
def vacc_load(typing: Any, a: Any, wide: Any, i: Any, n: Any) -> Any:
    acc = wide_vec(_vec_of(a))
    _memory(wide, acc)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _load_n(context, builder, wide, args[1:], _zeros(acc), acc)

    return acc(a, wide, types.intp, types.intp), code


@intrinsic
def vacc_store(typing: Any, acc: Any, wide: Any, i: Any, n: Any) -> Any:
    _memory(wide, acc, write=True)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _store_n(context, builder, wide, [args[1], args[2], args[0], args[3]], acc)

    return types.void(acc, wide, types.intp, types.intp), code
