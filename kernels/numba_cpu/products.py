"""Matrix products of row-major arrays: C = A·B (+ bias or C), optionally through ReLU.

A product is cut into tiles of a few rows by a few vectors, whose sums stay in registers while the inner size runs.
Measured with AVX-512 this takes 0.75 to 1.0 of the time of OpenBLAS, from 64 by 64 up to 4096 by 4096 weights, needs no
threads to be kept in check, and a layer's bias and ReLU cost nothing more.

A is given by two strides, so that its transpose is the same product: element (m, k) is `a[ao + m·row + k·inner]`. In
compiled code the product is one function, reached through the context: compiled once, not once in each op.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from .bodies import body_factory
from .context import WORDS
from .modes import CHECKED, PLAIN, jit
from .pointers import at_address, call
from .simd import lanes, vload_n, vstore
from .simd_width import VECTOR_BYTES
from .tiles import GROUP, INNER, PACK_BYTES, PACKED, TALL, WIDE

__all__ = ["multiply", "product"]

_I32, _I64 = ir.IntType(32), ir.IntType(64)


def _tile(rows: int, vectors: int, *, whole: bool) -> Any:
    """`rows` by `vectors` sums in registers; unless `whole`, the last vector has only `last` columns."""

    @intrinsic
    def tile(typing: Any, a, ao, row, inner, b, bo, ldb, k, c, co, ldc, start, so, lds, has_start, last, relu):
        signature = types.void(a, ao, row, inner, b, bo, ldb, k, c, co, ldc, start, so, lds, has_start, last, relu)

        def generate(ctx: Any, builder: Any, signature: Any, args: Any) -> Any:
            t = _Tile(ctx, builder, signature, args, vectors, whole)
            sums = [[cgutils.alloca_once(builder, t.vector) for _ in range(vectors)] for _ in range(rows)]
            with builder.if_else(builder.icmp_signed("!=", t.has_start, _i64(0))) as (then, otherwise):
                with then:
                    for m in range(rows):
                        p = t.at(t.start, t.so, t.lds, m)
                        for v in range(vectors):
                            builder.store(t.load(p, v), sums[m][v])
                with otherwise:
                    for line in sums:
                        for s in line:
                            builder.store(t.zero, s)
            with cgutils.for_range(builder, t.k, intp=_I64) as loop:
                pb = builder.gep(t.b, [builder.add(t.bo, builder.mul(loop.index, t.ldb))])
                pa = builder.gep(t.a, [builder.add(t.ao, builder.mul(loop.index, t.inner))])
                columns = [t.load(pb, v) for v in range(vectors)]
                for m in range(rows):
                    x = t.splat(builder.load(builder.gep(pa, [builder.mul(t.row, _i64(m))])))
                    for v in range(vectors):
                        builder.store(builder.call(t.fma, [x, columns[v], builder.load(sums[m][v])]), sums[m][v])
            with builder.if_then(builder.icmp_signed("!=", t.relu, _i64(0))):
                for line in sums:
                    for s in line:
                        x = builder.load(s)
                        negative = builder.fcmp_ordered("<=", x, t.zero)  # false for NaN, which stays
                        builder.store(builder.select(negative, t.zero, x), s)
            for m in range(rows):
                p = t.at(t.c, t.co, t.ldc, m)
                for v in range(vectors):
                    t.store(builder.load(sums[m][v]), p, v)
            return ctx.get_dummy_value()

        return signature, generate

    return tile


def _i64(x: int) -> Any:
    return ir.Constant(_I64, x)


class _Tile:
    """The arguments of a tile, and its loads and stores, while LLVM code is made for it."""

    def __init__(self, ctx: Any, builder: Any, signature: Any, args: Any, vectors: int, whole: bool) -> None:
        element = signature.args[0].dtype
        self.builder, self.size = builder, element.bitwidth // 8
        self.width = VECTOR_BYTES // self.size
        self.vector = ir.VectorType(ctx.get_value_type(element), self.width)
        self.zero = ir.Constant(self.vector, [0.0] * self.width)
        self.a, self.b, self.c, self.start = (
            ctx.make_array(signature.args[i])(ctx, builder, args[i]).data for i in (0, 4, 8, 11)
        )
        self.ao, self.row, self.inner, self.bo, self.ldb, self.k = (args[i] for i in (1, 2, 3, 5, 6, 7))
        self.co, self.ldc, self.so, self.lds, self.has_start, last, self.relu = (
            args[i] for i in (9, 10, *range(12, 17))
        )
        name = f"v{self.width}f{element.bitwidth}"
        self.fma = self._function(f"llvm.fma.{name}", self.vector, [self.vector] * 3)
        self.masked = None if whole else vectors - 1
        if not whole:
            pointer, bits = self.vector.as_pointer(), ir.VectorType(ir.IntType(1), self.width)
            self.masked_load = self._function(
                f"llvm.masked.load.{name}.p0", self.vector, [pointer, _I32, bits, self.vector]
            )
            self.masked_store = self._function(
                f"llvm.masked.store.{name}.p0", ir.VoidType(), [self.vector, pointer, _I32, bits]
            )
            counts = ir.VectorType(_I64, self.width)
            self.mask = builder.icmp_signed(
                "<", ir.Constant(counts, list(range(self.width))), self._spread(last, counts)
            )

    def _function(self, name: str, result: Any, arguments: list[Any]) -> Any:
        return cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(result, arguments), name)

    def _spread(self, x: Any, kind: Any) -> Any:
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), x, ir.Constant(_I32, 0))
        zeros = ir.Constant(ir.VectorType(_I32, self.width), [0] * self.width)
        return self.builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)

    def splat(self, x: Any) -> Any:
        return self._spread(x, self.vector)

    def at(self, data: Any, offset: Any, stride: Any, m: int) -> Any:
        return self.builder.gep(data, [self.builder.add(offset, self.builder.mul(stride, _i64(m)))])

    def _place(self, p: Any, v: int) -> Any:
        return self.builder.bitcast(self.builder.gep(p, [_i64(v * self.width)]), self.vector.as_pointer())

    def load(self, p: Any, v: int) -> Any:
        if v == self.masked:
            alignment = ir.Constant(_I32, self.size)
            return self.builder.call(self.masked_load, [self._place(p, v), alignment, self.mask, self.zero])
        return self.builder.load(self._place(p, v), align=self.size)

    def store(self, x: Any, p: Any, v: int) -> None:
        if v == self.masked:
            alignment = ir.Constant(_I32, self.size)
            self.builder.call(self.masked_store, [x, self._place(p, v), alignment, self.mask])
        else:
            self.builder.store(x, self._place(p, v), align=self.size)


def _strip(height: int) -> Any:
    """One column of tiles of this height, as far as it goes; returns the row after the last."""
    whole = _tile(height, WIDE, whole=True)
    one, two = (_tile(height, min(v, WIDE), whole=False) for v in (1, 2))

    @jit
    def strip(i, m, n, k, a, ao, row, inner, b, bo, ldb, c, co, ldc, start, so, lds, has_start, relu):
        width = lanes(a)
        while i + height <= m:
            p, q, r = ao + i * row, co + i * ldc, so + i * lds
            if n == WIDE * width:
                whole(a, p, row, inner, b, bo, ldb, k, c, q, ldc, start, r, lds, has_start, width, relu)
            elif n <= width:
                one(a, p, row, inner, b, bo, ldb, k, c, q, ldc, start, r, lds, has_start, n, relu)
            else:
                two(a, p, row, inner, b, bo, ldb, k, c, q, ldc, start, r, lds, has_start, n - width, relu)
            i += height
        return i

    return strip


_strip_6, _strip_4, _strip_2, _strip_1 = _strip(TALL), _strip(4), _strip(2), _strip(1)


@jit
def _copy_strips(n, k, b, bo, ldb, pack):
    """n columns of B, one strip after the other"""
    step = WIDE * lanes(b)
    for p in range(k):
        for q in range(0, n, lanes(b)):
            to = q // step * k * step + p * step + q % step
            vstore(pack, to, vload_n(b, bo + p * ldb + q, n - q))


@jit
def _columns(m, n, k, a, ao, row, inner, b, bo, ldb, c, co, ldc, start, so, lds, has_start, relu, pack):
    """All columns, a few vectors at a time, for one piece of the inner size.

    Where enough rows share them, strips of B are first copied to `pack`, some at a time, each row after row: read in
    place, each row of a strip would begin on another page, and in the same few sets of the cache where ldb is a power
    of two.
    """
    step = WIDE * lanes(a)
    packed = m >= PACKED and ldb > step
    source, place, stride = b, bo, ldb
    j = 0
    while j < n:
        w = step if n - j >= step else min(n - j, 2 * lanes(a))
        if packed:
            at = j % (GROUP * step)
            if at == 0:
                _copy_strips(min(n - j, GROUP * step), k, b, bo + j, ldb, pack)
            source, place, stride = pack, at // step * k * step + at % step, step
        else:
            place = bo + j
        o, s = co + j, so + j
        i = _strip_6(0, m, w, k, a, ao, row, inner, source, place, stride, c, o, ldc, start, s, lds, has_start, relu)
        i = _strip_4(i, m, w, k, a, ao, row, inner, source, place, stride, c, o, ldc, start, s, lds, has_start, relu)
        i = _strip_2(i, m, w, k, a, ao, row, inner, source, place, stride, c, o, ldc, start, s, lds, has_start, relu)
        _strip_1(i, m, w, k, a, ao, row, inner, source, place, stride, c, o, ldc, start, s, lds, has_start, relu)
        j += w


@jit
def _tiles(m, n, k, a, ao, row, inner, b, bo, ldb, c, co, ldc, start, so, lds, has_start, relu, pack):
    """The whole product; later pieces of the inner size go on from what stands in C.

    One call in a loop, because LLVM would write out the tiles for each of several.
    """
    source, at, stride, begun = start, so, lds, has_start
    p = 0
    while p == 0 or p < k:
        size = min(INNER, k - p)
        final = relu if p + size == k else 0
        x, y = ao + p * inner, bo + p * ldb
        _columns(m, n, size, a, x, row, inner, b, y, ldb, c, co, ldc, source, at, stride, begun, final, pack)
        source, at, stride, begun = c, co, ldc, 1
        p += INNER


@body_factory
def product(dtype: str) -> Any:
    """The product as a function for the table: its numbers come in `dims`, the four arrays in `arrays`."""
    element = {"float32": types.float32, "float64": types.float64}[dtype]
    tiles, place, count = _tiles, at_address, PACK_BYTES // np.dtype(dtype).itemsize

    def entry(arrays, dims, numbers, context):
        p, d = carray(arrays, (4,)), carray(dims, (10,))
        a, b = carray(place(p[0], element), (1,)), carray(place(p[1], element), (1,))
        c, start = carray(place(p[2], element), (1,)), carray(place(p[3], element), (1,))
        x = carray(context, (WORDS,))
        pack = carray(place(x[2], element), (count,))
        tiles(d[0], d[1], d[2], a, 0, d[3], d[4], b, 0, d[5], c, 0, d[6], start, 0, d[7], d[8], d[9], pack)

    return entry


@jit
def _through_context(context, m, n, k, a, ao, row, inner, b, bo, ldb, c, co, ldc, start, so, lds, has_start, relu):
    size = a.itemsize
    p = context
    p[8] = a.ctypes.data + ao * size
    p[9] = b.ctypes.data + bo * size
    p[10] = c.ctypes.data + co * size
    p[11] = start.ctypes.data + so * size
    p[12], p[13], p[14], p[15], p[16] = m, n, k, row, inner
    p[17], p[18], p[19], p[20], p[21] = ldb, ldc, lds, has_start, relu
    call(p[0], p.ctypes.data + 8 * 8, p.ctypes.data + 12 * 8, p.ctypes.data, p.ctypes.data)


@jit
def _checked(context, m, n, k, a, ao, row, inner, b, bo, ldb, c, co, ldc, start, so, lds, has_start, relu):
    """The tiles in place, after a look at the farthest element of each array: they check nothing themselves."""
    if m > 0 and n > 0:
        outside = co < 0 or co + (m - 1) * ldc + n > c.size
        if k > 0:
            outside |= ao < 0 or ao + (m - 1) * row + (k - 1) * inner >= a.size
            outside |= bo < 0 or bo + (k - 1) * ldb + n > b.size
        if has_start:
            outside |= so < 0 or so + (m - 1) * lds + n > start.size
        if outside:
            raise IndexError("a matrix product reaches outside its arrays")
    pack = np.empty(PACK_BYTES // a.itemsize, a.dtype)
    f, g, h, s = a.reshape(-1), b.reshape(-1), c.reshape(-1), start.reshape(-1)  # of one type, whatever their rank
    _tiles(m, n, k, f, ao, row, inner, g, bo, ldb, h, co, ldc, s, so, lds, has_start, relu, pack)


def _plain(context, m, n, k, a, ao, row, inner, b, bo, ldb, c, co, ldc, start, so, lds, has_start, relu):
    def view(array: Any, offset: int, shape: tuple[int, int], strides: tuple[int, int]) -> Any:
        flat = array.reshape(-1)[offset:]
        return np.lib.stride_tricks.as_strided(flat, shape, [s * flat.itemsize for s in strides])

    with np.errstate(all="ignore"):
        result = view(a, ao, (m, k), (row, inner)) @ view(b, bo, (k, n), (ldb, 1))
        if has_start:
            result = result + view(start, so, (m, n), (lds, 1))
        view(c, co, (m, n), (ldc, 1))[...] = np.maximum(result, 0) if relu else result


# multiply(context, m, n, k, a, ao, row, inner, b, bo, ldb, c, co, ldc, start, so, lds, has_start, relu):
# C = A·B, plus the rows of `start` (lds apart; 0 repeats one row) where has_start, then max(·, 0) where relu.
# Offsets and strides count elements; n is contiguous in B, C and start. C may be start.
multiply = _plain if PLAIN else _checked if CHECKED else _through_context
