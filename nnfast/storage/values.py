"""Nested values as JSON and arrays, there and back: what a file keeps beside a model's parameters.

Texts, whole numbers, floats (NaN and infinities too), booleans, None, lists, tuples, dictionaries of texts and NumPy
arrays come back as they were; NumPy's scalars as Python's. Arrays, and long lists of floats, become arrays of the file.
What JSON cannot say is a dictionary of one key that begins with "$".
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnfast.errors import CheckpointError, DTypeError, OptionError
from nnfast.storage.file_format import DIGITS_LIMIT, DTYPES

__all__ = ["Packer", "Unpacker", "same"]

Array = np.ndarray[Any, Any]

DEPTH = 64
LONG = 32  # a list of so many floats is kept as an array
_DTYPES = {np.dtype(code) for code in DTYPES.values()}


class Packer:
    """Turns values into what JSON can say; arrays are put into `tensors`, under `prefix` and a number."""

    def __init__(self, prefix: str) -> None:
        self.tensors: dict[str, Array] = {}
        self._prefix = prefix

    def special(self, value: Any, where: str) -> Any:
        """What stands for a value of another kind: a subclass says. `where` names it in errors."""
        raise DTypeError(f"{where} is a {type(value).__name__}, which a file cannot keep")

    def pack(self, value: Any, where: str, depth: int = 0) -> Any:
        """`value` as JSON. Raises DTypeError or OptionError, naming the place."""
        if depth > DEPTH:
            raise OptionError(f"{where[:80]} … is nested more than {DEPTH} deep, or holds itself")
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, np.generic) and value.dtype.kind in "biuf":
            value = value.item()
        if isinstance(value, int):
            if abs(value) >= 10 ** (DIGITS_LIMIT - 1):
                raise OptionError(f"{where} is a number of more than {DIGITS_LIMIT - 1} digits")
            return value if isinstance(value, bool) else int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
        if isinstance(value, np.ndarray):
            return {"$array": self._keep(value, where)}
        if isinstance(value, list | tuple):
            return self._sequence(value, where, depth)
        if isinstance(value, dict):
            return self._dictionary(value, where, depth)
        return {"$part": self.special(value, where)}

    def _sequence(self, value: Any, where: str, depth: int) -> Any:
        if isinstance(value, list) and len(value) >= LONG and all(type(v) is float for v in value):
            return {"$floats": self._keep(np.array(value), where)}
        packed = [self.pack(v, f"{where}[{i}]", depth + 1) for i, v in enumerate(value)]
        return {"$tuple": packed} if isinstance(value, tuple) else packed

    def _dictionary(self, value: dict[Any, Any], where: str, depth: int) -> Any:
        for key in value:
            if not isinstance(key, str):
                raise DTypeError(f"{where} has the key {key!r}; a file keeps dictionaries whose keys are texts")
        packed = {key: self.pack(v, f"{where}[{key!r}]", depth + 1) for key, v in value.items()}
        return {"$dict": list(map(list, packed.items()))} if any(k.startswith("$") for k in packed) else packed

    def _keep(self, a: Array, where: str) -> str:
        if a.dtype.newbyteorder("<") not in _DTYPES:
            raise DTypeError(f"{where} is an array of {a.dtype}, which a file cannot keep; give numbers or booleans")
        name = f"{self._prefix}.{len(self.tensors)}"
        self.tensors[name] = a.view(np.ndarray)
        return name


class Unpacker:
    """The way back. Each array is used once, so that a small file cannot ask for a large answer."""

    def __init__(self, tensors: dict[str, Array], path: str) -> None:
        self._tensors = dict(tensors)
        self.path = path

    def special(self, said: Any) -> Any:
        """The value that a `special` of the packer stood for."""
        raise CheckpointError(f"{self.path} holds something of an unknown kind: {said!r:.80}")

    def unpack(self, said: Any, depth: int = 0) -> Any:
        """The value behind JSON that was made by `pack`. Raises CheckpointError."""
        if depth > 2 * DEPTH + 4:
            raise CheckpointError(f"{self.path}: its content is nested too deeply")
        if isinstance(said, list):
            return [self.unpack(v, depth + 1) for v in said]
        if not isinstance(said, dict):
            return said
        if not any(key.startswith("$") for key in said):
            return {key: self.unpack(v, depth + 1) for key, v in said.items()}
        return self._marked(said, depth)

    def _marked(self, said: dict[str, Any], depth: int) -> Any:
        key, value = next(iter(said.items()))
        if len(said) == 1 and key == "$float" and value in ("nan", "inf", "-inf"):
            return float(value)
        if len(said) == 1 and key in ("$array", "$floats") and isinstance(value, str):
            a = self._take(value)
            if key == "$array":
                return a
            if a.dtype == np.float64 and a.ndim == 1:
                return a.tolist()
        if len(said) == 1 and key == "$tuple" and isinstance(value, list):
            return tuple(self.unpack(v, depth + 1) for v in value)
        if len(said) == 1 and key == "$dict" and isinstance(value, list) and all(map(_is_pair, value)):
            return {k: self.unpack(v, depth + 1) for k, v in value}
        if len(said) == 1 and key == "$part":
            return self.special(value)
        raise CheckpointError(f"{self.path}: {said!r:.80} stands for nothing")

    def _take(self, name: str) -> Array:
        if name not in self._tensors:
            raise CheckpointError(f"{self.path}: the array {name!r:.80} is missing, or is used twice")
        return self._tensors.pop(name)


def _is_pair(said: Any) -> bool:
    return isinstance(said, list) and len(said) == 2 and isinstance(said[0], str)


def same(a: Any, b: Any) -> bool:
    """Whether two such values are the same, their types, and the bits of arrays, included."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and bool(a == b)
