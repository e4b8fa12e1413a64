"""Data of a population on its way into a job: rows that all models share, or a set of rows for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.devices import fetched
from nnfast.errors import ShapeError
from nnfast.training.batches import repeated
from nnfast.validation import any_array, features, host_array, integer, weights

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = ["PopulationData"]

Array = np.ndarray[Any, Any]


class PopulationData:
    """Checked rows on the backend, cut into batches of `size`. `own` names the arrays with an axis of models before."""

    def __init__(
        self,
        model: Model,
        n: int,
        X: Any,
        y: Any,
        sample_weight: Any,
        batch_size: int | None,
        prefix: str = "",
        *,
        targets: bool = True,
    ) -> None:
        """X (N, n_inputs) or (n, N, n_inputs); y and weights as usual, or with an axis of n before."""
        self._n = n
        own = set()
        x = any_array(f"{prefix}X", X, model.backend)
        if x.ndim == 3:
            own.add("x")
        self.x = self._each("x" in own, f"{prefix}X", x, lambda name, a: _features(model, name, a))
        self.rows = int(self.x.shape[-2])
        self.y = None
        if targets:
            y = host_array(f"{prefix}y", fetched(f"{prefix}y", y, model.backend))
            if _is_own(y, n, self.rows, model.n_outputs):
                own.add("y")
            self.y = self._each("y" in own, f"{prefix}y", y, lambda name, a: _targets(model, name, a, self.rows))
        self.weight = None
        if sample_weight is not None:
            name = f"{prefix}sample_weight"
            w = host_array(name, fetched(name, sample_weight, model.backend))
            if w.ndim == 2:
                own.add("sample_weight")
            check = lambda name, a: weights(name, a, self.rows, model.dtype)  # noqa: E731
            self.weight = self._each("sample_weight" in own, name, w, check)
        self.own = frozenset(own)
        self.size = min(self.rows, self.rows if batch_size is None else integer("batch_size", batch_size, 1))
        asarray = model.backend.asarray
        self.x, self.device_y = asarray(self.x), None if self.y is None else asarray(self.y)
        self.device_weight = None if self.weight is None else asarray(self.weight)
        self.starts = np.arange(0, self.rows, self.size)
        self.batch_rows = np.diff(np.append(self.starts, self.rows)).astype(np.float64)

    def _each(self, own: bool, name: str, a: Any, check: Any) -> Any:
        """Check the array, or each model's own; all of these in one array."""
        if not own:
            return check(name, a)
        if len(a) != self._n:
            raise ShapeError(f"{name} has shape {tuple(a.shape)}: rows for {len(a)} models; there are {self._n}")
        parts = [check(f"{name}[{k}]", a[k]) for k in range(self._n)]
        if isinstance(a, np.ndarray):
            return np.stack(parts)
        return a.astype(parts[0].dtype, order="C", copy=False)

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return len(self.starts)

    def batch_weights(self, models: Array, order: Array | None, epochs: int) -> Array:
        """(models, epochs · steps): Σ weight of each batch; `order` is (models, epochs, rows), or None."""
        if self.weight is None:
            return np.tile(repeated(self.batch_rows, epochs), (len(models), 1))
        w = self.weight[models] if "sample_weight" in self.own else self.weight[None]
        if order is None:
            sums = np.tile(self._sums(w), (1, epochs))
            return np.repeat(sums, len(models), axis=0) if len(sums) < len(models) else sums
        if "sample_weight" in self.own:
            ordered = np.take_along_axis(np.repeat(w[:, None], epochs, axis=1), order, axis=2)
        else:
            ordered = w[0][order]
        return self._sums(ordered.reshape(-1, self.rows)).reshape(len(models), -1)

    def _sums(self, ordered: Array) -> Array:
        return np.asarray(np.add.reduceat(ordered, self.starts, axis=1, dtype=np.float64))


def _features(model: Model, name: str, a: Any) -> Any:
    return features(name, a, model.n_inputs, model.dtype, backend=model.backend)


def _targets(model: Model, name: str, y: Array, rows: int) -> Any:
    assert model.loss is not None
    checked = model.loss.check(name, y, rows, model.n_outputs, model.dtype)
    for metric in model.metrics:
        metric.check(checked)
    return checked


def _is_own(y: Array, n: int, rows: int, width: int) -> bool:
    """Whether targets are a set for each model: one axis more than usual. Where it could be both, they are shared."""
    return y.ndim == 3 or (y.ndim == 2 and y.shape == (n, rows) and y.shape != (rows, width))
