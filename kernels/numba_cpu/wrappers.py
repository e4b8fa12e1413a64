"""Wrappers: a C-callable function around an op's body, made from the op's signature; see `table.py`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numba import carray, types

from nnfast.protocol import CUSTOM, Arg, OpSpec

from . import bodies
from .modes import inlined, jit
from .pointers import as_float64, at_address
from .table import INTEGERS, NEEDS_CONTEXT, letters, spec_of

__all__ = ["body_of", "in_pieces", "wrapper"]

_TYPES = {"float32": types.float32, "float64": types.float64}


@functools.cache
def body_of(op: str, attributes: tuple[tuple[str, Any], ...] = ()) -> Any:
    """The op's body, as bodies of other ops may call it."""
    custom = CUSTOM.get(op, {}).get("numba")
    if custom is None:
        return bodies.find(op, dict(attributes))
    if spec_of(op).attributes:
        custom = custom(**dict(attributes))
    return jit(getattr(custom, "py_func", custom))  # compiled with the options of this backend


def wrapper(op: str, dtype: str, attributes: tuple[tuple[str, Any], ...]) -> Callable[..., None]:
    """`def op(arrays, dims, numbers, context): body(array, array, …, number, …)`"""
    if op == "product":
        return bodies.find(op, {"dtype": dtype})  # type: ignore[no-any-return]
    spec = spec_of(op)
    names = letters(spec)
    sizes = {name: f"d[{i}]" for i, name in enumerate(names)}
    arguments = [piece for i, arg in enumerate(spec.args) for piece in _expressions(arg, i, sizes, len(names))]
    arguments += _scalars(spec)
    arguments += ["carray(context, (32,))"] if op in NEEDS_CONTEXT else []
    return _made(op, dtype, attributes, [f"    body({', '.join(arguments)})"])


def in_pieces(op: str, dtype: str, attributes: tuple[tuple[str, Any], ...]) -> Callable[..., None]:
    """The same for an op over P elements, done piece by piece: `dims` are how many, and the address of a list of them.

    Of each piece it says the first element and how many; what is no flat array is the same for all.
    """
    spec = spec_of(op)
    # Into variables first, or LLVM would take the stores of each piece for changes of the scalars of the next.
    scalars = [f"    s{i} = {scalar}" for i, scalar in enumerate(_scalars(spec))]
    arguments = []
    for i, arg in enumerate(spec.args):
        if arg.shape == ("P",):
            size = f"(size if a[{i}] else 0)" if arg.optional else "size"
            arguments.append(f"carray(place(a[{i}] + first * {np.dtype(dtype).itemsize}, T), ({size},))")
        else:
            arguments += _expressions(arg, i, {}, 0)
    arguments += [f"s{i}" for i in range(len(scalars))]
    loop = [
        "    pieces = carray(place(d[1], I8), (2 * d[0],))",
        "    for i in range(0, 2 * d[0], 2):",
        "        first, size = pieces[i], pieces[i + 1]",
        f"        body({', '.join(arguments)})",
    ]
    return _made(op, dtype, attributes, scalars + loop)


def _scalars(spec: OpSpec) -> list[str]:
    """The expressions for an op's scalars."""
    return [f"{'n' if name in INTEGERS else 'f'}[{i}]" for i, name in enumerate(spec.scalars)]


def _made(op: str, dtype: str, attributes: tuple[tuple[str, Any], ...], lines: list[str]) -> Callable[..., None]:
    """The function with these lines, in which a, d, n and f are the arrays, dims and numbers, and `body` the op's."""
    spec = spec_of(op)
    source = [
        f"def {op}(arrays, dims, numbers, context):",
        f"    a, d = carray(arrays, ({len(spec.args)},)), carray(dims, ({len(letters(spec)) + 1},))",
        f"    n = carray(numbers, ({len(spec.scalars) + 1},))",
        f"    f = carray(float_bits(numbers), ({len(spec.scalars) + 1},))",
        *lines,
    ]
    space: dict[str, Any] = {
        "carray": carray,
        "float_bits": as_float64,
        "place": at_address,
        "body": inlined(body_of(op, attributes)),
        "T": _TYPES[dtype],
        "F8": types.float64,
        "I8": types.int64,
    }
    exec("\n".join(source), space)
    function: Callable[..., None] = space[op]
    return function


def _expressions(arg: Arg, i: int, sizes: Mapping[str, str], sparse: int) -> list[str]:
    """The expressions that make the body's array (two for a label) out of address number i."""
    shape = [sizes.get(n, n) for n in arg.shape] or ["1"]
    kind = {"T": "T", "f8": "F8", "i8": "I8", "label": "T"}[arg.dtype]
    if arg.dtype == "label":
        rows = shape[0]
        return [
            f"carray(place(a[{i}], I8), ({rows} if d[{sparse}] else 0,))",
            f"carray(place(a[{i}], {kind}), (0 if d[{sparse}] else {rows}, {shape[1]}))",
        ]
    if arg.optional:
        shape[0] = f"({shape[0]} if a[{i}] else 0)"
    return [f"carray(place(a[{i}], {kind}), ({', '.join(shape)},))"]
