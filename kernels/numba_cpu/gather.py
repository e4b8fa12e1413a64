"""The rows of a batch, copied from wherever the row order has them: N rows of I elements, out of M."""

from __future__ import annotations

from .bodies import body
from .simd import lanes, vload, vload_n, vstore, vstore_n

__all__ = ["gather", "gather_labels"]


@body
def gather(order, source, rows):
    """rows[n] = source[order[n]]

    What is left of a row behind its whole vectors goes with one more, which ends where the row ends.
    """
    width = rows.shape[1]
    last = width - lanes(rows)
    for n in range(order.size):
        to, start = n * width, order[n] * width
        if last < 0:
            vstore_n(rows, to, vload_n(source, start, width), width)
            continue
        for i in range(0, last, lanes(rows)):
            vstore(rows, to + i, vload(source, start + i))
        vstore(rows, to + last, vload(source, start + last))


@body
def gather_labels(order, source, rows):
    """rows[n] = source[order[n]], of one number each"""
    for n in range(order.size):
        rows[n] = source[order[n]]
