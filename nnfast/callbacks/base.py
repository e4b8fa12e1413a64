"""What a callback is, and the list of them that a `fit` calls.

A callback says how often it wants to be called; the runner is not interrupted in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnfast.errors import CheckpointError, DTypeError
from nnfast.validation import integer

if TYPE_CHECKING:
    from nnfast.history import History
    from nnfast.model import Model
    from nnfast.storage.records import Record
    from nnfast.training.run import Run

__all__ = ["Callback", "CallbackList", "Logs", "check_parameters"]

Logs = dict[str, float]


class Callback:
    """Base of all callbacks; override what you need.

    `every` is the number of epochs between two calls of `on_epoch`; it is also called after the last one planned.
    `epoch` counts from 1 within this `fit`; `logs` holds what was measured in this epoch, so validation only where it
    was due. The answer True stops the training.
    With `every_steps`, `on_step` is called after every so many steps of this `fit`, also in the middle of an epoch.
    What a callback must remember for an interrupted training to go on as if nothing had been, it gives as `state()`: a
    dictionary of what JSON knows and of NumPy arrays. A training that goes on calls `check_state` with it before it
    changes anything, then `on_begin`, then `restore`.
    If `on_gradients(flat)` is defined, it sees the flat gradient of every step, before clipping, and may change it.
    On several ranks (`fit(comm=)`) a callback runs on each, and must change the model there alike; with
    `rank_zero = True` it runs on rank 0 alone, as those that write files or show something do.
    """

    every: int = 1
    rank_zero: ClassVar[bool] = False
    every_steps: int | None = None
    last: ClassVar[bool] = False  # called after the others, once they have decided whether to stop
    on_gradients: Callable[[Any], None] | None = None

    def on_begin(self, model: Model, epochs: int, names: tuple[str, ...]) -> None:
        """Before the first epoch; `names` is all that this training will measure."""

    def on_epoch(self, model: Model, epoch: int, logs: Logs) -> bool | None:
        """After an epoch that is due."""

    def on_step(self, model: Model, step: int) -> bool | None:
        """After a step that is due; `step` counts the steps of this `fit` from 1. True stops the training."""

    def on_end(self, model: Model, history: History) -> None:
        """After the last epoch, also where training ended in an error."""

    def state(self) -> dict[str, Any]:
        """What must outlive an interruption."""
        return {}

    def check_state(self, model: Model, state: Record) -> None:
        """Refuse, by raising, a state of which `restore` could make nothing; nothing has changed or begun yet.

        `state` is that dictionary, with methods that ask for an entry of a kind: `state.count("epoch")`.
        """

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""


class _Function(Callback):
    def __init__(self, function: Callable[[Model, int, Logs], bool | None]) -> None:
        self._function = function

    def on_epoch(self, model: Model, epoch: int, logs: Logs) -> bool | None:
        return self._function(model, epoch, logs)


def check_parameters(function: Callable[..., Any], expected: str) -> None:
    """Refuse a function that cannot be called with three arguments: else that would show after an epoch."""
    import inspect

    try:
        inspect.signature(function).bind(None, 0, {})
    except TypeError as error:
        raise DTypeError(f"the callback {function!r} cannot be called as {expected}: {error}") from None
    except ValueError:  # one that does not say what it takes
        return


class CallbackList:
    """All callbacks of one `fit`, called when they are due."""

    def __init__(self, callbacks: Iterable[Any], on_gradients: Callable[[Any], None] | None) -> None:
        if isinstance(callbacks, Callback | str | bytes) or not isinstance(callbacks, Iterable):
            raise DTypeError(f"callbacks is a list: callbacks=[…]; {callbacks!r} was given")
        self._callbacks = [c if isinstance(c, Callback) else _Function(c) for c in callbacks]
        for c in self._callbacks:
            if isinstance(c, _Function) and (not callable(c._function) or isinstance(c._function, type)):
                raise DTypeError(
                    f"a callback is an nn.Callback object or a function f(model, epoch, logs): {c._function!r}"
                )
            if isinstance(c, _Function):
                check_parameters(c._function, "f(model, epoch, logs)")
            integer("callback.every", c.every, 1)
            if c.every_steps is not None:
                integer("callback.every_steps", c.every_steps, 1)
        if on_gradients is not None and not callable(on_gradients):
            raise DTypeError(f"on_gradients must be a function of the flat gradient; {on_gradients!r} was given")
        self._hooks = [h for h in (on_gradients, *(c.on_gradients for c in self._callbacks)) if h is not None]

    def without_rank_zero(self) -> CallbackList:
        """Those that run on every rank."""
        kept = CallbackList([c for c in self._callbacks if not c.rank_zero], None)
        apart = [c.on_gradients for c in self._callbacks if c.rank_zero]
        kept._hooks = [h for h in self._hooks if h not in apart]
        return kept

    @property
    def on_gradients(self) -> Callable[[Any], None] | None:
        """One function for all gradient hooks, or None if there are none."""
        if len(self._hooks) < 2:
            return self._hooks[0] if self._hooks else None

        def every_hook(flat: Any) -> None:
            for hook in self._hooks:
                hook(flat)

        return every_hook

    def next_due(self, done: int, end: int) -> int:
        """The next epoch after which somebody wants to be called; `end` if nobody does."""
        return min(((done // c.every + 1) * c.every for c in self._callbacks), default=end)

    def next_step(self, done: int) -> int | None:
        """The next step after which somebody wants to be called; None if nobody does."""
        every = [c.every_steps for c in self._callbacks if c.every_steps is not None]
        return min(((done // n + 1) * n for n in every), default=None)

    def begin(self, model: Model, epochs: int, names: tuple[str, ...]) -> None:
        """Begin all, or, where one refuses, end those that had begun."""
        begun: list[Callback] = []
        try:
            for c in self._callbacks:
                c.on_begin(model, epochs, names)
                begun.append(c)
        except BaseException:
            self._end(begun, model, model.history)
            raise

    def after(self, run: Run, epoch: int, logs: Logs, *, at_end: bool, final: bool) -> None:
        """After a job: call all who are due, and note whether one of them wants the training to stop."""
        for c in sorted(self._callbacks, key=lambda c: c.last):
            answers = []
            if c.every_steps is not None and run.steps % c.every_steps == 0:
                answers.append(c.on_step(run.model, run.steps))
            if at_end and (epoch % c.every == 0 or final or (c.last and run.stopped)):
                answers.append(c.on_epoch(run.model, epoch, logs))
            run.stopped |= any(a is True or (isinstance(a, np.bool_) and bool(a)) for a in answers)

    def end(self, model: Model, history: History) -> None:
        """Every callback ends, whatever another does; the first error is raised afterwards.

        Who writes the training down does so first: others may now change the model.
        """
        errors = self._end(self._callbacks, model, history)
        if errors:
            raise errors[0]

    @staticmethod
    def _end(callbacks: list[Callback], model: Model, history: History) -> list[Exception]:
        errors = []
        for c in sorted(callbacks, key=lambda c: not c.last):
            try:
                c.on_end(model, history)
            except Exception as error:
                errors.append(error)
        return errors

    def states(self) -> list[dict[str, Any]]:
        """What each callback remembers, under the name of its class."""
        return [{"name": type(c).__name__, "state": c.state()} for c in self._callbacks]

    def check(self, model: Model, record: Record) -> None:
        """Refuse a record from which one of them could not go on; nothing has changed yet."""
        for c, state in self._remembered(record):
            with _refusing(c, record):
                c.check_state(model, state)

    def restore(self, record: Record) -> None:
        """Give each callback what one of its class remembered, in the order of the list; others begin anew."""
        for c, state in self._remembered(record):
            with _refusing(c, record):
                c.restore(dict(state))

    def _remembered(self, record: Record) -> list[tuple[Callback, Record]]:
        left, found = [(said.of("name", str), said.part("state")) for said in record.parts("callbacks")], []
        for c in self._callbacks:
            at = next((i for i, (name, _) in enumerate(left) if name == type(c).__name__), None)
            if at is not None:
                found.append((c, left.pop(at)[1]))
        return found


@contextmanager
def _refusing(callback: Callback, record: Record) -> Iterator[None]:
    """Whatever a callback raises of what it remembers, the file is of no use to it."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        name = type(callback).__name__
        raise CheckpointError(f"{record.path}: {name} cannot go on from what it remembers: {error!s:.300}") from error
