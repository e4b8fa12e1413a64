"""The operators and reductions of CuPy's stand-in for arrays, by NumPy's functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from .fake_arrays import Array

__all__ = ["REDUCTIONS"]

REDUCTIONS = ("sum", "prod", "max", "min", "mean", "all", "any", "argmax", "argmin")


def _binary(name: str, function: Any) -> None:
    def forward(self: Array, other: Any) -> Any:
        return self._map(function, self, other)

    def backward(self: Array, other: Any) -> Any:
        return self._map(function, other, self)

    def inplace(self: Array, other: Any) -> Any:
        return self._map(function, self, other, out=self, dtype=self.dtype, casting="same_kind")

    for prefix, body in (("", forward), ("r", backward), ("i", inplace)):
        setattr(Array, f"__{prefix}{name}__", body)


for _name, _function in {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide, "floordiv": np.floor_divide,
    "mod": np.remainder, "pow": np.power, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}.items():  # fmt: skip
    _binary(_name, _function)
for _name, _function in {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}.items():  # fmt: skip
    setattr(Array, f"__{_name}__", lambda self, other, f=_function: self._map(f, self, other))
for _name, _function in {"neg": np.negative, "abs": np.absolute, "invert": np.invert}.items():
    setattr(Array, f"__{_name}__", lambda self, f=_function: self._map(f, self))
for _name in REDUCTIONS:

    def _reduce(
        self: Array, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, n: str = _name
    ) -> Any:
        options = {"axis": axis, "keepdims": keepdims} | ({"dtype": dtype} if dtype is not None else {})
        return self._map(getattr(np, n), self, out=out, **options)

    setattr(Array, _name, _reduce)
