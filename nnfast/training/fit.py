"""`Model.fit`, `evaluate` and `predict`: everything is checked, then jobs are run until the work is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.callbacks.base import CallbackList
from nnfast.errors import DTypeError, OptionError
from nnfast.history import History
from nnfast.progress import Progress
from nnfast.protocol import Job
from nnfast.random import permutation
from nnfast.training.batches import evaluation_rows, prepare, prepare_evaluation
from nnfast.training.interrupts import Interrupts
from nnfast.training.resuming import Resumption, Session, resumed
from nnfast.training.run import ArrayRun, Pauses, Run
from nnfast.training.staged import AT_ONCE, is_staged
from nnfast.training.streams import Stream, is_stream
from nnfast.training.validating import Validation, evaluate_data
from nnfast.validation import features, flag, integer, number

if TYPE_CHECKING:
    from nnfast.model import Model
    from nnfast.storage.records import Record
    from nnfast.training.ranks import Ranks

__all__ = ["Session", "evaluate", "fit", "predict", "split_rows"]

SPLIT = 1 << 63  # among the model's row orders, the one that sets rows aside for validation


@dataclass
class Settings:
    """The arguments of `Model.fit`."""

    epochs: Any
    batch_size: Any
    shuffle: Any
    verbose: Any
    sample_weight: Any
    class_weight: Any
    accumulate: Any
    steps_per_epoch: Any
    validation_data: Any
    validation_split: Any
    validation_every: Any
    callbacks: Iterable[Any]
    on_gradients: Callable[[Any], None] | None
    resume: Any
    comm: Any
    sharded: Any


def fit(model: Model, X: Any, y: Any, given: Settings) -> History:
    """See `Model.fit`."""
    if given.comm is None:
        if flag("sharded", given.sharded):
            raise OptionError("sharded=True says that each rank has rows of its own, and needs comm=")
        epochs, hooks, progress = _checked(model, given)
        run, validation = _prepare(model, X, y, given, epochs, hooks)
        session = Session(run, hooks, epochs)
        _begin(session, validation, resumed(session, given.resume))
        return _trained(session, validation, progress)
    from nnfast.training.ranks import Ranks

    with Ranks(given.comm) as ranks:
        return _fit_on(ranks, model, X, y, given)


def _fit_on(ranks: Ranks, model: Model, X: Any, y: Any, given: Settings) -> History:
    """`fit` on one of several ranks."""
    from nnfast.training import distributed

    with ranks.together():
        epochs, hooks, progress = _checked(model, given)
    if ranks.rank:  # files and progress are the affair of rank 0
        hooks, progress = hooks.without_rank_zero(), Progress()
    run, validation = distributed.prepare_ranks(ranks, model, X, y, given, epochs, hooks)
    session = Session(run, hooks, epochs)
    _begin(session, validation, distributed.resumed_on_all_ranks(ranks, session, given.resume))
    return _trained(session, validation, progress)


def _checked(model: Model, given: Settings) -> tuple[int, CallbackList, Progress]:
    model._needs("fit", optimizer=True)
    epochs = integer("epochs", given.epochs, 0)
    return epochs, CallbackList(given.callbacks, given.on_gradients), Progress.of(given.verbose, epochs)


def _begin(session: Session, validation: Validation | None, resumption: Resumption | None) -> None:
    """History and callbacks begin, or take up what the resumption says; where one refuses, the model is as before."""
    run, hooks, epochs = session.run, session.hooks, session.epochs
    model, names = run.model, run.tally.names
    before = model.history
    if validation is not None:
        names += validation.names
    model.history = History(names, planned=epochs, higher=[m.name for m in model.metrics if m.higher_is_better])
    try:
        with run.together():
            hooks.begin(model, epochs, names)
        if resumption is not None:
            _go_on(session, resumption.record)
    except BaseException:
        model.history = before
        if resumption is not None:
            resumption.before.back()
        raise


def _go_on(session: Session, record: Record) -> None:
    run = session.run
    try:
        with run.together():
            session.go_on(record)
    except BaseException:
        session.hooks.end(run.model, run.model.history)
        raise


def _trained(session: Session, validation: Validation | None, progress: Progress) -> History:
    """Train to the end."""
    run, model, interrupts = session.run, session.run.model, Interrupts()
    try:
        model._session = session
        with run.together(), progress, interrupts.held_back(), run.guarded():
            _loop(session, validation, progress, interrupts)
    finally:
        try:
            with run.together():
                session.hooks.end(model, model.history)
        finally:
            model._session = None
    return model.history


def _prepare(
    model: Model, X: Any, y: Any, given: Settings, epochs: int, hooks: CallbackList
) -> tuple[Run, Validation | None]:
    """The run, and what measures the validation data, all of it checked."""
    every = integer("validation_every", given.validation_every, 1)
    accumulate = integer("accumulate", given.accumulate, 1)
    shuffle = flag("shuffle", given.shuffle)
    split = number("validation_split", given.validation_split, 0, 1, high_open=True)
    if split and given.validation_data is not None:
        raise OptionError("give either validation_data or validation_split, not both")
    stream = is_stream(X, y)
    _check_whole_set(model, given, accumulate, stream, hooks)
    validation = _validation(model, given.validation_data, every)
    if stream:
        from nnfast.training.stream_run import StreamRun

        _refuse_with_batches(given, split)
        length = None if given.steps_per_epoch is None else integer("steps_per_epoch", given.steps_per_epoch, 1)
        batches = Stream("X", X, length, epochs)
        return StreamRun(model, batches, accumulate, given.class_weight, hooks.on_gradients), validation
    if given.steps_per_epoch is not None:
        raise OptionError("steps_per_epoch is for batches that come one by one; arrays have batch_size")
    rest = None
    if split:
        rest, held = split_rows(model, X, split)
        aside = prepare_evaluation(model, X, y, given.sample_weight, None, index=held)
        validation = Validation(model, every, aside, lambda: evaluate_data(model, aside))
    data = prepare(model, X, y, given.sample_weight, given.batch_size, class_weight=given.class_weight, index=rest)
    optimizer = model.optimizer
    assert optimizer is not None
    if not optimizer.uses_gradients and data.size < data.rows:
        raise OptionError(f"{type(optimizer).__name__} takes the whole set at once and has no gradients")
    if accumulate > 1:
        from nnfast.training.accumulation import AccumulatingRun

        return AccumulatingRun(model, data, shuffle, hooks.on_gradients, accumulate), validation
    return ArrayRun(model, data, shuffle, hooks.on_gradients), validation


def _check_whole_set(model: Model, given: Settings, accumulate: int, stream: bool, hooks: CallbackList) -> None:
    optimizer = model.optimizer
    assert optimizer is not None
    if not optimizer.uses_gradients and (accumulate > 1 or stream or hooks.on_gradients is not None):
        raise OptionError(f"{type(optimizer).__name__} takes the whole set at once and has no gradients")


def _refuse_with_batches(given: Settings, split: float) -> None:
    for name, here in (
        ("batch_size", given.batch_size is not None),
        ("sample_weight", given.sample_weight is not None),
        ("validation_split", bool(split)),
    ):
        if here:
            raise OptionError(f"{name} is for arrays; X is batches, which have their own rows and weights")
    if isinstance(given.class_weight, str) and given.class_weight == "balanced":
        raise OptionError("class_weight='balanced' counts all labels first, and these come batch by batch")


def split_rows(model: Model, X: Any, share: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Row numbers to train on and to validate with, both in ascending order; drawn with the model's key alone."""
    memmap = isinstance(X, np.memmap)
    rows = len(X if memmap else features("X", X, model.n_inputs, model.dtype, backend=model.backend))
    held = round(rows * share)
    if not 0 < held < rows:
        raise OptionError(f"validation_split={share} sets {held} of {rows} rows aside; both parts need rows")
    drawn = permutation(model._key, SPLIT, rows)
    return np.sort(drawn[held:]), np.sort(drawn[:held])


