"""Alone or together: which of the two has been faster of late.

Several threads help where each has a core to itself, and where there is enough to do to be worth waking them. Where
other programs want the cores too, threads that wait for each other at every step can be slower than one alone. Who
executes a share changes no bit, so this may follow the clock.
"""

from __future__ import annotations

import math

__all__ = ["AWAKE", "Pace"]

PROBED_EVERY = 16  # jobs, and after a few since the last change of mind
TRIED = 16  # the other way is tried with a sixteenth of a job's steps, or with all of a job that is too short for that
SHORTEST = 1e-4  # seconds; what is over sooner tells nothing
WAKE = 50e-6  # seconds until all are awake, or a little more
AWAKE = 150e-6  # seconds: what is over sooner is done before it pays that others are awake


class Pace:
    """Seconds per step alone and together, as last measured, for one kind of job."""

    def __init__(self) -> None:
        # The last two of each, by `alone`: together until it proves to be slower.
        self._last = {True: (math.inf, math.inf), False: (0.0, 0.0)}
        self._alone = False
        self._jobs = 0  # since the last change of mind

    def pieces(self, steps: int) -> list[tuple[int, bool]]:
        """How the steps of the next job are to be run: (steps, alone), in order."""
        alone = steps * min(self._last[True]) < steps * min(self._last[False]) + WAKE
        if alone != self._alone:
            self._alone, self._jobs = alone, 0
        self._jobs += 1
        tried = steps // TRIED
        few = tried == 0 or 0.0 < tried * min(self._last[alone]) < SHORTEST
        if self._jobs % PROBED_EVERY and self._jobs not in ((2, 8) if few else (1, 2, 4, 8)):
            return [(steps, alone)]
        if few:
            return [(steps, not alone)]
        return [(tried, not alone), (steps - tried, alone)]

    def took(self, steps: float, alone: bool, seconds: float) -> None:
        """What a piece took; `steps` counts what was done beside them too.

        One hiccup changes nothing, a change of the machine's load is followed within two jobs.
        """
        if seconds >= SHORTEST:
            before = self._last[alone][1]
            now = max(seconds - (0.0 if alone else WAKE), 0.0) / steps
            self._last[alone] = (now if before in (0.0, math.inf) else before, now)
