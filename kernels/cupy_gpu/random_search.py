"""Random search: P parameters, S sums. Propose a candidate from normal numbers, keep it if it is better."""

from __future__ import annotations

from .emitter import THREADS, Emitter, Ref, Scalar, Sum

__all__ = ["random_search_accept", "random_search_propose"]


def random_search_propose(
    e: Emitter, p: Ref, q: Ref, *, key: Scalar, step: Scalar, scale: Scalar, offset: Scalar, mode: str
) -> None:
    """q = scale·normal (mode "sample"), q = p + scale·normal (mode "perturb")"""
    e.launch(
        "nnf_random_search_propose",
        e.grid(p.size, THREADS * 4),
        p=p if mode == "perturb" else None,
        q=q,
        n=p.size,
        key=key,
        step=step,
        scale=scale,
        offset=offset,
    )


def random_search_accept(e: Emitter, p: Ref, q: Ref, sums: Sum, best: Sum, *, normaliser: Scalar) -> None:
    """If the candidate is better: p = q, best = sums; else: sums = best"""
    e.launch(
        "nnf_random_search_accept",
        max(1, e.span(p)),
        p=p,
        q=q,
        n=p.size,
        sums=sums,
        best=best,
        columns=sums.shape[0],
        normaliser=normaliser,
        scratch=(0, 1),
    )
