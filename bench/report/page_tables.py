"""The tables of the sections: a line per case, a column per contender; or a line per contender with all its figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from report.page_html import Cell, Standing, case_of, el, esc, standing, table, tag
from report.records import Group, Side
from report.words import count, duration, durations, interval, number, percent

__all__ = ["by_case", "by_contender", "columns", "extras", "first_steps", "table_of"]

# Figures that a contender may have besides its times, and how they are written; others are plain numbers.
FORMATS = {
    **dict.fromkeys(("p50", "p99", "p99.9", "max", "compile", "first", "bare", "validating", "saving"), duration),
    **dict.fromkeys(("accuracy", "over"), percent),
    **dict.fromkeys(("epochs", "calls"), count),
}
NAMES = {"compile": "compiling", "over": "left over"}
NOT_SHOWN = {"suite", "section", "case", "contender", "title", "nnfast", "twin", "unit", "floor", "axis", "x"}
NOT_SHOWN |= {"op", "size", "first", "largest difference"}


def table_of(groups: Sequence[Group], name: str, drawn: bool) -> str:
    """Whichever suits what was measured. What is drawn beside it has the name of a single case."""
    return by_contender(groups, name, drawn) if _is_long(groups) else by_case(groups, name)


def columns(groups: Sequence[Group]) -> int:
    """How many that table has."""
    return 3 + len(_extra_names(groups)) if _is_long(groups) else 2 + len(_contenders(groups))


def _is_long(groups: Sequence[Group]) -> bool:
    return len(groups) == 1 or bool(_extra_names(groups))


def _extra_names(groups: Sequence[Group]) -> list[str]:
    return list(dict.fromkeys(name for g in groups for s in g.sides if not s.twin for name in extras(s)))


def extras(side: Side) -> dict[str, Any]:
    """A contender's further figures by name: those in a mapping one by one, of those per round the median."""
    return {k: v for k, v in _flat(side.info) if isinstance(v, int | float) and not isinstance(v, bool)}


def _flat(info: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in info.items():
        if name in NOT_SHOWN:
            continue
        if isinstance(value, Mapping):
            yield from _flat(value)
        elif isinstance(value, list) and value and all(isinstance(v, int | float) for v in value):
            yield name, float(np.median(value))
        else:
            yield name, value


# ---- a line per case ------------------------------------------------------------------------------------------------


def _contenders(groups: Sequence[Group]) -> dict[str, str]:
    """Titles by name, nnfast's choice first, then its other backends, then the others."""
    sides = [(g.ours is s, s) for g in groups for s in g.sides if not s.twin]
    sides.sort(key=lambda pair: (not pair[0], not pair[1].nnfast))
    return {s.name: s.title for _, s in sides}


def by_case(groups: Sequence[Group], name: str) -> str:
    titles = _contenders(groups)
    floors = any(g.floor is not None for g in groups)
    head = [Cell(f"time per {esc(groups[0].unit)}")]
    head += [Cell(esc(title), "number") for title in titles.values()]
    head += [Cell("limit", "number")] * floors
    rows = []
    for group in groups:
        row = [Cell(case_of(group.case), "case")]
        for who in titles:
            side = group.side(who)
            row.append(Cell(_time(group, side), "number") if side is not None else Cell("–", "number"))
        if floors:
            row.append(Cell(duration(group.floor) if group.floor is not None else "–", "number"))
        rows.append(row)
    return table(head, rows, name)


def _time(group: Group, side: Side) -> str:
    """The median, and below it how it compares: with the limit for nnfast, with nnfast for the others."""
    s = standing(group, side)
    time = el("b", duration(side.median)) if side is group.ours else duration(side.median)
    if s is not None:
        return time + el("small", _compared(s))
    reached = group.reached(side)
    return time + (el("small", f"{percent(reached)} of the limit") if reached is not None else _quartiles(side))


def _compared(s: Standing) -> str:
    return f"{tag(s, small=True)} {interval(s.ratio)}"


def _quartiles(side: Side) -> str:
    q1, q3 = side.quartiles
    return el("small", durations(q1, q3)) if q3 > q1 else ""


def first_steps(groups: Sequence[Group], name: str) -> str:
    """How long the first steps took, compiling included, where that was measured."""
    titles = {w: t for w, t in _contenders(groups).items() if any("first" in s.info for s in _all(groups, w))}
    if not titles:
        return ""
    head = [Cell("until the first steps are done"), *(Cell(esc(title), "number") for title in titles.values())]
    rows = []
    for group in groups:
        sides = [group.side(who) for who in titles]
        firsts = [None if s is None else s.info.get("first") for s in sides]
        written = ["–" if f is None else duration(f) for f in firsts]
        rows.append([Cell(case_of(group.case), "case"), *(Cell(text, "number") for text in written)])
    return table(head, rows, name)


def _all(groups: Sequence[Group], who: str) -> list[Side]:
    return [side for g in groups if (side := g.side(who)) is not None]


# ---- a line per contender -------------------------------------------------------------------------------------------


def by_contender(groups: Sequence[Group], name: str, drawn: bool) -> str:
    """The fastest first; where there are several cases, each under its own heading."""
    names = _extra_names(groups)
    floors, compared = any(g.floor is not None for g in groups), any(len(g.sides) > 1 for g in groups)
    head = [Cell("who"), Cell(f"time per {esc(groups[0].unit)}", "number")]
    head += [Cell("against nnfast", "number")] * compared + [Cell("of the limit", "number")] * floors
    head += [Cell(esc(NAMES.get(c, c)), "number") for c in names]
    rows = []
    for group in groups:
        if len(groups) > 1 or not drawn:
            rows.append([Cell(esc(group.case))])
        for side in sorted((s for s in group.sides if not s.twin), key=lambda s: s.median):
            rows.append(_line(group, side, names, floors, compared))
    return table(head, rows, name)


def _line(group: Group, side: Side, names: Sequence[str], floors: bool, compared: bool) -> list[Cell]:
    ours, s, known = side is group.ours, standing(group, side), extras(side)
    row = [Cell(el("b", esc(side.title)) if ours else esc(side.title), "ours" if ours else "")]
    row.append(Cell(duration(side.median) + _quartiles(side), "number"))
    if compared:
        row.append(Cell(tag(s, small=True) + el("small", interval(s.ratio)) if s is not None else "", "number"))
    if floors:
        row.append(Cell(percent(group.reached(side)), "number"))
    return row + [Cell(FORMATS.get(c, number)(known[c]) if c in known else "–", "number") for c in names]
