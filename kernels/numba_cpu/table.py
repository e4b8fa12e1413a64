"""The table of compiled ops: from an op, a dtype and attributes to the address of a C-callable function.

All have one signature, so that the interpreter can call any of them and a model pays only for those it uses:

    void op(int64 *arrays, int64 *dims, int64 *numbers, int64 *context)

`arrays` holds the addresses of the arrays in the order of the op's signature, 0 where one is absent; `dims` the sizes
by the letters of the signature in order of appearance, then, for ops with a target of kind `label`, whether it is
sparse; `numbers` the scalars, eight bytes each, float64 but for those of `INTEGERS`; `context` is explained in
`context.py`. What stands behind an address is a thin wrapper around the op's body, see `wrappers.py`.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
import struct
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from nnfast.protocol import CUSTOM, OPS, PENALTIES, OpSpec, OptionError

from . import bodies, cache
from .modes import OPTIONS

__all__ = [
    "INTEGERS",
    "INTERNAL",
    "IN_PIECES",
    "NEEDS_CONTEXT",
    "address",
    "has",
    "letters",
    "number_bits",
    "origin",
    "spec_of",
    "variants",
]

INTEGERS = frozenset({"key", "step", "layer", "first_row", "offset"})
NEEDS_CONTEXT = frozenset({"dense", "dense_backward", "dense_weights", "dense_block", "dense_block_backward"})

# Ops of this backend alone: what the runner adds between those of the program.
INTERNAL: dict[str, OpSpec] = {
    spec.name: spec
    for spec in (
        OpSpec("gather", "order[N]:i8 source[M,I] -> rows[N,I]", "rows[n] = source[order[n]]"),
        OpSpec("gather_labels", "order[N]:i8 source[M]:i8 -> rows[N]:i8", "rows[n] = source[order[n]]"),
        # The weight gradient of some inputs: x begins at the first of them, its rows are L apart.
        OpSpec("dense_weights", "x[N,L] dz[N,O] -> dw[I,O]", "dw = xᵀ·dz"),
        # Some of the outputs: w and dw begin at the first of them, their rows are L apart.
        OpSpec("dense_block", "x[N,I] w[I,L] b[O]? -> y[N,O]", "y = x·w + b"),
        OpSpec("dense_block_backward", "x[N,I] w[I,L] dz[N,O] -> dx[N,I]? dw[I,L]?", "dx = dz·wᵀ, dw = xᵀ·dz"),
        OpSpec("dense_join", "parts[S,R,O] -> y[N,O]", "y = Σₛ parts[s]"),
        OpSpec("combine", "g[P]! part[P]", "g += part"),
        OpSpec("check", "g[P] total[]!:f8", "total += Σ g·0, which is 0 or NaN"),
        OpSpec("sum_of_squares", "g[P] -> total[]:f8", "total = Σ g²"),
        OpSpec("scale_to_norm", "g[P]! squares[S]:f8", "g *= min(1, clip_norm/√Σ squares)", scalars=["clip_norm"]),
    )
}

SIGNATURE = f"void({', '.join(['CPointer(int64)'] * 4)})"


def spec_of(op: str) -> OpSpec:
    return INTERNAL.get(op) or OPS[op]


@functools.lru_cache(1024)
def letters(spec: OpSpec) -> tuple[str, ...]:
    """The dimensions by name, in the order in which the signature names them."""
    return tuple(dict.fromkeys(n for arg in spec.args for n in arg.shape if not n.isdigit()))


def number_bits(name: str, value: Any) -> int:
    """A scalar as the 64 bits that stand for it in `numbers`."""
    if name in INTEGERS:
        return (int(value) + 2**63) % 2**64 - 2**63
    bits: int = _INT64.unpack(_FLOAT64.pack(value))[0]
    return bits


_INT64, _FLOAT64 = struct.Struct("q"), struct.Struct("d")


def has(op: str) -> bool:
    """Whether the op has a body here."""
    return op in bodies.FAMILIES or "numba" in CUSTOM.get(op, {})


# What the attributes of the built-in ops can be.
_CHOICES: dict[str, tuple[Any, ...]] = {
    "activation": ("linear", "relu", "leaky_relu", "elu", "softplus", "sigmoid", "tanh"),
    "nesterov": (False, True),
    "mode": ("perturb", "sample"),
}


# What a plan by features does piece by piece.
IN_PIECES = frozenset({"check", *PENALTIES, "sgd_step", "adagrad_step", "rmsprop_step", "adam_step"})


def variants() -> Iterator[tuple[str, tuple[tuple[str, Any], ...], bool]]:
    """Every built-in op with every choice of its attributes, and again as it is done in pieces."""
    yield "product", (), False
    for op in (*INTERNAL, *(name for name in OPS if name not in CUSTOM)):
        names = spec_of(op).attributes
        for values in itertools.product(*(_CHOICES[name] for name in names)):
            attributes = tuple(zip(names, values, strict=True))
            yield op, attributes, False
            if op in IN_PIECES:
                yield op, attributes, True


def origin(op: str) -> str:
    """Where the op's body is written."""
    if op in bodies.FAMILIES:
        return f"{__package__}.{bodies.FAMILIES[op]}.{op}"
    body = CUSTOM[op]["numba"]
    return f"{body.__module__}.{body.__qualname__}"


