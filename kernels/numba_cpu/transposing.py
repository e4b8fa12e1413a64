"""Transposes: what lies in rows laid out in columns, a square of vectors at a time."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .modes import COMPILED, jit
from .simd import lanes
from .simd_width import VECTOR_BYTES

__all__ = ["transpose"]


@intrinsic
def _square(typing: Any, source: Any, at: Any, row: Any, target: Any, to: Any, column: Any) -> Any:
    """W rows of W elements, `row` apart, become W columns, `column` apart.

    Shuffled log₂W times: rows i and i + W/2 interleaved are rows 2i and 2i + 1 of the next round.
    """
    signature = types.void(source, types.intp, types.intp, target, types.intp, types.intp)

    def generate(ctx: Any, builder: Any, signature: Any, args: Any) -> Any:
        element = signature.args[0].dtype
        size = element.bitwidth // 8
        width = VECTOR_BYTES // size
        vector = ir.VectorType(ctx.get_value_type(element), width)
        _, at, row, _, to, column = args
        data = [ctx.make_array(signature.args[i])(ctx, builder, args[i]).data for i in (0, 3)]

        def place(base: Any, first: Any, step: Any, i: int) -> Any:
            index = builder.add(first, builder.mul(step, ir.Constant(step.type, i)))
            return builder.bitcast(builder.gep(base, [index]), vector.as_pointer())

        def interleaved(a: Any, b: Any, start: int) -> Any:
            pairs = [n for i in range(start, start + width // 2) for n in (i, i + width)]
            return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), width), pairs))

        rows = [builder.load(place(data[0], at, row, i), align=size) for i in range(width)]
        half = width // 2
        for _ in range(width.bit_length() - 1):
            rows = [interleaved(rows[i], rows[i + half], start) for i in range(half) for start in (0, half)]
        for i, v in enumerate(rows):
            builder.store(v, place(data[1], to, column, i), align=size)
        return ctx.get_dummy_value()

    return signature, generate


@jit
def _by_squares(source, at, rows, columns, length, target):
    width = lanes(source)
    whole_rows, whole_columns = rows // width * width, columns // width * width
    for i in range(0, whole_rows, width):
        for j in range(0, whole_columns, width):
            _square(source, at + i * length + j, length, target, j * rows + i, rows)
    _one_by_one(source, at, rows, columns, length, target, whole_rows, whole_columns)


@jit
def _one_by_one(source, at, rows, columns, length, target, done_rows, done_columns):
    """What lies outside the first `done_rows` of the first `done_columns`."""
    s, t = source.reshape(-1), target.reshape(-1)
    for i in range(rows):
        for j in range(done_columns if i < done_rows else 0, columns):
            t[j * rows + i] = s[at + i * length + j]


@jit
def _checked(source, at, rows, columns, length, target):
    _one_by_one(source, at, rows, columns, length, target, 0, 0)


# transpose(source, at, rows, columns, length, target): the flat array `target` (columns, rows) becomes what begins at
# element `at` of `source`, `columns` columns of rows that are `length` elements apart, transposed.
transpose = _by_squares if COMPILED else _checked
