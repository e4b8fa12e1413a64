"""Binding: the calls of a plan become functions without arguments that put their work on a stream.

A bound call holds the addresses, the compiled kernel or the chosen algorithm, and nothing to be looked up: calling it
is all that a launch, or the capture of a graph, has to do.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nnfast.protocol import Array

from . import sources
from .cublaslt import WORKSPACE, Algorithm, CublasLtError, Matmul
from .device import Device, tell
from .emitter import ALONE, Call, Emitter, Launch, Product, Ref
from .memory import Memory
from .plan import Plan
from .stopwatch import Stopwatch
from .tuning import Tuner, proposals

__all__ = ["Binder", "Bound", "ref_of"]

Bound = Callable[[], object]
MANY_WORKSPACE = 8 * WORKSPACE  # bytes for a product of many models: each may want some of its own


def ref_of(a: Array) -> Ref:
    """Where a device array lies; it must be C-contiguous, as all arrays of this backend are."""
    return Ref(int(a.data.ptr), a.shape, a.dtype.str[1:])


class Binder:
    """Makes what one emitter collects ready for the current stream of a device.

    With `tune`, what only a measurement can decide is measured while ops are emitted and bound: on the real arrays,
    whose outputs are overwritten. Without, the library's first proposal is taken.
    """

    def __init__(self, device: Device, memory: Memory, emitter: Emitter, *, tune: bool) -> None:
        self._device, self._cupy, self._memory, self._emitter = device, device.cupy, memory, emitter
        self._stream = int(device.cupy.cuda.get_current_stream().ptr)
        self.kept: list[Any] = []  # working memory that bound calls use
        self.why_no_graph = "" if device.lt is not None else "CuPy refuses to capture its own products"
        self._tuner: Tuner | None = None
        if tune and device.lt is not None:
            self._tuner = emitter.policy = Tuner(
                device.store,
                Stopwatch(device.cupy),
                precision=device.precision,
                prepare=self._prepare,
                supports=self._supports,
            )

    def bind_plan(self, plan: Plan) -> list[list[Bound] | None]:
        """The bound calls of each piece; None where the plan has a cut."""
        return [None if piece.calls is None else self.bind(piece.calls) for piece in plan.pieces]

    def bind(self, calls: Sequence[Call]) -> list[Bound]:
        scratch = self._memory.scratch(self._emitter.partials, self._emitter.tickets)
        self.kept.append(scratch)
        self._emitter.place_scratch(*(int(a.data.ptr) for a in scratch))
        return [self._launch(call) if isinstance(call, Launch) else self._product(call) for call in calls]

    def _launch(self, call: Launch) -> Bound:
        argument = call.args
        if argument.ndim:  # a table, whose address is the argument
            table = self._cupy.asarray(argument.view(np.uint8))
            self.kept.append(table)
            argument = np.array(table.data.ptr, np.uint64)
        self.kept.append(argument)  # the driver copies it at every launch
        pointer = self._cupy.cuda.function.CPointer(argument.ctypes.data)
        threads = sources.kernels()[call.kernel].threads
        function = self._device.function(call)
        return functools.partial(function, (*call.blocks, call.args.size), (threads, 1, 1), (pointer,), call.shared)

    def _product(self, product: Product) -> Bound:
        lt = self._device.lt
        if lt is None:
            return self._by_cupy(product)
        try:
            matmul = Matmul(lt, product._replace(apart=ALONE), self._device.precision)
            algorithm = self._algorithm(matmul)
            return self._run(matmul, algorithm) if product.apart == ALONE else self._for_many(product, algorithm)
        except (CublasLtError, LookupError) as error:
            if product.epilogue or product.apart != ALONE:
                raise
            self.why_no_graph = f"cublasLt failed ({error}) and CuPy's products cannot be captured"
            return self._by_cupy(product)

    def _for_many(self, product: Product, algorithm: Algorithm) -> Bound:
        """A product for many models, by the algorithm of one where that can be had, for the same bits.

        It is run once, as tuning does, on memory that holds nothing yet: what fails when it is run must not fail later.
        """
        assert self._device.lt is not None
        matmul = Matmul(self._device.lt, product, self._device.precision)
        fitting = matmul.fits(algorithm, MANY_WORKSPACE)
        if fitting is not None:
            with contextlib.suppress(CublasLtError):
                return self._tried(matmul, fitting)
        tell("some products of a population run by other algorithms than those of a model: sums may round otherwise")
        *first, last = proposals(matmul, MANY_WORKSPACE)
        for candidate in first:
            with contextlib.suppress(CublasLtError):
                return self._tried(matmul, candidate)
        return self._tried(matmul, last)

    def _tried(self, matmul: Matmul, algorithm: Algorithm) -> Bound:
        bound = self._run(matmul, algorithm)
        bound()
        return bound

    def _algorithm(self, matmul: Matmul) -> Algorithm:
        if self._tuner is not None:
            return self._tuner.algorithm(matmul, lambda a: self._run(matmul, a)())
        known = self._device.first_algorithms
        if matmul.key not in known:
            known[matmul.key] = proposals(matmul)[0]
        return known[matmul.key]

    def _run(self, matmul: Matmul, algorithm: Algorithm) -> Bound:
        workspace = self._memory.workspace(algorithm.workspace)
        self.kept.append(workspace)
        return functools.partial(matmul.run, algorithm, int(workspace.data.ptr), self._stream)

    def _by_cupy(self, product: Product) -> Bound:
        if product.epilogue:
            raise LookupError(f"without cublasLt there is no epilogue {product.epilogue!r}")
        a, b, c = (self._array_at(ref) for ref in (product.a, product.b, product.c))
        a, b = a.T if product.transpose_a else a, b.T if product.transpose_b else b
        return functools.partial(self._cupy.matmul, a, b, out=c)

    def _array_at(self, ref: Ref) -> Array:
        """A CuPy array over memory that others own."""
        dtype = np.dtype(ref.dtype)
        memory = self._cupy.cuda.UnownedMemory(ref.address, ref.size * dtype.itemsize, self._memory, self._device.id)
        return self._cupy.ndarray(ref.shape, dtype, self._cupy.cuda.MemoryPointer(memory, 0))

    # ---- for the tuner ----------------------------------------------------------------------------------------------

    def _prepare(self, calls: Sequence[Call]) -> Bound:
        bound = self.bind(calls)

        def work() -> None:
            for call in bound:
                call()

        return work

    def _supports(self, product: Product) -> bool:
        assert self._device.lt is not None
        try:
            return bool(Matmul(self._device.lt, product, self._device.precision).algorithms(1))
        except CublasLtError as error:
            tell(f"cublasLt refuses an epilogue, which costs some speed: {error}")
            return False
