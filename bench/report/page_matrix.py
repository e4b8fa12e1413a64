"""The top of the page: how nnfast stands against each peer on each network, and wherever it is not ahead."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from report.page_html import SIGNS, Standing, case_of, details, el, esc, standing, standings, tag
from report.page_sections import suite_title
from report.records import Group, Run
from report.words import duration, interval, percent, share, times

__all__ = ["headline", "matrix", "not_ahead"]

SHOWN = 12  # of the places where nnfast is not ahead, before the rest is folded away


def headline(run: Run) -> str:
    """Three figures on the training steps."""
    groups = run.of("steps", "networks")
    found = standings(groups)
    tiles = []
    if found:
        won, tied = (sum(s.verdict == verdict for s in found) for verdict in ("faster", "tie"))
        lost = len(found) - won - tied
        rest = f"{_number(tied, 'tie')}, slower on {lost or 'none'}"
        words = f"networks: nnfast takes less time for a training step than the best of the others ({rest})"
        tiles.append((f"{won} of {len(found)}", words))
        low, high = (pick(s.ratio.median for s in found) for pick in (min, max))
        words = "the time of the best other over nnfast's: the lowest and the highest of these networks"
        tiles.append((f"{times(low)} to {times(high)}" if times(low) != times(high) else times(low), words))
    reached = [r for g in groups if g.ours is not None and (r := g.reached(g.ours)) is not None]
    if reached:
        others = [r for g in groups if g.best_other is not None and (r := g.reached(g.best_other)) is not None]
        beside = f"; the best of the others reaches {percent(float(np.median(others)))}" if others else ""
        words = f"of the machine's limit is what nnfast reaches, the median of the networks{beside}"
        tiles.append((percent(float(np.median(reached))), words))
    return (
        el("div", *(el("p", el("b", esc(big)), el("span", esc(words))) for big, words in tiles), cls="tiles")
        if tiles
        else ""
    )


def _number(n: int, what: str) -> str:
    return f"{n or 'no'} {what}{'' if n == 1 else 's'}"


# ---- the matrix -----------------------------------------------------------------------------------------------------


def matrix(run: Run) -> str:
    """Networks down, peers across, the toughest peer first; on a phone each network is a card."""
    groups = [g for g in run.of("steps", "networks") if g.ours is not None]
    if not groups:
        return ""
    peers = _peers(groups)
    limits, noises = any(g.floor is not None for g in groups), any(g.noise is not None for g in groups)
    facts = ["nnfast", *(["of limit", "best other's"] if limits else []), *(["noise"] if noises else [])]
    head = [el("th", "network", scope="col", role="columnheader")]
    head += [el("th", esc(f), scope="col", role="columnheader", cls="fact") for f in facts]
    head += [el("th", esc(title), scope="col", role="columnheader", cls="peer") for title in peers.values()]
    rows = [el("tr", _row(g, peers, limits, noises), role="row") for g in groups]
    body = el("tbody", *rows, role="rowgroup")
    inside = el("table", el("thead", el("tr", *head, role="row"), role="rowgroup"), body, cls="matrix", role="table")
    scroll = el("div", inside, cls="scroll", role="region", aria_label="nnfast against each peer", tabindex="0")
    return el("p", CAPTION) + scroll + LEGEND


CAPTION = "How many times as long as nnfast each of the others takes for one step; whoever comes closest stands first."
LEGEND = (
    '<p class="key"><span><i class="tag small faster">3.1×</i> takes 3.1 times as long as nnfast</span>'
    '<span><i class="tag small tie">≈ 1.02×</i> a tie</span>'
    '<span><i class="tag small slower">▼ 0.81×</i> faster than nnfast</span>'
    '<span><i class="tag small best">1.3×</i> framed: the best of the others</span>'
    "<span>“of limit”: the least time that this machine needs, over nnfast's time and over the best other's</span>"
    "<span>“noise”: nnfast against itself</span></p>"
)


def _peers(groups: Sequence[Group]) -> dict[str, str]:
    """Titles by name, in the order of how close they come to nnfast."""
    logs: dict[str, list[float]] = {}
    titles: dict[str, str] = {}
    for group in groups:
        for side in group.others:
            s = standing(group, side)
            if s is not None:
                logs.setdefault(side.name, []).append(math.log(s.ratio.median))
                titles[side.name] = side.title
    return {name: titles[name] for name in sorted(logs, key=lambda name: sum(logs[name]) / len(logs[name]))}


def _row(group: Group, peers: dict[str, str], limits: bool, noises: bool) -> str:
    ours, best = group.ours, group.best_other
    assert ours is not None
    facts = [("nnfast", el("b", duration(ours.median)), "fact ours")]
    if limits:
        facts.append(("of limit", percent(group.reached(ours)), "fact"))
        facts.append(("best other's", percent(group.reached(best)) if best is not None else "", "fact"))
    if noises:
        facts.append(("noise", share(group.noise), "fact"))
    cells = [el("th", case_of(group.case), scope="row", role="rowheader")]
    cells += [el("td", text or "–", cls=cls, data_label=label, role="cell") for label, text, cls in facts]
    for name, title in peers.items():
        side = group.side(name)
        s = standing(group, side) if side is not None else None
        text = tag(s, best=side is best) if s is not None else el("span", "–", title="did not take part")
        cells.append(el("td", text, cls="peer", data_label=title, role="cell"))
    return "".join(cells)


# ---- where it is not ahead ------------------------------------------------------------------------------------------


def not_ahead(run: Run) -> str:
    """Every group in which the best of the others is faster than nnfast, or neither is."""
    found = [*standings(run.groups)]
    heavier = _heavier(run)
    if not found and not heavier:
        return el("p", "There is nothing to compare: nnfast and another did not do the same work.")
    counts = {v: sum(s.verdict == v for s in found) for v in ("faster", "tie", "slower")}
    bar = el(
        "div",
        *(el("span", f"{SIGNS[v]}{n}", cls=v, style=f"flex-grow:{n}") for v, n in counts.items() if n),
        cls="tally",
        aria_hidden="true",
    )
    words = (
        f"Of {len(found)} comparisons with the best of the others, over all that was measured, nnfast is faster in "
        f"{counts['faster']}, {counts['tie']} are ties, and it is slower in {counts['slower']}."
    )
    if not counts["tie"] and not counts["slower"] and not heavier:
        words += " There is no place where another is faster, and no tie."
    order = {"slower": 0, "tie": 1}
    short = sorted((s for s in found if s.verdict != "faster"), key=lambda s: (order[s.verdict], s.ratio.median))
    items = heavier + [_item(s) for s in short]
    shown = el("ul", *items[:SHOWN], cls="behind") if items else ""
    rest = items[SHOWN:]
    more = details(f"{len(rest)} more", el("ul", *rest, cls="behind")) if rest else ""
    return el("p", esc(words)) + bar + shown + more


def _item(s: Standing) -> str:
    who = f"{s.other.title} is faster" if s.verdict == "slower" else f"a tie with {s.other.title}"
    place = f"{suite_title(s.group.suite)}, {s.group.section}"
    text = el("b", esc(s.group.case)) + el("small", f"{esc(place)}: {esc(who)}")
    return el("li", el("span", text), el("span", tag(s), el("small", interval(s.ratio)), cls="figure"))


def _heavier(run: Run) -> list[str]:
    """Where another needs less memory at the peak."""
    items = []
    for group in run.of("memory"):
        peaks = {s.title: s.info["memory"]["peak MB"] for s in group.others if "memory" in s.info}
        ours = group.ours.info.get("memory") if group.ours is not None else None
        if ours and peaks and (least := min(peaks, key=lambda title: peaks[title])) and peaks[least] <= ours["peak MB"]:
            text = el("b", esc(group.case)) + el("small", f"memory at the peak: {esc(least)} needs less, or as much")
            ratio = el("span", f"▼ {times(peaks[least] / ours['peak MB'])}", cls="tag slower")
            items.append(el("li", el("span", text), el("span", ratio, cls="figure")))
    return items
