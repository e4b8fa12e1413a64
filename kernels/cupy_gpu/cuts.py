"""Where a step goes through Python: layers and losses in plain Python, and ops that have no CUDA kernel.

Plain Python gets device arrays, on the runner's stream. An op of the user's own has its `cuda=` function called with
them; one that has only its reference is computed on the host, which costs a copy there and back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.protocol import CUSTOM, OPS, Array, Buffer, Job, Kernel, Op

from ..reference.runner import flat_arrays, in_sums, scalars_of_job, scalars_of_step, view_of

if TYPE_CHECKING:
    from nnfast.protocol import Program

__all__ = ["Cuts", "on_host"]


class Cuts:
    """Runs single ops of a job in Python, on views of what the kernels work on."""

    def __init__(self, program: Program, job: Job, arena: Array, batch: dict[str, Array], rows: int) -> None:
        self._program, self._job, self._batch, self._rows = program, job, batch, rows
        self._flat = {"arena": arena.view(np.dtype(program.dtype)), **flat_arrays(job.buffers)}
        self._scalars = scalars_of_job(program, job)
        self._sums: Array = None

    def begin(self, s: int, sums: Array) -> None:
        """Turn to step `s` of the job, whose row of sums this is."""
        self._scalars |= scalars_of_step(self._job, s, self._rows)
        self._sums = sums

    def run(self, op: Op) -> None:
        attributes = dict(op.attributes)
        call = attributes.pop("call") if op.name == "python" else kernel_of(op.name)
        arrays = [None if b is None else self._view(b) for b in op.args]
        call(*arrays, **{k: self._scalars.get(n, n) for k, n in op.scalars}, **attributes)

    def _view(self, b: Buffer) -> Array:
        if b.space == "sums":
            return in_sums(self._sums, b)
        if b.space in ("x", "y", "weight", "output"):
            return self._batch.get(b.space)
        return view_of(b, self._rows, self._program, self._flat)


def kernel_of(op: str) -> Kernel:
    """What computes an op of the user's own on device arrays."""
    own = CUSTOM[op]
    return own["cuda"] if "cuda" in own else on_host(op)


def on_host(op: str) -> Kernel:
    """The op's reference, called with copies on the host; what it wrote is copied back."""
    reference, args = CUSTOM[op]["reference"], OPS[op].args

    def call(*arrays: Array, **scalars: Any) -> None:
        hosts = [None if a is None else a.get() for a in arrays]
        with np.errstate(all="ignore"):
            reference(*hosts, **scalars)
        for arg, array, host in zip(args, arrays, hosts, strict=True):
            if array is not None and arg.role != "in":
                array.set(host)

    return call
