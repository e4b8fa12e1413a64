"""The estimators of both libraries: `fit`, and one row at a time. The same arguments, draws and order of rows."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from cases.estimators import data, made

from peers.nnfast_fit import set_threads

__all__ = ["fitting", "one_row"]


class Fitting:
    """Fits from the start each time."""

    def __init__(self, estimator: Any, name: str) -> None:
        self.estimator = estimator
        self.X, self.y, *self.held_out = data(name)

    def prepare(self, count: int) -> None:
        pass

    def run(self, count: int) -> None:
        for _ in range(count):
            self.estimator.fit(self.X, self.y)

    def results(self) -> list[Any]:
        return [self.estimator.loss_curve_, self.estimator.score(*self.held_out)]


class Asking(Fitting):
    """Predicts one row after the other."""

    def __init__(self, estimator: Any, name: str) -> None:
        super().__init__(estimator, name)
        self.estimator.fit(self.X, self.y)
        self.row = self.held_out[0][:1].copy()
        self.call: Callable[[Any], Any] = getattr(estimator, "predict_proba", estimator.predict)

    def run(self, count: int) -> None:
        call, row = self.call, self.row
        for _ in range(count):
            self.answer = call(row)

    def results(self) -> list[Any]:
        return [self.answer]


def fitting(name: str, module: str, *backend: str) -> Fitting:
    return Fitting(_estimator(name, module, *backend), name)


def one_row(name: str, module: str, *backend: str) -> Asking:
    return Asking(_estimator(name, module, *backend), name)


def _estimator(name: str, module: str, *backend: str) -> Any:
    if backend:
        set_threads()
    return made(import_module(module), name, **({"backend": backend[0]} if backend else {}))
