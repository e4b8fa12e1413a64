"""The picture of a profile: a bar per op in the order of the step, in full colour what the machine needs at least."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from nnfast.pictures.drawing import COLOURS, GREY, INK, check_file, figure, save, style
from nnfast.profiling.report import duration, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nnfast.profiling.report import Profile, Row

__all__ = ["draw"]

BOUNDS = {"compute": COLOURS[0], "memory": COLOURS[1], "": GREY}
TINT = 0.35  # of the part of a bar that is more than the machine needs
LINE = 0.27  # inches
SMALL = 9.5
WIDE = 128  # letters in a line of notes


@style()
def draw(profile: Profile, file: Any = None) -> Any:
    """See `Profile.plot`."""
    check_file(file)
    rows = [row for row in profile.rows if row.calls]
    idle = "Ops that had nothing to do, or run as a part of others, are left out."
    notes = [line for note in profile.notes(idle) for line in textwrap.wrap(note, WIDE, break_on_hyphens=False)]
    fig = figure(profile.title, 10.5, 1.7 + LINE * len(rows) + 0.17 * len(notes))
    ax = fig.subplots()
    longest = max([*(row.seconds for row in rows), *(row.floor or 0.0 for row in rows)])
    for at, row in enumerate(rows):
        _bar(ax, at, row, longest)
    _stages(ax, rows)
    ax.set_yticks(range(len(rows)), labels=[_label(row) for row in rows])
    ax.set(ylim=(len(rows) - 0.4, -0.6), xlim=(0, 1.45 * longest))
    ax.tick_params(axis="y", length=0)
    _ticks(ax, longest)
    ax.grid(axis="x", color=GREY, alpha=0.2)
    ax.set_axisbelow(True)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.set_title(profile.circumstances, fontweight="normal", fontsize=11, pad=30)
    _legend(ax, rows)
    fig.supxlabel("\n".join(notes), x=0.012, ha="left", fontsize=SMALL, color="#555555")
    if file is not None:
        save(fig, file)
    return fig


def _bar(ax: Axes, at: int, row: Row, longest: float) -> None:
    """The time, tinted; over it the least that the machine needs; where that is more, a mark stands there."""
    colour = BOUNDS[row.bound]
    seconds, floor = max(row.seconds, 0.0), row.floor
    ax.barh(at, seconds, 0.68, color=colour, alpha=TINT, linewidth=0)
    end = seconds
    if floor is not None:
        ax.barh(at, min(floor, seconds), 0.68, color=colour, linewidth=0)
        if floor > seconds:
            ax.plot([floor, floor], [at - 0.34, at + 0.34], color=colour, linewidth=2, solid_capstyle="butt")
            end = floor
    words = f"{duration(row.seconds)}, {percent(row.share)}"
    if row.roofline is not None:
        words += f"; {percent(row.roofline)} of roofline"
    ax.text(end + 0.012 * longest, at, words, va="center", fontsize=SMALL, color=INK)


def _stages(ax: Axes, rows: list[Row]) -> None:
    """A thin line wherever another stage of the step begins."""
    for at in range(1, len(rows)):
        if rows[at].stage != rows[at - 1].stage:
            ax.axhline(at - 0.5, color=GREY, alpha=0.35, linewidth=0.6)


def _label(row: Row) -> str:
    if row.place is None:
        return row.op
    return f"{f'layer {row.layer}: ' if row.layer else ''}{row.op} {row.size}".replace("_", " ")


def _ticks(ax: Axes, longest: float) -> None:
    """Round times, up to that of the longest bar."""
    unit, word = next(((u, w) for u, w in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")) if longest >= u), (1e-9, "ns"))
    power = 10.0 ** (len(str(int(longest / unit))) - 1)
    step = next(s * power for s in (0.2, 0.5, 1.0, 2.0) if longest / unit / (s * power) <= 6)
    at = [i * step for i in range(int(longest / unit / step) + 1)]
    ax.set_xticks([t * unit for t in at], labels=[f"{t:g} {word}" for t in at])


def _legend(ax: Axes, rows: list[Row]) -> None:
    from matplotlib.patches import Patch

    words = {"compute": "bound by compute", "memory": "bound by memory", "": "not counted"}
    there = [bound for bound in BOUNDS if any(row.bound == bound for row in rows)]
    marks: list[Any] = [Patch(color=BOUNDS[bound], label=words[bound], linewidth=0) for bound in there]
    if any(row.floor is not None for row in rows):
        marks.append(Patch(color=INK, label="at least", linewidth=0))
        marks.append(Patch(color=INK, alpha=TINT, label="beyond that", linewidth=0))
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.3, "borderpad": 0}
    ax.legend(handles=marks, **place, ncols=len(marks), fontsize=SMALL, columnspacing=1.1, handlelength=1.1)
