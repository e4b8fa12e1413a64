"""What a case is: valid arguments for one op, for any dtype and dimensions, and the error that is allowed.

An op's signature says which arrays there are and of what shape; a case says what may stand in them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nnfast.protocol import OPS, Arg, Array, OpSpec
from nnfast.testing.limits import Limit

__all__ = ["DTYPES", "SHAPES", "Call", "Case", "Draw"]

DTYPES = ("float32", "float64")

# Dimensions of every op, by the letters in its signature: empty, 1x1, odd, wide, and past a usual parallel threshold.
SHAPES: dict[str, list[tuple[int, ...]]] = {
    "NIO": [(0, 3, 2), (1, 1, 1), (7, 5, 3), (33, 17, 9), (3, 1031, 5), (5, 3, 257), (6, 67, 2), (257, 129, 65)],
    "NI": [(0, 3), (1, 1), (7, 5), (33, 17), (3, 1031), (1031, 3), (257, 129)],
    "NO": [(0, 3), (1, 1), (7, 5), (33, 17), (3, 1031), (1031, 3), (257, 129)],
    "P": [(0,), (1,), (7,), (129,), (70001,)],
    "PS": [(1, 2), (7, 3), (1031, 4)],
}


@dataclass
class Draw:
    """What a maker of values knows: a shape to fill, the keywords of the call, and the arrays made before this one."""

    rng: np.random.Generator
    shape: tuple[int, ...]
    dims: Mapping[str, int]
    keywords: Mapping[str, Any]
    form: str
    made: Mapping[str, Array]


Maker = Callable[[Draw], Array]


@dataclass
class Call:
    """One call of one op: its arrays by name in the order of the signature, and its keywords."""

    spec: OpSpec
    arrays: dict[str, Array | None]
    keywords: dict[str, Any]
    dtype: np.dtype[Any]

    def args(self, *roles: str) -> Iterator[tuple[Arg, Array]]:
        """The arrays that are not None, with their rows of the signature; only those of `roles` where given."""
        for arg in self.spec.args:
            array = self.arrays[arg.name]
            if array is not None and (not roles or arg.role in roles):
                yield arg, array

    def without(self, *names: str) -> Call:
        """The same call with None for these arrays."""
        return replace(self, arrays={name: None if name in names else a for name, a in self.arrays.items()})

    def astype(self, dtype: Any) -> Call:
        """The same call on copies in another working dtype; labels and float64 sums stay what they are."""
        arrays = dict(self.arrays)
        for arg, array in self.args():
            working = arg.dtype != "f8" and array.dtype.kind == "f"
            arrays[arg.name] = array.astype(dtype if working else array.dtype)
        return replace(self, arrays=arrays, dtype=np.dtype(dtype))

    def copy(self) -> Call:
        return self.astype(self.dtype)

    def __call__(self, kernel: Callable[..., None]) -> None:
        kernel(*self.arrays.values(), **self.keywords)

    def __str__(self) -> str:
        shapes = ", ".join(
            f"{name}{list(a.shape)}" if a is not None else f"{name}=None" for name, a in self.arrays.items()
        )
        return f"{self.spec.name}({shapes}; {self.keywords}, {self.dtype})"


@dataclass(frozen=True)
class Case:
    """One row of the case table. `values` makes an array's contents where standard normals will not do, or None where
    the array is left out; `forms` names the kinds of data that `values` tell apart; `droppable` are arrays whose
    absence changes no other result."""

    op: str
    limit: Limit | Mapping[str, Limit]
    keywords: Sequence[Mapping[str, Any]] = ({},)
    values: Mapping[str, Maker] = field(default_factory=dict)
    forms: Sequence[str] = ("",)
    droppable: Callable[[Mapping[str, Any]], Sequence[str]] = lambda keywords: ()

    @property
    def spec(self) -> OpSpec:
        return OPS[self.op]

    @property
    def shapes(self) -> list[dict[str, int]]:
        """The dimensions to try, each a value per letter of the signature."""
        letters = "".join(dict.fromkeys(n for arg in self.spec.args for n in arg.shape if not n.isdigit()))
        return [dict(zip(letters, dims, strict=True)) for dims in SHAPES[letters]]

    def limit_of(self, name: str) -> Limit:
        return self.limit if callable(self.limit) else self.limit[name]

    def make(
        self,
        rng: np.random.Generator,
        dtype: Any,
        dims: Mapping[str, int],
        keywords: Mapping[str, Any] | None = None,
        form: str | None = None,
    ) -> Call:
        """A valid call: inputs filled, outputs full of NaN. First keywords and first form unless told otherwise."""
        keywords = dict(self.keywords[0] if keywords is None else keywords)
        made: dict[str, Array] = {}
        for arg in self.spec.args:
            shape = tuple(int(n) if n.isdigit() else dims[n] for n in arg.shape)
            draw = Draw(rng, shape, dims, keywords, self.forms[0] if form is None else form, made)
            values = np.full(shape, np.nan) if arg.role == "out" else self.values.get(arg.name, _normal)(draw)
            if values is None:  # an optional array that this form does without
                made[arg.name] = None
                continue
            indices = arg.dtype == "label" and values.dtype.kind != "f"
            kind = np.int64 if indices else np.float64 if arg.dtype == "f8" else dtype
            made[arg.name] = np.asarray(values, kind, order="C")
        return Call(self.spec, dict(made), keywords, np.dtype(dtype))

    def calls(self, rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
        """One call for every shape, set of keywords and form."""
        for dims in self.shapes:
            for keywords in self.keywords:
                for form in self.forms:
                    yield self.make(rng, dtype, dims, keywords, form)

    def rng(self, *salt: Any) -> np.random.Generator:
        """A generator of this case's own, so that a new case changes no other's data."""
        return np.random.default_rng(zlib.crc32(repr((self.op, *salt)).encode()))


def _normal(draw: Draw) -> Array:
    return draw.rng.standard_normal(draw.shape)
