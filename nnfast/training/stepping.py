"""Single steps on rows that the caller brings: one update, or the gradient alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.callbacks.base import CallbackList
from nnfast.errors import StateError
from nnfast.training.batches import make_job, prepare, tally_of
from nnfast.validation import flag

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = ["loss_and_gradient", "train_on_batch", "update"]


def one_step(
    model: Model,
    mode: str,
    X: Any,
    y: Any,
    sample_weight: Any,
    *,
    training: bool | None = None,
    on_gradients: Any = None,
) -> tuple[dict[str, float], Any]:
    """One step of a program on all of these rows at once: its values, and with mode "gradient" a copy of that."""
    data = prepare(model, X, y, sample_weight, None)
    program, runner = model._programs.runner(mode, training)
    optimizer, step_weights = model.optimizer, data.batch_weights(None)
    with model._programs.exclusive():
        step = optimizer.steps if optimizer is not None else 0
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
        gradient = np.array(model.backend.to_numpy(model._buffers.gradients)) if mode == "gradient" else None
        if mode == "train" and optimizer is not None:
            optimizer.steps += 1
    return tally_of(model, program, data.batch_rows).one_epoch(result.sums, step_weights), gradient


def loss_and_gradient(
    model: Model, X: Any, y: Any, *, sample_weight: Any, training: bool
) -> tuple[float, np.ndarray[Any, Any]]:
    """See `Model.loss_and_gradient`."""
    model._needs("loss_and_gradient")
    values, gradient = one_step(model, "gradient", X, y, sample_weight, training=flag("training", training))
    return values["loss"], gradient


def train_on_batch(model: Model, X: Any, y: Any, *, sample_weight: Any, on_gradients: Any) -> dict[str, float]:
    """See `Model.train_on_batch`."""
    model._needs("train_on_batch", optimizer=True)
    optimizer = model.optimizer
    assert optimizer is not None
    if not optimizer.uses_gradients:
        raise StateError(f"{type(optimizer).__name__} trains with fit, on the whole set")
    hook = CallbackList((), on_gradients).on_gradients
    return one_step(model, "train", X, y, sample_weight, on_gradients=hook)[0]


def update(model: Model) -> None:
    """Clip and apply the gradients as they stand: the last part of a step."""
    optimizer = model.optimizer
    assert optimizer is not None
    program, runner = model._programs.runner("update")
    with model._programs.exclusive():
        rates = optimizer.learning_rates(optimizer.steps, 1)
        scalars = model._programs.scalars(program)
        runner.run(make_job(model, None, scalars, learning_rates=rates, first_step=optimizer.steps + 1))
        optimizer.steps += 1
