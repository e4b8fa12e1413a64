"""Data on its way into a job: checked, converted once, and cut into batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.errors import DTypeError
from nnfast.history import Tally
from nnfast.protocol import Job
from nnfast.validation import features, integer, weights

if TYPE_CHECKING:
    from nnfast.model import Model
    from nnfast.program import Program

__all__ = [
    "Data",
    "evaluation_rows",
    "make_job",
    "normalisers",
    "prepare",
    "prepare_evaluation",
    "prepare_validation",
    "tally_of",
]

EVALUATION_ROWS = 4096  # rows per batch where the caller names no batch size, at most,
EVALUATION_ELEMENTS = 1 << 20  # and (but for the widest networks) so few that its working memory stays below this


def evaluation_rows(program: Program) -> int:
    """Rows per batch for measuring or predicting: a wide network takes fewer, so that the arena stays in cache."""
    return max(64, min(EVALUATION_ROWS, EVALUATION_ELEMENTS // max(program.arena_columns, 1)))


class Data:
    """Checked rows on the model's backend, and how they fall into batches of `size`."""

    def __init__(self, model: Model, x: Any, y: Any, weight: Any, size: int) -> None:
        backend = model.backend
        self.x = backend.asarray(x)
        self.y = backend.asarray(y)
        self.weight = weight  # on the host, for the sums of batches
        self.device_weight = None if weight is None else backend.asarray(weight)
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


def prepare(model: Model, X: Any, y: Any, sample_weight: Any, batch_size: int | None, prefix: str = "") -> Data:
    """Check and convert; batches of `batch_size` rows, or one of all."""
    x = features(f"{prefix}X", X, model.n_inputs, model.dtype)
    assert model.loss is not None
    y = model.loss.check(f"{prefix}y", y, len(x), model.n_outputs, model.dtype)
    for metric in model.metrics:
        metric.check(y)
    w = weights(f"{prefix}sample_weight", sample_weight, len(x), model.dtype)
    size = len(x) if batch_size is None else integer("batch_size", batch_size, 1)
    return Data(model, x, y, w, size)


def prepare_evaluation(
    model: Model, X: Any, y: Any, sample_weight: Any, batch_size: int | None, prefix: str = ""
) -> Data:
    """As `prepare`, but where no batch size is named, batches that stay small."""
    if batch_size is None:
        batch_size = evaluation_rows(model._programs.runner("evaluate")[0])
    return prepare(model, X, y, sample_weight, batch_size, prefix)


def normalisers(weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What each step's sums are divided by: its weight, or 1 where all of its samples weigh nothing."""
    return np.where(weights > 0, weights, 1.0)


def tally_of(model: Model, program: Program, data: Data) -> Tally:
    """What turns the sums of this program over this data into values; metrics where the program measures them."""
    metrics = model.metrics if program.mode != "gradient" else ()
    return Tally(program.sums, metrics, data.batch_rows, penalized=model._programs.penalized(program))


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
    return prepare_evaluation(model, X, y, w, None, "validation ")
