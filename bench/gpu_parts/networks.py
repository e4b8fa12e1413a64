"""The networks that are trained, with their data: one batch on the device, again and again, the same for everybody."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

__all__ = ["NETWORKS", "TINY", "Network", "network"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Network:
    """Dense layers with ReLU between them, softmax cross-entropy, Adam; made from its name in every process."""

    name: str
    widths: tuple[int, ...]
    batch: int
    bound: str  # what its time is expected to go into: "launches" or "products"

    def data(self) -> tuple[Array, Array]:
        rng = np.random.default_rng(1)
        X = rng.random((self.batch, self.widths[0]), np.float32)
        return X, np.arange(self.batch, dtype=np.int64) * 7919 % self.widths[-1]

    def weights(self) -> list[Array]:
        """[W1, b1, W2, b2, …], each W (inputs, outputs)."""
        rng = np.random.default_rng(0)
        arrays: list[Array] = []
        for i, o in pairwise(self.widths):
            arrays += [rng.standard_normal((i, o), np.float32) * np.float32(np.sqrt(2 / i)), np.zeros(o, np.float32)]
        return arrays


_ALL = (
    Network("784-512-256-10, batch 128", (784, 512, 256, 10), 128, "launches"),
    Network("2-64-3, batch 300", (2, 64, 3), 300, "launches"),
    Network("784-128-10, batch 128", (784, 128, 10), 128, "launches"),
    Network("784-1024-1024-10, batch 1024", (784, 1024, 1024, 10), 1024, "products"),
    Network("4096-4096-4096-4096, batch 8192", (4096, 4096, 4096, 4096), 8192, "products"),
)
NETWORKS = {network.name: network for network in _ALL}
TINY = Network("5-6-3, batch 8", (5, 6, 3), 8, "launches")  # for trying the script out


def network(name: str) -> Network:
    return TINY if name == TINY.name else NETWORKS[name]
