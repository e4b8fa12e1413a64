"""Rows: what softmax, losses and metrics share when they go along rows of C numbers.

Long rows are read along: one vector after the other, the last one cut. Rows of a few numbers, up to NARROW, would leave
most lanes empty, so they are read across: W rows at once, each column of them a vector. These vectors lie on the stack,
in an array that `columns` gives.

    columns(a)                     room for NARROW vectors of the dtype of a, uninitialised, while the body runs
    vindex(a)                      0, 1, …, W−1
    vlabels(a, labels, i, n)       the first n class indices from the i-th on as numbers of the dtype of a, else 0
    vtake(a, i, n), vput(a, i, v, n)   vload_n and vstore_n for loops whose vectors are whole but for the last

Each function that is compiled apart costs a tenth of a second at the first start, so there are few.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .modes import CHECKED, PLAIN, jit
from .simd import (
    lanes,
    vacc_add,
    vacc_sum,
    vacc_zero,
    vgather,
    vload,
    vload_n,
    vload_n_or,
    vmaxlane,
    vnarrow,
    vselect,
    vset,
    vstore,
    vstore_n,
    vzero,
)
from .simd_types import Vec
from .simd_width import VECTOR_BYTES
from .vmath import vexp

__all__ = ["LEAST", "NARROW", "columns", "exp_columns", "exp_row", "vindex", "vlabels", "vput", "vtake"]

NARROW = 64  # the longest rows that are read across: longer ones are faster along (measured)
BLOCK = 16  # vectors summed in the working dtype before they enter a float64 sum
LEAST = float("-inf")

if PLAIN:

    def columns(a: Any) -> Any:
        return np.empty(NARROW * lanes(a), a.dtype)

    def vindex(a: Any) -> Any:
        return np.arange(lanes(a)).astype(a.dtype)

    def _whole_labels(a: Any, labels: Any, i: int) -> Any:
        return labels[i : i + lanes(a)].astype(a.dtype)

    vtake, vput = vload_n, vstore_n

else:
    _I64 = ir.IntType(64)

    def _other(function: Any, *kinds: Any) -> Any:
        """The signature and the code of another intrinsic, to be used inside one"""
        return function._defn(*kinds)

    def _vec(a: Any) -> Vec:
        return Vec(a.dtype, VECTOR_BYTES // (a.dtype.bitwidth // 8))

    @intrinsic
    def columns(typing: Any, a: Any) -> Any:
        size = a.dtype.bitwidth // 8
        count = NARROW * VECTOR_BYTES // size
        room = types.Array(a.dtype, 1, "C")

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            data = cgutils.alloca_once(builder, context.get_data_type(a.dtype), size=count)
            data.align = VECTOR_BYTES
            array = context.make_array(room)(context, builder)
            shape, strides, itemsize = [_I64(count)], [_I64(size)], _I64(size)
            context.populate_array(array, data=data, shape=shape, strides=strides, itemsize=itemsize, meminfo=None)
            return array._getvalue()

        return room(a), code

    @intrinsic
    def vindex(typing: Any, a: Any) -> Any:
        vec = _vec(a)
        numbers = ir.Constant(vec.llvm, [float(lane) for lane in range(vec.lanes)])
        return vec(a), lambda context, builder, sig, args: numbers

    @intrinsic
    def _whole_labels(typing: Any, a: Any, labels: Any, i: Any) -> Any:
        vec = _vec(a)
        integers = ir.VectorType(_I64, vec.lanes)

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            data = context.make_array(labels)(context, builder, args[1]).data
            place = builder.bitcast(builder.gep(data, [args[2]]), integers.as_pointer())
            return builder.sitofp(builder.load(place, align=8), vec.llvm)

        return vec(a, labels, types.intp), code

    def _whole_or_part(builder: Any, n: Any, vec: Vec, whole: Any, part: Any) -> tuple[Any, Any]:
        """whole() where n is a vector or more, else part(), which is slow on processors without masks; what they give,
        and where from"""
        with builder.if_else(builder.icmp_signed(">=", n, _I64(vec.lanes))) as (many, few):
            with many:
                first = whole(), builder.basic_block
            with few:
                second = part(), builder.basic_block
        return first, second

    @intrinsic
    def vtake(typing: Any, a: Any, i: Any, n: Any) -> Any:
        sig_whole, load = _other(vload, typing, a, i)
        sig_part, load_n = _other(vload_n, typing, a, i, n)

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            values = _whole_or_part(
                builder,
                args[2],
                _vec(a),
                lambda: load(context, builder, sig_whole, args[:2]),
                lambda: load_n(context, builder, sig_part, args),
            )
            found = builder.phi(_vec(a).llvm)
            for value, block in values:
                found.add_incoming(value, block)
            return found

        return sig_part, code

    @intrinsic
    def vput(typing: Any, a: Any, i: Any, v: Any, n: Any) -> Any:
        sig_whole, store = _other(vstore, typing, a, i, v)
        sig_part, store_n = _other(vstore_n, typing, a, i, v, n)

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            _whole_or_part(
                builder,
                args[3],
                _vec(a),
                lambda: store(context, builder, sig_whole, args[:3]),
                lambda: store_n(context, builder, sig_part, args),
            )
            return context.get_dummy_value()

        return sig_part, code


@jit
def vlabels(a, labels, i, n):
    if n >= lanes(a) and not CHECKED:
        return _whole_labels(a, labels, i)
    room = columns(a)
    for lane in range(min(n, lanes(a))):
        room[lane] = labels[i + lane]
    return vload_n(room, 0, n)


@jit
def exp_row(z, base, c, e):
    """m = the largest of a row of z that is not NaN, and Σ eᶻ⁻ᵐ in float64; e = eᶻ⁻ᵐ, unless e is absent.

    No exponent is above 0, so nothing overflows. The sum is NaN if the row has a NaN or m is infinite.
    """
    step = lanes(z)
    end = base + c
    whole = base + c // (2 * step) * (2 * step)
    most = vset(z, LEAST)  # two, or each maximum would wait for the last one
    also = most
    for j in range(base, whole, 2 * step):
        x = vload(z, j)
        y = vload(z, j + step)
        most = vselect(x > most, x, most)
        also = vselect(y > also, y, also)
    x = vload_n_or(z, whole, end - whole, LEAST)
    y = vload_n_or(z, whole + step, end - whole - step, LEAST)
    most = vselect(x > most, x, most)
    also = vselect(y > also, y, also)
    m = vmaxlane(vselect(also > most, also, most))

    keep = e.size > 0
    shift = vset(z, m)
    total = vacc_zero(z)
    whole = base + c // step * step
    for start in range(base, whole, BLOCK * step):
        part = vzero(z)
        for j in range(start, min(start + BLOCK * step, whole), step):
            x = vexp(vload(z, j) - shift)
            if keep:
                vstore(e, j, x)
            part += x
        total = vacc_add(total, part)
    x = vexp(vload_n_or(z, whole, end - whole, LEAST) - shift)
    if keep:
        vstore_n(e, whole, x, end - whole)
    return m, vacc_sum(vacc_add(total, x))


@jit
def exp_columns(z, base, c, n, x, e):
    """The same for the n rows, of which W are taken, that begin at `base`: x = z − m and e = eˣ, by columns

    Returns the sum of e along each row, in a vector; lanes without a row read zeros.
    """
    step = lanes(z)
    m = vset(z, LEAST)
    for j in range(c):
        v = vgather(z, base + j, c, n)
        vstore(x, j * step, v)
        m = vselect(v > m, v, m)
    total = vacc_zero(z)  # in float32 up to 64 roundings would add up
    for j in range(0, c * step, step):
        v = vload(x, j) - m
        power = vexp(v)
        vstore(x, j, v)
        vstore(e, j, power)
        total = vacc_add(total, power)
    return vnarrow(z, total)
