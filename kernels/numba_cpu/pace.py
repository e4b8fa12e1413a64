"""Alone or together: which of the two has been faster of late.

Several threads help where each has a core to itself. Where other programs want the cores too, threads that wait for
each other at every step can be slower than one alone. Who executes a share changes no bit, so this may follow the
clock.
"""

from __future__ import annotations

import math

__all__ = ["Pace"]

PROBED_EVERY = 16  # jobs, and after 1, 2, 4, 8 since the last change of mind
TRIED = 16  # the other way is tried with a sixteenth of a job's steps
SHORTEST = 1e-3  # seconds; what is over sooner was mostly waking up


class Pace:
    """Seconds per step alone and together, as last measured, for one kind of job."""

    def __init__(self) -> None:
        # The last two of each, by `alone`: together until it proves to be slower.
        self._last = {True: (math.inf, math.inf), False: (0.0, 0.0)}
        self._alone = False
        self._jobs = 0  # since the last change of mind

    def pieces(self, steps: int) -> list[tuple[int, bool]]:
        """How the steps of the next job are to be run: (steps, alone), in order."""
        alone = min(self._last[True]) < min(self._last[False])
        if alone != self._alone:
            self._alone, self._jobs = alone, 0
        self._jobs += 1
        if steps < TRIED or (self._jobs % PROBED_EVERY and self._jobs not in (1, 2, 4, 8)):
            return [(steps, alone)]
        tried = steps // TRIED
        return [(tried, not alone), (steps - tried, alone)]

    def took(self, steps: int, alone: bool, seconds: float) -> None:
        """What a piece took. One hiccup changes nothing, a change of the machine's load is followed within two jobs."""
        if seconds >= SHORTEST:
            before = self._last[alone][1]
            now = seconds / steps
            self._last[alone] = (now if before in (0.0, math.inf) else before, now)
