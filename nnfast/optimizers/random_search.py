"""Random search: no gradient, one full-batch candidate per step, the best kept."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from nnfast.errors import StateError
from nnfast.optimizers.base import Optimizer
from nnfast.settings import Number
from nnfast.validation import choice

if TYPE_CHECKING:
    from nnfast.lowering import Builder

__all__ = ["RandomSearch"]


class RandomSearch(Optimizer):
    """Candidates scale·normal (`mode="sample"`) or best + scale·normal (`mode="perturb"`); the lowest loss wins.

    The normal numbers of candidate t come from Philox counter t, the same on every backend. Training takes the whole
    set at once; the loss recorded for an epoch is the best so far, and the model always holds the best parameters.
    Frozen layers keep theirs. Source: the neural networks from scratch book, chapter on optimization.
    """

    scalars = ("scale",)
    slots = ("candidate",)
    uses_gradients = False
    scale = Number(0)

    def __init__(self, scale: float = 0.05, mode: str = "perturb") -> None:
        super().__init__()
        self.scale = scale
        self.mode = choice("mode of random search", mode, ("perturb", "sample"))

    def __repr__(self) -> str:
        return f"RandomSearch({self.scale:g}, mode={self.mode!r})"

    def structure(self) -> Hashable:
        return (super().structure(), self.mode)

    def step(self, layers: Any) -> None:
        """There is no gradient to follow by hand: raises StateError."""
        raise StateError("RandomSearch trains with Model.fit: it needs the loss of each candidate")

    def lower(self, b: Builder) -> None:
        with b.owner("optimizer", self.scalars):
            b.slots = self.slots
            b.parameter_space = "candidate"  # what the forward pass reads
            for block in b.layout.blocks:
                p, q = b.flat("parameters", block.offset, block.size), b.flat("candidate", block.offset, block.size)
                frozen = block.name in b.frozen  # its candidate is what it is: p plus nothing
                scalars = {"offset": block.offset} | ({"scale": 0} if frozen else {})
                b.propose("random_search_propose", p, q, scalars=scalars, mode="perturb" if frozen else self.mode)
            b.keep_best()
