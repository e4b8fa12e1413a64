"""Tables of a run, for a terminal and as Markdown: one for each section of each suite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from report.records import Group, Run, Side
from report.words import busy, count, duration, interval, limit, machine, number, percent, share, times, versions

__all__ = ["Table", "left_out", "markdown", "stands_on", "tables", "terminal"]

Rows = list[list[str]]


class Table(NamedTuple):
    title: str
    head: list[str]
    right: tuple[int, ...]  # columns flush right
    rows: Rows


def tables(run: Run, suite: str) -> list[Table]:
    """A table for each section of a suite that was measured."""
    makers = {"memory": _memory, "latency": _latency}
    found = []
    for section in run.sections(suite):
        groups = run.of(suite, section)
        if section == "kernels":
            found.append(_kernels(groups))
        elif section == "company":
            found.append(_company(groups))
        elif groups[0].axis is not None:
            found.append(_swept(groups))
        else:
            found.append(makers.get(suite, _plain)(groups))
    return found


def _title(group: Group) -> str:
    return f"{group.suite}: {group.section}"


def _sides(group: Group) -> list[Side]:
    return [side for side in group.sides if not side.twin]


def _over(group: Group, side: Side) -> str:
    """Our ratio to the best of the others; "best" for that one."""
    best = group.best_other
    if best is None:
        return ""
    if not side.nnfast:
        return "best other" if side is best else ""
    ratio = group.ratio(side, best)
    return f"{times(ratio.median)[:-1]} ({interval(ratio)}){', a tie' if ratio.verdict == 'tie' else ''}"


def _plain(groups: Sequence[Group]) -> Table:
    """A row for each contender of each group."""
    floors = any(g.floor is not None for g in groups)
    firsts = any("first" in s.info for g in groups for s in g.sides)
    head = ["", "who", f"per {groups[0].unit}", "quartiles", "nnfast/best other"]
    head += ["limit", "reached"] * floors + ["first steps"] * firsts
    rows = []
    for group in groups:
        for i, side in enumerate(_sides(group)):
            q1, q3 = side.quartiles
            row = [_label(group) if i == 0 else "", side.title, duration(side.median)]
            row += [f"{duration(q1)} to {duration(q3)}", _over(group, side)]
            if floors:
                row += [duration(group.floor) if group.floor and i == 0 else "", percent(group.reached(side))]
            if firsts:
                row.append(duration(side.info["first"]) if "first" in side.info else "")
            rows.append(row)
    return Table(_title(groups[0]), head, (2, 5, 6, 7), rows)


def _label(group: Group) -> str:
    return group.case if group.noise is None else f"{group.case} (noise {share(group.noise)})"


def _swept(groups: Sequence[Group]) -> Table:
    """A row for each value of what is varied, a column for each contender; one such block for each network."""
    names = _in_order(side for group in groups for side in _sides(group))
    head = ["case", *names.values(), "nnfast/best other", "noise", "limit reached"]
    rows = []
    for group in groups:
        ours = group.ours
        found = {side.name: duration(side.median) for side in _sides(group)}
        row = [group.case, *(found.get(name, "") for name in names)]
        row += [_over(group, ours) if ours else "", share(group.noise), percent(group.reached(ours)) if ours else ""]
        rows.append(row)
    title = f"{_title(groups[0])}, time per {groups[0].unit}"
    return Table(title, head, (*tuple(range(1, len(names) + 1)), len(head) - 1), rows)


def _in_order(sides: Iterable[Side]) -> dict[str, str]:
    return {side.name: side.title for side in sides}


def _kernels(groups: Sequence[Group]) -> Table:
    """A row for each op: at each size our time, over PyTorch's where it has the op, and the share of the limit."""
    sizes = list(dict.fromkeys(str(g.sides[0].info["size"]) for g in groups))
    ops: dict[str, dict[str, Group]] = {}
    for group in groups:
        info = group.sides[0].info
        ops.setdefault(info["op"], {})[info["size"]] = group
    head = ["op", *(word for size in sizes for word in (size, "/NumPy", "/PyTorch", "of limit"))]
    rows = [[op, *(word for size in sizes for word in _kernel(found.get(size)))] for op, found in ops.items()]
    return Table(f"{_title(groups[0])}, nnfast's own choice of backend", head, tuple(range(1, len(head))), rows)


