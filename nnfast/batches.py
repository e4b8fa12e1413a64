"""Data on its way into a job: checked, converted once, and cut into batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.errors import DTypeError
from nnfast.protocol import Job
from nnfast.validation import features, integer, weights

if TYPE_CHECKING:
    from nnfast.model import Model
    from nnfast.program import Program

__all__ = ["Data", "evaluation_rows", "make_job", "prepare", "prepare_validation"]

EVALUATION_ROWS = 4096  # rows per batch where the caller names no batch size, at most,
EVALUATION_ELEMENTS = 1 << 20  # and (but for the widest networks) so few that its working memory stays below this


def evaluation_rows(program: Program) -> int:
    """Rows per batch for measuring or predicting: a wide network takes fewer, so that the arena stays in cache."""
    return max(64, min(EVALUATION_ROWS, EVALUATION_ELEMENTS // max(program.arena_columns, 1)))


class Data:
    """Checked rows on the model's backend, and how they fall into batches of `size` (0: not settled yet)."""

    def __init__(self, model: Model, x: Any, y: Any, weight: Any, size: int) -> None:
        backend = model.backend
        self.x = backend.asarray(x)
        self.y = backend.asarray(y)
        self.weight = weight  # on the host, for the sums of batches
        self.device_weight = None if weight is None else backend.asarray(weight)
        self.cut(size)

    def cut(self, size: int) -> None:
        self.size = min(size, self.rows)

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


def prepare(
    model: Model, X: Any, y: Any, sample_weight: Any, batch_size: int | None, prefix: str = "", rows: int | None = None
) -> Data:
    """Check and convert; batches of `batch_size` rows, if that is None of `rows`, if that is None too of all."""
    x = features(f"{prefix}X", X, model.n_inputs, model.dtype)
    assert model.loss is not None
    y = model.loss.check(f"{prefix}y", y, len(x), model.n_outputs, model.dtype)
    for metric in model.metrics:
        metric.check(y)
    w = weights(f"{prefix}sample_weight", sample_weight, len(x), model.dtype)
    size = integer("batch_size", batch_size, 1) if batch_size is not None else len(x) if rows is None else rows
    return Data(model, x, y, w, size)


def make_job(model: Model, data: Data | None, scalars: Any, **fields: Any) -> Job:
    job = Job(model._buffers, None, key=model._key, scalars=scalars, **fields)
    if data is not None:
        job.x, job.y, job.batch_size = data.x, data.y, data.size
        job.sample_weight = data.device_weight
    return job


def prepare_validation(model: Model, given: tuple[Any, ...] | None) -> Data | None:
    if given is None:
        return None
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        raise DTypeError("validation_data must be (X, y) or (X, y, sample_weight)")
    X, y, w = (*given, None)[:3]
    return prepare(model, X, y, w, None, "validation ", rows=0)
