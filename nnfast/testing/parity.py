"""Comparing two results: dtype, shape, where NaN and infinities are, and every value within its limit."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["NONE", "Error", "assert_parity"]


class Error(NamedTuple):
    """The error that came nearest to its limit, and that limit."""

    error: float
    limit: float

    @property
    def share(self) -> float:
        """Of the limit; 0 where there is no error at all."""
        return self.error / self.limit if self.error else 0.0


NONE = Error(0.0, 0.0)


def assert_parity(got: Any, want: Any, *, limit: Any = 0.0, dtype: Any = None, name: str = "result") -> Error:
    """`got` has `dtype` (that of `want` by default), the shape of `want`, NaN and ±inf at the same places, and
    |got − want| <= limit elsewhere. `limit` is absolute, a number or an array that broadcasts; 0 means equal.

    Gives the error that comes nearest to its limit; raises AssertionError with the place of the worst one.
    """
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
    if not error.any():
        return NONE
    worst = _index(np.divide(error, allowed, out=np.zeros(error.shape), where=error > 0))
    return Error(float(error[worst]), float(allowed[worst]))


def _same_places(name: str, what: str, here: Any, there: Any, got: Any, want: Any) -> None:
    wrong = here != there
    if wrong.any():
        at = _index(wrong)
        raise AssertionError(
            f"{name}{list(at)}: {got[at]!r}, expected {want[at]!r}; {what} at {wrong.sum()} other places than expected"
        )


def _index(a: Any) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(a)), a.shape))
