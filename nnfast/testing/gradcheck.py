"""Gradients against differences: two forward calls check all of them at once, along one random direction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["check_vjp", "off_kinks"]


def check_vjp(
    forward: Callable[..., Any],
    backward: Callable[..., Sequence[Any]],
    args: Sequence[Any],
    rng: np.random.Generator,
    *,
    step: float = 1e-5,
    rtol: float = 1e-6,
    atol: float = 1e-8,
) -> None:
    """`forward(*args) -> y` and `backward(dy, *args) -> one gradient per argument` belong together.

    For random dy and directions dᵢ: ⟨dy, f(x + h·d) − f(x − h·d)⟩/2h = Σᵢ⟨gradientᵢ, dᵢ⟩ up to O(h²). float64 only:
    float32 has no digits left after the difference. Keep arguments off kinks (`off_kinks`).
    """
    args = [np.asarray(a) for a in args]
    if any(a.dtype != np.float64 for a in args):
        raise TypeError(f"check_vjp needs float64 arguments, got {[str(a.dtype) for a in args]}")
    direction = [rng.standard_normal(a.shape) for a in args]
    ahead = np.asarray(forward(*(a + step * d for a, d in zip(args, direction, strict=True))))
    behind = np.asarray(forward(*(a - step * d for a, d in zip(args, direction, strict=True))))
    dy = rng.standard_normal(ahead.shape)
    slope = float(np.vdot(dy, (ahead - behind) / (2 * step)))
    gradients = [np.asarray(g) for g in backward(dy, *args)]
    for i, (g, a) in enumerate(zip(gradients, args, strict=True)):
        if g.shape != a.shape:
            raise AssertionError(f"gradient {i} has shape {g.shape}, its argument {a.shape}")
    parts = [float(np.vdot(g, d)) for g, d in zip(gradients, direction, strict=True)]
    # The parts may cancel, and rounding in the difference is of the size of the largest.
    allowed = rtol * max(map(abs, [slope, *parts])) + atol
    if not abs(sum(parts) - slope) <= allowed:
        raise AssertionError(f"slope {slope:.12g} by differences, {sum(parts):.12g} by gradients (parts {parts})")


def off_kinks(a: Any, *kinks: float, margin: float = 1e-2) -> Any:
    """`a` with every value that is within `margin` of a kink moved out to that distance, on its own side."""
    for kink in kinks or (0.0,):
        distance = a - kink
        a = np.where(np.abs(distance) < margin, kink + np.copysign(margin, distance), a)
    return a
