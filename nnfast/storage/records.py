"""What a file says of a training, asked for entry by entry: each is of its kind, or a CheckpointError tells."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

import numpy as np

from nnfast.errors import CheckpointError
from nnfast.storage.values import same

__all__ = ["MOST", "Record"]

Array = np.ndarray[Any, Any]
Kind = TypeVar("Kind")

MOST = 2**62  # steps or epochs: more than any training has, and 64 bits have room for those to come


def _shown(value: Any) -> str:
    return f"an array of {value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else reprlib.repr(value)


class Record(dict[str, Any]):
    """A dictionary from the file at `path`, where it stands at `place`. Its methods raise CheckpointError."""

    def __init__(self, said: Any, path: str, place: str = "") -> None:
        if not isinstance(said, dict):
            raise CheckpointError(f"{path}: {place or 'what it keeps'} is {_shown(said)}; expected entries by name")
        super().__init__(said)
        self.path, self._place = path, place

    def _at(self, name: str) -> str:
        return f"{self._place}.{name:.80}" if self._place else f"{name:.80}"

    def refuse(self, name: str, expected: str) -> NoReturn:
        found = f"is {_shown(self[name])}" if name in self else "is missing"
        raise CheckpointError(f"{self.path}: {self._at(name)} {found}; expected {expected}")

    def entry(self, name: str) -> Any:
        """Whatever is kept under the name."""
        if name not in self:
            self.refuse(name, "it to be there")
        return self[name]

    def part(self, name: str) -> Record:
        """A dictionary within."""
        return Record(self.entry(name), self.path, self._at(name))

    def parts(self, name: str) -> list[Record]:
        """A list of dictionaries."""
        return [Record(said, self.path, f"{self._at(name)}[{i}]") for i, said in enumerate(self.of(name, list))]

    def of(self, name: str, kind: type[Kind]) -> Kind:
        """Something of this very type, such as bool, str or list."""
        value = self.get(name)
        if type(value) is not kind:
            self.refuse(name, f"a {kind.__name__}")
        return value

    def count(self, name: str, most: int = MOST, *, none: bool = False) -> int:
        """A whole number from 0 to `most`; with `none`, None will do and is 0."""
        value = self.entry(name)
        if value is None and none:
            return 0
        if type(value) is not int or not 0 <= value <= most:
            self.refuse(name, f"a whole number from 0 to {most}")
        return value

    def number(self, name: str) -> float:
        """A real number; infinite ones too, but no NaN."""
        value = self.get(name)
        if not (type(value) is float and value == value) and not (type(value) is int and abs(value) <= MOST):
            self.refuse(name, "a number")
        return float(value)

    def array(self, name: str, dtype: Any, shape: tuple[int | None, ...]) -> Array:
        """An array of this dtype and shape, where None stands for any length."""
        a = self.get(name)
        if (
            not isinstance(a, np.ndarray)
            or a.dtype != dtype
            or a.ndim != len(shape)
            or any(wanted not in (None, given) for wanted, given in zip(shape, a.shape, strict=True))
        ):
            lengths = ", ".join("any" if n is None else str(n) for n in shape)
            self.refuse(name, f"an array of {np.dtype(dtype)} of shape ({lengths})")
        return a

    def weights(self, name: str, shape: tuple[int | None, ...]) -> Array:
        """An array of finite float64 numbers of at least 0."""
        a = self.array(name, np.float64, shape)
        if not (np.isfinite(a) & (a >= 0)).all():
            self.refuse(name, "finite numbers of at least 0")
        return a

    def counts(self, name: str, shape: tuple[int | None, ...], most: int = MOST, least: int = 0) -> Array:
        """An array of whole numbers from `least` to `most`."""
        a = self.array(name, np.int64, shape)
        if a.size and (a.min() < least or a.max() > most):
            self.refuse(name, f"whole numbers from {least} to {most}")
        return a

    def ascending(self, name: str, least: int, most: int) -> Array:
        """A vector of whole numbers from `least` to `most`, each larger than the one before."""
        a = self.counts(name, (None,), most, least)
        if (np.diff(a) <= 0).any():
            self.refuse(name, "whole numbers in ascending order")
        return a

    def check_alike(self, now: Mapping[str, Any]) -> None:
        """Refuse what a training of another kind has said of itself; `now` is what this one says."""
        for name in {**now, **self}:
            here, before = now.get(name), self.get(name)
            if not same(here, before):
                raise CheckpointError(
                    f"{self.path} is of a training with {name:.80} = {_shown(before)}; here it is {here}"
                )
