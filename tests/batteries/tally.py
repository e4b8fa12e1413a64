"""Counting what a battery tried: how often, what failed, and what came nearest to its limit."""

from __future__ import annotations

from batteries import Figure
from nnfast.testing.parity import NONE

__all__ = ["Tally"]


class Tally:
    """One figure in the making."""

    def __init__(self, what):
        self.what = what
        self.tried = 0
        self.failures = []
        self.worst, self.where = NONE, ""

    def add(self, name, check, /, *arguments, **options):
        """Run a check, which raises or gives its `Error`."""
        self.tried += 1
        try:
            error = check(*arguments, **options)
        except Exception as failure:
            kind = "" if isinstance(failure, AssertionError) else f"{type(failure).__name__}: "
            self.failures.append(f"{name}: {kind}{failure}")
            return
        if error.share > self.worst.share:
            self.worst, self.where = error, name

    def figure(self, said=""):
        """What came of it."""
        error, limit = self.worst
        near = f"at most {error:.1e} of {limit:.1e} ({self.where})" if error else ""
        return Figure(self.what, self.tried, tuple(self.failures), "; ".join(filter(None, (said, near))))
