"""The plots of the page, each an SVG: dots with whiskers, lanes of many cases, how much faster. Curves and bars have
files of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from report.page_bars import PARTS, PIECES, digits, memory, parts, tails
from report.page_curves import curves
from report.page_looks import COLOURS, Looks
from report.page_svg import SMALL, WIDTH, Canvas, room, seconds_ticks, span, steps_ticks
from report.records import Group, Ratio, Side
from report.words import duration, turned

__all__ = ["PARTS", "PIECES", "compared", "curves", "digits", "dots", "lanes", "memory", "parts", "speedups", "tails"]

ROW = 24.0  # pixels between two contenders
LABELS = 158.0  # pixels that contenders' names may take


def dots(group: Group, looks: Looks, name: str) -> str:
    """Each contender's time, fastest first: the median, and whiskers from quartile to quartile; the limit as a line."""
    sides = sorted((s for s in group.sides if not s.twin), key=lambda s: s.median)
    floor = group.floor
    left = min(LABELS, room([s.title for s in sides]) + 10)
    canvas = Canvas(height=ROW * len(sides) + 26 + (20 if floor else 6), left=left, top=20 if floor else 6)
    values = [q for s in sides for q in s.quartiles] + ([floor] if floor else [])
    low, high = span(values, canvas.wide, 8, 62)
    canvas.log("x", low, high, seconds_ticks(low, high, 4))
    canvas.axes.set_ylim(len(sides) - 0.5, -0.5)
    canvas.axes.set_yticks([])
    canvas.grid("x")
    if floor:
        canvas.axes.axvline(floor, color=COLOURS["ink"], linewidth=1.2, linestyle=(0, (3, 2)))
        at = canvas.at_x(floor)
        right = at > WIDTH - 90
        canvas.text(at, canvas.height - 9, f"limit {duration(floor)}", fontsize=SMALL, ha="right" if right else "left")
    for k, side in enumerate(sides):
        look, ours = looks.of(side, group), side is group.ours
        q1, q3 = side.quartiles
        canvas.axes.plot([q1, q3], [k, k], color=look.colour, linewidth=3 if ours else 2, solid_capstyle="butt")
        canvas.axes.plot(side.median, k, look.marker, color=look.colour, markersize=9 if ours else 7)
        y, weight = canvas.at_y(k), "bold" if ours else "normal"
        canvas.text(0, y, side.title, "nnfast" if ours else "ink", weight=weight)
        canvas.text(canvas.at_x(q3) + 9, y, duration(side.median), "nnfast" if ours else "soft", weight=weight)
    fastest = ", ".join(f"{s.title} {duration(s.median)}" for s in sides)
    return canvas.svg(name, f"{group.case}, from the fastest to the slowest: {fastest}")


# ---- many cases in one plot -----------------------------------------------------------------------------------------


def lanes(groups: Sequence[Group], looks: Looks, name: str) -> str:
    """A lane per case; in it a mark per contender at its time, with whiskers from quartile to quartile."""
    height = 40.0
    canvas = Canvas(height=height * len(groups) + 30, left=8, right=8, top=4)
    values = [q for g in groups for s in g.sides for q in s.quartiles] + [g.floor for g in groups if g.floor]
    low, high = span(values, canvas.wide, 8, 12)
    canvas.log("x", low, high, seconds_ticks(low, high, 6))
    canvas.axes.set_ylim(len(groups) - 0.5, -0.5)
    canvas.axes.set_yticks([])
    canvas.grid("x")
    for k, group in enumerate(groups):
        canvas.text(canvas.left, canvas.at_y(k) + 9, group.case, fontsize=SMALL)
        lane = k + 0.22
        canvas.axes.axhline(lane, color=COLOURS["grid"], linewidth=1.5, zorder=0)
        if group.floor:
            canvas.axes.plot([group.floor] * 2, [lane - 0.2, lane + 0.2], color=COLOURS["ink"], linewidth=1.5)
        for side in sorted((s for s in group.sides if not s.twin), key=lambda s: s is group.ours):
            look, ours = looks.of(side, group), side is group.ours
            canvas.axes.plot(side.quartiles, [lane, lane], color=look.colour, linewidth=2, solid_capstyle="butt")
            canvas.axes.plot(side.median, lane, look.marker, color=look.colour, markersize=9 if ours else 7)
    return canvas.svg(name, "times of " + "; ".join(group.case for group in groups))


def speedups(
    groups: Sequence[Group], looks: Looks, name: str, called: Callable[[Group], str], ends: tuple[float, float]
) -> str:
    """How many times as long as nnfast each of the others takes, a row per case; left of 1 nnfast is the slower one."""
    row, left = 17.0, min(170.0, room([called(g) for g in groups], SMALL - 0.5) + 8)
    canvas = Canvas(height=row * len(groups) + 58, left=left, right=12, top=32)
    canvas.axes.tick_params(axis="x", labeltop=True)
    low, high = ends
    canvas.log("x", low, high, [(v, f"{v:g}×") for v in steps_ticks(low, high, 5)])
    canvas.axes.set_ylim(len(groups) - 0.5, -0.5)
    canvas.axes.set_yticks([])
    canvas.grid("x")
    canvas.axes.axvspan(low, 1, color=COLOURS["slower-ground"], linewidth=0, zorder=0)
    canvas.axes.axvline(1, color=COLOURS["ink"], linewidth=1.2)
    one = canvas.at_x(1.0)
    faster = "nnfast is faster →" if WIDTH - one > 110 else "faster →"
    canvas.text(one + 5, canvas.height - 7, faster, "nnfast", fontsize=SMALL - 0.5)
    if one - canvas.left > 42:
        canvas.text(one - 5, canvas.height - 7, "← slower", fontsize=SMALL - 0.5, ha="right")
    for k, group in enumerate(groups):
        canvas.text(0, canvas.at_y(k), called(group).replace("_", " "), fontsize=SMALL - 0.5)
        canvas.axes.axhline(k, color=COLOURS["grid"], linewidth=0.8, zorder=0)
        for side, ratio in compared(group):
            look = looks.of(side, group)
            whiskers = [max(ratio.low, low), min(ratio.high, high)]
            canvas.axes.plot(whiskers, [k, k], color=look.colour, linewidth=1.5, solid_capstyle="butt")
            canvas.axes.plot(ratio.median, k, look.marker, color=look.colour, markersize=6.5)
    return canvas.svg(name, f"how many times as long as nnfast others take, {len(groups)} cases")


def compared(group: Group) -> list[tuple[Side, Ratio]]:
    ours = group.ours
    rest = [s for s in group.sides if not s.twin and s is not ours]
    return [] if ours is None else [(s, turned(group.ratio(ours, s))) for s in rest]
