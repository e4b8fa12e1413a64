"""Ops of your own: `register_op` puts one into the table, where layers and backends find it."""

from __future__ import annotations

import inspect
from _thread import allocate_lock
from typing import Any

from nnfast.errors import DTypeError, OptionError
from nnfast.protocol import CUSTOM, OPS, Kernel, OpSpec

__all__ = ["register_op"]

_lock = allocate_lock()


def register_op(spec: OpSpec, *, reference: Kernel, numba: Any = None, cuda: Any = None) -> None:
    """Add an op to `nnfast.protocol.OPS`. `reference` is its NumPy kernel; the others are optional faster versions.

    reference   takes the arrays of `spec.signature` by position and its scalars and attributes by keyword
    numba       a function that Numba can compile, called inside compiled code: the arrays in the same order, then the
                scalars by position. An absent array comes with no elements, a `label` target as two arrays (indices
                (N,) int64 and rows (N, O), one of them empty), a lone number as an array of one element. With
                `spec.attributes` it is instead a function of these, by keyword, that returns such a function.
                It must write to nothing but its outputs, and cannot raise. Written as loops it is compiled once and
                kept on disk; expressions over whole arrays allocate, and are compiled again by every process.
                `nnfast/examples/own_op.py` shows one.
    cuda        called like the reference, with arrays of CuPy by position and its scalars and attributes by keyword;
                what it launches, it launches on CuPy's current stream, and it waits for nothing. The program is cut
                there: the step returns to Python for it, and is not one graph. Without it the reference runs on the
                host, with copies there and back in every step.

    A backend without a version of its own cuts the program and runs the reference there. With `spec.by_rows` the
    compiled op is given the batch in pieces, by several threads.
    """
    if not isinstance(spec, OpSpec):
        raise DTypeError(f"spec is {spec!r}; expected an nnfast.protocol.OpSpec")
    if not callable(reference):
        raise OptionError(f"op {spec.name!r}: reference is {reference!r}; every op needs its NumPy kernel, the judge")
    for arg in spec.args:
        if arg.dtype not in ("T", "f8", "label"):
            raise OptionError(f"op {spec.name!r}: {arg.name} has the dtype {arg.dtype!r}; known are f8 and label")
        if arg.dtype == "label" and len(arg.shape) != 2:
            wanted = "[N,O]: rows, or one index for each row"
            raise OptionError(f"op {spec.name!r}: {arg.name} is a label, and those have the shape {wanted}")
    _check_parameters(spec, "reference", reference)
    if cuda is not None:
        if not callable(cuda):
            raise OptionError(f"op {spec.name!r}: cuda is {cuda!r}; expected a function on CuPy's arrays")
        _check_parameters(spec, "cuda", cuda)
    if numba is not None:
        _check_body(spec, numba)
    with _lock:
        if spec.name in OPS:
            raise OptionError(f"op {spec.name!r} exists already: {OPS[spec.name].signature}; choose another name")
        given = {"reference": reference, "numba": numba, "cuda": cuda}
        CUSTOM[spec.name] = {key: kernel for key, kernel in given.items() if kernel is not None}
        OPS[spec.name] = spec


def _check_parameters(spec: OpSpec, which: str, kernel: Kernel) -> None:
    """The kernel's parameters must be the arrays of the signature, in order, then the scalars and attributes."""
    wanted = [arg.name for arg in spec.args]
    options = [*spec.scalars, *spec.attributes]
    try:
        signature = inspect.signature(kernel)
    except (TypeError, ValueError) as error:
        raise OptionError(f"op {spec.name!r}: {which} has no signature that can be read ({error})") from error
    parameters = list(signature.parameters.values())
    arrays, rest = parameters[: len(wanted)], parameters[len(wanted) :]
    if (
        [p.name for p in arrays] != wanted
        or sorted(p.name for p in rest) != sorted(options)
        or any(p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in arrays)
        or any(p.kind not in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) for p in rest)
    ):
        expected = ", ".join([*wanted, *(["*"] if options else []), *options])
        raise OptionError(f"op {spec.name!r}: {which} takes {signature}; its spec asks for ({expected})")


def _check_body(spec: OpSpec, body: Any) -> None:
    """A body takes as many arguments as its spec gives it; a factory takes the attributes by keyword."""
    if not callable(body):
        raise OptionError(f"op {spec.name!r}: numba is {body!r}; expected a function that Numba can compile")
    try:
        parameters = inspect.signature(getattr(body, "py_func", body)).parameters
    except (TypeError, ValueError) as error:
        raise OptionError(f"op {spec.name!r}: numba has no signature that can be read ({error})") from error
    if spec.attributes:
        if set(parameters) != set(spec.attributes):
            wanted = ", ".join(spec.attributes)
            raise OptionError(
                f"op {spec.name!r}: numba takes {tuple(parameters)}; with attributes, a factory: ({wanted})"
            )
        return
    arrays = [
        n for a in spec.args for n in ([f"{a.name} (indices)", f"{a.name} (rows)"] if a.dtype == "label" else [a.name])
    ]
    expected = [*arrays, *spec.scalars]
    if len(parameters) != len(expected):
        raise OptionError(
            f"op {spec.name!r}: numba takes {tuple(parameters)}; its spec asks for ({', '.join(expected)})"
        )
