"""Rounds: contenders are asked in turn, so that a machine that slows down slows all of them alike.

Each turn begins with a quarter of its runs off the clock, since threads are asleep and caches full of other things by
then, and ends with a pause until the contender's threads sleep.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from measuring.workers import Array, Worker

__all__ = ["Pace", "measure", "spread"]

FEWEST = 3  # rounds, however long they take

Key = TypeVar("Key", bound=Hashable)


class Pace(NamedTuple):
    """How long a group may take: rounds, seconds per contender and round, and seconds for all rounds together."""

    rounds: int
    seconds: float
    at_most: float = 30.0


def measure(workers: Mapping[Key, Worker], pace: Pace) -> dict[Key, Array]:
    """Seconds per run of each contender, a number per round; fewer rounds than asked for where they take too long."""
    begin = time.perf_counter()
    counts = {name: _calibrate(worker, pace.seconds) for name, worker in workers.items()}
    times: dict[Key, list[float]] = {name: [] for name in workers}
    r = int(all(count == 1 for count in counts.values()))  # nothing is left to compile then
    while r <= pace.rounds:
        if r > FEWEST and time.perf_counter() - begin > pace.at_most:
            break
        turn = list(workers) if r % 2 else list(reversed(workers))  # neither is always the one that runs second
        for name in turn:
            taken = _turn(workers[name], counts[name])
            if r > 0:  # the first round is not kept: a new count may compile something
                times[name].append(taken / counts[name])
        r += 1
    return {name: np.array(values) for name, values in times.items()}


def _calibrate(worker: Worker, seconds: float) -> int:
    """How often it runs in about this time."""
    worker.run(1)  # compiles, where something is left to compile, and warms the caches
    count, taken = 1, _turn(worker, 1)
    while taken < seconds / 4:
        count *= 4
        taken = _turn(worker, count)
    return max(1, round(count * seconds / taken))


def _turn(worker: Worker, count: int) -> float:
    taken = worker.run(count, warm=count // 4)
    worker.settle()
    return taken


def spread(values: Any) -> dict[str, float]:
    """Median and quartiles."""
    q1, median, q3 = (float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))
    return {"median": median, "q1": q1, "q3": q3}
