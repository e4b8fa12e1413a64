"""Kernels as the protocol has them: an op called by hand, on arrays, outside any program.

They call the functions of the table that programs run on. A large call is cut into shares like a step of a program.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
from array import array
from typing import Any, NamedTuple

import numpy as np

from nnfast.protocol import CUSTOM, Arg, Kernel, OpSpec, num_threads

from . import table
from .addresses import address_of
from .barrier import barrier_state
from .context import WORDS, scratch_bytes
from .interpreter import H, execute
from .memory import ELEMENT_STEP, ROW_STEP, share_bounds
from .modes import COMPILED
from .plan import split_of
from .products import PACK_BYTES, TALL

__all__ = ["make_kernel"]

LAYOUTS = 256  # kept per op; a program that calls with ever new shapes begins anew
SHARED = 80e-6  # seconds alone, roughly, from which on several threads are worth waking
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
    return next((a.dtype for a in (arrays[i] for i in typed) if a is not None), None)


class Body:
    """Calls an op's body as it reads, for the two modes in which nothing goes through the table."""

    def __init__(self, spec: OpSpec) -> None:
        self._spec = spec
        self._typed = _typed(spec)
        self._context = np.zeros(WORDS, np.int64)

    def __call__(self, arrays: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        spec = self._spec
        body = table.body_of(spec.name, tuple((name, keywords[name]) for name in spec.attributes))
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


class Layout(NamedTuple):
    """What calls with equal shapes have in common."""

    function: Any  # the compiled op
    template: Any  # context, arrays, dims, numbers, one word each
    arrays: int  # where each of these stands
    dims: int
    numbers: int
    scratch: int  # bytes, 0 if the op wants no context
    shares: int
    sizes: dict[str, int]


class Compiled:
    """Calls an op through the table."""

    def __init__(self, spec: OpSpec) -> None:
        self._spec = spec
        self._letters = table.letters(spec)
        self._typed = _typed(spec)
        self._labels = [i for i, arg in enumerate(spec.args) if arg.dtype == "label"]
        self._split = self._split_of(spec)
        self._layouts: dict[Any, Layout] = {}

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
        key = dtype, attributes, shapes, num_threads()
        layout = self._layouts.get(key)
        if layout is None:
            if len(self._layouts) >= LAYOUTS:
                self._layouts.clear()
            layout = self._layouts[key] = self._lay_out(arrays, str(dtype), attributes)
        numbers = [table.number_bits(name, keywords[name]) for name in spec.scalars]
        if layout.shares > 1:
            pairs = tuple(zip(spec.attributes, attributes, strict=True))
            Shared(spec, str(dtype), pairs, layout.sizes, self._is_sparse(arrays), layout.shares).run(
                arrays, numbers, str(self._split)
            )
            return
        words = layout.template[:]
        memory = None
        if layout.scratch:
            words[1], words[2], memory = _scratch(layout.scratch)
        at = layout.arrays
        for a in arrays:
            if a is not None:
                words[at] = address_of(a)
            at += 1
        at = layout.numbers
        for bits in numbers:
            words[at] = bits
            at += 1
        start = words.buffer_info()[0]
        layout.function(start + 8 * layout.arrays, start + 8 * layout.dims, start + 8 * layout.numbers, start)
        del memory  # until here

    def _is_sparse(self, arrays: tuple[Any, ...]) -> int:
        return int(any(arrays[i].ndim == 1 for i in self._labels))

    def _lay_out(self, arrays: tuple[Any, ...], dtype: str, attributes: tuple[Any, ...]) -> Layout:
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
        shares = num_threads() if seconds > SHARED else 1
        return Layout(_c_function(address), template, *places, scratch, shares, sizes)


class Shared:
    """One large call, cut into shares, each a call of its own on one of several threads."""

    def __init__(
        self, spec: OpSpec, dtype: str, attributes: Any, dims: dict[str, int], sparse: int, shares: int
    ) -> None:
        self._spec, self._dtype, self._attributes = spec, dtype, attributes
        self._dims, self._sparse, self._shares = dims, sparse, shares

    def run(self, arrays: tuple[Any, ...], numbers: list[int], along: str) -> None:
        spec = self._spec
        step = ROW_STEP if along == "N" else ELEMENT_STEP
        spans = share_bounds(self._dims[along], self._shares, step)
        # What is summed over the rows: each share its own, added in order.
        names = [arg.name for arg in spec.args]
        sums = {k: a for k, (arg, a) in enumerate(zip(spec.args, arrays, strict=True)) if _is_sum(arg, a, along)}
        weights = names.index("dw") if "dw" in names else -1
        dw = sums.pop(weights, None)  # cut by inputs afterwards
        parts = {k: [np.zeros_like(a) for _ in spans] for k, a in sums.items()}
        rows = []
        for t, (low, high) in enumerate(spans):
            own = []
            for k, (arg, a) in enumerate(zip(spec.args, arrays, strict=True)):
                if a is None or k == weights:
                    own.append(0)
                elif k in parts:
                    own.append(address_of(parts[k][t]))
                else:
                    cut = arg.shape[:1] == (along,)
                    own.append(address_of(a) + (low * (a.strides[0] if a.size else 0) if cut else 0))
            rows.append((own, self._dims | {along: high - low}, [*numbers]))
            if "first_row" in spec.scalars:
                rows[-1][2][spec.scalars.index("first_row")] += low
        self._execute(spec, rows, self._attributes)
        for k, a in sums.items():
            if spec.args[k].role == "out":
                a[...] = 0
            for part in parts[k]:
                a += part
        if dw is not None:
            self._weights(arrays, dw)

    def _weights(self, arrays: tuple[Any, ...], dw: Any) -> None:
        """The weight gradient of `dense_backward`, cut by inputs."""
        x, _, _, dy, dz = arrays[:5]
        dz = dy if dz is None else dz
        inputs, outputs = dw.shape
        rows: list[Any] = []
        for low, high in share_bounds(inputs, self._shares, TALL):
            own = [address_of(x) + low * x.itemsize, address_of(dz), address_of(dw) + low * outputs * dw.itemsize]
            rows.append((own, {"N": len(x), "L": inputs, "O": outputs, "I": high - low}, []))
        self._execute(table.spec_of("dense_weights"), rows, ())

    def _execute(self, spec: OpSpec, rows: Any, attributes: Any) -> None:
        """Lay out one instruction for the interpreter and run it."""
        letters = table.letters(spec)
        n_arrays, n_dims = len(spec.args), len(letters) + 1
        words = np.zeros((self._shares, WORDS + n_arrays + n_dims + len(spec.scalars)), np.int64)
        need = scratch_bytes(self._dims, self._dtype)
        memory = [_scratch(need) for _ in rows] if spec.name in table.NEEDS_CONTEXT else []
        calls = np.zeros(self._shares, np.int64)
        function = table.address(spec.name, self._dtype, attributes)
        for t, (addresses, dims, numbers) in enumerate(rows):
            if memory:
                words[t, :3] = table.address("product", self._dtype), *memory[t][:2]
            words[t, WORDS:] = [*addresses, *(dims.get(d, 0) for d in letters), self._sparse, *numbers]
            cut = next(dims[d] for d in ("I" if spec.name == "dense_weights" else "N", "N", "P") if d in dims)
            calls[t] = function if cut or t == 0 else 0
        offsets = np.array([0, WORDS, WORDS + n_arrays, WORDS + n_arrays + n_dims], np.int64)
        nothing, state = np.zeros(16, np.int64), barrier_state()
        h = np.zeros(max(H) + 1, np.int64)
        h[[H.TO_STEP, H.TO_INSTRUCTION, H.INSTRUCTIONS, H.BATCHES, H.SIZE]] = 1
        h[H.SHARES], h[H.WORDS] = self._shares, words.shape[1]
        h[H.CALLS_AT], h[H.OFFSETS_AT], h[H.WORDS_AT] = map(address_of, (calls, offsets, words))
        h[H.FIXES_AT] = h[H.STARTS_AT] = h[H.BASES_AT] = address_of(nothing)
        h[H.BARRIER_AT] = address_of(state)
        execute(h, self._shares, alone=False)


def _is_sum(arg: Arg, a: Any, along: str) -> bool:
    return a is not None and arg.role != "in" and along not in arg.shape


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


@functools.cache
def _c_function(address: int) -> Any:
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(address)


def _scratch(size: int) -> tuple[int, int, Any]:
    """Addresses of scratch memory and of that for the product's own use, and what they lie in; see `context.py`."""
    size += -size % 64
    memory = np.empty(size + PACK_BYTES + 64, np.uint8)
    start = address_of(memory) + -address_of(memory) % 64
    return start, start + size, memory
