"""A model's Programs: lowered when asked for, compiled once per structure, and the numbers that they name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.lowering import Builder
from nnfast.program import Program
from nnfast.protocol import Runner

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = ["Programs"]


class Programs:
    """Lowers one model and keeps the runners of its Programs."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._compiled: dict[tuple[str, bool], tuple[Any, Program, Runner]] = {}
        self.fuse = True  # whether activations may join the dense op before them; tests switch it off

    def __getstate__(self) -> dict[str, Any]:
        return {"_model": self._model, "_compiled": {}, "fuse": self.fuse}  # runners are compiled again, not copied

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
            model.optimizer.lower(b)
        for i, layer in enumerate(model.layers):
            with b.layer(i, layer.scalars, layer.trainable):
                layer.lower(b)
        if mode == "predict" and model.loss is not None and model.loss.head is not None:
            with b.layer(len(model.layers), (), False):
                b.activation(model.loss.head)
        if mode in ("train", "gradient", "evaluate"):
            assert model.loss is not None
            with b.owner("loss", model.loss.scalars):
                model.loss.lower(b)
            for metric in model.metrics if mode != "gradient" else ():
                with b.owner(f"metric:{metric.name}", metric.scalars):
                    metric.lower(b)
        return b.finish()

    def runner(self, mode: str, training: bool | None = None) -> tuple[Program, Runner]:
        """The Program of a mode and its runner, kept until the structure changes; optimizer arrays made as needed."""
        model = self._model
        training = mode == "train" if training is None else training
        layers = tuple(layer.structure() for layer in model.layers)
        structure = (layers, type(model.loss), model.optimizer and model.optimizer.structure(), self.fuse)
        key = (mode, training)
        if key not in self._compiled or self._compiled[key][0] != structure:
            program = self.lower(mode, training)
            self._compiled[key] = (structure, program, model.backend.compile(program))
        _, program, runner = self._compiled[key]
        buffers = model._buffers
        for name in program.slots:
            if name not in buffers.slots:
                buffers.slots[name] = model.backend.zeros(model._layout.size, model.dtype)
        if program.state > len(buffers.state):
            buffers.state = model.backend.asarray(np.full(program.state, np.inf))
        return program, runner

    def scalars(self, program: Program) -> np.ndarray[Any, Any]:
        """The numbers that the Program names, as they are now."""
        return np.array([self._scalar(name) for name in program.scalars], dtype=np.float64)

    def _scalar(self, name: str) -> float:
        model = self._model
        prefix, _, attribute = name.rpartition(".")
        if prefix == "optimizer":
            assert model.optimizer is not None
            return model.optimizer.scalar(attribute)
        if prefix.startswith("metric:"):
            metric = next(m for m in model.metrics if f"metric:{m.name}" == prefix)
            return metric.scalar(attribute, model.loss)
        return float(getattr(model.loss if prefix == "loss" else model.layers[int(prefix)], attribute))
