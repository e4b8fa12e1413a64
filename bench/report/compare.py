"""What got slower since an older record: nnfast's times then and now, corrected for a machine that is slower today.

The machine's own change is taken from the contenders that are not nnfast: in the same group, or, where a group has
none in both records, over all groups. A time counts as changed when even the near ends of both intervals, widened by
the larger noise of the two, are apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from report.records import Group, Run, Side
from report.words import duration, percent, times

__all__ = ["LEAST_NOISE", "Change", "changes", "text"]

LEAST_NOISE = 0.03  # two runs differ by more than the rounds of one: other places in memory, other neighbours


@dataclass(frozen=True)
class Change:
    """One contender in one group, then and now."""

    what: str
    title: str
    before: float  # seconds, medians
    after: float
    drift: float  # how much slower the others became
    low: float  # of after/before, corrected for the drift
    high: float

    @property
    def ratio(self) -> float:
        return self.after / self.before / self.drift

    @property
    def verdict(self) -> str:
        return "slower" if self.low > 1 else "faster" if self.high < 1 else "same"


def changes(old: Run, new: Run) -> list[Change]:
    """Of everything of nnfast's that is in both records, the slowest first."""
    pairs = list(_pairs(old, new))
    drifts = [s / t for was, now in pairs for t, s in _medians(was, now, ours=False)]
    general = float(np.median(drifts)) if drifts else 1.0
    found = [change for was, now in pairs for change in _of_group(was, now, general)]
    return sorted(found, key=lambda change: change.ratio, reverse=True)


def _pairs(old: Run, new: Run) -> Iterator[tuple[Group, Group]]:
    before = {(g.suite, g.section, g.case): g for g in old.groups}
    for group in new.groups:
        was = before.get((group.suite, group.section, group.case))
        if was is not None and was.unit == group.unit:
            yield was, group


def _medians(was: Group, now: Group, *, ours: bool) -> Iterator[tuple[float, float]]:
    for side in now.sides:
        same = was.side(side.name)
        if side.nnfast is ours and not side.twin and same is not None:
            yield same.median, side.median


def _of_group(was: Group, now: Group, general: float) -> Iterator[Change]:
    others = [s / t for t, s in _medians(was, now, ours=False)]
    drift = float(np.median(others)) if others else general
    noise = max(LEAST_NOISE, was.noise or 0.0, now.noise or 0.0)
    for side in now.sides:
        before = was.side(side.name)
        if side.nnfast and not side.twin and before is not None:
            low, high = _interval(before, side)
            yield Change(
                f"{now.suite}: {now.section}: {now.case}",
                side.title,
                before.median,
                side.median,
                drift,
                low / drift / (1 + noise),
                high / drift * (1 + noise),
            )


def _interval(before: Side, after: Side) -> tuple[float, float]:
    (low_then, high_then), (low_now, high_now) = before.quartiles, after.quartiles
    return low_now / high_then, high_now / low_then


def text(old: Run, new: Run) -> tuple[str, bool]:
    """What to print, and whether anything is slower."""
    from nnfast.text import table

    found = changes(old, new)
    if not found:
        return "The two records have no measurement of nnfast in common.", False
    lines = []
    if old.machine.get("processor") != new.machine.get("processor") or old.settings.get("threads") != new.settings.get(
        "threads"
    ):
        lines.append("The records are from different machines or thread counts: ratios are to the others' change.")
    if old.quick or new.quick:
        lines.append("One of the records is of a quick run: its times mean nothing.")
    for verdict in ("slower", "faster"):
        some = [c for c in found if c.verdict == verdict]
        lines.append(f"{len(some)} of {len(found)} became {verdict} beyond noise.")
        if some:
            rows = [
                [c.what, c.title, duration(c.before), duration(c.after), percent(c.drift - 1), times(c.ratio)]
                for c in some
            ]
            head = ["what", "who", "before", "after", "others", "after/before"]
            lines.append(table(head, rows, right=(2, 3, 4, 5)))
    return "\n".join(lines), any(c.verdict == "slower" for c in found)
