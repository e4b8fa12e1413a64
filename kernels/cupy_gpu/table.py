"""The op table: every op of `nnfast.protocol.OPS` as a function that emits its kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import activations, dense, dropout, losses, metrics, optimizers, random_search, regularization, standardize

__all__ = ["OPS", "WATCHING", "has"]

OPS: Mapping[str, Callable[..., None]] = {
    op: getattr(family, op)
    for family in (
        *(activations, dense, dropout, standardize, losses, metrics),
        *(optimizers, random_search, regularization),
    )
    for op in family.__all__
}

# Ops that look for gradients and parameters that are not finite, while they read them anyway.
WATCHING = frozenset(optimizers.__all__)


def has(op: str) -> bool:
    return op in OPS