_unkept = itertools.count()  # ops of users that cannot be told apart from later versions, so not kept on disk


@functools.cache
def address(op: str, dtype: str, attributes: tuple[tuple[str, Any], ...] = (), *, pieces: bool = False) -> int:
    """The compiled op, from the cache on disk where it is there; with `pieces`, as `wrappers.in_pieces` has it."""
    if op in CUSTOM:
        return _own_address(op, dtype, attributes)
    key = f"{op} {dtype} {attributes}" + " in pieces" * pieces
    build = functools.partial(_wrapped, op, dtype, attributes, pieces=pieces)
    return int(cache.compile_cfunc(key, build, SIGNATURE, OPTIONS).address)


def _wrapped(op: str, dtype: str, attributes: tuple[tuple[str, Any], ...], *, pieces: bool = False) -> Any:
    from . import wrappers

    return (wrappers.in_pieces if pieces else wrappers.wrapper)(op, dtype, attributes)


def _own_address(op: str, dtype: str, attributes: tuple[tuple[str, Any], ...]) -> int:
    """The same for an op of the user's, whose body may not compile, or not be known well enough to be kept."""
    own = _fingerprint(CUSTOM[op]["numba"], set())
    try:
        digest = f"not kept, {next(_unkept)}" if own is None else hashlib.sha256(own.encode()).hexdigest()[:16]
        key = f"{op} {spec_of(op).signature} {dtype} {attributes} {digest}"
        build = functools.partial(_wrapped, op, dtype, attributes)
        return int(cache.compile_cfunc(key, build, SIGNATURE, OPTIONS, keep=own is not None).address)
    except Exception as error:
        if not cache.is_compilers(error):
            raise
        plain = re.sub(r"\x1b\[\d*m", "", str(error))  # it may come in colours
        said = [line.strip() for line in plain.splitlines() if line.strip()]
        noise = ("Failed in", "During:", "File ", "<source", "^")
        cause = next((line for line in said if not line.startswith(noise)), said[0] if said else "no reason given")
        raise OptionError(f"op {op!r}: its numba body does not compile: {cause}") from error


def _fingerprint(function: Any, seen: set[int]) -> str | None:
    """What tells two versions of a user's kernel apart: its code, and that of all that it refers to; None if unknown.

    Numba freezes globals and closures into the machine code, so a value that is not understood forbids keeping it.
    """
    function = getattr(function, "py_func", function)
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    if id(function) in seen:
        return ""
    seen.add(id(function))
    closed = dict(zip(code.co_freevars, (cell.cell_contents for cell in function.__closure__ or ()), strict=True))
    names = {name for name in code.co_names if name in function.__globals__}
    parts = [code.co_code.hex(), repr([c for c in code.co_consts if not hasattr(c, "co_code")]), repr(code.co_names)]
    if any(hasattr(c, "co_code") for c in code.co_consts):
        return None
    values = {n: function.__globals__[n] for n in names} | closed
    defaults = {"defaults": function.__defaults__, "keyword defaults": tuple((function.__kwdefaults__ or {}).items())}
    for name, value in sorted((values | defaults).items()):
        text = _of_value(value, seen)
        if text is None:
            return None
        parts.append(f"{name}={text}")
    return " ".join(parts)


def _of_value(value: Any, seen: set[int]) -> str | None:
    """A global or closed-over value in words; None where its words would not say all."""
    if isinstance(value, ModuleType):
        return value.__name__ if value.__name__ in ("numpy", "math", "numba") else None
    if isinstance(value, (bool, int, float, complex, str, bytes, type(None), np.generic, np.dtype)):
        return repr(value)
    if isinstance(value, tuple):
        texts = [_of_value(v, seen) for v in value]
        return None if None in texts else repr(texts)
    if isinstance(value, type):  # a class of somebody's own may hold numbers
        known = value.__module__ == "builtins" or issubclass(value, np.generic)
        return f"{value.__module__}.{value.__qualname__}" if known else None
    return _fingerprint(value, seen)
