"""One training run: where it stands, and its next job.

A job is as many steps as fit into about 100 ms, so that Ctrl-C, progress and callbacks get their turn; where it is cut
changes no result. A step is one update; with accumulation it takes several batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnfast._warning import warn
from nnfast.errors import NonFiniteWarning, StateError
from nnfast.protocol import Aside, Job, Result
from nnfast.training.batches import Data, make_job, normalisers, repeated, tally_of
from nnfast.training.orders import EpochOrders
from nnfast.training.tally import Tally

if TYPE_CHECKING:
    from nnfast.model import Model
    from nnfast.optimizers.base import Optimizer
    from nnfast.storage.records import Record

__all__ = ["ArrayRun", "Pauses", "Run", "Values", "begin_search", "expected_seconds"]

JOB_SECONDS = 0.1
ORDER_ROWS = 4_000_000  # row numbers drawn for one job at most: 32 MB

Values = dict[str, np.ndarray[Any, Any]]


class Pauses(NamedTuple):
    """What is to be run after every so many epochs, and after the last, in the midst of a job too."""

    every: int
    last: int
    aside: Aside


class Run:
    """What all runs share. A subclass makes the steps of a job, and says when an epoch is over."""

    def __init__(self, model: Model, tally: Tally, on_gradients: Callable[[Any], None] | None) -> None:
        self.model = model
        self.tally = tally
        self.on_gradients = on_gradients
        self.optimizer: Optimizer | None = None  # that of the last job
        self.steps = 0  # done in this run
        self.first_epoch = model._epochs
        self.stopped = False  # somebody asked to stop
        self._uses_gradients = model.optimizer is not None and model.optimizer.uses_gradients
        self._seconds = 0.0  # per step, of the last job; 0: not known yet
        self._guess = 0.0  # until it is; 0: nobody can tell
        self._warned = False

    @property
    def epochs_done(self) -> int:
        raise NotImplementedError

    @property
    def at_epoch_end(self) -> bool:
        raise NotImplementedError

    @property
    def batches_begun(self) -> int:
        """Batches done of an epoch that is not complete."""
        raise NotImplementedError

    def job(self, epoch: int, step: int | None, pauses: Pauses | None = None) -> Values:
        """Run the next job, up to this epoch or this step at most; values of the epochs that it completed, by name."""
        raise NotImplementedError

    @property
    def takes_pauses(self) -> bool:
        """Whether something can be done between two steps of a job."""
        return False

    def signature(self) -> dict[str, Any]:
        """What must be the same for an interrupted run to go on."""
        raise NotImplementedError

    def record(self) -> dict[str, Any]:
        """The position, from which `go_on` goes on."""
        sums, weights = self.tally.partial
        return {
            "steps": self.steps,
            "first_epoch": self.first_epoch,
            "stopped": self.stopped,
            "signature": self.signature(),
            "sums": sums,
            "weights": weights,
        }

    def check(self, record: Record) -> int:
        """Refuse a record from which this run could not go on; the number of epochs that it has behind it."""
        record.part("signature").check_alike(self.expected(record))
        epochs, batches = self._place(record)
        record.count("first_epoch")
        record.of("stopped", bool)
        record.array("sums", np.float64, (batches, self.tally.columns))
        record.weights("weights", (batches,))
        return epochs

    def expected(self, record: Record) -> dict[str, Any]:
        """The signature that this record must have."""
        return self.signature()

    def _place(self, record: Record) -> tuple[int, int]:
        """Epochs done, and batches done of the next one, where this record was written down."""
        raise NotImplementedError

    def go_on(self, record: dict[str, Any]) -> None:
        """Take up a position that was checked; the model is where that run left it."""
        self.steps, self.first_epoch, self.stopped = record["steps"], record["first_epoch"], record["stopped"]
        self.tally.partial = record["sums"], record["weights"]
        self.optimizer = self.model.optimizer  # which has its state already
        self._count_epochs()

    # What a training on several ranks does differently: it agrees with the others.

    @contextmanager
    def together(self) -> Iterator[None]:
        """What may fail, or stop the training, on one rank alone; all of them hear of it."""
        yield

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """What no rank can do without the others."""
        yield

    def agreed(self, epoch: int, step: int | None) -> tuple[int, int | None]:
        """The earliest epoch and step at which any rank must come back."""
        return epoch, step

    def _steps_in_time(self, most: int) -> int:
        seconds = self._seconds or self._guess
        return max(1, min(most, int(JOB_SECONDS / seconds))) if seconds else 1

    def _count_epochs(self) -> None:
        """Tell the model how many of its epochs have begun: each has its own row order."""
        begun = self.epochs_done + (not self.at_epoch_end)
        self.model._epochs = self.first_epoch + begun

    def _current_optimizer(self) -> Optimizer:
        """The model's optimizer now, ready to go on: a callback may have assigned another."""
        optimizer = self.model.optimizer
        assert optimizer is not None
        if optimizer.uses_gradients != self._uses_gradients:
            raise StateError(f"{optimizer!r} cannot take over from {self.optimizer!r} within one fit")
        if optimizer is not self.optimizer:
            self._new_optimizer(optimizer)
        self.optimizer = optimizer
        return optimizer

    def _new_optimizer(self, optimizer: Optimizer) -> None:
        """The first one, or another than before."""

    def _warn(self, result: Result, epoch: int) -> None:
        if result.nonfinite >= 0 and not self._warned:
            self._warned = True
            warn(
                f"the loss or the gradient is not finite since epoch {epoch}; "
                "a smaller learning rate or clip_norm= may help, or the data hold NaN",
                NonFiniteWarning,
            )


