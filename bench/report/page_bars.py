"""Plots of what a contender's extra figures say: tails of latency, memory, time to an accuracy, the parts of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from report.page_looks import COLOURS, Looks
from report.page_svg import SMALL, Canvas, room, seconds_ticks, span
from report.records import Group, Side
from report.words import duration, number

__all__ = ["digits", "memory", "parts", "tails"]

ROW = 26.0  # pixels between two contenders
LABELS = 158.0  # pixels that contenders' names may take


def _rows(group: Group, key: str) -> list[Side]:
    return [s for s in group.sides if not s.twin and key in s.info]


def _canvas(sides: Sequence[Side]) -> Canvas:
    left = min(LABELS, room([s.title for s in sides]) + 10)
    canvas = Canvas(height=ROW * len(sides) + 30, left=left, top=4)
    canvas.axes.set_ylim(len(sides) - 0.5, -0.5)
    canvas.axes.set_yticks([])
    return canvas


def _name(canvas: Canvas, group: Group, side: Side, k: int) -> None:
    ours = side is group.ours
    weight = "bold" if ours else "normal"
    canvas.text(0, canvas.at_y(k), side.title, "nnfast" if ours else "ink", weight=weight)


# ---- one answer at a time -------------------------------------------------------------------------------------------


def tails(group: Group, looks: Looks, name: str) -> str:
    """The call in the middle (a full mark), the slowest in a hundred (a hollow one), the slowest in a thousand (|)."""
    sides = sorted(_rows(group, "latency"), key=lambda s: s.info["latency"]["p50"])
    tail = {s.name: [s.info["latency"][p] for p in ("p50", "p99", "p99.9")] for s in sides}
    canvas = _canvas(sides)
    low, high = span([v for values in tail.values() for v in values], canvas.wide, 8, 62)
    canvas.log("x", low, high, seconds_ticks(low, high, 4))
    canvas.grid("x")
    for k, side in enumerate(sides):
        look, (p50, p99, p999) = looks.of(side, group), tail[side.name]
        canvas.axes.plot([p50, p999], [k, k], color=look.colour, linewidth=1.5)
        canvas.axes.plot(p999, k, "|", color=look.colour, markersize=11, markeredgewidth=2)
        canvas.axes.plot(p99, k, "o", color=look.colour, markersize=7, markeredgewidth=1.6, mfc=COLOURS["paper"])
        canvas.axes.plot(p50, k, "o", color=look.colour, markersize=8)
        _name(canvas, group, side, k)
        canvas.text(canvas.at_x(p999) + 9, canvas.at_y(k), duration(p999), "soft", fontsize=SMALL)
    said = "; ".join(f"{s.title} {', '.join(map(duration, tail[s.name]))}" for s in sides)
    return canvas.svg(name, f"{group.case}, 50th, 99th and 99.9th percentile: {said}")


# ---- memory ---------------------------------------------------------------------------------------------------------

PARTS = (("imports", 1.0), ("first use", 0.65), ("data", 0.42), ("the training", 0.22))  # and how strong they are drawn


def memory(group: Group, looks: Looks, name: str) -> str:
    """Megabytes at the peak, in parts, and a mark where they would end if nothing went beyond the needed."""
    sides = sorted(_rows(group, "memory"), key=lambda s: s.info["memory"]["peak MB"])
    canvas = _canvas(sides)
    most = max(s.info["memory"]["peak MB"] for s in sides)
    canvas.axes.set_xlim(0, most * canvas.wide / (canvas.wide - 58))
    _linear_ticks(canvas, most, "MB")
    canvas.grid("x")
    for k, side in enumerate(sides):
        facts, look, start = side.info["memory"], looks.of(side, group), 0.0
        loaded, peak, data = facts["loaded MB"], facts["peak MB"], facts["data MB"]
        ends = (facts["imports MB"], loaded, min(loaded + data, peak), peak)
        for (_, strength), end in zip(PARTS, ends, strict=True):
            canvas.axes.barh(k, max(end - start, 0), 0.56, start, color=look.colour, alpha=strength, linewidth=0)
            start = max(start, end)
        needed = loaded + data + facts["needed MB"]
        canvas.axes.plot([needed] * 2, [k - 0.38, k + 0.38], color=COLOURS["ink"], linewidth=2, solid_capstyle="butt")
        _name(canvas, group, side, k)
        canvas.text(canvas.at_x(max(peak, needed)) + 6, canvas.at_y(k), f"{number(peak)} MB", "soft", fontsize=SMALL)
    said = "; ".join(f"{s.title} {number(s.info['memory']['peak MB'])} MB" for s in sides)
    return canvas.svg(name, f"{group.case}, memory at the peak: {said}")


def _linear_ticks(canvas: Canvas, most: float, unit: str) -> None:
    power = 10.0 ** math.floor(math.log10(most))
    step = next(s * power for s in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0) if most / (s * power) <= 4.5)
    at = [step * k for k in range(int(most / step) + 1)]
    canvas.axes.set_xticks(at, labels=["0" if not t else f"{t:,.3g} {unit}" for t in at])


# ---- time to an accuracy --------------------------------------------------------------------------------------------


def digits(group: Group, looks: Looks, name: str) -> str:
    """Training alone (a full mark) and with compiling before it (a hollow one)."""
    sides = sorted((s for s in group.sides if not s.twin), key=lambda s: s.median)
    canvas = _canvas(sides)
    whole = {s.name: s.median + (s.info.get("compile") or 0.0) for s in sides}
    low, high = span([*(q for s in sides for q in s.quartiles), *whole.values()], canvas.wide, 8, 60)
    canvas.log("x", low, high, seconds_ticks(low, high, 4))
    canvas.grid("x")
    for k, side in enumerate(sides):
        look, end = looks.of(side, group), whole[side.name]
        canvas.axes.plot([side.median, end], [k, k], color=look.colour, linewidth=1.2, linestyle=(0, (2, 2)))
        canvas.axes.plot(side.quartiles, [k, k], color=look.colour, linewidth=3, solid_capstyle="butt")
        if end > side.median:
            canvas.axes.plot(end, k, "o", color=look.colour, markersize=7, markeredgewidth=1.6, mfc=COLOURS["paper"])
        canvas.axes.plot(side.median, k, "o", color=look.colour, markersize=8)
        _name(canvas, group, side, k)
        canvas.text(canvas.at_x(end) + 9, canvas.at_y(k), duration(end), "soft", fontsize=SMALL)
    said = "; ".join(f"{s.title} {duration(s.median)}, {duration(whole[s.name])} with compiling" for s in sides)
    return canvas.svg(name, f"{group.case}: {said}")


# ---- the parts of a run ---------------------------------------------------------------------------------------------

PIECES = (("bare", 1.0), ("validating", 0.6), ("saving", 0.4), ("the rest", 0.2))


def parts(groups: Sequence[Group], looks: Looks, name: str) -> str:
    """Where the time of a run with everything goes, a bar per case: what the bare loop takes, and what is added."""
    rows = [(g, s) for g in groups for s in g.sides if not s.twin and {"bare", "validating", "saving"} <= set(s.info)]
    canvas = Canvas(height=44.0 * len(rows) + 30, left=8, right=14, top=4)
    canvas.axes.set_ylim(len(rows) - 0.5, -0.5)
    canvas.axes.set_yticks([])
    canvas.axes.set_xlim(0, 1)
    canvas.axes.set_xticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "25 %", "50 %", "75 %", "100 %"])
    canvas.grid("x")
    for k, (group, side) in enumerate(rows):
        pieces = [float(np.median(side.info[key])) for key, _ in PIECES[:3]]
        shares = [*(p / side.median for p in pieces), max(0.0, 1 - sum(pieces) / side.median)]
        words = f"{group.case} · {side.title} · {duration(side.median)}"
        canvas.text(canvas.left, canvas.at_y(k) + 11, words, fontsize=SMALL)
        start, look = 0.0, looks.of(side, group)
        for (_, strength), part in zip(PIECES, shares, strict=True):
            canvas.axes.barh(k + 0.18, part, 0.36, start, color=look.colour, alpha=strength, linewidth=0)
            start += part
    return canvas.svg(name, "the parts of a run with everything: " + "; ".join(group.case for group, _ in rows))