def _kernel(group: Group | None) -> list[str]:
    if group is None or group.ours is None:
        return ["", "", "", ""]
    ours = group.ours
    plain, torch = group.side("numpy"), group.best_other
    ratios = [times(group.ratio(ours, other).median)[:-1] if other else "" for other in (plain, torch)]
    return [duration(ours.median), *ratios, percent(group.reached(ours))]


def _latency(groups: Sequence[Group]) -> Table:
    head = ["network", "who", "back to back", "nnfast/best other", "p50", "p99", "p99.9", "slowest"]
    rows = []
    for group in groups:
        for i, side in enumerate(_sides(group)):
            alone = side.info.get("latency", {})
            points = [duration(alone[p]) if p in alone else "" for p in ("p50", "p99", "p99.9", "max")]
            rows.append(
                [_label(group) if i == 0 else "", side.title, duration(side.median), _over(group, side), *points]
            )
    return Table(_title(groups[0]), head, (2, 4, 5, 6, 7), rows)


def _memory(groups: Sequence[Group]) -> Table:
    columns = ("peak MB", "imports MB", "loaded MB", "data MB", "needed MB", "above imports/needed")
    columns += ("above loaded/needed", "temporary kB", "growth kB")
    rows = []
    for side in (side for group in groups for side in _sides(group)):
        held = side.info["memory"]
        rows.append([side.title, *("" if held.get(c) is None else number(held[c]) for c in columns)])
    return Table(f"{_title(groups[0])}, {groups[0].case}", ["who", *columns], tuple(range(1, len(columns) + 1)), rows)


def _company(groups: Sequence[Group]) -> Table:
    """What is left over the bare loop when validation and the writing of files are taken off."""
    import numpy as np

    rows = []
    for side, network in ((side, group.case) for group in groups for side in _sides(group)):
        info = side.info
        parts = [duration(float(np.median(info[part]))) for part in ("bare", "validating", "saving")]
        q1, median, q3 = (f"{100 * q:+.1f}" for q in np.quantile(info["over"], [0.25, 0.5, 0.75]))
        epochs = count(info["epochs"])
        rows.append([network, side.title, epochs, parts[0], duration(side.median), *parts[1:], median, f"{q1} to {q3}"])
    head = ["network", "who", "epochs", "bare", "with everything", "of it validating", "saving", "left over, %"]
    return Table(f"{_title(groups[0])}", [*head, "quartiles"], (2, 3, 4, 5, 6, 7), rows)


# ---- as text --------------------------------------------------------------------------------------------------------


def terminal(run: Run) -> str:
    from nnfast.text import table

    suites = dict.fromkeys(group.suite for group in run.groups)
    found = [each for suite in suites for each in tables(run, suite)]
    parts = [f"\n{each.title}\n\n{table(each.head, each.rows, right=each.right)}" for each in found]
    return "\n".join([*parts, "", stands_on(run), *left_out(run)])


def markdown(found: Table) -> str:
    rule = "|".join("--:" if c in found.right else "---" for c in range(len(found.head)))
    return "\n".join([f"| {' | '.join(found.head)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in found.rows)])


def stands_on(run: Run) -> str:
    """Machine, versions, limits and what speaks against the figures, in a few lines."""
    facts = run.machine
    limits = ", ".join(f"{_what(name)} {limit(name, value)}" for name, value in run.limits.items())
    lines = [f"{machine(facts)}. {versions(facts)}. Measured on {str(facts['time']).partition(' ')[0]}."]
    lines.append(f"Limits of this machine in the same run: {limits}.")
    load = busy(facts)
    if load is not None:
        lines.append(f"The machine was busy before the run began (load {load:.1f}): do not trust this.")
    if run.quick:
        lines.append("A quick run, which shows that all works and no more.")
    return " ".join(lines)


def _what(name: str) -> str:
    """A limit's name without its unit, which is written with the number."""
    for words in (" flops per second", " bytes per second", "seconds for ", "seconds "):
        name = name.replace(words, "")
    return name


def left_out(run: Run) -> list[str]:
    return [f"Left out: {who}: {why}" for who, why in run.left_out.items()]
