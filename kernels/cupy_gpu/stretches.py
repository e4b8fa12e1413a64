"""Which steps of a job may follow each other without the host: those on batches of one size."""

from __future__ import annotations

from collections.abc import Collection, Iterator

__all__ = ["DIRECT_STEPS", "stretches"]

DIRECT_STEPS = 3  # a job of so many steps on the same rows reads them where they lie, without a copy


def stretches(
    rows: int, size: int, batches: int, first_batch: int, steps: int, pauses: Collection[int]
) -> Iterator[tuple[int, int, int]]:
    """(first step, steps, rows per batch) of the longest runs of equal batches without a pause between."""
    short = rows - (batches - 1) * size if rows else 0
    ends = sorted(p for p in pauses if p <= steps)
    s = 0
    while s < steps:
        batch = (first_batch + s) % batches
        if short == size:
            count, now = steps - s, size
        elif batch == batches - 1:
            count, now = 1, short
        else:
            count, now = min(batches - 1 - batch, steps - s), size
        upcoming = next((p for p in ends if p > s), steps)
        count = min(count, upcoming - s)
        yield s, count, now
        s += count
