"""Alone or together: which of the two has been faster of late.

Several threads help where each has a core to itself, and where there is enough to do to be worth waking them. Where
other programs want the cores too, threads that wait for each other at every step can be slower than one alone. Who
executes a share changes no bit, so this may follow the clock.

After a rest the first milliseconds take two or three times as long either way: threads sleep, caches hold other things,
and weights are in the cache of one core. So short jobs after a rest are compared among themselves, and in other jobs
the way that is not in use is tried last and long enough; but not for long where it was many times slower, as it is on a
machine whose cores are all taken: there a step together may take a hundred times as long as one alone. The first job of
a kind, which may be long, begins with a few steps of both, to find out whether that is so.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["AWAKE", "Pace"]

RARELY = 16  # the other way is tried in one of so many jobs, and in a few since the last change of mind
TRIED = 16  # with one in so many of the job's steps, but for LEAST, or with all of a job that is shorter
LEAST = 2e-3  # seconds
SHORTEST = 1e-4  # seconds; what is over sooner tells nothing
REST = 5e-3  # seconds without a job of this kind, after which the next one starts slowly
SLOW = 5e-3  # seconds that it may be slow
WAKE = 50e-6  # seconds until all are awake, or a little more
AWAKE = 150e-6  # seconds: what is over sooner is done before it pays that others are awake
FEW, FIRST = 4, 32  # a first job of at least so many steps; one in so many of them are done each way before the rest
CROWDED, AT_LEAST = 4, 1e-3  # times as long, and seconds more: together is out of the question


class Pace:
    """What is known of one kind of job."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._ended = -math.inf
        self._seconds = 0.0  # of the last piece
        self._usual, self._rested = _Ways(), _Ways()
        self._ways = self._usual  # of the job that runs

    def pieces(self, steps: int) -> Iterator[tuple[int, bool]]:
        """How the steps of the next job are to be run: (steps, alone), each after `took` was told of the one before."""
        rested = self._clock() - self._ended > REST
        self._ways = self._rested if rested and 0.0 < self._usual.seconds(steps) < SLOW else self._usual
        if self._ways.unknown and steps >= FEW:
            return self._first(steps)
        return iter(self._ways.pieces(steps))

    def _first(self, steps: int) -> Iterator[tuple[int, bool]]:
        """The first job: alone to begin with, which also touches all memory for the first time."""
        few = max(steps // FIRST, 1)
        yield few, True
        alone = self._seconds
        yield few, False
        self._ways.tried_both()
        yield steps - 2 * few, self._seconds > CROWDED * alone + AT_LEAST

    def took(self, steps: float, alone: bool, seconds: float) -> None:
        """What a piece took; `steps` counts what was done beside them too."""
        self._ways.took(steps, alone, seconds)
        self._seconds = seconds
        self._ended = self._clock()


class _Ways:
    """Seconds per step alone and together, as last measured."""

    def __init__(self) -> None:
        # The last two of each, by `alone`: together until it proves to be slower.
        self._last = {True: (math.inf, math.inf), False: (0.0, 0.0)}
        self._alone = False
        self._jobs = 0  # since the last change of mind

    @property
    def unknown(self) -> bool:
        return self._last == {True: (math.inf, math.inf), False: (0.0, 0.0)}

    def tried_both(self) -> None:
        """A first job was as good as one that tries the other way."""
        self._jobs = 1

    def seconds(self, steps: int) -> float:
        """What so many steps take, the way they are run; 0 before anything is known."""
        return steps * min(self._last[self._alone])

    def pieces(self, steps: int) -> list[tuple[int, bool]]:
        alone = steps * min(self._last[True]) < steps * min(self._last[False]) + WAKE
        if alone != self._alone:
            self._alone, self._jobs = alone, 0
        self._jobs += 1
        tried, much = self._tried(steps)
        if not self._is_due(much):
            return [(steps, alone)]
        return [(steps, not alone)] if tried > steps // 2 else [(steps - tried, alone), (tried, not alone)]

    def took(self, steps: float, alone: bool, seconds: float) -> None:
        """One hiccup changes nothing, a change of the machine's load is followed within two jobs."""
        if seconds >= SHORTEST:
            before = self._last[alone][1]
            now = max(seconds - (0.0 if alone else WAKE), 0.0) / steps
            self._last[alone] = (now if before in (0.0, math.inf) else before, now)

    def _tried(self, steps: int) -> tuple[int, bool]:
        """How many steps the other way is tried with, and whether that is much of the job's time."""
        each, other = (min(self._last[way]) for way in (self._alone, not self._alone))
        if not each:  # nothing is known
            return max(steps // TRIED, 1), False
        if not 0.0 < other < math.inf:
            other = each
        share = int(steps * min(1.0, each / other) / TRIED)
        # Long enough to tell if it has become as fast as this way, and no longer than need be if it has not.
        tried = max(share, 1, math.ceil(min(LEAST / math.sqrt(each * other), steps)))
        return tried, tried * other > steps // 4 * each

    def _is_due(self, much: bool) -> bool:
        """Whether this job tries the other way; less often where that would be much of it."""
        if much:
            return self._jobs % (4 * RARELY) == 0 or self._jobs in (2, 8, 32)
        return self._jobs % RARELY == 0 or self._jobs in (1, 2, 4, 8)
