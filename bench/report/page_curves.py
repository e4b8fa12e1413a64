"""Curves over a swept value, a line per contender with its name at the end, as an SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from matplotlib.lines import Line2D

from report.page_looks import COLOURS, Looks
from report.page_svg import SMALL, WIDTH, Canvas, room, seconds_ticks, span
from report.records import Group
from report.words import short

__all__ = ["curves"]


def curves(groups: Sequence[Group], looks: Looks, name: str) -> str:
    """Time over the swept value, both logarithmic; a line per contender with its name at the end; the limit dashed."""
    groups = sorted((g for g in groups if g.x is not None), key=lambda g: g.x or 0.0)
    xs = [g.x for g in groups if g.x is not None]
    names = list(dict.fromkeys(s.name for g in groups for s in g.sides if not s.twin))
    titles = {s.name: s.title for g in groups for s in g.sides if not s.twin}
    right = min(room([line for t in titles.values() for line in _wrapped(t)], SMALL), 120.0) + 22
    canvas = Canvas(height=300, left=54, bottom=40, right=right, top=10)
    values = [q for g in groups for s in g.sides for q in s.quartiles] + [g.floor for g in groups if g.floor]
    low, high = span(values, canvas.high, 6, 6)
    canvas.log("y", low, high, seconds_ticks(low, high, 7))
    left, end = span(xs, canvas.wide, 5, 5)
    canvas.log("x", left, end, _x_ticks(xs, canvas.wide / math.log(end / left)))
    canvas.grid("both")
    canvas.text(canvas.left + canvas.wide / 2, 9, groups[0].axis or "", "soft", ha="center", fontsize=SMALL)
    ends: list[_End] = []
    for who in reversed(names):
        found = [(g, side) for g in groups if (side := g.side(who)) is not None]
        look = looks.of(found[-1][1], found[-1][0])
        at = [g.x or 1.0 for g, _ in found]
        ours, y = look.name == "nnfast", [side.median for _, side in found]
        band = [side.quartiles for _, side in found]
        canvas.axes.fill_between(at, [b[0] for b in band], [b[1] for b in band], color=look.colour, alpha=0.15, lw=0)
        width, size = (2.6, 5.5) if ours else (1.5, 4)
        canvas.axes.plot(at, y, look.marker, ls=look.dash, color=look.colour, linewidth=width, markersize=size)
        ends.append(_End(canvas.at_x(at[-1]), canvas.at_y(y[-1]), _wrapped(titles[who]), look.name, ours))
    floors = [(g.x, g.floor) for g in groups if g.floor]
    if floors:
        canvas.axes.plot(*zip(*floors, strict=True), color=COLOURS["ink"], linewidth=1.3, linestyle=(0, (3, 2)))
        ends.append(_End(canvas.at_x(floors[-1][0] or 1.0), canvas.at_y(floors[-1][1]), ["limit"], "ink", False))
    _label_ends(canvas, ends)
    return canvas.svg(name, f"time against {groups[0].axis}: {', '.join(titles.values())}")


def _x_ticks(xs: Sequence[float], per_unit: float) -> list[tuple[float, str]]:
    """At the values measured, with a name at all, or every second, or third, as there is room."""
    for step in range(1, len(xs)):
        found = xs[::step]
        gaps = (per_unit * math.log(b / a) - 3.2 * len(short(a) + short(b)) for a, b in pairwise(found))
        if all(gap > 5 for gap in gaps):
            return [(x, short(x) if x in found else "") for x in xs]
    return [(x, short(x)) for x in xs[:1]]


class _End:
    """The name at the end of a line; `y` is where it would like to stand."""

    def __init__(self, x: float, y: float, lines: list[str], colour: str, strong: bool) -> None:
        self.x, self.y, self.lines, self.colour, self.strong = x, y, lines, colour, strong
        self.at = y

    @property
    def height(self) -> float:
        return 13.0 * len(self.lines) + 3


def _wrapped(title: str, most: int = 15) -> list[str]:
    """In two lines where one would be long: cut at a comma or else at a space."""
    if len(title) <= most:
        return [title]
    cut = title.find(", ") + 1 or title.rfind(" ", 0, most)
    return [title[:cut].strip(), title[cut:].strip()] if cut > 0 else [title]


def _label_ends(canvas: Canvas, ends: list[_End]) -> None:
    """Names at the right, pushed apart until none covers another, each with a hair line to its curve."""
    ends.sort(key=lambda end: end.y)
    _push_apart(ends, canvas.bottom - 20, canvas.height - 4)
    start = canvas.left + canvas.wide + 18
    for end in ends:
        xs, ys = [end.x + 4, start - 7, start - 3], [end.y, end.at, end.at]
        x, y = [x / WIDTH for x in xs], [y / canvas.height for y in ys]
        line = Line2D(x, y, color=COLOURS[end.colour], linewidth=0.8, transform=canvas.figure.transFigure)
        canvas.figure.add_artist(line)
        weight = "bold" if end.strong else "normal"
        for k, words in enumerate(end.lines):
            up = (len(end.lines) - 1) / 2 - k
            canvas.text(start, end.at + 13 * up, words, end.colour, fontsize=SMALL, weight=weight)


def _push_apart(ends: list[_End], low: float, high: float) -> None:
    """Neighbours that are too close move away from each other in equal parts; all stay between `low` and `high`."""
    for _ in range(200):
        moved = False
        for lower, upper in pairwise(ends):
            lack = (lower.height + upper.height) / 2 - (upper.at - lower.at)
            if lack > 0.1:
                lower.at, upper.at, moved = lower.at - lack / 2, upper.at + lack / 2, True
        for end in ends:
            end.at = min(max(end.at, low + end.height / 2), high - end.height / 2)
        if not moved:
            return
