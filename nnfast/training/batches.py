"""Data on its way into a job: checked, converted once, and cut into batches."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.devices import fetched
from nnfast.errors import OptionError
from nnfast.protocol import Job
from nnfast.training.class_weights import weights_by_class
from nnfast.training.staged import StagedRows, is_staged
from nnfast.training.tally import Tally
from nnfast.validation import convert, features, integer, weights

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
    "repeated",
    "tally_of",
]

EVALUATION_ROWS = 4096  # rows per batch where the caller names no batch size, at most,
EVALUATION_ELEMENTS = 1 << 20  # and (but for the widest networks) so few that its working memory stays below this


def evaluation_rows(program: Program) -> int:
    """Rows per batch for measuring or predicting: a wide network takes fewer, so that the arena stays in cache."""
    return max(64, min(EVALUATION_ROWS, EVALUATION_ELEMENTS // max(program.arena_columns, 1)))


class Data:
    """Checked rows on the model's backend, and how they fall into batches of `size`.

    `staged` rows are too many to be converted at once: a job takes as many as `load` brings.
    """

    def __init__(self, model: Model, x: Any, y: Any, weight: Any, size: int, staged: StagedRows | None = None) -> None:
        backend = model.backend
        self.rows = len(x) if staged is None else staged.rows
        self.staged = staged
        self.x = None if staged is not None else backend.asarray(x)
        self.y = None if staged is not None else backend.asarray(y)
        self.weight = weight  # on the host, for the sums of batches
        self.device_weight = None if weight is None else backend.asarray(weight)
        self.size = min(size, self.rows)

    @cached_property
    def starts(self) -> np.ndarray[Any, Any]:
        return np.arange(0, self.rows, self.size)

    @cached_property
    def batch_rows(self) -> np.ndarray[Any, Any]:
        """Rows of each batch of an epoch."""
        return np.diff(np.append(self.starts, self.rows)).astype(np.float64)

    def batch_weights(self, order: Any) -> np.ndarray[Any, Any]:
        """Σ weight of each batch of each epoch, flat: `order` is (epochs, rows) or None for one epoch as it stands."""
        if order is None:
            return self._weights_as_they_stand
        if self.weight is None:
            return repeated(self.batch_rows, len(order))
        return self._sums(self.weight[order])

    @cached_property
    def _weights_as_they_stand(self) -> np.ndarray[Any, Any]:
        return self.batch_rows if self.weight is None else self._sums(self.weight[None])

    def _sums(self, ordered: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.asarray(np.add.reduceat(ordered, self.starts, axis=1, dtype=np.float64)).reshape(-1)

    def most_steps(self, first_batch: int) -> int | None:
        """How many steps from this batch on one job can take; None: any number."""
        if self.staged is None:
            return None
        return max(1, min(self.staged.rows_at_once // self.size, len(self.starts) - first_batch))

    def load(self, model: Model, job: Job, order: Any) -> None:
        """Give the job its rows: all of them, or the part that it will touch."""
        job.batch_size = self.size
        if self.staged is None:
            job.x, job.y, job.sample_weight, job.order = self.x, self.y, self.device_weight, order
            return
        lo = job.first_batch * self.size
        hi = min(lo + job.steps * self.size, self.rows)
        rows = slice(lo, hi) if order is None else order[0, lo:hi]
        x, y = self.staged.take(rows)
        job.x, job.y, job.first_batch = model.backend.asarray(x), model.backend.asarray(y), 0
        job.sample_weight = None if self.weight is None else model.backend.asarray(self.weight[rows])


def prepare(
    model: Model,
    X: Any,
    y: Any,
    sample_weight: Any,
    batch_size: int | None,
    prefix: str = "",
    *,
    class_weight: Any = None,
    index: Any = None,
) -> Data:
    """Check and convert; batches of `batch_size` rows, or one of all. `index` picks rows.

    X may lie on the model's device and stays there; targets and weights are fetched from it, to be looked at.
    """
    staged = StagedRows(model, X, y, prefix, index) if is_staged(X, model.dtype, index) else None
    x: Any = None
    if staged is not None:
        y, given = staged.y, len(X)
    else:
        backend = model.backend
        x = features(f"{prefix}X", X, model.n_inputs, model.dtype, backend=backend)
        assert model.loss is not None
        y = fetched(f"{prefix}y", y, backend)
        y = model.loss.check(f"{prefix}y", y, len(x), model.n_outputs, model.dtype)
        for metric in model.metrics:
            metric.check(y)
        given = len(x)
    sample_weight = fetched(f"{prefix}sample_weight", sample_weight, model.backend)
    w = weights(f"{prefix}sample_weight", sample_weight, given, model.dtype)
    if index is not None:
        if staged is None:
            x, y = x[index if isinstance(x, np.ndarray) else model.backend.asarray(index)], y[index]
        w = None if w is None else weights(f"{prefix}sample_weight", w[index], len(index), model.dtype)
    rows = given if index is None else len(index)
    if class_weight is not None:
        w = _with_classes(model, y, w, class_weight)
    size = rows if batch_size is None else integer("batch_size", batch_size, 1)
    return Data(model, x, y, w, size, staged)


def _with_classes(model: Model, y: Any, weight: Any, class_weight: Any) -> Any:
    if y is None:
        raise OptionError("class_weight needs targets that fit into memory; give sample_weight instead")
    assert model.loss is not None
    class_weight = fetched("class_weight", class_weight, model.backend)
    by_class = weights_by_class(class_weight, y, model.loss, model.n_outputs)
    return convert("sample_weight", by_class if weight is None else by_class * weight, model.dtype)


def prepare_evaluation(
    model: Model, X: Any, y: Any, sample_weight: Any, batch_size: int | None, prefix: str = "", index: Any = None
) -> Data:
    """As `prepare`, but where no batch size is named, batches that stay small."""
    if batch_size is None:
        batch_size = evaluation_rows(model._programs.runner("evaluate")[0])
    return prepare(model, X, y, sample_weight, batch_size, prefix, index=index)


def repeated(values: np.ndarray[Any, Any], times: int) -> np.ndarray[Any, Any]:
    """The values over and over."""
    return np.full(times, values[0]) if len(values) == 1 else np.tile(values, times)


def normalisers(weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What each step's sums are divided by: its weight, or 1 where all of its samples weigh nothing."""
    return weights if weights.all() else np.where(weights > 0, weights, 1.0)


def tally_of(model: Model, program: Program, rows: np.ndarray[Any, Any] | None) -> Tally:
    """What turns the sums of this program, over batches of so many rows, into values."""
    measured = {column.partition(".")[0] for column in program.sums}
    metrics = tuple(metric for metric in model.metrics if metric.name in measured)
    return Tally(program.sums, metrics, rows, penalized=model._programs.penalized(program))


def make_job(model: Model, data: Data | None, scalars: Any, *, order: Any = None, **fields: Any) -> Job:
    job = Job(model._buffers, None, key=model._key, scalars=scalars, **fields)
    if data is not None:
        data.load(model, job, order)
    return job
