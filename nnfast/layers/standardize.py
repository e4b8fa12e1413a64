"""Inputs brought to mean 0 and standard deviation 1, by constants that training leaves alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.devices import fetched
from nnfast.errors import DataError, OptionError, ShapeError
from nnfast.layers.base import Layer
from nnfast.registry import get_backend
from nnfast.validation import features as checked_rows
from nnfast.validation import flag, host_array, integer

if TYPE_CHECKING:
    from nnfast.lowering import Builder

__all__ = ["Standardize"]

_LARGEST, _TINY = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)


class Standardize(Layer):
    """y = (x − mean)/std for each input, with constants mean and std of shape (n_inputs,); not trained, ever.

    `mean` and `std` are one number per input, or one for all together with `n_inputs`. `Standardize.fit(X)` takes them
    from data. They are kept like frozen parameters: `get_weights`, files and other backends have them as "mean" and
    "std". The exporters fold them into the Dense that follows.

    Raises ShapeError unless both are vectors of one length, OptionError where `n_inputs` is needed, DataError unless
    means are finite and standard deviations above 0, both within the range of float32.
    """

    def __init__(self, mean: Any, std: Any, n_inputs: int | None = None, **common: Any) -> None:
        super().__init__(**common)
        self._trainable = False
        given = {"mean": host_array("mean", mean), "std": host_array("std", std)}
        if n_inputs is None:
            if given["mean"].ndim == given["std"].ndim == 0:
                raise OptionError("one mean and one std for all inputs need n_inputs=, how many there are")
            n_inputs = max(a.shape[0] if a.ndim else 1 for a in given.values())
        self.n_inputs = integer("n_inputs", n_inputs, 1)
        self._initial = {name: self._constants(name, a) for name, a in given.items()}

    @classmethod
    def fit(cls, X: Any, **common: Any) -> Standardize:
        """The layer for data like X (N, n_inputs): means and standard deviations of its columns, in float64.

        A column of one single value has 1 for its standard deviation. Raises DataError for NaN and infinities.
        """
        place = common.get("backend")
        rows = fetched("X", X, None if place is None else get_backend(place))
        rows = checked_rows("X", rows, None, np.dtype(np.float64))
        bad = np.argwhere(~np.isfinite(rows))
        if bad.size:
            row, column = bad[0]
            raise DataError(f"X[{row}, {column}] is {rows[row, column]}; drop or mend such rows first")
        std = np.where(rows.min(axis=0) == rows.max(axis=0), 1.0, rows.std(axis=0))
        return cls(rows.mean(axis=0), std, **common)

    def _constants(self, name: str, value: Any) -> np.ndarray[Any, Any]:
        """One of the two as float64 vector, checked; one number stands for all inputs."""
        a = host_array(name, value).astype(np.float64)
        shape = (self.n_inputs,)
        if a.ndim > 1 or (a.ndim == 1 and a.shape != shape):
            raise ShapeError(f"{name} has shape {a.shape}; expected {shape}, one number per input")
        a = np.broadcast_to(a, shape).copy()
        low, words = (_TINY, "above 0") if name == "std" else (-_LARGEST, "finite")
        good = (a >= low) & (a <= _LARGEST)
        if not good.all():
            i = int(np.argmin(good))
            hint = "; a constant input has no scale of its own: use 1" if a[i] == 0 else ""
            raise DataError(f"{name}[{i}] is {a[i]}; expected a number {words}, within the range of float32{hint}")
        return a

    def config(self) -> dict[str, Any]:
        """Arguments for one of this width: a file has the numbers themselves as its parameters."""
        return {"mean": 0.0, "std": 1.0, "n_inputs": self.n_inputs}

    @property
    def n_inputs_wanted(self) -> int:
        return self.n_inputs

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"mean": (self.n_inputs,), "std": (self.n_inputs,)}

    @property
    def trainable(self) -> bool:
        """False; OptionError for anything else."""
        return False

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if flag("trainable", value):
            raise OptionError("the constants of Standardize are not trained; a Dense after it can learn any others")

    def lower(self, b: Builder) -> None:
        x, std, y = b.x, b.parameter("std"), b.output(self.n_inputs)
        b.forward("standardize", x, b.parameter("mean"), std, y)
        b.backward("standardize_backward", b.dy, std, b.dx)

    @property
    def mean(self) -> Any:
        """(n_inputs,), a view; assigning checks and copies into it."""
        return self._view("parameters", "mean")

    @mean.setter
    def mean(self, value: Any) -> None:
        self._assign("mean", self._constants("mean", value))

    @property
    def std(self) -> Any:
        """(n_inputs,), a view; assigning checks and copies into it."""
        return self._view("parameters", "std")

    @std.setter
    def std(self, value: Any) -> None:
        self._assign("std", self._constants("std", value))

    def __repr__(self) -> str:
        return f"Standardize({self.n_inputs} inputs)"
