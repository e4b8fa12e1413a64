"""The book's data sets and its set-up call, on NumPy's legacy global stream, as the book draws from it."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnfast import datasets
from nnfast.validation import FLOAT32, Array, DType, integer, working_dtype

__all__ = ["default_dtype", "init", "legacy_stream", "sine_data", "spiral_data", "vertical_data"]

_dtype: DType = FLOAT32


def init(dot_precision_workaround: bool = True, default_dtype: Any = "float32", random_seed: int | None = 0) -> None:
    """Seed NumPy's legacy global stream; None leaves it where it stands. Nothing in NumPy is patched.

    `default_dtype` is that of the weights of layers made from now on. `dot_precision_workaround` is accepted and has
    nothing to work around here.
    """
    global _dtype
    dtype = working_dtype(default_dtype)
    seed = None if random_seed is None else integer("random_seed", random_seed, 0, 2**32 - 1)
    _dtype = dtype
    if seed is not None:
        np.random.seed(seed)


def default_dtype() -> DType:
    """The dtype of new weights, as the last `init` said."""
    return _dtype


def legacy_stream() -> np.random.RandomState:
    """The generator behind `np.random.randn` and its like, so that a program's own draws and ours take turns."""
    return np.random.mtrand._rand


def spiral_data(samples: int = 100, classes: int = 3) -> tuple[Array, Array]:
    """(X, y): `nnfast.datasets.spiral` from the global stream."""
    return datasets.spiral(samples, classes, legacy_stream())


def vertical_data(samples: int = 100, classes: int = 3) -> tuple[Array, Array]:
    """(X, y): `nnfast.datasets.vertical` from the global stream."""
    return datasets.vertical(samples, classes, legacy_stream())


def sine_data(samples: int = 1000) -> tuple[Array, Array]:
    """(X, y): `nnfast.datasets.sine`, which draws nothing."""
    return datasets.sine(samples)
