"""Prediction with everything resolved beforehand, for loops that cannot wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.devices import address_of, own_memory, takes
from nnfast.errors import DTypeError, ShapeError
from nnfast.protocol import Job
from nnfast.validation import features

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = ["DevicePredictor", "Predictor"]


class Predictor:
    """`predictor(x)` for x of shape (batch, n_inputs): the outputs (batch, n_outputs), as `Model.predict` gives them.

    Returns a fresh array unless `out=` is given: an array of NumPy, or one that shares its memory by DLPack. Sees later
    changes of the model's weights. It has working memory of its own and serves one caller at a time: give each thread
    its own predictor.
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
        there: Any = None
        if out is not None:
            there = own_memory(out)
            self._check_out(there)
        self._x[...] = x
        if self._again is None or self._named:
            self._run()
        else:
            self._again()
        if out is None:
            return self._y.copy()
        there[...] = self._y
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
        if hasattr(out, "mask"):
            raise DTypeError("out is a masked array, and its mask would not be looked at; give out.data")
        if not (out.flags.c_contiguous and out.flags.writeable):
            raise DTypeError("out must be C-contiguous and writable; give np.empty(...) or a part of it by rows")
        if out.shape != self._out_shape:
            raise ShapeError(f"out must have shape {self._out_shape}; given: {out.shape}")


class DevicePredictor(Predictor):
    """The same on a device: x comes from there or from the host, and the outputs are arrays of the device.

    `out=` may also be a NumPy array, which is one copy to the host and waits for it.
    """

    def __call__(self, x: Any, *, out: Any = None) -> Any:
        backend = self._model.backend
        x = features("x", x, self._shape[1], self._dtype, backend=backend)
        if x.shape != self._shape:
            raise ShapeError(f"this predictor takes x of shape {self._shape}; given: {x.shape}")
        there: Any = None if out is None else self._checked_out(out)
        self._x[...] = backend.asarray(x)
        self._run()
        if out is None:
            return self._y.copy()
        there[...] = backend.to_numpy(self._y) if isinstance(there, np.ndarray) else self._y
        return out

    def _checked_out(self, out: Any) -> Any:
        """`out` as an array of the backend's, or of NumPy where it is on the host."""
        backend = self._model.backend
        if not takes(backend, out):
            there = own_memory(out)
            self._check_out(there)
            return there
        there = backend.asarray(out)
        if there.dtype != self._dtype:
            raise DTypeError(f"out must be an array of {self._dtype}; given: {there.dtype}")
        if there is not out and address_of(there) != address_of(out):
            raise DTypeError("out must be C-contiguous; give cupy.empty(...) or a part of it by rows")
        if there.shape != self._out_shape:
            raise ShapeError(f"out must have shape {self._out_shape}; given: {there.shape}")
        return there