class ArrayRun(Run):
    """Batches of arrays, a step each."""

    def __init__(self, model: Model, data: Data, shuffle: bool, on_gradients: Any) -> None:
        program, runner = model._programs.runner("train")
        super().__init__(model, tally_of(model, program, data.batch_rows), on_gradients)
        self.data = data
        if on_gradients is None:
            self._guess = expected_seconds(runner, data.size)
        self._shuffled = shuffle and data.size < data.rows
        self.per_epoch = len(data.starts)
        self._accumulate = 1
        self._orders = EpochOrders(model.backend, data.rows)

    @property
    def epochs_done(self) -> int:
        return self.steps // self.per_epoch

    @property
    def at_epoch_end(self) -> bool:
        return self.steps % self.per_epoch == 0

    @property
    def batches_begun(self) -> int:
        return self.steps % self.per_epoch * self._accumulate

    def _place(self, record: Record) -> tuple[int, int]:
        epochs, steps = divmod(record.count("steps"), self.per_epoch)
        return epochs, steps * self._accumulate

    def signature(self) -> dict[str, Any]:
        return {"rows": self.data.rows, "batch_size": self.data.size, "shuffle": self._shuffled}

    @property
    def takes_pauses(self) -> bool:
        return getattr(self.model._programs.runner("train")[1], "takes_pauses", False)

    def job(self, epoch: int, step: int | None, pauses: Pauses | None = None) -> Values:
        optimizer = self._current_optimizer()
        if pauses is not None:
            self._guess = 0.0  # it knows nothing of what happens in them
        steps = self._steps_now(self._until(epoch, step))
        first, batch = divmod(self.steps, self.per_epoch)
        end = (self.steps + steps - 1) // self.per_epoch + 1
        order = self.order(first, end) if self._shuffled else None
        weights = self._weights(order, end - first)[batch : batch + steps]
        begin = time.perf_counter()
        job = self._job(optimizer, steps, batch, order, weights)
        if pauses is not None:
            job.pauses, job.aside = self._pauses(pauses, steps), pauses.aside
        before = self.steps
        try:
            result = self.model._programs.run(self._runner, job)
        finally:  # a hook may end the job early; what was done counts
            optimizer.steps += job.done
            self.steps += job.done
            self._count_epochs()
        self._seconds = (time.perf_counter() - begin) / steps
        self._warn(result, (before + result.nonfinite) // self.per_epoch + 1)
        return self.tally.add(result.sums, weights)

    def _job(self, optimizer: Optimizer, steps: int, batch: int, order: Any, weights: Any) -> Job:
        program, self._runner = self.model._programs.runner("train")  # anew: a callback may have frozen a layer
        return make_job(
            self.model,
            self.data,
            self.model._programs.scalars(program),
            order=order,
            steps=steps,
            first_batch=batch,
            learning_rates=optimizer.learning_rates(optimizer.steps, steps),
            normalisers=normalisers(weights),
            first_step=optimizer.steps + 1,
            on_gradients=self.on_gradients,
        )

    def _until(self, epoch: int, step: int | None) -> int:
        """The step at which a job must end at the latest."""
        end = epoch * self.per_epoch
        return end if step is None else min(end, step)

    def _pauses(self, pauses: Pauses, steps: int) -> list[int]:
        """After how many steps of a job of so many epochs are over that call for a pause."""
        first, last = self.steps // self.per_epoch + 1, (self.steps + steps) // self.per_epoch
        due = [e for e in range(first, last + 1) if e % pauses.every == 0 or e == pauses.last]
        return [e * self.per_epoch - self.steps for e in due]

    def _steps_now(self, until: int) -> int:
        left = until - self.steps
        if self._shuffled:
            left = min(left, max(1, ORDER_ROWS // self.data.rows) * self.per_epoch)
        most = self.data.most_steps(self.steps % self.per_epoch)
        steps = self._steps_in_time(left if most is None else min(left, most))
        to_epoch_end = -(self.steps + steps) % self.per_epoch
        whole = steps - (self.per_epoch - to_epoch_end) if to_epoch_end else steps
        return whole if whole > 0 else steps

    def order(self, first: int, end: int) -> np.ndarray[Any, Any]:
        """Row orders of epochs first … end − 1 of this run."""
        key, number = np.array([self.model._key], np.uint64), np.array([self.first_epoch + first], np.int64)
        orders: np.ndarray[Any, Any] = self._orders.draw(key, number, end - first)[0]
        return orders

    def _weights(self, order: Any, epochs: int) -> np.ndarray[Any, Any]:
        """Σ weight of each batch of some epochs."""
        if order is not None:
            return self.data.batch_weights(order)
        return repeated(self.data.batch_weights(None), epochs)

    def _new_optimizer(self, optimizer: Optimizer) -> None:
        if not optimizer.uses_gradients:
            begin_search(self.model, self.data)


def expected_seconds(runner: Any, rows: int) -> float:
    """What a step may take at most before one was measured; 0 where the runner does not say."""
    expect = getattr(runner, "expected_seconds", None)
    return 0.0 if expect is None else float(expect(rows))


def begin_search(model: Model, data: Data) -> None:
    """Ready a random search for this data: what the model holds is the best so far, its loss measured on the data."""
    model._programs.runner("train")  # makes the state that holds the best
    program, runner = model._programs.runner("evaluate", True)
    assert model.optimizer is not None
    scalars, weight = model._programs.scalars(program), data.batch_weights(None)
    job = make_job(model, data, scalars, first_step=model.optimizer.steps, normalisers=weight)
    model._buffers.state[...] = model.backend.asarray(model._programs.run(runner, job).sums[0])
