"""The start and the end of a step. `struct Job` and `struct Step` in `src/gather.cu` say what lies in device memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import sources
from .emitter import Emitter, Ref

__all__ = ["begin_step", "check_finite", "job_layout", "scatter_output", "step_layout"]

UNIT = "gather.cu"


def job_layout() -> np.dtype[Any]:
    """`struct Job` as NumPy sees it: the same in both working dtypes."""
    return sources.struct_dtype(UNIT, "Job", "f4")


def step_layout() -> np.dtype[Any]:
    """`struct Step` as NumPy sees it."""
    return sources.struct_dtype(UNIT, "Step", "f4")


def begin_step(e: Emitter, job: int, step: int, x: Ref | None, y: Ref | None, weight: Ref | None, *, rows: int) -> None:
    """Emit the start of step `step->next` on `rows` rows: `Step` is filled, and its row of sums is 0.

    The job's rows of the batch are copied to x, y and weight, but for what is None; y may be labels (int64). 8 bytes
    per element.
    """
    labels = y is not None and np.dtype(y.dtype).kind == "i"
    x_blocks, y_blocks = _blocks(e, x), _blocks(e, y)
    e.launch(
        "nnf_begin_step",
        max(x_blocks + y_blocks + (weight is not None), 1),
        job=job,
        step=step,
        x=x,
        labels=y if labels else None,
        y=None if labels else y,
        weight=weight,
        rows=rows,
        inputs=_width(x),
        outputs=_width(y),
        x_blocks=x_blocks,
        y_blocks=y_blocks,
        scratch=(0, 1),
    )


def scatter_output(e: Emitter, job: int, step: int, output: Ref) -> None:
    """Emit the copying of a batch's outputs to their rows in the job's. 8 bytes per element."""
    rows, width = output.shape[0], _width(output)
    e.launch("nnf_scatter_output", _blocks(e, output), job=job, step=step, output=output, rows=rows, width=width)


def check_finite(e: Emitter, values: Ref, step: int) -> None:
    """Emit `step->nonfinite = step->current`, if a value is not finite and no step before had one. 4 bytes each."""
    e.launch("nnf_check_finite", _blocks(e, values), values=values, n=values.size, step=step)


def _blocks(e: Emitter, ref: Ref | None) -> int:
    return 0 if ref is None else e.span(ref)


def _width(ref: Ref | None) -> int:
    return ref.size // ref.shape[0] if ref is not None and ref.shape[0] else 0
