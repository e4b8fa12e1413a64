"""The reference runner: a step is a walk over the Program's list, one kernel after the other.

This is what every other runner is measured against: same kernels as calling a layer by hand, in the order that the
Program gives. It resolves each buffer to an array once per batch size and then only swaps the rows of the batch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.protocol import Array, Buffer, Buffers, Job, Kernel, Op, OpReport, Result, num_threads

if TYPE_CHECKING:
    from nnfast.protocol import Program

    from . import ReferenceBackend

BOUND = 256  # numbers of rows for which the arrays are kept ready

_PER_STEP = ("x", "y", "weight", "output", "sums")


class ReferenceRunner:
    """Runs a Program op by op with the kernels of one backend."""

    takes_pauses = True

    def __init__(self, program: Program, backend: ReferenceBackend) -> None:
        self.program = program
        self._backend = backend
        # Arrays are held in a list and named by position in it: position 0 is None, the absent array.
        self._buffers: list[Buffer | None] = [None]
        index: dict[Buffer | None, int] = {None: 0}
        self._plan: list[tuple[Kernel, list[int], Any, dict[str, Any]]] = []
        for op in program.ops:
            for b in op.args:
                if b not in index:
                    index[b] = len(self._buffers)
                    self._buffers.append(b)
            attributes = dict(op.attributes)
            kernel = attributes.pop("call") if op.name == "python" else self._kernel(op)
            self._plan.append((kernel, [index[b] for b in op.args], op.scalars, attributes))
        self._per_step = [(i, b) for i, b in enumerate(self._buffers) if b is not None and b.space in _PER_STEP]
        stages = [op.stage for op in program.ops]
        self._update_at = stages.index("update") if "update" in stages else len(stages)
        self._has_gradients = any(b is not None and b.space == "gradients" for b in self._buffers)
        self._arena = backend.empty(0, program.dtype)
        self._bound: dict[int, list[Any]] = {}  # rows -> arrays, for the buffers of the last job
        self._bound_to: Any = None

    def _kernel(self, op: Op) -> Kernel:
        kernel = self._backend.kernel(op.name)
        if kernel is None:
            raise LookupError(f"backend {self._backend.name!r} has no kernel for the op {op.name!r}")
        return kernel

    def report(self) -> list[OpReport]:
        return [report_of(op, kernel) for op, (kernel, *_) in zip(self.program.ops, self._plan, strict=True)]

    def run(self, job: Job) -> Result:
        rows, size, n_batches = batches_of(job)
        result = Result(np.zeros((job.steps, len(self.program.sums))))
        scalars = scalars_of_job(self.program, job)
        pauses = frozenset(job.pauses)
        job.done = 0
        for s in range(job.steps):
            epoch, batch = divmod(job.first_batch + s, n_batches)
            lo, hi = batch * size, min(batch * size + size, rows)
            scalars |= scalars_of_step(job, s, hi - lo)
            arrays = self._arrays(job, hi - lo)
            rows_now = slice(lo, hi) if job.order is None else job.order[epoch, lo:hi]
            self._take(job, arrays, rows_now, slice(lo, hi), result.sums[s])
            if not self._step(job, arrays, scalars, result.sums[s]) and result.nonfinite < 0:
                result.nonfinite = s
            job.done = s + 1
            if job.done in pauses and job.aside is not None:
                job.aside.run()
        return result

    def profile(self, job: Job) -> tuple[list[tuple[int | str, float]], float, int]:
        """`run` with a clock around each kernel: seconds by op, in all, and the threads; see `nnfast.profiling`."""
        seconds = [0.0] * len(self._plan)
        plan = self._plan
        self._plan = [(self._timed(kernel, i, seconds), *rest) for i, (kernel, *rest) in enumerate(plan)]
        begin = time.perf_counter()
        try:
            self.run(job)
        finally:
            self._plan = plan
        return list(enumerate(seconds)), time.perf_counter() - begin, num_threads()

    def _timed(self, kernel: Kernel, i: int, seconds: list[float]) -> Kernel:
        def call(*args: Any, **numbers: Any) -> None:
            begin = time.perf_counter()
            kernel(*args, **numbers)
            self._backend.synchronize()
            seconds[i] += time.perf_counter() - begin

        return call

    def _step(self, job: Job, arrays: list[Any], scalars: dict[str | float, Any], sums: Any) -> bool:
        """One step; returns whether its loss and gradient were finite."""
        for kernel, places, pairs, attributes in self._plan[: self._update_at]:
            kernel(*[arrays[i] for i in places], **{k: scalars.get(n, n) for k, n in pairs}, **attributes)
        finite = bool(np.isfinite(sums[:2]).all())
        if self._has_gradients:
            if job.on_gradients is not None:
                job.on_gradients(job.buffers.gradients)
            finite = finite and bool(np.isfinite(job.buffers.gradients).all())
        for kernel, places, pairs, attributes in self._plan[self._update_at :]:
            kernel(*[arrays[i] for i in places], **{k: scalars.get(n, n) for k, n in pairs}, **attributes)
        return finite

    def _take(self, job: Job, arrays: list[Any], rows: Any, out: slice, sums: Any) -> None:
        """Put the batch's rows in place: views for the natural order, copies for any other."""
        batch = {
            "x": job.x[rows] if job.x is not None else None,
            "y": job.y[rows] if job.y is not None else None,
            "weight": job.sample_weight[rows] if job.sample_weight is not None else None,
            "output": job.output[out] if job.output is not None else None,
        }
        for i, b in self._per_step:
            arrays[i] = in_sums(sums, b) if b.space == "sums" else batch[b.space]

    def _arrays(self, job: Job, rows: int) -> list[Any]:
        """The arrays of all buffers for a batch of `rows` rows; those of the batch itself are filled in by `_take`."""
        needed = self.program.arena_size(rows)
        if needed > self._arena.size:
            self._arena = self._backend.empty(needed, self.program.dtype)
            self._bound.clear()
        if self._bound_to is not job.buffers:
            self._bound.clear()
            self._bound_to = job.buffers
        if rows not in self._bound:
            while len(self._bound) >= BOUND:
                del self._bound[next(iter(self._bound))]
            self._bound[rows] = [None if b is None else self._view(job, b, rows) for b in self._buffers]
        return self._bound[rows]

    def _view(self, job: Job, b: Buffer, rows: int) -> Any:
        if b.space in _PER_STEP:
            return None
        return view_of(b, rows, self.program, {"arena": self._arena, **flat_arrays(job.buffers)})


