"""Prediction with everything resolved beforehand, for loops that cannot wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.errors import DTypeError, ShapeError
from nnfast.protocol import Job
from nnfast.validation import features

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = ["Predictor"]


class Predictor:
    """`predictor(x)` for x of shape (batch, n_inputs): the outputs (batch, n_outputs), as `Model.predict` gives them.

    Returns a fresh array unless `out=` is given. Sees later changes of the model's weights. It has working memory of
    its own and serves one caller at a time: give each thread its own predictor.
    """

    def __init__(self, model: Model, batch: int) -> None:
        program = model._programs.lower("predict")
        backend = model.backend
        self._model = model
        self._program = program
        self._runner = backend.compile(program)
        self._shape = (batch, model.n_inputs)
        self._out_shape = (batch, model.n_outputs)
        self._dtype = model.dtype
        self._x = backend.zeros(self._shape, self._dtype)
        self._y = backend.empty(self._out_shape, self._dtype)
        self._job = Job(model._buffers, self._x, output=self._y, batch_size=batch)
        self._named = bool(program.scalars)
        self._job.scalars = model._programs.scalars(program)
        repeat = getattr(self._runner, "repeat", None)
        self._again = repeat(self._job) if repeat is not None else None

    def __call__(self, x: Any, *, out: Any = None) -> Any:
        if not (type(x) is np.ndarray and x.dtype == self._dtype):
            x = features("x", x, self._shape[1], self._dtype)
        if x.shape != self._shape:
            raise ShapeError(f"this predictor takes x of shape {self._shape}; given: {x.shape}")
        if out is not None:
            self._check_out(out)
        self._x[...] = x
        if self._again is None or self._named:
            self._run()
        else:
            self._again()
        if out is None:
            return self._y.copy()
        out[...] = self._y
        return out

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy is a new predictor of the copied model: what is resolved beforehand are addresses."""
        return type(self), (self._model, self._shape[0])

    def _run(self) -> None:
        """With the numbers of the layers as they are now."""
        self._job.scalars = self._model._programs.scalars(self._program)
        self._runner.run(self._job)

    def _check_out(self, out: Any) -> None:
        if not isinstance(out, np.ndarray) or out.dtype != self._dtype:
            given = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
            raise DTypeError(f"out must be a NumPy array of {self._dtype}; given: {given}")
        if not (out.flags.c_contiguous and out.flags.writeable):
            raise DTypeError("out must be C-contiguous and writable; give np.empty(...) or a part of it by rows")
        if out.shape != self._out_shape:
            raise ShapeError(f"out must have shape {self._out_shape}; given: {out.shape}")
