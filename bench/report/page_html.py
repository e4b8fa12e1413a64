"""Elements that the page is made of: escaped text, tables that scroll within themselves, ratios with their verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from report.records import Group, Ratio, Side
from report.words import interval, times, turned

__all__ = [
    "Cell",
    "Standing",
    "case_of",
    "details",
    "el",
    "esc",
    "figure",
    "key",
    "mark",
    "shades",
    "standing",
    "standings",
    "table",
    "tag",
]


def esc(text: object) -> str:
    return escape(str(text), quote=True)


def el(name: str, *inside: str, **attributes: str) -> str:
    """An element. What is inside is HTML already; attributes are text, and `cls` is the class."""
    said = "".join(f' {"class" if k == "cls" else k.replace("_", "-")}="{esc(v)}"' for k, v in attributes.items() if v)
    return f"<{name}{said}>{''.join(inside)}</{name}>"


# ---- verdicts -------------------------------------------------------------------------------------------------------

SIGNS = {"faster": "", "tie": "≈ ", "slower": "▼ "}
WORDS = {"faster": "nnfast is faster", "tie": "a tie", "slower": "nnfast is slower"}


@dataclass(frozen=True)
class Standing:
    """How nnfast stands against one other in one group: how many times as long that one takes."""

    group: Group
    other: Side
    ratio: Ratio
    verdict: str  # of nnfast: "faster", "tie" or "slower"


def standing(group: Group, other: Side) -> Standing | None:
    ours = group.ours
    if ours is None or ours is other:
        return None
    ratio = group.ratio(ours, other)
    return Standing(group, other, turned(ratio), ratio.verdict)


def standings(groups: Iterable[Group]) -> list[Standing]:
    """nnfast against the best of the others, of all groups that have both."""
    found = (standing(g, g.best_other) for g in groups if g.best_other is not None)
    return [s for s in found if s is not None]


def tag(s: Standing, best: bool = False, small: bool = False) -> str:
    """The ratio in the colour of its verdict, and with its sign."""
    words = f"{s.other.title}: {times(s.ratio.median)} ({interval(s.ratio)}), {WORDS[s.verdict]}"
    return el(
        "span",
        f"{SIGNS[s.verdict]}{times(s.ratio.median)}",
        cls=f"tag {s.verdict}{' best' if best else ''}{' small' if small else ''}",
        title=words,
    )


# ---- tables ---------------------------------------------------------------------------------------------------------


class Cell(NamedTuple):
    html: str
    cls: str = ""


def table(head: Sequence[Cell], rows: Sequence[Sequence[Cell]], name: str, cls: str = "") -> str:
    """A table that scrolls sideways within itself; its first column stays. A row of one cell is a heading."""
    top = "".join(el("th", cell.html, cls=cell.cls, scope="col") for cell in head)
    body = "".join(el("tr", _row(row, len(head))) for row in rows)
    inside = el("table", el("thead", el("tr", top)), el("tbody", body), cls=cls)
    return el("div", inside, cls="scroll", role="region", aria_label=name, tabindex="0")


def _row(row: Sequence[Cell], columns: int) -> str:
    if len(row) == 1:
        return el("th", el("span", row[0].html), cls="heading", scope="rowgroup", colspan=str(columns))
    first = el("th", row[0].html, cls=row[0].cls, scope="row")
    return first + "".join(el("td", cell.html, cls=cell.cls) for cell in row[1:])


def case_of(name: str) -> str:
    """A case's name in two lines, what comes after its first comma being small."""
    first, _, rest = name.partition(", ")
    whole = el("span", esc(first), cls="whole" if len(first) < 22 else "")
    return whole + (el("small", esc(rest)) if rest else "")


def details(summary: str, inside: str) -> str:
    return el("details", el("summary", esc(summary)), inside)


# ---- figures --------------------------------------------------------------------------------------------------------


def figure(caption: str, svg: str) -> str:
    return el("figure", el("figcaption", esc(caption)) if caption else "", svg)


def key(items: Iterable[tuple[str, str, str]]) -> str:
    """What marks mean: a colour of page.css, a sign, and the words for it."""
    return el("p", *(el("span", mark(colour, sign), f" {esc(words)}") for colour, sign, words in items), cls="key")


def shades(parts: Iterable[tuple[str, float]], *more: str) -> str:
    """The same for the parts of a bar: words, and how strong the part is drawn."""
    spans = [el("span", mark("nnfast", "■", strength), f" {esc(words)}") for words, strength in parts]
    return el("p", *spans, *more, cls="key")


def mark(colour: str, sign: str, strength: float = 1.0) -> str:
    return el("i", esc(sign), style=f"color:var(--{colour})" + (f";opacity:{strength}" if strength < 1 else ""))
