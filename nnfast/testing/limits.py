"""How far a result may lie from the judge's: the reference kernel in float64, given the same (rounded) inputs.

A limit is a function of the judged call and the name of an output, and gives the absolute error allowed per element.
Loosen one only with a measured cause.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nnfast.protocol import Array

__all__ = [
    "Judged",
    "Limit",
    "adam_limit",
    "close",
    "close_for_dy",
    "dense_backward_limit",
    "dense_limit",
    "elu_backward_limit",
    "exact",
    "loss_limit",
    "ulp",
    "update",
]


class Judged(NamedTuple):
    """One call as the judge saw it: arrays by name in float64 before and after (None where absent), and the dtype that
    is on trial."""

    before: dict[str, Array]
    after: dict[str, Array]
    keywords: dict[str, Any]
    dtype: np.dtype[Any]

    @property
    def eps(self) -> float:
        return float(np.finfo(self.dtype).eps)

    @property
    def tiny(self) -> float:
        return float(np.finfo(self.dtype).tiny)

    def pick(self, float32: Any, float64: Any) -> Any:
        return float32 if self.dtype == np.float32 else float64


Limit = Callable[[Judged, str], Any]


def exact(judged: Judged, name: str) -> Any:
    """Equal: what only chooses, compares or copies has no rounding."""
    return 0.0


def ulp(n: float) -> Limit:
    """n roundings of the result, and one smallest normal number for results that underflow."""
    return lambda judged, name: n * judged.eps * np.abs(judged.after[name]) + judged.tiny


def close(float32: tuple[float, float], float64: tuple[float, float]) -> Limit:
    """(rtol, atol) per dtype."""

    def limit(judged: Judged, name: str) -> Any:
        rtol, atol = judged.pick(float32, float64)
        return rtol * np.abs(judged.after[name]) + atol

    return limit


def _largest(rows: Array) -> Any:
    """The size of each row's largest finite number, at least one."""
    return np.abs(rows).max(axis=1, initial=1.0, where=np.isfinite(rows), keepdims=True)


def close_for_dy(float32: tuple[float, float], float64: tuple[float, float]) -> Limit:
    """(rtol, atol) per dtype where terms of the size of dy cancel: atol counts for gradients up to one, then grows."""

    def limit(judged: Judged, name: str) -> Any:
        rtol, atol = judged.pick(float32, float64)
        return rtol * np.abs(judged.after[name]) + atol * _largest(judged.before["dy"])

    return limit


def elu_backward_limit(judged: Judged, name: str) -> Any:
    """8 eps of the result and of alpha·dy: alpha is rounded before y + alpha cancels where y is near −alpha."""
    dy, dx = np.abs(judged.before["dy"]), np.abs(judged.after["dx"])
    return 8 * judged.eps * (dx + abs(judged.keywords["alpha"]) * dy) + judged.tiny


def update(n: float = 8, also: str = "") -> Limit:
    """n·eps of the larger of the old value and its change, and of the array `also`, where that enters the change with
    a term that may cancel. A float64 sum gets 1e-6 or 1e-13 of what was added to it, since the terms may have been
    rounded to float32 before."""

    def limit(judged: Judged, name: str) -> Any:
        old, new = judged.before[name], judged.after[name]
        change = np.abs(new - old)
        if name == "total":
            return judged.pick(1e-6, 1e-13) * change + 1e-14 * np.abs(old)
        size = np.maximum(np.abs(old), change)
        if also and judged.before[also] is not None:
            size = np.maximum(size, np.abs(judged.before[also]))
        return n * judged.eps * size + judged.tiny

    return limit


def adam_limit(judged: Judged, name: str) -> Any:
    """As `update`, and for p what the rounding of m is worth where its two terms cancel, divided by a small root."""
    usual = update()(judged, name)
    if name != "p":
        return usual
    k, before = judged.keywords, judged.before
    terms = k["beta_1"] * np.abs(before["m"]) + (1 - k["beta_1"]) * np.abs(before["g"])
    root = np.sqrt(judged.after["v"] / (1 - k["beta_2"] ** k["step"])) + k["epsilon"]
    return usual + 4 * judged.eps * k["learning_rate"] * terms / (1 - k["beta_1"] ** k["step"]) / root


def _product(inner: int, extra: float = 4) -> float:
    """What a BLAS product may err by, in eps·(|A|·|B|): its blocked sums grow with the inner size (measured)."""
    return extra + inner / 128


def dense_limit(judged: Judged, name: str) -> Any:
    """That of the product, through an activation whose slope is at most max(1, alpha), plus 4 eps of its own."""
    x, w, b, y = (judged.before["x"], judged.before["w"], judged.before["b"], judged.after["y"])
    product = np.abs(x) @ np.abs(w) + np.abs(b)
    slope = max(1.0, abs(judged.keywords["alpha"]))
    return (_product(len(w)) * slope * product + 4 * np.abs(y)) * judged.eps + judged.tiny


def dense_backward_limit(judged: Judged, name: str) -> Any:
    """dz 8 eps (fused slopes take up to four roundings and one exp), the products with that as their input's error.

    db is summed in float64 in both dtypes: in float64 its rounding grows with the rows, as that of a product.
    """
    x, w, dz = np.abs(judged.before["x"]), np.abs(judged.before["w"]), judged.after["dz"]
    dz = np.abs(judged.before["dy"] if dz is None else dz)
    activation = judged.keywords["activation"]
    own = 0 if activation == "linear" else 8
    if activation == "elu":  # as in elu_backward_limit
        dz = dz + abs(judged.keywords["alpha"]) * np.abs(judged.before["dy"])
    units = {
        "dz": lambda: own * dz,
        "dx": lambda: (_product(w.shape[1]) + own) * (dz @ w.T),
        "dw": lambda: (_product(len(x)) + own) * (x.T @ dz),
        "db": lambda: (4 + own + judged.pick(0, len(x) / 128)) * dz.sum(axis=0),
    }
    return units[name]() * judged.eps + judged.tiny


def loss_limit(float32: tuple[float, float] = (2e-6, 1e-6), float64: tuple[float, float] = (1e-13, 1e-15)) -> Limit:
    """(rtol, atol) of a row's loss; its weighted sum gets the weighted sum; a gradient gets atol·weight/normaliser,
    times the row's largest target where that is above one."""

    def limit(judged: Judged, name: str) -> Any:
        rtol, atol = judged.pick(float32, float64)
        weight, losses = judged.before["weight"], judged.after["losses"]
        weight = np.ones(len(judged.before["z"])) if weight is None else np.abs(weight)
        if name == "dz":
            y = judged.before["y"]
            largest = _largest(y) if y.ndim == 2 else 1.0
            of_rows = atol * weight[:, None] * largest / judged.keywords["normaliser"]
            return rtol * np.abs(judged.after["dz"]) + of_rows + judged.tiny
        of_rows = rtol * np.abs(losses) + atol
        if name == "losses":
            return of_rows
        return weight @ of_rows + 1e-14 * np.abs(judged.before["total"])

    return limit
