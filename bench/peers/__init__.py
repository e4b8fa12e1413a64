"""What nnfast is compared with, one file each, and what all of them share.

A peer's `trainer(case)` starts from the case's weights and takes the case's rows in the case's order. Its class derives
from `Trainer`; importing its file loads the library it needs, so only that contender's own process does.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

__all__ = ["PEERS", "TITLES", "Trainer", "missing"]

# file: title, and the package it needs
PEERS = {
    "book": ("the book's NumPy", "numpy"),
    "scikit_learn": ("scikit-learn", "sklearn"),
    "torch_eager": ("PyTorch, eager", "torch"),
    "torch_compiled": ("PyTorch, torch.compile", "torch"),
    "jax_loop": ("JAX, whole loop", "jax"),
}
TITLES = {name: title for name, (title, _) in PEERS.items()}


def missing(package: str) -> str | None:
    """None, or why a peer is left out."""
    return None if find_spec(package) else f"{package} is not installed (pip install nnfast[bench])"


class Trainer:
    """Counts epochs and has their row orders ready; drawing them is on nobody's clock but nnfast's own."""

    def __init__(self, case: Any) -> None:
        self.case = case
        self.orders: Any = None  # (epochs, rows) of the next `run`, where the case is reshuffled
        self._epochs = 0

    def prepare(self, epochs: int) -> None:
        if self.case.shuffle:
            self.orders = self.case.orders(self._epochs, epochs)
        self._epochs += epochs

    def run(self, epochs: int) -> None:
        """Train that many epochs; returns when the work is done."""
        raise NotImplementedError

    def results(self) -> list[Any]:
        """The weights now: [W1, b1, W2, b2, …], each W (inputs, outputs)."""
        raise NotImplementedError
