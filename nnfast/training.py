"""The loop around a runner: cuts a training run into jobs, prepares their data, and adds up what comes back.

A job is as many steps as fit into about 100 ms, so that Ctrl-C, progress and callbacks get their turn; where it is cut
changes no result. Everything is checked before the first job.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.batches import EVALUATION_ROWS, Data, make_job, prepare, prepare_validation
from nnfast.callbacks import CallbackList, Progress
from nnfast.errors import NonFiniteWarning, OptionError, StateError
from nnfast.history import History, Tally
from nnfast.protocol import Job, Result
from nnfast.random import permutation
from nnfast.validation import features, integer

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = ["evaluate", "fit", "predict", "run_once", "train_on_batch", "update"]

JOB_SECONDS = 0.1
ORDER_ROWS = 4_000_000  # row numbers drawn for one job at most: 32 MB


def _penalized(model: Model) -> bool:
    names = ("weight_l1", "weight_l2", "bias_l1", "bias_l2")
    return any(getattr(layer, name, 0) for layer in model.layers for name in names)


def fit(
    model: Model,
    X: Any,
    y: Any,
    *,
    epochs: int,
    batch_size: int | None,
    shuffle: bool,
    verbose: int,
    sample_weight: Any,
    validation_data: tuple[Any, ...] | None,
    validation_every: int,
    callbacks: Iterable[Any],
    on_gradients: Callable[[Any], None] | None,
) -> History:
    """See `Model.fit`."""
    model._needs("fit", optimizer=True)
    epochs = integer("epochs", epochs, 0)
    validation_every = integer("validation_every", validation_every, 1)
    data = prepare(model, X, y, sample_weight, batch_size)
    validation = prepare_validation(model, validation_data)
    optimizer = model.optimizer
    assert optimizer is not None
    if not optimizer.uses_gradients and (data.size < data.rows or on_gradients is not None):
        raise OptionError(f"{type(optimizer).__name__} takes the whole set at once and has no gradients")
    hooks = CallbackList(callbacks, on_gradients)
    program, _ = model._programs.runner("train")
    if not optimizer.uses_gradients:
        _begin_search(model, data)
    shuffled = bool(shuffle) and data.size < data.rows
    tally = Tally(program.sums, model.metrics, data.batch_rows, penalized=_penalized(model))
    history = History()
    progress = Progress.of(verbose, epochs)
    run = _Run(model, data, shuffled, hooks.on_gradients)
    stop = False
    with progress:
        hooks.begin(model, epochs)
        while run.epochs_done < epochs and not stop:
            due = min(epochs, hooks.next_due(run.epochs_done, epochs))
            if validation is not None:
                due = min(due, (run.epochs_done // validation_every + 1) * validation_every)
            values = tally.add(*run.job(due))
            history.extend(values)
            if validation is not None and values and _is_due(run, validation_every, epochs):
                measured = _evaluate(model, validation)
                history.extend({f"val_{k}": np.array([v]) for k, v in measured.items()})
            progress.update(run.epochs_done, history.last(), values)
            if values and run.at_epoch_end:
                stop = hooks.epoch(model, run.epochs_done, history.last(), final=run.epochs_done == epochs)
        hooks.end(model, history)
    return history


def _is_due(run: _Run, every: int, epochs: int) -> bool:
    return run.at_epoch_end and (run.epochs_done % every == 0 or run.epochs_done == epochs)


class _Run:
    """One training run's position, and its next job."""

    def __init__(self, model: Model, data: Data, shuffled: bool, on_gradients: Any) -> None:
        self._model = model
        self._data = data
        self._shuffled = shuffled
        self._on_gradients = on_gradients
        self._per_epoch = len(data.starts)
        self._steps = 0  # steps done in this run
        self._first_epoch = model._epochs
        self._seconds = 0.0  # per step, of the last job; 0: not known yet
        self._orders: dict[int, np.ndarray[Any, Any]] = {}
        self._warned = False
        self._program, self._runner = model._programs.runner("train")

    @property
    def epochs_done(self) -> int:
        return self._steps // self._per_epoch

    @property
    def at_epoch_end(self) -> bool:
        return self._steps % self._per_epoch == 0

    def job(self, until: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Run the next job, ending at epoch `until` at the latest; the sums and weights of its steps."""
        model, data, optimizer = self._model, self._data, self._model.optimizer
        assert optimizer is not None
        steps = self._steps_now(until)
        epoch, batch = divmod(self._steps, self._per_epoch)
        last = (self._steps + steps - 1) // self._per_epoch
        order = self._order(epoch, last + 1) if self._shuffled else None
        every = data.batch_weights(order) if order is not None else np.tile(data.batch_weights(None), last + 1 - epoch)
        step_weights = every[batch : batch + steps]
        job = make_job(
            model,
            data,
            model._programs.scalars(self._program),
            order=order,
            steps=steps,
            first_batch=batch,
            learning_rates=optimizer.learning_rates(optimizer.steps, steps),
            normalisers=np.where(step_weights > 0, step_weights, 1.0),
            first_step=optimizer.steps + 1,
            on_gradients=self._on_gradients,
        )
        begin = time.perf_counter()
        try:
            result = self._runner.run(job)
        finally:  # a hook or Ctrl-C may end the job early; what was done counts
            optimizer.steps += job.done
            self._steps += job.done
            model._epochs = self._first_epoch - (-self._steps // self._per_epoch)
        self._seconds = (time.perf_counter() - begin) / steps
        self._warn(result, epoch)
        return result.sums, step_weights

    def _steps_now(self, until: int) -> int:
        left = until * self._per_epoch - self._steps
        if self._shuffled:
            left = min(left, max(1, ORDER_ROWS // self._data.rows) * self._per_epoch)
        if not self._seconds:
            return 1
        steps = max(1, min(left, int(JOB_SECONDS / self._seconds)))
        to_epoch_end = -(self._steps + steps) % self._per_epoch
        whole = steps - (self._per_epoch - to_epoch_end) if to_epoch_end else steps
        return whole if whole > 0 else steps

    def _order(self, first: int, end: int) -> np.ndarray[Any, Any]:
        """Row orders of epochs first … end − 1 of this run; each depends on the model's key and the epoch alone."""
        self._orders = {e: o for e, o in self._orders.items() if e >= first}
        for e in range(first, end):
            if e not in self._orders:
                self._orders[e] = permutation(self._model._key, self._first_epoch + e, self._data.rows)
        return np.stack([self._orders[e] for e in range(first, end)])

    def _warn(self, result: Result, epoch: int) -> None:
        if result.nonfinite >= 0 and not self._warned:
            self._warned = True
            at = epoch + result.nonfinite // self._per_epoch + 1
            warnings.warn(
                f"the loss or the gradient is not finite since epoch {at}; "
                "a smaller learning rate or clip_norm= may help, or the data hold NaN",
                NonFiniteWarning,
                stacklevel=5,
            )


def _begin_search(model: Model, data: Data) -> None:
    """Ready a random search for this data: the candidate starts as the best, whose loss is measured anew."""
    assert model.optimizer is not None
    model._buffers.slots["candidate"][...] = model._buffers.parameters
    if model.optimizer.steps == 0:
        model._buffers.state[...] = np.inf
        return
    program, runner = model._programs.runner("evaluate", True)
    job = make_job(model, data, model._programs.scalars(program), first_step=model.optimizer.steps)
    model._buffers.state[...] = model.backend.asarray(runner.run(job).sums[0])


def _evaluate(model: Model, data: Data) -> dict[str, float]:
    program, runner = model._programs.runner("evaluate")
    step_weights = data.batch_weights(None)
    normalisers = np.where(step_weights > 0, step_weights, 1.0)
    job = make_job(model, data, model._programs.scalars(program), steps=len(data.starts), normalisers=normalisers)
    tally = Tally(program.sums, model.metrics, data.batch_rows, penalized=_penalized(model))
    return {name: float(v[0]) for name, v in tally.add(runner.run(job).sums, step_weights).items()}


def evaluate(model: Model, X: Any, y: Any, *, batch_size: int | None, sample_weight: Any) -> dict[str, float]:
    """See `Model.evaluate`."""
    model._needs("evaluate")
    size = EVALUATION_ROWS if batch_size is None else batch_size
    return _evaluate(model, prepare(model, X, y, sample_weight, size))


def predict(model: Model, X: Any, batch_size: int | None) -> Any:
    """See `Model.predict`."""
    x = features("X", X, model.n_inputs, model.dtype)
    size = EVALUATION_ROWS if batch_size is None else integer("batch_size", batch_size, 1)
    program, runner = model._programs.runner("predict")
    output = model.backend.empty((len(x), model.n_outputs), model.dtype)
    job = Job(
        model._buffers,
        model.backend.asarray(x),
        output=output,
        batch_size=size,
        scalars=model._programs.scalars(program),
    )
    job.steps = -(-len(x) // size)
    runner.run(job)
    return output


def run_once(
    model: Model, mode: str, X: Any, y: Any, sample_weight: Any, *, training: bool = False, on_gradients: Any = None
) -> dict[str, float]:
    """One step of a program on all of these rows at once; loss and metrics."""
    model._needs("this call", optimizer=mode == "train")
    data = prepare(model, X, y, sample_weight, None)
    program, runner = model._programs.runner(mode, training or None)
    optimizer = model.optimizer
    step = optimizer.steps if optimizer is not None else 0
    step_weights = data.batch_weights(None)
    job = make_job(
        model,
        data,
        model._programs.scalars(program),
        learning_rates=None if optimizer is None else optimizer.learning_rates(step, 1),
        normalisers=step_weights,
        first_step=step + 1,
        on_gradients=on_gradients,
    )
    result = runner.run(job)
    metrics = model.metrics if mode == "train" else ()
    tally = Tally(program.sums, metrics, data.batch_rows, penalized=_penalized(model))
    return {name: float(v[0]) for name, v in tally.add(result.sums, step_weights).items()}


def train_on_batch(model: Model, X: Any, y: Any, *, sample_weight: Any, on_gradients: Any) -> dict[str, float]:
    """See `Model.train_on_batch`."""
    model._needs("train_on_batch", optimizer=True)
    optimizer = model.optimizer
    assert optimizer is not None
    if not optimizer.uses_gradients:
        raise StateError(f"{type(optimizer).__name__} trains with fit, on the whole set")
    values = run_once(model, "train", X, y, sample_weight, on_gradients=on_gradients)
    optimizer.steps += 1
    return values


def update(model: Model) -> None:
    """Clip and apply the gradients as they stand: the last part of a step."""
    optimizer = model.optimizer
    assert optimizer is not None
    program, runner = model._programs.runner("update")
    rates = optimizer.learning_rates(optimizer.steps, 1)
    scalars = model._programs.scalars(program)
    runner.run(make_job(model, None, scalars, learning_rates=rates, first_step=optimizer.steps + 1))
    optimizer.steps += 1
