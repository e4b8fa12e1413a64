"""How weights start: factories such as `he_normal()`, each giving an object that draws an array of weights.

An initializer is called as `init(shape, rng)` and returns float64; the layer casts to its own dtype. The shape of a
weight matrix is (inputs, outputs). Any other callable with this signature works in its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nnfast.errors import DTypeError, OptionError, ShapeError, UnknownNameError
from nnfast.random import as_rng
from nnfast.validation import choice, integer, number

if TYPE_CHECKING:
    from nnfast.random import Generator, RngLike

    Array: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
    Shape: TypeAlias = tuple[int, ...]

__all__ = ["Initializer", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "normal", "resolve", "zeros"]


class Initializer:
    """A named rule with its options. Two with the same name and options are equal."""

    def __init__(self, name: str, **options: float) -> None:
        self.name = choice("initializer", name, _RULES)
        if set(options) != ({"scale"} if name == "normal" else set()):
            raise OptionError(f"the initializer {name!r} has other options than {sorted(options)}; use normal(scale=…)")
        self.options = {key: number(key, value, 0) for key, value in options.items()}

    def __call__(self, shape: Sequence[int], rng: RngLike = None) -> Array:
        """Draw float64 weights of this shape."""
        if isinstance(shape, str | bytes) or not isinstance(shape, Iterable):
            raise DTypeError(f"shape is {shape!r}; expected that of a weight matrix, (inputs, outputs)")
        sizes = tuple(integer(f"shape[{i}]", n, 0) for i, n in enumerate(shape))
        return _RULES[self.name](sizes, as_rng(rng), **self.options)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.options.items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Initializer) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


def normal(scale: float = 0.01) -> Initializer:
    """W = scale·z, z ~ N(0, 1). With a `RandomState` this is the book's `scale * np.random.randn(...)`, bit for bit."""
    return Initializer("normal", scale=number("scale", scale, 0))


def glorot_uniform() -> Initializer:
    """W ~ U(−a, a), a = √(6/(inputs + outputs)).

    Keeps the variance of activations and gradients level through tanh-like layers. Glorot and Bengio, "Understanding
    the difficulty of training deep feedforward neural networks", AISTATS 2010, equation 16.
    """
    return Initializer("glorot_uniform")


def glorot_normal() -> Initializer:
    """W = √(2/(inputs + outputs))·z, z ~ N(0, 1), not truncated. Glorot and Bengio 2010, equation 12."""
    return Initializer("glorot_normal")


def he_uniform() -> Initializer:
    """W ~ U(−a, a), a = √(6/inputs): the variance of `he_normal`, with bounds."""
    return Initializer("he_uniform")


def he_normal() -> Initializer:
    """W = √(2/inputs)·z, z ~ N(0, 1), not truncated.

    Makes up for ReLU, which halves the second moment. He, Zhang, Ren and Sun, "Delving deep into rectifiers", ICCV
    2015, equation 10.
    """
    return Initializer("he_normal")


def zeros() -> Initializer:
    """W = 0. Draws nothing, so the stream stands still."""
    return Initializer("zeros")


def resolve(initializer: str | Callable[..., Any]) -> Callable[..., Any]:
    """What an `initializer=` argument means: a name, an initializer, a factory not yet called, or any callable."""
    if isinstance(initializer, str):
        if initializer not in _FACTORIES:
            raise UnknownNameError("initializer", initializer, _FACTORIES)
        return _FACTORIES[initializer]()
    if not callable(initializer):
        raise DTypeError(
            f"initializer is {initializer!r}; expected a name ({', '.join(_FACTORIES)}), "
            "or a callable (shape, rng) -> array"
        )
    if initializer in _FACTORIES.values():  # `he_normal` where `he_normal()` was meant
        factory: Callable[[], Initializer] = initializer
        return factory()
    return initializer


def _fans(shape: Shape) -> tuple[int, int]:
    if len(shape) != 2 or min(shape) < 1:
        raise ShapeError(f"shape={shape}: this initializer needs the shape of a weight matrix, (inputs, outputs)")
    return shape[0], shape[1]


def _normal(shape: Shape, rng: Generator, scale: float) -> Array:
    return scale * rng.standard_normal(shape)


def _glorot_uniform(shape: Shape, rng: Generator) -> Array:
    limit = math.sqrt(6 / sum(_fans(shape)))
    return rng.uniform(-limit, limit, shape)


def _glorot_normal(shape: Shape, rng: Generator) -> Array:
    return _normal(shape, rng, math.sqrt(2 / sum(_fans(shape))))


def _he_uniform(shape: Shape, rng: Generator) -> Array:
    limit = math.sqrt(6 / _fans(shape)[0])
    return rng.uniform(-limit, limit, shape)


def _he_normal(shape: Shape, rng: Generator) -> Array:
    return _normal(shape, rng, math.sqrt(2 / _fans(shape)[0]))


def _zeros(shape: Shape, rng: Generator) -> Array:
    return np.zeros(shape)


_RULES: dict[str, Callable[..., Array]] = {
    "normal": _normal,
    "glorot_uniform": _glorot_uniform,
    "glorot_normal": _glorot_normal,
    "he_uniform": _he_uniform,
    "he_normal": _he_normal,
    "zeros": _zeros,
}

_FACTORIES: dict[str, Callable[[], Initializer]] = {
    "normal": normal,
    "glorot_uniform": glorot_uniform,
    "glorot_normal": glorot_normal,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "zeros": zeros,
}
