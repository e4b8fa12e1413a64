"""Callbacks of a population: early stopping of each model by itself, files, and functions of the user's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.callbacks.base import Callback, check_parameters
from nnfast.callbacks.checkpoint import ModelCheckpoint
from nnfast.callbacks.early_stopping import EarlyStopping
from nnfast.errors import CheckpointError, DTypeError, OptionError, UnknownNameError

if TYPE_CHECKING:
    from nnfast.population.history import PopulationHistory
    from nnfast.population.members import Members
    from nnfast.population.population import Population
    from nnfast.storage.records import Record

__all__ = ["Hooks", "Patience"]

Array = np.ndarray[Any, Any]
Logs = dict[str, Array]

COUNTS = ("best_epoch", "waited", "stopped_epoch")  # of each model


class Patience:
    """One `EarlyStopping`, kept for each model: its best value, how long ago that was, and its weights then."""

    def __init__(self, settings: EarlyStopping, members: Members, names: tuple[str, ...], higher: list[str]) -> None:
        self.settings, self._members = settings, members
        self.watched = settings.monitor or ("val_loss" if "val_loss" in names else "loss")
        if self.watched not in names:
            raise UnknownNameError("monitor of EarlyStopping", self.watched, names)
        better_is_more = self.watched.removeprefix("val_") in higher
        self._sign = -1 if (better_is_more if settings.mode == "auto" else settings.mode == "max") else 1
        n = members.n
        self.best, self.best_epoch = np.full(n, self._sign * math.inf), np.zeros(n, np.int64)
        self.waited, self.stopped_epoch = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self.weights = np.zeros((n, 0))
        if settings.restore_best:
            self.weights = np.array(members.pattern.backend.to_numpy(members.buffers.parameters))

    def next_due(self, done: int, epochs: int, models: Array) -> int:
        """The first epoch after which a model may have to stop, or its weights to be kept."""
        every, ahead = self.settings.every, 1
        if not self.settings.restore_best and len(models):
            ahead = max(1, self.settings.patience - int(self.waited[models].max()))
        return min((done // every + ahead) * every, epochs)

    def look(self, models: Array, history: PopulationHistory, before: int, done: int, epochs: int) -> Array:
        """Look at the epochs before + 1 … done of these models; which of them stop, as booleans."""
        stops = np.zeros(len(models), bool)
        for epoch in range(before + 1, done + 1):
            measured = not self.watched.startswith("val_") or epoch in history.validated
            if (epoch % self.settings.every and epoch != epochs) or not measured:
                continue
            values = history.history[self.watched][models, epoch - 1]
            better = self._sign * values < self._sign * self.best[models] - self.settings.min_delta
            at = models[better]
            self.best[at], self.best_epoch[at], self.waited[at] = values[better], epoch, 0
            self.waited[models[~better]] += 1
            if self.settings.restore_best and len(at):
                rows = self._members.buffers.parameters[at]
                self.weights[at] = self._members.pattern.backend.to_numpy(rows)
            stops = ~better & (self.waited[models] >= self.settings.patience)
            self.stopped_epoch[models[stops]] = epoch
        return stops

    def restore_best(self, history: PopulationHistory) -> None:
        """Give every model the weights of its best epoch."""
        if self.settings.restore_best:
            at = np.flatnonzero(self.best_epoch)
            backend, rows = self._members.pattern.backend, self._members.buffers.parameters
            for k in at.tolist():
                rows[k] = backend.asarray(self.weights[k])
            history.restored[at] = self.best_epoch[at]

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("best", *COUNTS, "weights")}

    def check(self, state: Record, done: int) -> None:
        """Refuse a state that no training of so many epochs can have left."""
        if np.isnan(state.array("best", np.float64, self.best.shape)).any():
            state.refuse("best", "numbers")
        for name in COUNTS:
            state.counts(name, self.best.shape, done)
        if self.settings.restore_best:
            state.array("weights", self.weights.dtype, self.weights.shape)

    def take(self, state: dict[str, Any]) -> None:
        for name in ("best", *COUNTS, *(["weights"] if self.settings.restore_best else [])):
            setattr(self, name, state[name].copy())


class Hooks:
    """All callbacks of one `fit` of a population."""

    def __init__(self, given: Iterable[Any]) -> None:
        if isinstance(given, Callback | str | bytes) or not isinstance(given, Iterable):
            raise DTypeError(f"callbacks is a list: callbacks=[…]; {given!r} was given")
        self._functions: list[Callable[..., Any]] = []
        self._stopping: EarlyStopping | None = None
        self._checkpoint: ModelCheckpoint | None = None
        for callback in given:
            self._sort_in(callback)
        self.patience: Patience | None = None

    def _sort_in(self, callback: Any) -> None:
        if isinstance(callback, EarlyStopping):
            if self._stopping is not None:
                raise OptionError("callbacks names two EarlyStopping; a population takes one, which it keeps per model")
            self._stopping = callback
        elif isinstance(callback, ModelCheckpoint):
            if callback.keep_best or callback.every_steps is not None:
                raise OptionError(
                    "a population's ModelCheckpoint takes path and every; see population.best() for the best"
                )
            if self._checkpoint is not None:
                raise OptionError("callbacks names two ModelCheckpoint; a population writes one file")
            self._checkpoint = callback
        elif isinstance(callback, Callback) or not callable(callback) or isinstance(callback, type):
            raise DTypeError(
                f"callbacks of a population are nn.EarlyStopping, nn.ModelCheckpoint or functions "
                f"f(population, epoch, logs); {callback!r} was given"
            )
        else:
            check_parameters(callback, "f(population, epoch, logs)")
            self._functions.append(callback)

    def begin(self, members: Members, names: tuple[str, ...], higher: list[str]) -> None:
        if self._checkpoint is not None:
            self._checkpoint.prepare()
        if self._stopping is not None:
            self.patience = Patience(self._stopping, members, names, higher)

    def next_due(self, done: int, epochs: int, models: Array) -> int:
        """The next epoch after which somebody wants to be called; `epochs` if nobody does."""
        due = [done + 1] if self._functions else []
        if self._checkpoint is not None:
            due.append((done // self._checkpoint.every + 1) * self._checkpoint.every)
        if self.patience is not None:
            due.append(self.patience.next_due(done, epochs, models))
        return min([*due, epochs])

    def after(self, population: Population, epoch: int, logs: Logs) -> bool:
        """After an epoch: the user's functions; whether one of them answers True."""
        answers = [function(population, epoch, logs) for function in self._functions]
        return any(isinstance(a, bool | np.bool_) and bool(a) for a in answers)

    def write(self, population: Population, epoch: int, *, final: bool) -> None:
        """The file, where one is due; last, so that it holds what the others have decided."""
        if self._checkpoint is not None and (final or epoch % self._checkpoint.every == 0):
            path = self._checkpoint.path
            path.parent.mkdir(parents=True, exist_ok=True)
            population.save(path)

    def state(self) -> dict[str, Any] | None:
        return None if self.patience is None else self.patience.state()

    def check(self, record: Record, done: int) -> None:
        """Refuse what another kind of training has written down, or none of so many epochs."""
        state = record.entry("patience")
        if (state is None) != (self.patience is None):
            given = "without" if state is None else "with"
            raise CheckpointError(f"{record.path} is of a training {given} EarlyStopping")
        if self.patience is not None:
            self.patience.check(record.part("patience"), done)

    def take(self, state: Any) -> None:
        if self.patience is not None:
            self.patience.take(state)