# What runners of other backends share with this one.


def batches_of(job: Job) -> tuple[int, int, int]:
    """Rows of an epoch, rows of a batch (the last one may have fewer), and batches of an epoch."""
    rows = job.x.shape[0] if job.x is not None else 0
    size = min(job.batch_size or rows, rows)
    return rows, size, -(-rows // size) if rows else 1


def idle_groups(program: Program, scalars: Any) -> tuple[np.ndarray[Any, Any], list[frozenset[int]]]:
    """Of models with these scalars (models, names): which ops each leaves out, as a number per model into a list.

    An op is idle where a number is 0 or infinite, so models in which the same numbers are belong together.
    """
    scalars = np.ascontiguousarray(scalars, np.float64)
    kinds = np.where(scalars == 0, 1, np.where(np.isinf(scalars), 2, 0)).astype(np.int8)
    _, first, inverse = np.unique(kinds, axis=0, return_index=True, return_inverse=True)
    sets = [program.idle_ops(tuple(scalars[i])) for i in first]
    groups = list(dict.fromkeys(sets))
    places = np.array([groups.index(s) for s in sets], np.int64)
    return np.ascontiguousarray(places[inverse.reshape(-1)]), groups


def scalars_of_job(program: Program, job: Job) -> dict[str | float, Any]:
    """The numbers that are the same in all steps, by the names that ops use for them."""
    return {**dict(zip(program.scalars, map(float, job.scalars), strict=True)), "key": job.key}


def scalars_of_step(job: Job, s: int, rows: int) -> dict[str | float, Any]:
    """Those of step s, on a batch of `rows` rows."""
    return {
        "step": job.first_step + s,
        "first_row": 0 if job.first_rows is None else int(job.first_rows[s]),
        "learning_rate": 0.0 if job.learning_rates is None else float(job.learning_rates[s]),
        "normaliser": float(rows if job.normalisers is None else job.normalisers[s]),
    }


def report_of(op: Op, kernel: Any) -> OpReport:
    if op.name == "python":
        owner = type(getattr(kernel, "__self__", kernel))
        return OpReport(op.name, f"{owner.__module__}.{owner.__qualname__}", "plain Python: cuts the program")
    return OpReport(op.name, f"{kernel.__module__}.{kernel.__qualname__}")


def flat_arrays(buffers: Buffers) -> dict[str, Array]:
    """A model's flat arrays by the names of their spaces."""
    named = {"parameters": buffers.parameters, "gradients": buffers.gradients, "state": buffers.state}
    return named | buffers.slots


def view_of(b: Buffer, rows: int, program: Program, flat: Mapping[str, Array]) -> Array:
    """A buffer of the arena or of a flat array, for a batch of `rows` rows; `flat` holds the arrays by space."""
    if b.space == "arena":
        start, size = b.offset * program.arena_rows(rows), rows * b.width
    else:
        start, size = b.offset, b.width
    return flat[b.space][start : start + size].reshape(tuple(rows if isinstance(n, str) else n for n in b.shape))


def in_sums(sums: Any, b: Buffer) -> Any:
    return sums[b.offset, ...] if not b.shape else sums[b.offset : b.offset + b.width].reshape(b.shape)
