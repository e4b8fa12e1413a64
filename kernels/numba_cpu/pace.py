"""Alone or together: which of the two has been faster of late.

Several threads help where each has a core to itself. Where other programs want the cores too, threads that wait for each
other at every step can be slower than one alone. Who executes a share changes no bit, so this may follow the clock.
"""

from __future__ import annotations

import math

__all__ = ["Pace"]

PROBED_EVERY = 16  # jobs; the other way is tried with a sixteenth of the steps of one
TRIED = 16


class Pace:
    """Seconds per step alone and together, as last measured, for one kind of job."""

    def __init__(self) -> None:
        self._seconds = {True: math.nan, False: math.nan}  # by `alone`
        self._jobs = 0

    def pieces(self, steps: int) -> list[tuple[int, bool]]:
        """How the steps of the next job are to be run: (steps, alone), in order."""
        self._jobs += 1
        alone = self._seconds[True] < self._seconds[False]  # together, as long as either is unknown
        other = self._seconds[not alone]
        due = self._jobs % PROBED_EVERY == 0 or (math.isnan(other) and not math.isnan(self._seconds[alone]))
        if not due:
            return [(steps, alone)]
        tried = max(1, steps // TRIED)
        return [(tried, not alone)] + [(steps - tried, alone)] * (tried < steps)

    def took(self, steps: int, alone: bool, seconds: float) -> None:
        """What a piece took. A single number, so that a change of the machine's load is followed at once."""
        self._seconds[alone] = seconds / steps
