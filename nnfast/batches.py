"""Data on its way into a job: checked, converted once, and cut into batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.errors import DTypeError
from nnfast.protocol import Job
from nnfast.validation import features, integer, weights

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = ["EVALUATION_ROWS", "Data", "make_job", "prepare", "prepare_validation"]

EVALUATION_ROWS = 4096  # rows per batch where the caller names no batch size


class Data:
    """Checked rows on the model's backend, with how they fall into batches of `size`; weights stay on the host."""

    def __init__(self, x: Any, y: Any, weight: Any, size: int) -> None:
        self.x = x
        self.y = y
        self.weight = weight
        self.size = min(size, len(x))

    @property
    def rows(self) -> int:
        return len(self.x)

    @property
    def starts(self) -> np.ndarray[Any, Any]:
        return np.arange(0, self.rows, self.size)

    @property
    def batch_rows(self) -> np.ndarray[Any, Any]:
        """Rows of each batch of an epoch."""
        return np.diff(np.append(self.starts, self.rows)).astype(np.float64)

    def batch_weights(self, order: Any) -> np.ndarray[Any, Any]:
        """Σ weight of each batch of each epoch, flat: `order` is (epochs, rows) or None for one epoch as it stands."""
        if self.weight is None:
            return np.tile(self.batch_rows, 1 if order is None else len(order))
        ordered = self.weight[None] if order is None else self.weight[order]
        return np.asarray(np.add.reduceat(ordered, self.starts, axis=1, dtype=np.float64)).reshape(-1)


def prepare(model: Model, X: Any, y: Any, sample_weight: Any, batch_size: int | None, prefix: str = "") -> Data:
    x = features(f"{prefix}X", X, model.n_inputs, model.dtype)
    assert model.loss is not None
    y = model.loss.check(f"{prefix}y", y, len(x), model.n_outputs, model.dtype)
    for metric in model.metrics:
        metric.check(y)
    w = weights(f"{prefix}sample_weight", sample_weight, len(x), model.dtype)
    size = len(x) if batch_size is None else integer("batch_size", batch_size, 1)
    backend = model.backend
    return Data(backend.asarray(x), backend.asarray(y), w, size)


def make_job(model: Model, data: Data | None, scalars: Any, **fields: Any) -> Job:
    job = Job(model._buffers, None, key=model._key, scalars=scalars, **fields)
    if data is not None:
        job.x, job.y, job.batch_size = data.x, data.y, data.size
        job.sample_weight = None if data.weight is None else model.backend.asarray(data.weight)
    return job


def prepare_validation(model: Model, given: tuple[Any, ...] | None) -> Data | None:
    if given is None:
        return None
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        raise DTypeError("validation_data must be (X, y) or (X, y, sample_weight)")
    X, y, w = (*given, None)[:3]
    return prepare(model, X, y, w, EVALUATION_ROWS, "validation ")