def _validation(model: Model, given: Any, every: int) -> Validation | None:
    if given is None:
        return None
    if isinstance(given, (tuple, list)) and len(given) in (2, 3):
        X, y, w = (*given, None)[:3]
        data = prepare_evaluation(model, X, y, w, None, "validation ")
        return Validation(model, every, data, lambda: evaluate_data(model, data))
    if isinstance(given, (tuple, list, dict)) or not is_stream(given, None):
        raise DTypeError("validation_data must be (X, y), (X, y, sample_weight) or an iterable of such batches")
    from nnfast.training.stream_run import evaluate_stream

    stream = Stream("validation_data", given, None, 2)
    return Validation(model, every, None, lambda: evaluate_stream(model, stream))


def _loop(session: Session, validation: Validation | None, progress: Progress, interrupts: Interrupts) -> None:
    """Job after job, with validation and callbacks where they are due."""
    run, hooks, epochs = session.run, session.hooks, session.epochs
    history = run.model.history
    within = validation is not None and validation.within_jobs and run.takes_pauses and not progress.every_epoch
    latest: dict[str, float] = {}  # of the validation, for who looks now and then
    while run.epochs_done < epochs and not run.stopped:
        due, next_step = run.agreed(hooks.next_due(run.epochs_done, epochs), hooks.next_step(run.steps))
        before = run.epochs_done
        pauses = None
        if validation is not None:
            aside = validation.begin()
            if within and aside is not None:
                pauses = Pauses(validation.every, epochs, aside)
            else:
                due = min(due, (before // validation.every + 1) * validation.every)
        values = run.job(min(due, epochs), next_step, pauses)
        done, final = run.epochs_done, run.epochs_done == epochs
        history.extend(values)
        logs = {name: float(column[-1]) for name, column in values.items()}
        at_end = run.at_epoch_end and bool(values)
        if validation is not None:
            if not within and at_end and (done % validation.every == 0 or final):
                validation.take()
            over = [e for e in range(before + 1, done + 1) if e % validation.every == 0 or e == epochs]
            measured = validation.values()
            history.extend(measured, over)
            if over:
                latest = {name: float(column[-1]) for name, column in measured.items()}
                logs |= latest if over[-1] == done else {}
        with run.together():
            progress.update(done, logs if progress.every_epoch else logs | latest, values)
            hooks.after(run, done, logs, at_end=at_end, final=final)
            interrupts.heed()


def evaluate(model: Model, X: Any, y: Any, *, batch_size: int | None, sample_weight: Any) -> dict[str, float]:
    """See `Model.evaluate`."""
    model._needs("evaluate")
    if is_stream(X, y):
        from nnfast.training.stream_run import evaluate_stream

        if batch_size is not None or sample_weight is not None:
            raise OptionError("batch_size and sample_weight are for arrays; X is batches, with their own")
        return evaluate_stream(model, Stream("X", X, None, 1))
    return evaluate_data(model, prepare_evaluation(model, X, y, sample_weight, batch_size))


def predict(model: Model, X: Any, batch_size: int | None) -> Any:
    """See `Model.predict`."""
    program, _ = model._programs.runner("predict")
    size = evaluation_rows(program) if batch_size is None else integer("batch_size", batch_size, 1)
    backend, dtype = model.backend, model.dtype
    if not is_staged(X, dtype, None):
        x = features("X", X, model.n_inputs, dtype, backend=backend)
        output = backend.empty((len(x), model.n_outputs), dtype)
        _predict(model, x, size, output)
        return output
    rows = max(size, AT_ONCE // (model.n_inputs * dtype.itemsize) // size * size)
    output = None
    for lo in range(0, max(len(X), 1), rows):
        part = features("X", np.asarray(X[lo : lo + rows]), model.n_inputs, dtype)
        if output is None:
            output = backend.empty((len(X), model.n_outputs), dtype)
        _predict(model, part, size, output[lo : lo + rows])
    return output


def _predict(model: Model, x: Any, size: int, output: Any) -> None:
    """Fill `output` for these rows."""
    program, runner = model._programs.runner("predict")
    scalars, steps = model._programs.scalars(program), -(-len(x) // size)
    rows = model.backend.asarray(x)
    job = Job(model._buffers, rows, output=output, batch_size=size, steps=steps, scalars=scalars)
    model._programs.run(runner, job)
