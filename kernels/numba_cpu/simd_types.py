"""What Numba has to know about a vector: its two types, and the operators between them.

A `Vec` is so many float32 or float64 numbers in registers, a `Mask` as many truth values. An operator also takes a
number on one side, which is rounded to the vector's dtype and stands in every lane.

All arithmetic carries the flag "contract" and no other: Numba gives the flags of the surrounding function to whatever
has none, and with "reassoc" LLVM would cancel the roundings that a range reduction lives on.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.types import misc
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

__all__ = ["FLAGS", "Mask", "Vec", "as_lanes", "common_vec", "splat"]

FLAGS = ("contract",)
_LLVM = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


class Vec(types.Type):
    """`lanes` numbers of type `dtype`."""

    def __init__(self, dtype: Any, lanes: int) -> None:
        self.dtype = dtype
        self.lanes = lanes
        self.llvm = ir.VectorType(_LLVM[dtype], lanes)
        super().__init__(name=f"Vec({dtype}, {lanes})")


class Mask(types.Type):
    """`lanes` truth values."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.llvm = ir.VectorType(ir.IntType(1), lanes)
        super().__init__(name=f"Mask({lanes})")


@register_model(Vec)
@register_model(Mask)
class _InRegisters(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, fe_type.llvm)


def splat(builder: Any, number: Any, lanes: int) -> Any:
    """`number` in every lane."""
    of = ir.VectorType(number.type, lanes)
    if isinstance(number, ir.Constant):
        return ir.Constant(of, [number.constant] * lanes)
    first = builder.insert_element(ir.Constant(of, ir.Undefined), number, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(first, ir.Constant(of, ir.Undefined), zeros)


def as_lanes(context: Any, builder: Any, value: Any, kind: Any, vec: Vec) -> Any:
    """An operand as a vector: itself, or a number in every lane."""
    if isinstance(kind, Vec):
        return value
    return splat(builder, context.cast(builder, value, kind, vec.dtype), vec.lanes)


def common_vec(kinds: Any) -> Vec | None:
    """The vector type among operands that are that type or numbers; None where they do not go together."""
    vecs = {kind for kind in kinds if isinstance(kind, Vec)}
    others = [kind for kind in kinds if not isinstance(kind, (Vec, types.Float, types.Integer))]
    return vecs.pop() if len(vecs) == 1 and not others else None


def _register(function: Any, count: int, result: Callable[[Vec], Any], emit: Callable[..., Any]) -> None:
    """`function` of `count` operands on vectors: its type is result(vec), its code emit(builder, *vectors)."""

    class Template(AbstractTemplate):  # type: ignore[misc]
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            vec = common_vec(args)
            if vec is None or kws or len(args) != count:
                return None
            return signature(result(vec), *map(misc.unliteral, args))

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vec = common_vec(sig.args)
        assert vec is not None
        return emit(builder, *(as_lanes(context, builder, a, k, vec) for a, k in zip(args, sig.args, strict=True)))

    infer_global(function)(Template)
    kinds = [(Vec,)] if count == 1 else [(Vec, Vec), (Vec, types.Number), (types.Number, Vec)]
    for kind in kinds:
        lower_builtin(function, *kind)(lower)


def _register_mask(function: Any, count: int, emit: Callable[..., Any]) -> None:
    class Template(AbstractTemplate):  # type: ignore[misc]
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            good = not kws and len(args) == count and len(set(args)) == 1 and isinstance(args[0], Mask)
            return signature(args[0], *args) if good else None

    infer_global(function)(Template)
    lower_builtin(function, *[Mask] * count)(lambda context, builder, sig, args: emit(builder, *args))


def _arithmetic(name: str) -> Callable[..., Any]:
    return lambda builder, x, y: getattr(builder, name)(x, y, flags=FLAGS)


def _comparison(sign: str) -> Callable[..., Any]:
    """False for NaN, except that NaN != NaN is true."""
    kind = "fcmp_unordered" if sign == "!=" else "fcmp_ordered"
    return lambda builder, x, y: getattr(builder, kind)(sign, x, y)


for _name, _functions in {
    "fadd": (operator.add, operator.iadd),
    "fsub": (operator.sub, operator.isub),
    "fmul": (operator.mul, operator.imul),
    "fdiv": (operator.truediv, operator.itruediv),
}.items():
    for _function in _functions:
        _register(_function, 2, lambda vec: vec, _arithmetic(_name))
for _sign, _function in {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}.items():
    _register(_function, 2, lambda vec: Mask(vec.lanes), _comparison(_sign))
_register(operator.neg, 1, lambda vec: vec, lambda builder, x: builder.fneg(x))
_register_mask(operator.and_, 2, lambda builder, x, y: builder.and_(x, y))
_register_mask(operator.or_, 2, lambda builder, x, y: builder.or_(x, y))
_register_mask(operator.invert, 1, lambda builder, x: builder.not_(x))
