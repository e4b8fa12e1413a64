"""Toy data: the spiral, the vertical bands and the sine of the "from scratch" book, and the CS231n case study's spiral.

Every function returns (X, y): X float64 with one row per sample, y uint8 class numbers (N,), or for the sine float64
(N, 1). With `rng=np.random.RandomState(0)` the book's own points come out, in its order of draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.errors import OptionError
from nnfast.random import as_rng
from nnfast.validation import integer

if TYPE_CHECKING:
    from nnfast.random import RngLike

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["case_study_spiral", "sine", "spiral", "vertical"]


def spiral(samples: int = 100, classes: int = 3, rng: RngLike = None) -> tuple[Array, Array]:
    """`classes` arms with `samples` points each: (r·sin 2.5t, r·cos 2.5t), as the book draws them.

    r = linspace(0, 1, samples), t = linspace(4c, 4(c+1), samples) + 0.2·z, z ~ N(0, 1), for class c.
    """
    return _arms(samples, classes, rng, turns=2.5)


def case_study_spiral(samples: int = 100, classes: int = 3, rng: RngLike = None) -> tuple[Array, Array]:
    """The spiral of the CS231n case study: as `spiral`, but (r·sin t, r·cos t), so the arms wind less."""
    return _arms(samples, classes, rng, turns=1.0)


def vertical(samples: int = 100, classes: int = 3, rng: RngLike = None) -> tuple[Array, Array]:
    """Vertical bands: (0.1·z + c/3, 0.1·z' + 0.5) for class c, z before z', both ~ N(0, 1)."""
    labels = _labels(samples, classes)
    z = 0.1 * as_rng(rng).standard_normal((classes, 2, samples))
    x = z[:, 0] + np.arange(classes)[:, None] / 3
    y = z[:, 1] + 0.5
    return np.column_stack((x.ravel(), y.ravel())), labels


def sine(samples: int = 1000) -> tuple[Array, Array]:
    """One period: x = arange(samples)/samples as a column, y = sin(2πx)."""
    integer("samples", samples, 1)
    x = np.arange(samples).reshape(-1, 1) / samples
    return x, np.sin(2 * np.pi * x)


def _arms(samples: int, classes: int, rng: RngLike, turns: float) -> tuple[Array, Array]:
    labels = _labels(samples, classes)
    c = np.arange(classes)
    r = np.linspace(0.0, 1, samples)
    t = np.linspace(c * 4, (c + 1) * 4, samples, axis=-1) + as_rng(rng).standard_normal((classes, samples)) * 0.2
    return np.column_stack(((r * np.sin(t * turns)).ravel(), (r * np.cos(t * turns)).ravel())), labels


def _labels(samples: int, classes: int) -> Array:
    integer("samples", samples, 1)
    integer("classes", classes, 1)
    if classes > 256:
        raise OptionError(f"classes is {classes}; at most 256, because the labels are uint8")
    return np.repeat(np.arange(classes, dtype=np.uint8), samples)
