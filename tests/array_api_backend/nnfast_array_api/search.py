"""Random search: P parameters, S sums. Propose a candidate, run forward, keep it if it is better."""

from __future__ import annotations

from .philox import normals

__all__ = ["random_search_accept", "random_search_propose"]


def random_search_propose(p, q, *, key, step, scale, offset, mode):
    noise = p.__array_namespace__().astype(scale * normals(p, key, step, offset, p.shape[0]), p.dtype)
    q[...] = p + noise if mode == "perturb" else noise


def random_search_accept(p, q, sums, best, *, normaliser):
    """Better is strictly less, so a NaN never is"""
    if _loss(sums, normaliser) < _loss(best, normaliser):
        p[...] = q
        best[...] = sums
    else:
        sums[...] = best


def _loss(sums, normaliser):
    """Data loss and penalty"""
    return sums[0] / normaliser + sums[1]
