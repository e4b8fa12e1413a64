"""Behind `nnfast.functional`: from what a caller gives to one kernel call.

`following` settles who computes, `read` the dtype, `match` the dimensions, `execute` runs the kernel, and `apply_op` is
all of it for any registered op. Ops that change the caller's arrays are in `_functional_in_place`.

Arrays on a GPU stay there: they are read as arrays of the backend's own, and the outputs lie beside them (`fresh`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnfast._functional_memory import refuse_overlap, shape_of, writable_on_device
from nnfast.devices import device_of, fetched, takes
from nnfast.errors import DataError, DTypeError, OptionError, ShapeError, UnknownNameError
from nnfast.protocol import OPS, Arg, Backend, OpSpec
from nnfast.registry import device_backend, get_backend
from nnfast.validation import (
    FLOAT32,
    FLOAT64,
    Array,
    DType,
    any_array,
    convert,
    host_array,
    integer,
    labels,
    number,
    writable,
)

__all__ = ["BackendLike", "apply_op", "execute", "following", "fresh", "match", "read"]

BackendLike = str | Backend | None

_FLOATS = (FLOAT32, FLOAT64)
_HOST = np.empty(0)  # what lies on the host


def following(backend: BackendLike, given: Mapping[str, Any], follow: Mapping[str, Any] | None = None) -> BackendLike:
    """Who computes: what was asked for; by default, where arrays lie on a GPU, the backend of that.

    Then all of `given` must lie there. Targets and sample weights, in `follow`, may also be on the host.
    """
    if _all_numpy(given) and (follow is None or _all_numpy(follow)):  # as nearly always
        return backend
    arrays = {n: a for n, a in ({**given, **follow} if follow else given).items() if type(a) is not np.ndarray}
    there = [n for n, a in arrays.items() if a is not None and device_of(a)]
    if not there:
        return backend if backend is None or isinstance(backend, str) else get_backend(backend)
    chosen = device_backend(backend)
    if chosen.device != "cpu":
        for name, a in given.items():
            if a is not None and name not in there:
                raise DTypeError(
                    f"{there[0]} lies on {device_of(arrays[there[0]])} and {name} on the host; "
                    f"copy one to where the other is (CuPy: cupy.asarray({name}), {there[0]}.get())"
                )
    return chosen


def _all_numpy(given: Mapping[str, Any]) -> bool:
    for a in given.values():  # noqa: SIM110  # `all` would take twice as long, in every call
        if type(a) is not np.ndarray and a is not None:
            return False
    return True


def read(
    given: Mapping[str, Any], follow: Mapping[str, Any] | None = None, backend: BackendLike = None
) -> tuple[DType, dict[str, Array]]:
    """Arrays by name, and the dtype to compute in. `backend` is what `following` gave.

    The float arrays among `given` must agree, and that is the dtype. Targets and sample weights, in `follow`, are
    converted to it, on the host, where their values are checked. Python sequences, integers and booleans have no say;
    where nothing has one it is float64. Those of `follow` that are None are left out; in `given` None is an error.
    """
    arrays: dict[str, Array] = {}
    owner, dtype = "", None
    place = None if isinstance(backend, str) else backend
    for name, a in given.items():
        arrays[name] = host_array(name, a) if type(a) is np.ndarray else any_array(name, a, place)
        own = _own_dtype(name, a, arrays[name])
        if own is not None and dtype is not None and own != dtype:
            raise DTypeError(
                f"{owner} is {dtype} but {name} is {own}; an op computes in one dtype: use {name}.astype(np.{dtype})"
            )
        if own is not None and dtype is None:
            owner, dtype = name, own
    for name, a in (follow or {}).items():
        if a is not None:
            arrays[name] = host_array(name, a if type(a) is np.ndarray else fetched(name, a, place))
            if dtype is None and arrays[name].dtype.newbyteorder("=") in _FLOATS:
                dtype = _own_dtype(name, a, arrays[name])
    return FLOAT64 if dtype is None else dtype, arrays


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


def fresh(shape: tuple[int, ...], dtype: DType, beside: Array, backend: BackendLike) -> Array:
    """An array for an output: where `beside` lies."""
    if isinstance(beside, np.ndarray):
        return np.empty(shape, dtype)
    made: Array = get_backend(backend).empty(shape, dtype)
    return made


def execute(op: str, backend: BackendLike, *arrays: Array | None, **scalars: Any) -> None:
    """Run a kernel on arrays in the order of its signature. An op that the backend lacks runs on the reference.

    Arrays on the host are copied to the backend's device and back. Work on a device's own arrays may still go on.
    """
    chosen = get_backend(backend)
    kernel = chosen.kernel(op)
    if kernel is None:
        _execute_on_reference(op, chosen, arrays, scalars)
        return
    if chosen.device == "cpu":
        kernel(*arrays, **scalars)
        return
    args = OPS[op].args
    there = [_upload(chosen, arg, a) for arg, a in zip(args, arrays, strict=True)]
    kernel(*there, **scalars)
    back = [
        (a, d) for arg, a, d in zip(args, arrays, there, strict=True) if isinstance(a, np.ndarray) and arg.role != "in"
    ]
    if back:
        chosen.synchronize()
    for a, d in back:
        a[...] = chosen.to_numpy(d)


def _upload(backend: Backend, arg: Arg, a: Array | None) -> Any:
    if a is None or not isinstance(a, np.ndarray):
        return a
    return backend.empty(a.shape, a.dtype) if arg.role == "out" else backend.asarray(a)


def _execute_on_reference(op: str, owner: Backend, arrays: Sequence[Any], scalars: Mapping[str, Any]) -> None:
    """Arrays of a device are copied to the host and back."""
    kernel = get_backend("numpy").kernel(op)
    if kernel is None:
        raise UnknownNameError("op", op, OPS)
    hosts = [a if a is None or isinstance(a, np.ndarray) else np.array(owner.to_numpy(a)) for a in arrays]
    kernel(*hosts, **scalars)
    for arg, a, host in zip(OPS[op].args, arrays, hosts, strict=True):
        if host is not a and arg.role != "in":
            a[...] = owner.asarray(host)


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
    spec = OPS.get(op) if isinstance(op, str) else None
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
    if dims is not None and not isinstance(dims, Mapping):
        raise DTypeError(f"dims is {dims!r}; expected sizes by the name of the dimension, as in dims={{'O': 3}}")
    sizes = {name: integer(f"dims[{name!r}]", n, 0) for name, n in (dims or {}).items()}
    backend = following(
        backend,
        {arg.name: given.get(arg.name) for arg in inputs if arg.dtype != "label"},
        {arg.name: given.get(arg.name) for arg in inputs if arg.dtype == "label"},
    )
    ready, dtype = _bind(op, inputs, given, sizes, backend)
    beside = next((a for a in ready.values() if not isinstance(a, np.ndarray)), _HOST)
    for arg in spec.args:
        if arg.role == "out":
            ready[arg.name] = fresh(_shape(op, arg, sizes), FLOAT64 if arg.dtype == "f8" else dtype, beside, backend)
    execute(op, backend, *(ready.get(arg.name) for arg in spec.args), **scalars)
    outputs = tuple(ready[arg.name] for arg in spec.args if arg.role == "out")
    return outputs[0] if len(outputs) == 1 else outputs or None


def _bind(
    op: str, inputs: Sequence[Arg], given: Mapping[str, Any], dims: dict[str, int], backend: BackendLike
) -> tuple[dict[str, Array], DType]:
    """The inputs as a kernel takes them, and the dtype; fills `dims`. Labels come last, when N and O are known."""
    working = {arg.name: given[arg.name] for arg in inputs if arg.dtype == "T" and given.get(arg.name) is not None}
    dtype, arrays = read(working, backend=backend)
    place = None if isinstance(backend, str) else backend
    ready: dict[str, Array] = {}
    for arg in sorted(inputs, key=lambda arg: arg.dtype == "label"):
        a = given.get(arg.name)
        if a is None:
            continue
        kind = FLOAT64 if arg.dtype == "f8" else dtype
        if arg.dtype == "label":
            rows, classes = _shape(op, arg, dims)
            ready[arg.name] = labels(arg.name, fetched(arg.name, a, place), rows, classes, dtype)
            continue
        array = arrays[arg.name] if arg.name in arrays else any_array(arg.name, a, place)
        match(arg.name, array, arg.shape, dims)
        ready[arg.name] = _direct(arg.name, a, kind, place) if arg.role == "inout" else convert(arg.name, array, kind)
    refuse_overlap(ready, {arg.name for arg in inputs if arg.role == "inout"})
    return ready, dtype


def _direct(name: str, a: Any, dtype: DType, place: Backend | None) -> Array:
    """The caller's array as a kernel writes to it: here no copy goes back, so it must be contiguous."""
    if place is not None and takes(place, a):
        return writable_on_device(name, a, dtype, place)
    array = writable(name, a, shape_of(a), dtype)
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
        value = scalars[name]
        if isinstance(value, int | np.integer) and not isinstance(value, (bool, np.timedelta64)):
            integer(name, value, -(2**63), 2**64 - 1)  # a key has 64 bits, more than a float holds
        else:
            number(name, value)
