"""The reference programs as tasks of the parity kit: each one's own model, on any backend, before it has trained."""

from __future__ import annotations

from unittest import mock

import nnfast as nn
from nnfast.examples import _common, case_study, losses, optimizers, random_search, regression
from nnfast.testing.models import Task

__all__ = ["search_tasks", "training_tasks"]


ALIKE = ("SGD, rate 0.85", "SGD, rate 1, decay 1e-2", "SGD, rate 1, decay 1e-3")  # to rows that stay


def training_tasks(*, every_row: bool) -> list[Task]:
    """The networks that follow gradients. `losses` trains nothing: its network gets plain descent here."""
    model, X, y = losses.untrained()
    model.optimizer = nn.SGD(1.0)
    tasks = [_task("losses", model, X, y)]
    runs = optimizers.RUNS if every_row else [name for name in optimizers.RUNS if name not in ALIKE]
    tasks += [_untrained(f"optimizers: {name}", optimizers.train, name) for name in runs]
    rows = regression.ROWS if every_row else regression.ROWS[-1:]
    tasks += [_untrained(f"regression: {row}", regression.train, row) for row in rows]
    return tasks + [_untrained(f"case_study: {name}", case_study.train, name) for name in case_study.EPOCHS]


def search_tasks(*, every_row: bool) -> list[Task]:
    """Those that try candidates."""
    runs = [(data, mode) for data, mode in random_search.RUNS if every_row or data == "vertical"]
    return [_untrained(f"random_search: {data}, {mode}", random_search.train, data, mode) for data, mode in runs]


def _untrained(name, train, *given) -> Task:
    """The program is stopped where it would begin to fit."""

    def stop(model, X, y, epochs, verbose=1):
        return _common.Trained(model, X, y, {}, 0.0)

    with mock.patch.object(_common, "fit", stop), nn.use_backend("numpy"):
        run = train(*given)
    return _task(name, run.model, run.X, run.y)


def _task(name, model, X, y) -> Task:
    return Task(name, model.to, X, y, len(X))
