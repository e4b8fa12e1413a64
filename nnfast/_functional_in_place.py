"""Behind `nnfast.functional`: ops over parameters of any shape that change the caller's arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnfast._functional_call import BackendLike, execute, following, read
from nnfast._functional_memory import refuse_overlap, shape_of, writable_on_device
from nnfast.devices import adopted, own_memory, takes
from nnfast.errors import DTypeError, ShapeError
from nnfast.protocol import OPS, Arg, Backend
from nnfast.validation import FLOAT32, FLOAT64, Array, convert, host_array, writable

__all__ = ["in_place"]

_FLOATS = (FLOAT32, FLOAT64)


def in_place(op: str, backend: BackendLike, arrays: Mapping[str, Any], **scalars: Any) -> None:
    """Run an op over parameters of any shape, changing the caller's arrays; `arrays` in the order of the signature.

    All are checked before any changes. The first decides shape and dtype, and where all of them lie.
    """
    args = OPS[op].args
    first = arrays[args[0].name]
    if type(first) is np.ndarray and first.dtype in _FLOATS and _simple(args, arrays, first):
        flat = arrays.values() if first.ndim == 1 else [a if a is None else a.reshape(-1) for a in arrays.values()]
        execute(op, backend, *flat, **scalars)
        return
    backend = following(backend, arrays)
    if not isinstance(backend, str) and takes(backend, first):
        assert backend is not None
        _in_place_on_device(op, backend, arrays, scalars)
        return
    arrays = {name: own_memory(a) for name, a in arrays.items()}
    first = arrays[args[0].name]
    if not isinstance(first, np.ndarray) or first.dtype.newbyteorder("=") not in _FLOATS:
        kind = first.dtype if isinstance(first, np.ndarray) else f"a {type(first).__name__}"
        host_array(args[0].name, first)
        raise DTypeError(
            f"{args[0].name} is {kind}; it is updated in place, so it must be a NumPy array of float32 or float64"
        )
    dtype = first.dtype.newbyteorder("=")
    hosts: dict[str, Array] = {}
    for arg in args:
        a = arrays[arg.name]
        if a is None and arg.optional:
            continue
        kind, shape = (FLOAT64, shape_of(a)) if arg.dtype == "f8" else (dtype, first.shape)
        if arg.role == "inout":
            hosts[arg.name] = writable(arg.name, a, shape, kind)
        else:
            hosts |= read({args[0].name: first, arg.name: a})[1]
            if hosts[arg.name].shape != shape:
                raise ShapeError(
                    f"{arg.name} has shape {hosts[arg.name].shape}; expected {shape}, that of {args[0].name}"
                )
    written = {arg.name for arg in args if arg.role == "inout"}
    refuse_overlap(hosts, written)
    work = {name: convert(name, a, FLOAT64 if _kind(args, name) == "f8" else dtype) for name, a in hosts.items()}
    execute(op, backend, *(work[arg.name].reshape(-1) if arg.name in work else None for arg in args), **scalars)
    for name in written & work.keys():
        if work[name] is not hosts[name]:
            hosts[name][...] = work[name]


def _in_place_on_device(op: str, backend: Backend, arrays: Mapping[str, Any], scalars: Mapping[str, Any]) -> None:
    """The same on arrays of a device, whose own memory is written to: what changes must be in one piece."""
    args = OPS[op].args
    first = adopted(args[0].name, arrays[args[0].name], backend)
    if first.dtype not in _FLOATS:
        raise DTypeError(
            f"{args[0].name} is {first.dtype}; it is updated in place, so it must be an array of float32 or float64"
        )
    ready: dict[str, Array] = {}
    for arg in args:
        a = arrays[arg.name]
        if a is None and arg.optional:
            continue
        kind, shape = (FLOAT64, shape_of(a)) if arg.dtype == "f8" else (first.dtype, first.shape)
        if arg.role == "inout":
            ready[arg.name] = writable_on_device(arg.name, a, kind, backend, shape)
        else:
            read_in = read({args[0].name: first, arg.name: a}, backend=backend)[1]
            ready[arg.name] = convert(arg.name, read_in[arg.name], kind)
            if ready[arg.name].shape != shape:
                raise ShapeError(
                    f"{arg.name} has shape {ready[arg.name].shape}; expected {shape}, that of {args[0].name}"
                )
    refuse_overlap(ready, {arg.name for arg in args if arg.role == "inout"})
    execute(op, backend, *(ready[arg.name].reshape(-1) if arg.name in ready else None for arg in args), **scalars)


def _simple(args: Sequence[Arg], arrays: Mapping[str, Any], first: Array) -> bool:
    """Whether the arrays are as nearly always: alike, in one piece each, and apart. Others are looked at closely."""
    dtype, shape = first.dtype, first.shape
    seen: list[Array] = []
    for arg in args:
        a = arrays[arg.name]
        if a is None and arg.optional:
            continue
        if type(a) is not np.ndarray or a.dtype != dtype or a.shape != shape or arg.dtype != "T":
            return False
        flags = a.flags
        if not (flags.carray or (arg.role == "in" and flags.c_contiguous and flags.aligned)):
            return False
        for b in seen:
            if np.may_share_memory(a, b):
                return False
        seen.append(a)
    return bool(dtype.isnative)


def _kind(args: Sequence[Arg], name: str) -> str:
    return next(arg.dtype for arg in args if arg.name == name)
