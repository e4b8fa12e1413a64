"""The models of a population as rows: flat arrays with a row each, seeds, and counters."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.buffers import realign
from nnfast.protocol import Buffers
from nnfast.random import as_rng, draw_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnfast.model import Model
    from nnfast.population.varying import Varying
    from nnfast.program import Program

__all__ = ["Members"]

Array = np.ndarray[Any, Any]


class Members:
    """Weights, optimizer arrays, keys and counters of n models, a row or an entry for each."""

    def __init__(self, pattern: Model, n: int) -> None:
        self.pattern, self.n = pattern, n
        backend, size = pattern.backend, pattern._layout.size
        # No gradients: they are gone with the step, so whoever computes has room for one model's.
        flat = backend.zeros((n, size), pattern.dtype), backend.zeros((n, 0), pattern.dtype)
        self.buffers = Buffers(*flat, {}, backend.zeros((n, 0), np.float64), pattern._buffers.backend)
        self.keys = np.zeros(n, np.uint64)
        self.epochs = np.zeros(n, np.int64)  # begun over each model's life: the number of its next shuffle
        self.steps = np.zeros(n, np.int64)
        self._one: Buffers | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_one": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        realign(self.buffers, self.pattern.backend)

    def draw(self, seeds: Sequence[Any], given: Sequence[bool]) -> None:
        """What `Model(…, rng=seed)` draws: weights layer by layer, but for layers whose values were given; the key."""
        pattern = self.pattern
        host = np.zeros((self.n, pattern._layout.size), pattern.dtype)
        host[...] = pattern.backend.to_numpy(pattern._buffers.parameters)
        blocks = {block.name: block for block in pattern._layout.blocks}
        for k, seed in enumerate(seeds):
            source = as_rng(seed)
            for i, layer in enumerate(pattern.layers):
                if given[i] or not layer.parameter_shapes():
                    continue
                for name, value in layer.initial_values(source).items():
                    b = blocks[f"{i}.{name}"]
                    host[k, b.offset : b.offset + b.size] = np.asarray(value).reshape(-1)
            self.keys[k] = draw_key(source)
        self.buffers.parameters[...] = pattern.backend.asarray(host)

    def make_room(self, program: Program) -> None:
        """The optimizer's arrays, zero, where the Program names some that are not there yet."""
        pattern = self.pattern
        for name in program.slots:
            if name not in self.buffers.slots:
                shape = (self.n, pattern._layout.size)
                self.buffers.slots[name] = pattern.backend.zeros(shape, pattern.dtype)

    def one(self) -> Buffers:
        """Flat arrays for a single model, always the same ones, so that a runner's plans stay good."""
        backend, size, dtype = self.pattern.backend, self.pattern._layout.size, self.pattern.dtype
        if self._one is None or self._one.slots.keys() != self.buffers.slots.keys():
            slots = {name: backend.zeros(size, dtype) for name in self.buffers.slots}
            flat = [backend.zeros(size, dtype) for _ in range(2)]
            self._one = Buffers(flat[0], flat[1], slots, backend.zeros(0, np.float64), self.pattern._buffers.backend)
        return self._one

    def take(self, k: int, into: Buffers) -> None:
        """Copy model k's numbers into flat arrays of one model."""
        into.parameters[...] = self.buffers.parameters[k]
        for name, rows in self.buffers.slots.items():
            into.slots[name][...] = rows[k]

    def put(self, k: int, given: Buffers) -> None:
        """Copy them back."""
        self.buffers.parameters[k] = given.parameters
        for name, rows in self.buffers.slots.items():
            rows[k] = given.slots[name]

    def model(self, k: int, varying: Varying) -> Model:
        """Model k as an `nn.Model` of its own, with all that its further training depends on."""
        pattern = self.pattern
        layers = [layer._clone() for layer in pattern.layers]
        optimizer = None if pattern.optimizer is None else pattern.optimizer._clone()
        loss = copy.copy(pattern.loss)
        places = {str(i): layer for i, layer in enumerate(layers)} | {"optimizer": optimizer, "loss": loss}
        varying.put(k, places)
        made = type(pattern)(
            layers, loss, optimizer, pattern.metrics, backend=pattern.backend, dtype=pattern.dtype, rng=0
        )
        for name in self.buffers.slots:
            made._buffers.slots[name] = pattern.backend.zeros(pattern._layout.size, pattern.dtype)
        self.take(k, made._buffers)
        made._take_key(int(self.keys[k]))
        made._epochs = int(self.epochs[k])
        if optimizer is not None:
            optimizer.steps = int(self.steps[k])
        return made

    def subset(self, chosen: Sequence[int], pattern: Model) -> Members:
        """Copies of some of them, with their counters."""
        made, at = Members(pattern, len(chosen)), np.asarray(chosen, np.int64)
        made.buffers.parameters[...] = self.buffers.parameters[at]
        for name, rows in self.buffers.slots.items():
            made.buffers.slots[name] = pattern.backend.zeros((made.n, rows.shape[1]), pattern.dtype)
            made.buffers.slots[name][...] = rows[at]
        made.keys, made.epochs, made.steps = self.keys[at], self.epochs[at], self.steps[at]
        return made
