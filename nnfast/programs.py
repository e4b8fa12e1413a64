"""A model's Programs: lowered when asked for, compiled once per structure, and the numbers that they name."""

from __future__ import annotations

import os
from _thread import allocate_lock, get_ident  # `threading` would cost a millisecond of import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np

from nnfast.errors import ShapeError, StateError
from nnfast.lowering import Builder
from nnfast.program import Program
from nnfast.protocol import Job, Result, Runner

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = ["Programs"]


_all: WeakSet[Programs] = WeakSet()


def _after_fork() -> None:
    for programs in list(_all):
        programs.leave_others()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Programs:
    """Lowers one model and keeps the runners of its Programs."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._compiled: dict[tuple[str, bool], tuple[Any, Program, Runner]] = {}
        self._named: dict[tuple[str, ...], list[tuple[Any, str]]] = {}  # see `_owners`
        self._lock = allocate_lock()
        self._running_in: int | None = None  # the thread that is in a step
        self._changing = False  # whether that step changes the model
        self._torn = False  # whether a fork caught another thread in such a step: the model's numbers are not whole
        self._fitted_by: dict[str, tuple[int]] = {}  # the thread that fits the model now, if any
        # Where models that differ in nothing but their numbers keep Programs for each other, by mode and structure.
        self.alike: dict[Any, Program] | None = None
        self.fuse = True  # whether activations may join the dense op before them; tests switch it off
        _all.add(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"_model": self._model, "fuse": self.fuse}  # runners are compiled again, not copied

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_model"])  # type: ignore[misc]  # the same start as that of a new model
        self.fuse = state["fuse"]

    @contextmanager
    def exclusive(self, *, changes: bool = True) -> Iterator[None]:
        """One run at a time per model: other threads wait; a call from inside a step of the same model is refused."""
        if self._running_in == get_ident():
            raise StateError("this model is in the middle of a step; call it between steps, from a callback's on_epoch")
        if self._torn:
            raise StateError("another thread was changing this model when the process was forked: make or load it anew")
        with self._lock:
            self._running_in, self._changing = get_ident(), changes
            try:
                yield
            finally:
                self._running_in = None

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """One `fit` at a time per model: another, from a callback or from another thread, is refused."""
        mine = (get_ident(),)  # another object each time
        try:
            if self._fitted_by.setdefault("now", mine) is not mine:  # one step even between threads
                raise StateError("this model is being fitted already; no callback and no thread must fit it again")
            yield
        finally:
            if self._fitted_by.get("now") is mine:
                del self._fitted_by["now"]

    def run(self, runner: Runner, job: Job) -> Result:
        with self.exclusive(changes=job.learning_rates is not None):
            return runner.run(job)

    def leave_others(self) -> None:
        """In a forked child: what another thread of the parent was at with this model, nobody will ever end."""
        if self._lock.locked() and self._running_in != get_ident():
            self._lock, self._running_in, self._torn = allocate_lock(), None, self._torn or self._changing
            self._compiled.clear()  # the memory of a runner is as it was in the middle of a step
        if self._fitted_by.get("now", (get_ident(),))[0] != get_ident():
            self._fitted_by.clear()
            self._model._session = None

    def penalized(self, program: Program) -> bool:
        """Whether any penalty of the Program has a strength other than 0 now."""
        return any(getattr(*self._owner(name)) for name in program.strengths)

    def forget(self) -> None:
        """Drop all runners: needed when an array of the model's buffers is replaced by another."""
        self._compiled.clear()

    def lower(self, mode: str, training: bool | None = None) -> Program:
        """The Program of a mode (see `Program.mode`) for the model as it is now."""
        model = self._model
        frozen = {b.name for b in model._layout.blocks if not model.layers[int(b.name.partition(".")[0])].trainable}
        settings: dict[str, Any] = {"training": training, "frozen": frozenset(frozen), "fuse": self.fuse}
        b = Builder(mode, model.dtype.name, model._layout, model.n_inputs, **settings)
        if mode in ("train", "update"):
            assert model.optimizer is not None
            b.differentiate = mode == "train" and model.optimizer.uses_gradients
            model.optimizer.lower(b)
        for i, layer in enumerate(model.layers):
            with b.layer(i, layer.scalars, layer.trainable):
                layer.lower(b)
            if b.x.width != model._widths[i + 1]:
                said = model._widths[i + 1]
                raise ShapeError(f"layer {i}, {layer!r}, lowers to {b.x.width} outputs; n_outputs_for says {said}")
        if mode == "predict" and model.loss is not None and model.loss.head is not None:
            with b.layer(len(model.layers), (), False):
                b.activation(model.loss.head)
        if mode in ("train", "gradient", "accumulate", "evaluate"):
            assert model.loss is not None
            b.head = model.loss.head
            with b.owner("loss", model.loss.scalars):
                model.loss.lower(b)
            for metric in model.metrics if mode != "gradient" else ():
                with b.owner(f"metric:{metric.name}", metric.scalars):
                    metric.lower(b)
        return b.finish()

    def runner(self, mode: str, training: bool | None = None) -> tuple[Program, Runner]:
        """The Program of a mode and its runner, kept until the structure changes; optimizer arrays made as needed."""
        model = self._model
        training = mode in ("train", "accumulate") if training is None else training
        layers = tuple(layer.structure() for layer in model.layers)
        loss = model.loss and model.loss.structure()
        structure = (layers, loss, model.optimizer and model.optimizer.structure(), self.fuse)
        key = (mode, training)
        if key not in self._compiled or self._compiled[key][0] != structure:
            program = self._lowered(key, structure)
            self._compiled[key] = (structure, program, model.backend.compile(program))
        _, program, runner = self._compiled[key]
        buffers = model._buffers
        for name in program.slots:
            if name not in buffers.slots:
                buffers.slots[name] = model.backend.zeros(model._layout.size, model.dtype)
        if program.state > len(buffers.state):
            buffers.state = model.backend.asarray(np.full(program.state, np.inf))
        return program, runner

    def _lowered(self, key: tuple[str, bool], structure: Any) -> Program:
        if self.alike is None:
            return self.lower(*key)
        _, *others = structure  # structures of layers tell objects apart, but those of models alike are alike
        where = (key, tuple(layer.trainable for layer in self._model.layers), *others)
        found = self.alike.get(where)
        if found is None:
            found = self.alike[where] = self.lower(*key)
        return found

    def scalars(self, program: Program) -> np.ndarray[Any, Any]:
        """The numbers that the Program names, as they are now."""
        optimizer: Any = self._model.optimizer
        return np.array(
            [
                optimizer.scalar(name) if owner is None else getattr(owner, name)
                for owner, name in self._owners(program)
            ],
            dtype=np.float64,
        )

    def _owners(self, program: Program) -> list[tuple[Any, str]]:
        """Who holds each number, and under which name; None is the optimizer, which may be another one tomorrow."""
        found = self._named.get(program.scalars)
        if found is None:
            found = self._named[program.scalars] = [self._owner(name) for name in program.scalars]
        return found

    def _owner(self, name: str) -> tuple[Any, str]:
        model = self._model
        prefix, _, attribute = name.rpartition(".")
        if prefix == "optimizer":
            return None, attribute
        if prefix.startswith("metric:"):
            return next(m for m in model.metrics if f"metric:{m.name}" == prefix), attribute
        return model.loss if prefix == "loss" else model.layers[int(prefix)], attribute
