"""Parameters under the names, and in the layout, of PyTorch's Sequential.

    nnfast       0.weights (inputs, outputs)     0.biases (outputs,)     0.mean, 0.std
    PyTorch      0.weight (outputs, inputs)      0.bias (outputs,)       0.mean, 0.std (of `to_torch`)

The number counts layers, or modules; `modules` gives those with parameters names of their own ("fc1", "body.0").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.errors import DTypeError, OptionError
from nnfast.validation import choice

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = ["Names", "names_for"]

Array = np.ndarray[Any, Any]

_THEIRS = {"weights": "weight", "biases": "bias"}


class Names:
    """Which name in a file stands for which block of the model, and whether it lies there transposed."""

    def __init__(self, blocks: Mapping[str, str], transposed: frozenset[str] = frozenset()) -> None:
        self._theirs = blocks  # of each block
        self._ours = {theirs: ours for ours, theirs in blocks.items()}
        self._transposed = transposed

    def outside(self, blocks: Mapping[str, Array]) -> dict[str, Array]:
        """The model's arrays as they stand in the file."""
        return {
            self._theirs[name]: np.ascontiguousarray(a.T) if name in self._transposed else a
            for name, a in blocks.items()
        }

    def inside(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The way back."""
        return {
            ours: np.ascontiguousarray(arrays[theirs].T) if ours in self._transposed else arrays[theirs]
            for theirs, ours in self._ours.items()
        }

    def shape(self, block: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A block's shape in the file."""
        return shape[::-1] if block in self._transposed else shape

    def of(self, block: str) -> str:
        return self._theirs[block]

    def may_be_absent(self, name: str) -> bool:
        """Whether a file without this name is a file of zeros there: a Linear without a bias."""
        return bool(self._transposed) and name in self._ours and self._ours[name].endswith(".biases")


def names_for(model: Model, layout: Any, modules: Any) -> Names:
    """The names of a layout, "nnfast" or "torch". Raises UnknownNameError, OptionError, DTypeError."""
    blocks = [b.name for b in model._layout.blocks]
    if choice("layout", layout, ("nnfast", "torch")) == "nnfast":
        if modules is not None:
            raise OptionError("modules= gives names of PyTorch's modules; use it with layout='torch'")
        return Names({name: name for name in blocks})
    numbers = list(dict.fromkeys(name.partition(".")[0] for name in blocks))
    prefixes = dict(zip(numbers, numbers if modules is None else _modules(modules, len(numbers)), strict=True))
    theirs = {}
    for name in blocks:
        number, _, array = name.partition(".")
        theirs[name] = f"{prefixes[number]}.{_THEIRS.get(array, array)}"
    return Names(theirs, frozenset(name for name in blocks if name.endswith(".weights")))


def _modules(given: Any, count: int) -> Sequence[str]:
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(n, str) and n for n in given):
        raise DTypeError(f"modules is {given!r}; expected a list of names, as in ['fc1', 'fc2']")
    if len(given) != count or len(set(given)) < count:
        raise OptionError(
            f"modules has {len(given)} names; expected {count} different ones, of the layers with parameters"
        )
    return given
