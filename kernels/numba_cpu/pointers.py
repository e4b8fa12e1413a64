"""Pointers: an integer as one in compiled code, and calls through one."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["as_float64", "at_address", "call", "enter"]


@intrinsic
def at_address(typing: Any, address: Any, element: Any) -> Any:
    """The address as a pointer to elements of a type: float32, float64 or int64."""
    kind = element.dtype if isinstance(element, types.NumberClass | types.DType) else element

    def generate(ctx: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ctx.get_value_type(types.CPointer(kind)))

    return types.CPointer(kind)(types.int64, element), generate


@intrinsic
def as_float64(typing: Any, pointer: Any) -> Any:
    """A pointer to int64 as one to float64: the same eight bytes, read the other way."""

    def generate(ctx: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ctx.get_value_type(types.CPointer(types.float64)))

    return types.CPointer(types.float64)(pointer), generate


@intrinsic
def call(typing: Any, address: Any, arrays: Any, dims: Any, numbers: Any, context: Any) -> Any:
    """Call a function of the table by its address; the four arguments are addresses too."""

    def generate(ctx: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = ir.IntType(64).as_pointer()
        function = builder.inttoptr(args[0], ir.FunctionType(ir.VoidType(), [words] * 4).as_pointer())
        builder.call(function, [builder.inttoptr(a, words) for a in args[1:]])
        return ctx.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


@intrinsic
def enter(typing: Any, address: Any, header: Any, executors: Any, executor: Any) -> Any:
    """Call an interpreter by its address: with a header, in the midst of another's."""

    def generate(ctx: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [word.as_pointer(), word, word])
        builder.call(
            builder.inttoptr(args[0], kind.as_pointer()), [builder.inttoptr(args[1], word.as_pointer()), *args[2:]]
        )
        return ctx.get_dummy_value()

    return types.void(*[types.int64] * 4), generate
