"""Random search: P parameters, S sums. No gradients: propose a candidate, run forward, keep it if it is better."""

from __future__ import annotations

import numpy as np

from nnfast.protocol import Array

from .philox import normals

__all__ = ["random_search_accept", "random_search_propose"]


def random_search_propose(p: Array, q: Array, *, key: int, step: int, scale: float, offset: int, mode: str) -> None:
    """q = scale·normal (mode "sample"), q = p + scale·normal (mode "perturb").

    q[i] takes normal number offset + i of candidate `step` (`philox.normals`), scaled in float64 and then rounded.
    """
    noise = (scale * normals(key, step, offset, len(p))).astype(p.dtype)
    q[...] = p + noise if mode == "perturb" else noise


def random_search_accept(p: Array, q: Array, sums: Array, best: Array, *, normaliser: float) -> None:
    """If the candidate is better: p = q, best = sums; else: sums = best, so that sums tells the best either way.

    The loss of a row of sums is sums[0]/normaliser + sums[1], data loss and penalty. Better is strictly less, so a NaN
    never is; `best` starts as inf.
    """
    if _loss(sums, normaliser) < _loss(best, normaliser):
        p[...] = q
        best[...] = sums
    else:
        sums[...] = best


def _loss(sums: Array, normaliser: float) -> float:
    return float(sums[0] / np.float64(normaliser) + sums[1])
