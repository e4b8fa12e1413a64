"""Behind `nnfast.functional`: from what a caller gives to one kernel call.

`read` settles the dtype, `match` the dimensions, `execute` runs the kernel on the chosen backend, `in_place` does the
same for ops that change the caller's arrays, and `apply_op` is all of it for any registered op.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from nnfast.errors import DataError, DTypeError, OptionError, ShapeError, UnknownNameError
from nnfast.protocol import OPS, Arg, Backend, OpSpec
from nnfast.registry import get_backend
from nnfast.validation import FLOAT32, FLOAT64, Array, DType, convert, host_array, integer, labels, number, writable

__all__ = ["BackendLike", "apply_op", "execute", "in_place", "match", "read"]

BackendLike = str | Backend | None

_FLOATS = (FLOAT32, FLOAT64)


def read(given: Mapping[str, Any], follow: Mapping[str, Any] | None = None) -> tuple[DType, dict[str, Array]]:
    """Host arrays by name, and the dtype to compute in.

    The float arrays among `given` must agree, and that is the dtype. Targets and sample weights, in `follow`, are
    converted to it. Python sequences, integers and booleans have no say; where nothing has one it is float64.
    Entries that are None are left out.
    """
    hosts: dict[str, Array] = {}
    owner, dtype = "", None
    for name, a in given.items():
        if a is None:
            continue
        hosts[name] = host_array(name, a)
        own = _own_dtype(name, a, hosts[name])
        if own is not None and dtype is not None and own != dtype:
            raise DTypeError(
                f"{owner} is {dtype} but {name} is {own}; an op computes in one dtype: use {name}.astype(np.{dtype})"
            )
        if own is not None and dtype is None:
            owner, dtype = name, own
    for name, a in (follow or {}).items():
        if a is not None:
            hosts[name] = host_array(name, a)
            own = _own_dtype(name, a, hosts[name])
            dtype = own if dtype is None else dtype
    return FLOAT64 if dtype is None else dtype, hosts


def _own_dtype(name: str, a: Any, host: Array) -> DType | None:
    """The dtype that an argument brings along; None for integers and for plain Python numbers and sequences."""
    if type(a) is np.ndarray and (a.dtype is FLOAT32 or a.dtype is FLOAT64):  # as nearly always
        return a.dtype
    if host.dtype.kind != "f" or (isinstance(a, (list, tuple, int, float)) and not isinstance(a, np.generic)):
        return None
    native: DType = host.dtype.newbyteorder("=")
    if native not in _FLOATS:
        raise DTypeError(f"{name} is {native}; supported are float32 and float64: use {name}.astype(np.float32)")
    return native


def match(name: str, a: Array, symbols: Sequence[str], dims: dict[str, int]) -> None:
    """Check a shape against its dimensions, as in ("N", "I"), noting those seen for the first time in `dims`."""
    expected = f"({', '.join(symbols)}{',' if len(symbols) == 1 else ''})"
    if a.ndim != len(symbols):
        hint = f"; for one sample use {name}.reshape(1, -1)" if a.ndim == 1 and tuple(symbols[:1]) == ("N",) else ""
        raise ShapeError(f"{name} has shape {a.shape}; expected {expected}{hint}")
    for symbol, n in zip(symbols, a.shape, strict=True):
        known = int(symbol) if symbol.isdigit() else dims.setdefault(symbol, n)
        if n != known:
            raise ShapeError(f"{name} has shape {a.shape}; expected {expected} with {symbol} = {known}")
        if n == 0 and symbol in ("I", "O"):
            raise ShapeError(f"{name} has shape {a.shape}; expected {expected} with {symbol} at least 1")


def execute(op: str, backend: BackendLike, *arrays: Array | None, **scalars: Any) -> None:
    """Run a kernel on host arrays in the order of its signature. An op that the backend lacks runs on the reference."""
    chosen = get_backend(backend)
    kernel = chosen.kernel(op)
    if kernel is None:
        chosen = get_backend("numpy")
        kernel = chosen.kernel(op)
    if kernel is None:
        raise UnknownNameError("op", op, OPS)
    if chosen.device == "cpu":
        kernel(*arrays, **scalars)
        return
    args = OPS[op].args
    there = [_upload(chosen, arg, a) for arg, a in zip(args, arrays, strict=True)]
    kernel(*there, **scalars)
    chosen.synchronize()
    for arg, a, d in zip(args, arrays, there, strict=True):
        if a is not None and arg.role != "in":
            a[...] = chosen.to_numpy(d)


def _upload(backend: Backend, arg: Arg, a: Array | None) -> Any:
    if a is None:
        return None
    return backend.empty(a.shape, a.dtype) if arg.role == "out" else backend.asarray(a)


def in_place(op: str, backend: BackendLike, arrays: Mapping[str, Any], **scalars: Any) -> None:
    """Run an op over parameters of any shape, changing the caller's arrays; `arrays` in the order of the signature.

    All are checked before any changes. The first decides shape and dtype.
    """
    args = OPS[op].args
    first = arrays[args[0].name]
    if not isinstance(first, np.ndarray) or first.dtype.newbyteorder("=") not in _FLOATS:
        kind = first.dtype if isinstance(first, np.ndarray) else f"a {type(first).__name__}"
        host_array(args[0].name, first)
        raise DTypeError(
            f"{args[0].name} is {kind}; it is updated in place, so it must be a NumPy array of float32 or float64"
        )
    if _simple(args, arrays, first):
        flat = arrays.values() if first.ndim == 1 else [a if a is None else a.reshape(-1) for a in arrays.values()]
        execute(op, backend, *flat, **scalars)
        return
    dtype = first.dtype.newbyteorder("=")
    hosts: dict[str, Array] = {}
    for arg in args:
        a = arrays[arg.name]
        if a is None:
            continue
        kind, shape = (FLOAT64, np.shape(a)) if arg.dtype == "f8" else (dtype, first.shape)
        if arg.role == "inout":
            hosts[arg.name] = writable(arg.name, a, shape, kind)
        else:
            hosts |= read({args[0].name: first, arg.name: a})[1]
            if hosts[arg.name].shape != shape:
                raise ShapeError(
                    f"{arg.name} has shape {hosts[arg.name].shape}; expected {shape}, that of {args[0].name}"
                )
    written = {arg.name for arg in args if arg.role == "inout"}
    _refuse_overlap(hosts, written)
    work = {name: convert(name, a, FLOAT64 if _kind(args, name) == "f8" else dtype) for name, a in hosts.items()}
    execute(op, backend, *(work[arg.name].reshape(-1) if arg.name in work else None for arg in args), **scalars)
    for name in written & work.keys():
        if work[name] is not hosts[name]:
            hosts[name][...] = work[name]


def _simple(args: Sequence[Arg], arrays: Mapping[str, Any], first: Array) -> bool:
    """Whether the arrays are as nearly always: alike, in one piece each, and apart. Others are looked at closely."""
    dtype, shape = first.dtype, first.shape
    seen: list[Array] = []
    for arg in args:
        a = arrays[arg.name]
        if a is None:
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


def _refuse_overlap(hosts: Mapping[str, Array], written: set[str]) -> None:
    for (name, a), (other, b) in combinations(hosts.items(), 2):
        if (name in written or other in written) and _share(a, b):
            raise DataError(f"{name} and {other} share memory, and the op writes to one of them; give {other}.copy()")


def _share(a: Array, b: Array) -> bool:
    try:
        return np.shares_memory(a, b, max_work=100_000)  # type: ignore[arg-type]  # the stub lacks this form
    except np.exceptions.TooHardError:
        return True


def apply_op(
    op: str, /, *arrays: Any, backend: BackendLike = None, dims: Mapping[str, int] | None = None, **scalars: Any
) -> Any:
    """Call any op of `nnfast.protocol.OPS`, those of `nn.register_op` too, by its name.

    `arrays` are the op's inputs in the order of its signature (None, or left out at the end, where optional); those
    marked `!` are updated in place. The outputs are allocated from the dimensions of the inputs, further ones coming
    from `dims`, and returned: one array, a tuple, or None where there are none. Scalars and attributes go by keyword,
    all of them. Checked are shapes, dtypes and labels; what range a scalar may have only the op knows.

        y = apply_op("leaky_relu", x, alpha=0.1)
    """
    spec = OPS.get(op)
    if spec is None:
        raise UnknownNameError("op", op, OPS)
    _check_keywords(spec, scalars)
    inputs = [arg for arg in spec.args if arg.role != "out"]
    given = dict(zip((arg.name for arg in inputs), arrays, strict=False))
    missing = [arg.name for arg in inputs if given.get(arg.name) is None and not arg.optional]
    if missing or len(arrays) > len(inputs):
        raise OptionError(
            f"op {op!r} takes {len(inputs)} input arrays ({spec.signature}); {len(arrays)} were given"
            + (f", {missing[0]} is missing" if missing else "")
        )
    sizes = {name: integer(f"dims[{name!r}]", n, 0) for name, n in (dims or {}).items()}
    ready, dtype = _bind(op, inputs, given, sizes)
    for arg in spec.args:
        if arg.role == "out":
            ready[arg.name] = np.empty(_shape(op, arg, sizes), FLOAT64 if arg.dtype == "f8" else dtype)
    execute(op, backend, *(ready.get(arg.name) for arg in spec.args), **scalars)
    outputs = tuple(ready[arg.name] for arg in spec.args if arg.role == "out")
    return outputs[0] if len(outputs) == 1 else outputs or None


def _bind(
    op: str, inputs: Sequence[Arg], given: Mapping[str, Any], dims: dict[str, int]
) -> tuple[dict[str, Array], DType]:
    """The inputs as a kernel takes them, and the dtype; fills `dims`. Labels come last, when N and O are known."""
    working = {arg.name: given.get(arg.name) for arg in inputs if arg.dtype == "T"}
    dtype, hosts = read(working)
    ready: dict[str, Array] = {}
    for arg in sorted(inputs, key=lambda arg: arg.dtype == "label"):
        a = given.get(arg.name)
        if a is None:
            continue
        kind = FLOAT64 if arg.dtype == "f8" else dtype
        if arg.dtype == "label":
            rows, classes = _shape(op, arg, dims)
            ready[arg.name] = labels(arg.name, a, rows, classes, dtype)
            continue
        host = hosts[arg.name] if arg.name in hosts else host_array(arg.name, a)
        match(arg.name, host, arg.shape, dims)
        ready[arg.name] = _direct(arg.name, a, kind) if arg.role == "inout" else convert(arg.name, host, kind)
    _refuse_overlap(ready, {arg.name for arg in inputs if arg.role == "inout"})
    return ready, dtype


def _direct(name: str, a: Any, dtype: DType) -> Array:
    """The caller's array as a kernel writes to it: here no copy goes back, so it must be contiguous."""
    array = writable(name, a, np.shape(a), dtype)
    if convert(name, array, dtype) is not array:
        raise DataError(
            f"{name} is not a C-contiguous, aligned, native array; it is updated in place: give {name}.copy()"
        )
    return array


def _shape(op: str, arg: Arg, dims: Mapping[str, int]) -> tuple[int, ...]:
    unknown = [s for s in arg.shape if not s.isdigit() and s not in dims]
    if unknown:
        raise OptionError(
            f"op {op!r}: no input tells the dimension {unknown[0]} of {arg.name}; give dims={{{unknown[0]!r}: …}}"
        )
    return tuple(int(s) if s.isdigit() else dims[s] for s in arg.shape)


def _check_keywords(spec: OpSpec, scalars: Mapping[str, Any]) -> None:
    wanted = (*spec.scalars, *spec.attributes)
    if set(scalars) != set(wanted):
        raise OptionError(f"op {spec.name!r} takes the keywords {list(wanted)}, not {sorted(scalars)}")
    for name in spec.scalars:
        if not hasattr(scalars[name], "__index__") or isinstance(scalars[name], bool):
            number(name, scalars[name])
