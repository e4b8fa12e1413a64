"""From the calls for two models to those for many: what one has of everything lies equally far from what the next has.

A launch becomes one over a table with a record per model, which the third axis of the grid goes through; a product
becomes a batch of products. Pure Python over numbers, as is all from a program to its calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .emitter import Apart, Call, Launch, Policy, Product, Ref
from .plan import Piece, Plan

__all__ = ["MOST_MODELS", "Noted", "Repeated", "rounded", "spread", "spread_plan"]

MOST_MODELS = 65535  # in one call: the third axis of a grid ends there


def rounded(models: int) -> int:
    """A number of models, not below and at most an eighth above, of which there are few: each is a plan of its own."""
    step = 1 << max(models.bit_length() - 4, 0)
    return -(-models // step) * step


class Noted:
    """A policy that notes what it is asked and answers, so that a second plan can be made like the first."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.answers: list[bool] = []

    def joins(self, joined: Sequence[Call], separate: Sequence[Call]) -> bool:
        self.answers.append(self._policy.joins(joined, separate))
        return self.answers[-1]


class Repeated:
    """The policy that gives these answers, one after the other."""

    def __init__(self, answers: Sequence[bool]) -> None:
        self._answers = iter(answers)

    def joins(self, joined: Sequence[Call], separate: Sequence[Call]) -> bool:
        return next(self._answers)


def spread_plan(first: Plan, second: Plan, models: int) -> Plan:
    """The plan of a step for so many models, from those of the first two of them, which must be whole."""
    pieces = [
        Piece(a.op, spread(a.calls or (), b.calls or (), models))
        for a, b in zip(first.pieces, second.pieces, strict=True)
    ]
    return Plan(pieces, first.update_at)


def spread(first: Sequence[Call], second: Sequence[Call], models: int) -> list[Call]:
    """The calls for so many models, from those of the first two; those of a single one are its own."""
    if models == 1:
        return list(first)
    return [_spread(a, b, models) for a, b in zip(first, second, strict=True)]


def _spread(a: Call, b: Call, models: int) -> Call:
    if isinstance(a, Launch) and isinstance(b, Launch):
        assert (a.kernel, a.blocks, a.shared) == (b.kernel, b.blocks, b.shared), (
            f"{a} and {b} differ in more than place"
        )
        return a._replace(args=_records(a.args, b.args, models))
    assert isinstance(a, Product), f"{a} and {b} are of two kinds"
    assert isinstance(b, Product), f"{a} and {b} are of two kinds"
    assert a[3:6] == b[3:6], f"{a} and {b} differ in more than place"
    distances = (_apart(a.a, b.a), _apart(a.b, b.b), _apart(a.c, b.c), _apart(a.bias, b.bias), _apart(a.aux, b.aux))
    return a._replace(apart=Apart(models, *distances))


def _records(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], models: int) -> np.ndarray[Any, Any]:
    """Records in which what differs between a and b, addresses, goes on in the same strides."""
    first, second = (np.frombuffer(record.tobytes(), np.uint64) for record in (a, b))  # structs hold pointers: 8 bytes
    distance = second - first  # modulo 2⁶⁴, which is right for what lies below as well
    words = first + np.arange(models, dtype=np.uint64)[:, None] * distance
    records: np.ndarray[Any, Any] = words.view(a.dtype).reshape(models)
    return records


def _apart(a: Ref | None, b: Ref | None) -> int:
    if a is None or b is None:
        return 0
    assert a[1:] == b[1:], f"{a} and {b} differ in more than place"
    return b.address - a.address
