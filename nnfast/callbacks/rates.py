"""Learning rates that change between epochs: by a rule, or when nothing gets better.

Rates that change from step to step are schedules of the optimizer: `nnfast.schedules`. Both are data to the step, so
nothing is compiled again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nnfast.callbacks.base import Callback, Logs
from nnfast.callbacks.monitoring import Monitoring
from nnfast.errors import OptionError
from nnfast.optimizers.base import GradientOptimizer
from nnfast.validation import integer, number

if TYPE_CHECKING:
    from nnfast.history import History
    from nnfast.model import Model
    from nnfast.storage.records import Record

__all__ = ["LearningRateSchedule", "ReduceLROnPlateau"]


class LearningRateSchedule(Callback):
    """Set the learning rate before the first epoch and then before every `every`-th.

    `schedule` is a function f(epoch) or f(epoch, rate) of the epochs of this `fit` already done (0 before the first)
    and of the present rate, and gives the new one; the schedules of `nnfast.schedules` will do, with epochs in the
    place of steps. The rate stays what it is when the training ends. Raises OptionError for a function of other
    arguments, for an optimizer whose rate is a schedule already, and for a rate that is not a number of at least 0.
    """

    def __init__(self, schedule: Callable[..., float], *, every: int = 1) -> None:
        self._wants_rate = _arguments(schedule) == 2
        self.schedule = schedule
        self.every = integer("every", every, 1)
        self._begin(0)

    def _begin(self, epochs: int) -> None:
        self._epochs = epochs
        self._due: int | None = None  # epochs done when a rate was due that no epoch of this `fit` needed
        self._model: Model | None = None

    def on_begin(self, model: Model, epochs: int, names: tuple[str, ...]) -> None:
        self._begin(epochs)
        self._set(model, 0)
        self._model = model

    def on_epoch(self, model: Model, epoch: int, logs: Logs) -> bool | None:
        if epoch % self.every:
            return None  # called because it was the last
        if epoch < self._epochs:
            self._set(model, epoch)
        else:
            self._due = epoch
        return None

    def on_end(self, model: Model, history: History) -> None:
        self._model = None

    def state(self) -> dict[str, Any]:
        rate = None if self._model is None else _with_number(self, self._model).learning_rate
        return {"rate": rate, "due": self._due}

    def check_state(self, model: Model, state: Record) -> None:
        if state.entry("rate") is not None:
            number("rate", state["rate"], 0)
        state.count("due", none=True)

    def restore(self, state: dict[str, Any]) -> None:
        """The rate as it was; where the training had been at its end, the one that is due now that it goes on."""
        if self._model is None or state["rate"] is None:
            return
        _with_number(self, self._model).learning_rate = state["rate"]
        self._due = state["due"]
        if self._due is not None and self._due < self._epochs:
            self._set(self._model, self._due)
            self._due = None

    def _set(self, model: Model, epoch: int) -> None:
        optimizer = _with_number(self, model)
        rate = self.schedule(epoch, optimizer.learning_rate) if self._wants_rate else self.schedule(epoch)
        optimizer.learning_rate = number(f"the rate that {self.schedule!r} gives after {epoch} epochs", rate, 0)


class ReduceLROnPlateau(Monitoring):
    """Multiply the learning rate by `factor` when `monitor` has not improved in `patience` measurements on end.

    Improved means better than the best by more than `min_delta`; `monitor` and `mode` are those of `EarlyStopping`.
    After a reduction `cooldown` measurements count for nothing. The rate never falls below `min_rate`. `reductions`
    lists (epoch, new rate). `every` is the number of epochs between two looks. Raises UnknownNameError where nothing of
    this name will be measured, and OptionError for an optimizer whose rate is a schedule.
    """

    def __init__(
        self,
        monitor: str | None = None,
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        mode: str = "auto",
        cooldown: int = 0,
        min_rate: float = 0,
        *,
        every: int = 1,
    ) -> None:
        super().__init__(monitor, min_delta, mode, every)
        self.factor = number("factor", factor, 0, 1, low_open=True, high_open=True)
        self.patience = integer("patience", patience, 1)
        self.cooldown = integer("cooldown", cooldown, 0)
        self.min_rate = number("min_rate", min_rate, 0)

    def _start(self, name: str, *, higher: bool) -> None:
        super()._start(name, higher=higher)
        self._resting = 0  # measurements that still count for nothing
        self.reductions: list[tuple[int, float]] = []

    def on_begin(self, model: Model, epochs: int, names: tuple[str, ...]) -> None:
        _with_number(self, model)
        super().on_begin(model, epochs, names)

    def on_epoch(self, model: Model, epoch: int, logs: Logs) -> bool | None:
        better = self.improved(epoch, logs)
        if better is None:
            return None
        if self._resting:
            self._resting -= 1
            self._waited = 0
        if self._waited < self.patience:
            return None
        optimizer = _with_number(self, model)
        rate = float(optimizer.learning_rate)  # type: ignore[arg-type]  # no schedule, as was seen just now
        if rate > self.min_rate:
            optimizer.learning_rate = max(rate * self.factor, self.min_rate)
            self.reductions.append((epoch, optimizer.learning_rate))
        self._waited, self._resting = 0, self.cooldown
        return None

    def state(self) -> dict[str, Any]:
        return super().state() | {"resting": self._resting, "reductions": [list(r) for r in self.reductions]}

    def check_state(self, model: Model, state: Record) -> None:
        super().check_state(model, state)
        state.count("resting")
        for epoch, rate in state.of("reductions", list):
            integer("the epoch of a reduction", epoch, 0)
            number("the rate of a reduction", rate, 0)

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._resting = int(state["resting"])
        self.reductions = [(int(epoch), float(rate)) for epoch, rate in state["reductions"]]


def _with_number(callback: Callback, model: Model) -> GradientOptimizer:
    """The model's optimizer, whose learning rate must be a number to be set from epoch to epoch."""
    optimizer, who = model.optimizer, type(callback).__name__
    if not isinstance(optimizer, GradientOptimizer):
        raise OptionError(f"{who} sets a learning rate, and {optimizer!r} has none")
    if callable(optimizer.learning_rate):
        raise OptionError(
            f"{who} sets the learning rate, but the optimizer's is the schedule {optimizer.learning_rate!r} already; "
            "give the optimizer a number, or leave the callback out"
        )
    return optimizer


def _arguments(schedule: Any) -> int:
    """How many arguments a rule takes: 1, the epoch, or 2, epoch and rate."""
    import inspect

    words = "expected a function f(epoch) or f(epoch, rate), or a schedule of nnfast.schedules"
    if not callable(schedule) or isinstance(schedule, type):
        raise OptionError(f"schedule is {schedule!r}; {words}")
    try:
        parameters = inspect.signature(schedule).parameters.values()
    except (TypeError, ValueError):  # built in C, without a signature
        return 1
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p for p in places if p.default is p.empty]
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    named = any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters)
    if named or len(needed) > 2 or not (places or several):
        raise OptionError(f"schedule is {schedule!r}, which takes {inspect.signature(schedule)}; {words}")
    return 2 if len(needed) == 2 else 1
