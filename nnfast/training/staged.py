"""Rows that stay in a file: a memory-mapped array is read, and converted, only as far as the next job needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.devices import fetched
from nnfast.errors import DataError, ShapeError
from nnfast.validation import convert, features

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = ["StagedRows", "is_staged"]

AT_ONCE = 1 << 25  # bytes of converted rows held at a time, at most, but for single batches that are larger


def is_staged(X: Any, dtype: Any, index: Any) -> bool:
    """Whether these rows are on disk and not as a job could read them there."""
    if not isinstance(X, np.memmap):
        return False
    as_needed = X.dtype == dtype and X.flags.c_contiguous and X.flags.aligned
    return index is not None or not as_needed


class StagedRows:
    """Checked, but not read: `take(rows)` gives those rows as the model computes with them.

    Class numbers, one per row, are in memory; rows of targets that lie on disk stay there too, once every part of them
    was checked. Of X only the kind and the shape are known beforehand: values beyond the range of the dtype come to
    light when they are read.
    """

    def __init__(self, model: Model, X: Any, y: Any, prefix: str, index: Any) -> None:
        self._model, self._prefix, self._X, self._index = model, prefix, X, index
        if X.ndim != 2 or len(X) == 0:
            features(f"{prefix}X", X[:1] if X.ndim else X, model.n_inputs, model.dtype)
        features(f"{prefix}X", X[:1], model.n_inputs, model.dtype)
        self.rows = len(X) if index is None else len(index)
        self.rows_at_once = max(1, AT_ONCE // (max(model.n_inputs, model.n_outputs) * model.dtype.itemsize))
        y = fetched(f"{prefix}y", y, model.backend)
        self._on_disk = isinstance(y, np.memmap) and y.ndim > 1
        if self._on_disk and len(y) != len(X):
            raise ShapeError(f"{prefix}y has {len(y)} rows for {len(X)} of X")
        self._y = y if self._on_disk else self._checked(y, len(X))
        if self._on_disk:
            for lo in range(0, len(y), self.rows_at_once):
                self._checked(y[lo : lo + self.rows_at_once], min(self.rows_at_once, len(y) - lo), lo)
        for metric in model.metrics:
            metric.check(self._y)

    @property
    def y(self) -> Any:
        """The targets, where they are in memory."""
        if self._on_disk:
            return None
        return self._y if self._index is None else self._y[self._index]

    def take(self, rows: Any) -> tuple[Any, Any]:
        """Rows by a slice or by their numbers, X and y."""
        picked = rows if self._index is None else self._index[rows]
        dtype = self._model.dtype
        x = convert(f"{self._prefix}X", np.ascontiguousarray(self._X[picked]), dtype)
        y = self._y[picked]
        return x, convert(f"{self._prefix}y", np.ascontiguousarray(y), dtype) if self._on_disk else y

    def _checked(self, y: Any, rows: int, first: int = 0) -> Any:
        model = self._model
        assert model.loss is not None
        try:
            return model.loss.check(f"{self._prefix}y", y, rows, model.n_outputs, model.dtype)
        except DataError as error:
            if not first:
                raise
            raise DataError(f"in the rows from {first} on: {error}") from error
