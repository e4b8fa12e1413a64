"""Where randomness comes in: the `rng=` argument, and the 64-bit keys drawn from it.

Nothing here has a stream of its own, and NumPy's global stream is never touched. NumPy loads `numpy.random` on first
use, so only code inside functions names it.
"""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nnfast.errors import DTypeError, OptionError

if TYPE_CHECKING:
    Generator: TypeAlias = np.random.Generator | np.random.RandomState
    RngLike: TypeAlias = int | np.integer | Generator | None
    Array: TypeAlias = np.ndarray[Any, Any]

__all__ = ["as_rng", "draw_key", "permutation", "row_orders"]


def as_rng(rng: RngLike = None) -> Generator:
    """The generator meant by an `rng=` argument.

    An int seeds a new `Generator`; None makes one that nobody can repeat. A `Generator` or a `RandomState` is used as
    it is, and moves on with each draw: `default_rng(RandomState)` would silently start another stream.
    """
    if isinstance(rng, np.random.Generator | np.random.RandomState):
        return rng
    if rng is None:
        return np.random.default_rng()
    if isinstance(rng, int | np.integer) and not isinstance(rng, bool):
        if rng < 0:
            raise OptionError(f"rng is {rng}; a seed is an int of 0 or more")
        return np.random.default_rng(int(rng))
    raise DTypeError(
        f"rng is {reprlib.repr(rng)}; expected an int, a numpy.random.Generator, a numpy.random.RandomState or None"
    )


def draw_key(rng: Generator) -> int:
    """64 random bits from either kind of generator: the key of dropout and of shuffling."""
    return int.from_bytes(rng.bytes(8), "little")


def permutation(key: int, epoch: int, rows: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The row order of an epoch: a function of the model's key and the epoch's number alone, on every backend."""
    generator = np.random.Generator(np.random.Philox(key=key, counter=epoch << 64))
    return generator.permutation(rows)


def row_orders(backend: Any, keys: Array, epochs: Array, rows: int) -> Array:
    """(len(keys), rows): `permutation` of each key's epoch, drawn by the backend where it can; equal ones once."""
    together = getattr(backend, "row_orders", None)
    orders: Array | None = None if together is None else together(keys, epochs, rows)
    if orders is None:
        pairs = list(zip(keys.tolist(), epochs.tolist(), strict=True))
        drawn = {pair: permutation(*pair, rows) for pair in dict.fromkeys(pairs)}
        orders = np.stack([drawn[pair] for pair in pairs])
    return orders
