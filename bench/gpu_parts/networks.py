"""The networks that are trained, with their data: one batch on the device, again and again, the same for everybody."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

__all__ = ["NETWORKS", "POPULATIONS", "TINY", "TINY_POPULATION", "Network", "network"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Network:
    """Dense layers with ReLU between them, softmax cross-entropy, Adam; made from its name in every process."""

    name: str
    widths: tuple[int, ...]
    batch: int
    bound: str  # what its time is expected to go into: "launches" or "products"
    models: int = 1  # that are trained together, on the same rows

    def data(self) -> tuple[Array, Array]:
        rng = np.random.default_rng(1)
        X = rng.random((self.batch, self.widths[0]), np.float32)
        return X, np.arange(self.batch, dtype=np.int64) * 7919 % self.widths[-1]

    def weights(self, model: int = 0) -> list[Array]:
        """[W1, b1, W2, b2, …], each W (inputs, outputs)."""
        rng = np.random.default_rng(model)
        arrays: list[Array] = []
        for i, o in pairwise(self.widths):
            arrays += [rng.standard_normal((i, o), np.float32) * np.float32(np.sqrt(2 / i)), np.zeros(o, np.float32)]
        return arrays

    def stacked_weights(self) -> list[Array]:
        """The same with an axis of models before."""
        return [np.stack(arrays) for arrays in zip(*map(self.weights, range(self.models)), strict=True)]


_ALL = (
    Network("784-512-256-10, batch 128", (784, 512, 256, 10), 128, "launches"),
    Network("2-64-3, batch 300", (2, 64, 3), 300, "launches"),
    Network("784-128-10, batch 128", (784, 128, 10), 128, "launches"),
    Network("784-1024-1024-10, batch 1024", (784, 1024, 1024, 10), 1024, "products"),
    Network("4096-4096-4096-4096, batch 8192", (4096, 4096, 4096, 4096), 8192, "products"),
)
NETWORKS = {network.name: network for network in _ALL}
_MANY = (
    Network("256 of 2-64-3, batch 300", (2, 64, 3), 300, "launches", 256),
    Network("1,024 of 8-32-32-2, batch 64", (8, 32, 32, 2), 64, "launches", 1024),
)
POPULATIONS = {network.name: network for network in _MANY}
TINY = Network("5-6-3, batch 8", (5, 6, 3), 8, "launches")  # for trying the script out
TINY_POPULATION = Network("3 of 5-6-3, batch 8", (5, 6, 3), 8, "launches", 3)


def network(name: str) -> Network:
    return ({one.name: one for one in (TINY, TINY_POPULATION)} | NETWORKS | POPULATIONS)[name]
