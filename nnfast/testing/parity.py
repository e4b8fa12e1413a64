"""Comparing two results: dtype, shape, where NaN and infinities are, and every value within its limit."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["assert_parity"]


def assert_parity(got: Any, want: Any, *, limit: Any = 0.0, dtype: Any = None, name: str = "result") -> None:
    """`got` has `dtype` (that of `want` by default), the shape of `want`, NaN and ±inf at the same places, and
    |got − want| <= limit elsewhere. `limit` is absolute, a number or an array that broadcasts; 0 means equal."""
    got, want = np.asarray(got), np.asarray(want)
    expected = want.dtype if dtype is None else np.dtype(dtype)
    if got.dtype != expected:
        raise AssertionError(f"{name}: dtype {got.dtype}, expected {expected}")
    if got.shape != want.shape:
        raise AssertionError(f"{name}: shape {got.shape}, expected {want.shape}")
    _same_places(name, "NaN", np.isnan(got), np.isnan(want), got, want)
    for sign in ("+", "-"):
        value = float(f"{sign}inf")
        _same_places(name, f"{sign}inf", got == value, want == value, got, want)
    finite = np.isfinite(want)
    error = np.abs(np.where(finite, got, 0).astype(np.float64) - np.where(finite, want, 0).astype(np.float64))
    allowed = np.broadcast_to(np.asarray(limit, np.float64), want.shape)
    # Not `error > allowed`: a limit that is NaN would then allow everything.
    bad = finite & ~(error <= allowed)
    if bad.any():
        worst = _index(np.where(bad, error - np.nan_to_num(allowed), -np.inf))
        raise AssertionError(
            f"{name}{list(worst)}: {got[worst]!r}, expected {want[worst]!r}; off by {error[worst]:.3g} where "
            f"{allowed[worst]:.3g} is allowed ({bad.sum()} of {bad.size} elements are off)"
        )


def _same_places(name: str, what: str, here: Any, there: Any, got: Any, want: Any) -> None:
    wrong = here != there
    if wrong.any():
        at = _index(wrong)
        raise AssertionError(
            f"{name}{list(at)}: {got[at]!r}, expected {want[at]!r}; {what} at {wrong.sum()} other places than expected"
        )


def _index(a: Any) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(a)), a.shape))
