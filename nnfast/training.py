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

from nnfast.batches import (
    Data,
    evaluation_rows,
    make_job,
    normalisers,
    prepare,
    prepare_evaluation,
    prepare_validation,
    tally_of,
)
from nnfast.callbacks import CallbackList
from nnfast.errors import NonFiniteWarning, OptionError, StateError
from nnfast.history import History
from nnfast.progress import Progress
from nnfast.protocol import Job, Result
from nnfast.random import permutation
from nnfast.validation import features, flag, integer

if TYPE_CHECKING:
    from nnfast.model import Model
    from nnfast.optimizers.base import Optimizer

__all__ = ["evaluate", "fit", "predict"]

JOB_SECONDS = 0.1
ORDER_ROWS = 4_000_000  # row numbers drawn for one job at most: 32 MB


def fit(
    model: Model,
    X: Any,
    y: Any,
    *,
    epochs: int,
    batch_size: int | None,
    shuffle: Any,
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
    hooks = CallbackList(callbacks, on_gradients)
    progress = Progress.of(verbose, epochs)
    optimizer = model.optimizer
    assert optimizer is not None
    if not optimizer.uses_gradients and (data.size < data.rows or hooks.on_gradients is not None):
        raise OptionError(f"{type(optimizer).__name__} takes the whole set at once and has no gradients")
    if model._fitting:
        raise StateError("this model is being fitted already; a callback must not fit it again")
    run = _Run(model, data, flag("shuffle", shuffle), hooks.on_gradients)
    names = run.tally.names
    if validation is not None:
        names += tuple(f"val_{name}" for name in names)
    hooks.begin(model, epochs, names)
    model._fitting, model.history = True, History(names)
    try:
        with progress:
            _loop(run, epochs, validation, validation_every, hooks, progress)
    finally:
        model._fitting = False
        hooks.end(model, model.history)
    return model.history


def _loop(
    run: _Run, epochs: int, validation: Data | None, validation_every: int, hooks: CallbackList, progress: Progress
) -> None:
    """Job after job, with validation and callbacks where they are due."""
    model, history = run.model, run.model.history
    while run.epochs_done < epochs:
        due = hooks.next_due(run.epochs_done, epochs)
        if validation is not None:
            due = min(due, (run.epochs_done // validation_every + 1) * validation_every)
        values = run.job(min(due, epochs))
        history.extend(values)
        done, final = run.epochs_done, run.epochs_done == epochs
        logs = {name: float(column[-1]) for name, column in values.items()}
        at_end = run.at_epoch_end and bool(values)
        if at_end and validation is not None and (done % validation_every == 0 or final):
            measured = {f"val_{name}": value for name, value in _evaluate(model, validation).items()}
            history.extend({name: np.array([value]) for name, value in measured.items()})
            logs |= measured
        progress.update(done, logs, values)
        if at_end and hooks.epoch(model, done, logs, final=final):
            return


class _Run:
    """One training run's position, its next job, and the values of its epochs."""

    def __init__(self, model: Model, data: Data, shuffle: bool, on_gradients: Any) -> None:
        self.model = model
        self.data = data
        self.optimizer: Optimizer | None = None  # that of the last job
        self._uses_gradients = model.optimizer is not None and model.optimizer.uses_gradients
        program, _ = model._programs.runner("train")
        self.tally = tally_of(model, program, data)
        self._shuffled = shuffle and data.size < data.rows
        self._on_gradients = on_gradients
        self._per_epoch = len(data.starts)
        self._steps = 0  # steps done in this run
        self._first_epoch = model._epochs
        self._seconds = 0.0  # per step, of the last job; 0: not known yet
        self._orders: dict[int, np.ndarray[Any, Any]] = {}
        self._warned = False

    @property
    def epochs_done(self) -> int:
        return self._steps // self._per_epoch

    @property
    def at_epoch_end(self) -> bool:
        return self._steps % self._per_epoch == 0

    def job(self, until: int) -> dict[str, np.ndarray[Any, Any]]:
        """Run the next job, ending at epoch `until` at the latest; values of the epochs it completed, by name."""
        model, data, optimizer = self.model, self.data, self._current_optimizer()
        steps = self._steps_now(until)
        epoch, batch = divmod(self._steps, self._per_epoch)
        last = (self._steps + steps - 1) // self._per_epoch
        order = self._order(epoch, last + 1) if self._shuffled else None
        every = data.batch_weights(order) if order is not None else np.tile(data.batch_weights(None), last + 1 - epoch)
        step_weights = every[batch : batch + steps]
        program, runner = model._programs.runner("train")  # anew: a callback may have frozen a layer
        job = make_job(
            model,
            data,
            model._programs.scalars(program),
            order=order,
            steps=steps,
            first_batch=batch,
            learning_rates=optimizer.learning_rates(optimizer.steps, steps),
            normalisers=normalisers(step_weights),
            first_step=optimizer.steps + 1,
            on_gradients=self._on_gradients,
        )
        begin = time.perf_counter()
        try:
            result = model._programs.run(runner, job)
        finally:  # a hook or Ctrl-C may end the job early; what was done counts
            optimizer.steps += job.done
            self._steps += job.done
            model._epochs = self._first_epoch - (-self._steps // self._per_epoch)
        self._seconds = (time.perf_counter() - begin) / steps
        self._warn(result, self._steps - steps)
        return self.tally.add(result.sums, step_weights)

    def _current_optimizer(self) -> Optimizer:
        """The model's optimizer now, ready to go on: a callback may have assigned another."""
        optimizer = self.model.optimizer
        assert optimizer is not None
        if optimizer.uses_gradients != self._uses_gradients:
            raise StateError(f"{optimizer!r} cannot take over from {self.optimizer!r} within one fit")
        if optimizer is not self.optimizer and not optimizer.uses_gradients:
            _begin_search(self.model, self.data)
        self.optimizer = optimizer
        return optimizer

    def _steps_now(self, until: int) -> int:
        left = until * self._per_epoch - self._steps
        if self._shuffled:
            left = min(left, max(1, ORDER_ROWS // self.data.rows) * self._per_epoch)
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
                self._orders[e] = permutation(self.model._key, self._first_epoch + e, self.data.rows)
        return np.stack([self._orders[e] for e in range(first, end)])

    def _warn(self, result: Result, before: int) -> None:
        if result.nonfinite >= 0 and not self._warned:
            self._warned = True
            at = (before + result.nonfinite) // self._per_epoch + 1
            warnings.warn(
                f"the loss or the gradient is not finite since epoch {at}; "
                "a smaller learning rate or clip_norm= may help, or the data hold NaN",
                NonFiniteWarning,
                stacklevel=6,
            )


def _begin_search(model: Model, data: Data) -> None:
    """Ready a random search for this data: what the model holds is the best so far, its loss measured on the data."""
    model._programs.runner("train")  # makes the state that holds the best
    program, runner = model._programs.runner("evaluate", True)
    assert model.optimizer is not None
    scalars, weight = model._programs.scalars(program), data.batch_weights(None)
    job = make_job(model, data, scalars, first_step=model.optimizer.steps, normalisers=weight)
    model._buffers.state[...] = model.backend.asarray(model._programs.run(runner, job).sums[0])


def _evaluate(model: Model, data: Data) -> dict[str, float]:
    program, runner = model._programs.runner("evaluate")
    step_weights, scalars = data.batch_weights(None), model._programs.scalars(program)
    job = make_job(model, data, scalars, steps=len(data.starts), normalisers=normalisers(step_weights))
    sums = model._programs.run(runner, job).sums
    return tally_of(model, program, data).one_epoch(sums, step_weights)


def evaluate(model: Model, X: Any, y: Any, *, batch_size: int | None, sample_weight: Any) -> dict[str, float]:
    """See `Model.evaluate`."""
    model._needs("evaluate")
    return _evaluate(model, prepare_evaluation(model, X, y, sample_weight, batch_size))


def predict(model: Model, X: Any, batch_size: int | None) -> Any:
    """See `Model.predict`."""
    x = features("X", X, model.n_inputs, model.dtype)
    program, runner = model._programs.runner("predict")
    size = evaluation_rows(program) if batch_size is None else integer("batch_size", batch_size, 1)
    output = model.backend.empty((len(x), model.n_outputs), model.dtype)
    scalars, steps = model._programs.scalars(program), -(-len(x) // size)
    rows = model.backend.asarray(x)
    job = Job(model._buffers, rows, output=output, batch_size=size, steps=steps, scalars=scalars)
    model._programs.run(runner, job)
    return output
