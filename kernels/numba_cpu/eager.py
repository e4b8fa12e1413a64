"""Kernels as the protocol has them: an op called by hand, on arrays, outside any program.

They call the functions of the table that programs run on. A large call is cut into shares, see `large_calls.py`.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import struct
from array import array
from typing import Any

import numpy as np

from nnfast.protocol import CUSTOM, Arg, Kernel, OpSpec, num_threads

from . import table
from .addresses import address_of
from .context import WORDS, scratch_bytes
from .large_calls import Layout, Shared
from .memory import scratch_memory
from .modes import COMPILED
from .plan import split_of

__all__ = ["make_kernel"]

LAYOUTS = 256  # kept per op; a program that calls with ever new shapes begins anew
SHARED = 40e-6  # seconds alone, roughly, from which on several threads are worth their while
SPEED = 1e11  # floating-point operations per second of one core, and bytes per second while they fit its cache


def make_kernel(op: str) -> Kernel:
    """The kernel of an op: arrays by position, scalars and attributes by keyword."""
    spec = table.spec_of(op)
    make = Compiled(spec) if COMPILED else Body(spec)

    def kernel(*arrays: Any, **keywords: Any) -> None:
        make(arrays, keywords)

    kind = inspect.Parameter
    positional = [kind(arg.name, kind.POSITIONAL_OR_KEYWORD) for arg in spec.args]
    keyword = [kind(name, kind.KEYWORD_ONLY) for name in (*spec.scalars, *spec.attributes)]
    kernel.__signature__ = inspect.Signature([*positional, *keyword])  # type: ignore[attr-defined]
    kernel.__name__ = kernel.__qualname__ = op
    kernel.__module__ = table.origin(op).rpartition(".")[0]
    kernel.__doc__ = spec.equation
    return kernel


def _typed(spec: OpSpec) -> list[int]:
    """The places of the arrays that have the working dtype."""
    return [i for i, arg in enumerate(spec.args) if arg.dtype == "T"]


def _dtype(typed: list[int], arrays: tuple[Any, ...]) -> Any:
    """The working dtype of a call."""
    for i in typed:
        if arrays[i] is not None:
            return arrays[i].dtype
    return None


class Body:
    """Calls an op's body as it reads, for the two modes in which nothing goes through the table."""

    def __init__(self, spec: OpSpec) -> None:
        self._spec = spec
        self._typed = _typed(spec)
        self._context = np.zeros(WORDS, np.int64)

    def __call__(self, arrays: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        from .wrappers import body_of

        spec = self._spec
        body = body_of(spec.name, tuple((name, keywords[name]) for name in spec.attributes))
        dtype = _dtype(self._typed, arrays)
        given: list[Any] = []
        for arg, a in zip(spec.args, arrays, strict=True):
            given += _as_body_takes(arg, a, dtype)
        for name in spec.scalars:
            whole, value = name in table.INTEGERS, keywords[name]
            given.append(np.int64(table.number_bits(name, value)) if whole else np.float64(value))
        if spec.name in table.NEEDS_CONTEXT:
            given.append(self._context)
        with np.errstate(all="ignore"):
            body(*given)


class Compiled:
    """Calls an op through the table."""

    def __init__(self, spec: OpSpec) -> None:
        self._spec = spec
        self._letters = table.letters(spec)
        self._typed = _typed(spec)
        self._labels = [i for i, arg in enumerate(spec.args) if arg.dtype == "label"]
        self._split = self._split_of(spec)
        self._layouts: dict[Any, Layout] = {}
        self._shared: dict[Any, Shared] = {}

    @staticmethod
    def _split_of(spec: OpSpec) -> str | None:
        """The dimension that a large call is cut along; None where it cannot be."""
        if spec.name in CUSTOM or spec.name == "clip_by_global_norm":
            return None
        return {"rows": "N", "elements": "P"}.get(split_of(spec.name))

    def __call__(self, arrays: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        spec = self._spec
        if len(arrays) != len(spec.args):
            raise TypeError(f"{spec.name} takes {len(spec.args)} arrays; given: {len(arrays)}")
        dtype = _dtype(self._typed, arrays)
        attributes = tuple([keywords[name] for name in spec.attributes])
        shapes = tuple([None if a is None else a.shape for a in arrays])
        threads = num_threads()
        key = dtype, attributes, shapes, threads
        layout = self._layouts.get(key)
        if layout is None:
            if len(self._layouts) >= LAYOUTS:
                self._layouts.clear()
                self._shared.clear()
            layout = self._layouts[key] = self._lay_out(arrays, str(dtype), attributes, threads)
        if layout.shares > 1:
            numbers = [table.number_bits(name, keywords[name]) for name in spec.scalars]
            shared = self._shared.get(key)
            if shared is None:
                pairs = tuple(zip(spec.attributes, attributes, strict=True))
                shared = self._shared[key] = Shared(spec, layout, str(dtype), pairs, arrays)
            shared.run(arrays, numbers)
            return
        words = layout.template[:]
        memory = None
        if layout.scratch:
            words[1], words[2], memory = scratch_memory(layout.scratch)
        at = layout.arrays
        for a in arrays:
            if a is not None:
                words[at] = address_of(a)
            at += 1
        at = layout.numbers
        for name in spec.scalars:
            if name in table.INTEGERS:
                words[at] = table.number_bits(name, keywords[name])
            else:
                _put_float(words, 8 * at, keywords[name])
            at += 1
        start = words.buffer_info()[0]
        layout.function(start + 8 * layout.arrays, start + 8 * layout.dims, start + 8 * layout.numbers, start)
        del memory  # until here

    def _is_sparse(self, arrays: tuple[Any, ...]) -> int:
        return int(any(arrays[i].ndim == 1 for i in self._labels))

    def _lay_out(self, arrays: tuple[Any, ...], dtype: str, attributes: tuple[Any, ...], threads: int) -> Layout:
        spec = self._spec
        sizes: dict[str, int] = {}
        for arg, a in zip(spec.args, arrays, strict=True):
            if a is not None:
                sizes.update(zip(arg.shape, a.shape, strict=False))
        context = [0] * WORDS
        scratch = 0
        if spec.name in table.NEEDS_CONTEXT:
            context[0] = table.address("product", dtype)
            scratch = scratch_bytes(sizes, dtype)
        dims = [*(sizes.get(d, 0) for d in self._letters), self._is_sparse(arrays)]
        address = table.address(spec.name, dtype, tuple(zip(spec.attributes, attributes, strict=True)))
        places = WORDS, WORDS + len(arrays), WORDS + len(arrays) + len(dims)
        template = array("q", [*context, *[0] * len(arrays), *dims, *[0] * (len(spec.scalars) + 1)])
        moved = sum(a.nbytes for a in arrays if a is not None)
        seconds = (spec.flops(sizes, frozenset()) + moved) / SPEED if self._split else 0.0
        shares = threads if seconds > SHARED else 1
        return Layout(_c_function(address), template, *places, scratch, shares, sizes, self._is_sparse(arrays))


def _as_body_takes(arg: Arg, a: Any, dtype: Any) -> list[Any]:
    """One array of a kernel as its body takes it; see `bodies.py`."""
    if a is None:
        return [np.empty((0,) * max(len(arg.shape), 1), dtype)]
    if arg.dtype == "label":
        none = np.empty((0, 0), dtype), np.empty(0, np.int64)
        return [a, none[0]] if a.ndim == 1 else [none[1], a]
    if not a.flags.writeable:  # to Numba that is another type, which the checked product does not mix with others
        a = a.copy()
    return [a.reshape(1)] if a.ndim == 0 else [a]


_put_float = struct.Struct("d").pack_into


@functools.cache
def _c_function(address: int) -> Any:
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(address)
