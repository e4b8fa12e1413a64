"""Batches that come one by one, from a list, a loader or a generator, instead of arrays.

    batches    an iterable of (X, y) or (X, y, sample_weight), or a function that returns one

What can be begun anew (a list, a loader, a function) is, once per epoch. An iterator, such as a generator, is read on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count, islice
from typing import Any

from nnfast.errors import DataError, DTypeError, OptionError

__all__ = ["Stream", "is_stream"]

_ARRAYS = ("__array__", "__dlpack__", "__array_interface__", "__cuda_array_interface__", "tocsr")


def is_stream(X: Any, y: Any) -> bool:
    """Whether X is batches rather than rows: no targets beside it, and no array itself."""
    if y is not None or isinstance(X, (str, bytes)):
        return False
    if any(hasattr(X, name) for name in _ARRAYS):
        return False
    return callable(X) or isinstance(X, Iterable) or hasattr(X, "__getitem__")


class Stream:
    """Where batches come from, and how many make an epoch: `length`, or all that there are."""

    def __init__(self, name: str, batches: Any, length: int | None, epochs: int) -> None:
        self._name, self._batches, self.length = name, batches, length
        self._once = isinstance(batches, Iterator)
        self._running = batches if self._once else None
        if self._once and length is None and epochs > 1:
            raise OptionError(
                f"{name} is an iterator, which ends with its first epoch: give a list of batches, a function that "
                "returns a new iterator, or steps_per_epoch="
            )

    def epoch(self, skip: int = 0) -> Iterator[tuple[Any, Any, Any]]:
        """The batches of the next epoch, without the first `skip`."""
        source = self._running if self._once else self._begin()
        assert source is not None
        for number in count() if self.length is None else range(self.length):
            batch = next(source, _END)
            if batch is _END:
                if self.length is not None:
                    raise DataError(f"{self._name} ended after {number} batches of {self.length}")
                return
            if number >= skip:
                yield self._unpack(batch, number)

    def passed(self, batches: int) -> None:
        """Leave out what an earlier training has used of an iterator."""
        if self._once:
            assert self._running is not None
            next(islice(self._running, batches, batches), None)

    def _begin(self) -> Iterator[Any]:
        function = callable(self._batches) and not isinstance(self._batches, Iterable)
        made = self._batches() if function else self._batches
        try:
            return iter(made)
        except TypeError:
            raise DTypeError(f"{self._name} gives {made!r}; expected an iterable of batches (X, y)") from None

    def _unpack(self, batch: Any, number: int) -> tuple[Any, Any, Any]:
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            what = f"{len(batch)} parts" if isinstance(batch, (tuple, list)) else type(batch).__name__
            hint = "; X and y of a whole set are two arguments" if hasattr(batch, "__array__") else ""
            raise DTypeError(
                f"batch {number} of {self._name} is {what}; expected (X, y) or (X, y, sample_weight){hint}"
            )
        X, y, weight = (*batch, None)[:3]
        return X, y, weight


_END = object()
