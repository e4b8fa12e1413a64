"""A training of a population in a file: going on from there, all of it checked before anything changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.errors import CheckpointError
from nnfast.population.history import PopulationHistory
from nnfast.training.resuming import checkpoint_at

if TYPE_CHECKING:
    from nnfast.population.fit import PopulationRun
    from nnfast.population.hooks import Hooks
    from nnfast.population.population import Population

__all__ = ["resumed"]


def resumed(
    population: Population, now: PopulationRun, hooks: Hooks, names: tuple[str, ...], epochs: int, path: Any
) -> PopulationHistory | None:
    """Put the population where the file left it; the history until there, with room for more, or None to begin anew."""
    path = checkpoint_at(path)
    if path is None:
        return None
    from nnfast.storage import populations
    from nnfast.storage.records import Record

    def check(said: Any, history: PopulationHistory) -> None:
        if not isinstance(said, dict) or "run" not in said:
            raise CheckpointError(
                f"{path} holds a population but no training to go on with; use Population.load and fit"
            )
        record = Record(said, path)
        hooks.check(record, now.check(record.part("run"), history))

    record = populations.restore(population, path, check)
    now.go_on(record["run"])
    hooks.take(record["patience"])
    return _widened(population.history, names, epochs)


def _widened(history: PopulationHistory, names: tuple[str, ...], epochs: int) -> PopulationHistory:
    """The same with room for more epochs, and for what was not measured before."""
    more, shape = max(0, epochs - history.planned), (len(history), history.planned)
    columns = history.history | {name: np.full(shape, np.nan) for name in names if name not in history.history}
    history.history = {n: np.pad(rows, ((0, 0), (0, more)), constant_values=np.nan) for n, rows in columns.items()}
    history.planned = max(epochs, history.planned)
    return history
