"""What a runner wants to know of a job and of a plan: kinds of data, spans without plain Python, the result."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from nnfast.protocol import Buffer, Job, Op, Result

from .plan import Plan

__all__ = ["Data", "Span", "data_of", "gather_ops", "result_of", "spans_of"]


class Data(NamedTuple):
    """What kinds of data a job brings: bytes per row of each array, 0 where there is none."""

    x: int
    y: int
    weight: int
    output: int
    sparse: bool  # labels are indices
    ordered: bool  # rows come in another order, and are gathered first


class Span(NamedTuple):
    """Instructions first … last − 1, compiled, or the one call of plain Python at `first`."""

    first: int
    last: int
    compiled: bool


def data_of(job: Job) -> Data:
    """The kinds of data that the job brings."""

    def row_bytes(array: Any) -> int:
        return 0 if array is None else array.itemsize * math.prod(array.shape[1:])

    sparse = job.y is not None and job.y.ndim == 1
    x, y, weight, output = map(row_bytes, (job.x, job.y, job.sample_weight, job.output))
    return Data(x, y, weight, output, sparse, job.order is not None)


def gather_ops(job: Job) -> tuple[Op, ...]:
    """What brings the rows of a batch together, where the job gives them an order."""
    if job.order is None:
        return ()
    ops = []
    for name, array in (("x", job.x), ("y", job.y), ("weight", job.sample_weight)):
        if array is not None:
            width = () if array.dtype == np.int64 else (math.prod(array.shape[1:]),)
            order = Buffer("order", "order", 0, ("N",))
            source = Buffer(f"source {name}", f"source {name}", 0, ("M", *width))
            kernel = "gather" if width else "gather_labels"
            ops.append(Op(kernel, (order, source, Buffer(name, name, 0, ("N", *width))), stage="gather"))
    return tuple(ops)


def spans_of(plan: Plan, *, cut: bool) -> list[Span]:
    """The instructions cut where plain Python has its turn."""
    spans: list[Span] = []
    first = 0
    for i, step in enumerate(plan.instructions):
        if not step.compiled:
            spans += [Span(first, i, True)] * (first < i) + [Span(i, i + 1, False)]
            first = i + 1
        elif cut and i + 1 == plan.update_at:
            spans.append(Span(first, i + 1, True))
            first = i + 1
    end = len(plan.instructions)
    if first < end:
        spans.append(Span(first, end, True))
    return spans


def result_of(sums: Any, columns: int) -> Result:
    """The shares' sums added up in order, and the first step that was not finite."""
    total = sums[0] if len(sums) == 1 else sums.sum(axis=0)
    if math.isfinite(total.sum()):  # no more than a first look: finite numbers can add up to infinity
        return Result(np.ascontiguousarray(total[:, :columns]), -1)
    finite = np.isfinite(total[:, :2]).all(axis=1) & np.isfinite(total[:, columns])
    nonfinite = -1 if finite.all() else int(np.argmin(finite))
    return Result(np.ascontiguousarray(total[:, :columns]), nonfinite)
