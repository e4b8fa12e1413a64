"""A section of the page for each suite: what was measured in a sentence, a plot where it helps, a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from report import plots
from report.page_html import details, el, esc, figure, key, mark, shades
from report.page_looks import Looks
from report.page_tables import columns, first_steps, table_of
from report.records import Group, Run, Side

__all__ = ["Artist", "anchor", "suite_section", "suite_title"]

SUITES = {
    "steps": ("A training step", "Forward, loss, backward and optimizer, without metrics, in float32."),
    "ops": ("Single ops", "What a step is made of, called one by one."),
    "fit": ("Whole training runs", "From the first epoch to the last, with all that people have around the steps."),
    "estimators": (
        "In scikit-learn",
        "Its estimators beside nnfast's, in float64: the same arguments, draws and scores.",
    ),
    "startup": ("Starting", "Seconds until something works, each in a fresh process."),
    "latency": ("One answer at a time", "A trained network is asked for one row, thousands of times over."),
    "memory": ("Memory", "A training run in a fresh process, from warm caches."),
    "scaling": ("As things grow", "The same work with more threads, more rows, more parameters."),
    "population": ("Many networks at a time", "A step of a whole population, each model with weights of its own."),
}
SECTIONS = {
    ("steps", "networks"): "The fastest on top; whiskers go from quartile to quartile, the dashed line is the limit.",
    ("steps", "batch size"): "The same network with ever larger batches.",
    ("steps", "width"): "Ever wider layers with the same batch.",
    ("ops", "functions"): "As they are called from Python, the checks of the arguments included.",
    ("ops", "kernels"): "Every op of nnfast at three sizes: how many times as long as nnfast the others take.",
    ("fit", "programs"): "The book's programs from start to exit.",
    ("fit", "digits"): "Training until an accuracy is reached; the number beside the mark is with compiling.",
    ("fit", "company"): "What a progress bar, validation and checkpoints cost: where the time of such a run goes.",
    ("estimators", "fit"): "From the call to the fitted estimator.",
    ("estimators", "one row"): "One row at a time, checked as always.",
    ("startup", "import"): "Until the library is imported.",
    (
        "startup",
        "first step",
    ): "From then until the first training step is done, compiled code being in the cache.",
    ("startup", "first step, nothing compiled yet"): "The same with empty caches: the compilers work first.",
    ("latency", "one row"): "The number beside the mark is the slowest call in a thousand.",
    (
        "memory",
        "a training run",
    ): "What the process takes up at its peak, and what of it was there beforehand.",
    ("scaling", "threads"): "Everybody gets the same threads; a line that falls by half per doubling scales perfectly.",
    ("scaling", "rows"): "Time per epoch with ever more rows in it.",
    ("scaling", "parameters"): "Time per step with ever more parameters.",
    ("population", "networks"): "Time per step of all models together, over the same rows.",
    ("population", "threads"): "The same with one thread and more: models are spread over the cores.",
}

Drawn = tuple[list[tuple[str, str]], str]  # figures with their captions, and what their marks mean


class Artist:
    """Draws for one run; every figure gets a name of its own."""

    def __init__(self, looks: Looks) -> None:
        self.looks, self._drawn = looks, 0

    def name(self) -> str:
        self._drawn += 1
        return f"f{self._drawn}"

    def key(self, groups: Iterable[Group], without_ours: bool = False) -> list[tuple[str, str, str]]:
        """Marks and names of all contenders."""
        found: dict[str, tuple[str, str, str]] = {}
        for group in groups:
            for side in group.sides:
                if not side.twin and not (without_ours and side is group.ours):
                    look = self.looks.of(side, group)
                    found.setdefault(side.name, (look.name, look.sign, side.title))
        return list(found.values())


_Plot = Callable[[Artist, Sequence[Group]], Drawn]


def _each(draw: Callable[[Group, Looks, str], str], wanted: Callable[[Side], bool], marks: str = "") -> _Plot:
    """A figure per group, of those in which somebody has what is drawn."""

    def drawn(artist: Artist, groups: Sequence[Group]) -> Drawn:
        found = [g for g in groups if any(wanted(s) for s in g.sides if not s.twin)]
        return [(g.case, draw(g, artist.looks, artist.name())) for g in found], marks if found else ""

    return drawn


def _sweeps(artist: Artist, groups: Sequence[Group]) -> Drawn:
    """A figure per swept quantity that has several values."""
    figures = []
    for axis in dict.fromkeys(g.axis for g in groups if g.axis is not None and g.x is not None and g.x > 0):
        found = [g for g in groups if g.axis == axis and g.x is not None and g.x > 0]
        if len({g.x for g in found}) > 1:
            caption = f"time per {found[0].unit}, by {axis}"
            figures.append((caption, plots.curves(found, artist.looks, artist.name())))
    return figures, ""


def _lanes(artist: Artist, groups: Sequence[Group]) -> Drawn:
    if all(len(g.sides) < 2 for g in groups):
        return [], ""
    caption = f"time per {groups[0].unit}"
    limit = [("ink", "❘", "the limit")] if any(g.floor for g in groups) else []
    drawn = plots.lanes(groups, artist.looks, artist.name())
    return [(caption, drawn)], key([*artist.key(groups), *limit])


def _kernels(artist: Artist, groups: Sequence[Group]) -> Drawn:
    """A figure per size, all on the same axis."""
    found = [g for g in groups if plots.compared(g)]
    ends = [value for g in found for _, ratio in plots.compared(g) for value in (ratio.low, ratio.median, ratio.high)]
    if not found:
        return [], ""
    finite = [value for value in ends if 0 < value < float("inf")]
    span = (min([*finite, 0.8]) / 1.1, max([*finite, 1.25]) * 1.1)
    sizes: dict[str, list[Group]] = {}
    for group in found:
        sizes.setdefault(str(_said(group, "size")), []).append(group)
    figures = []
    for size, members in sizes.items():
        drawn = plots.speedups(members, artist.looks, artist.name(), lambda g: str(_said(g, "op") or g.case), span)
        figures.append((f"{size} arrays" if size else "", drawn))
    return figures, key(artist.key(found, without_ours=True))


def _said(group: Group, name: str) -> object:
    return next((s.info[name] for s in group.sides if name in s.info), "")


def _company(artist: Artist, groups: Sequence[Group]) -> Drawn:
    found = [g for g in groups if any("bare" in s.info for s in g.sides)]
    caption = "shares of the whole run"
    drawn = [(caption, plots.parts(found, artist.looks, artist.name()))] if found else []
    return drawn, shades(plots.PIECES) if found else ""


TAILS = key([("nnfast", "●", "half of all calls are faster"), ("nnfast", "○", "99 %"), ("nnfast", "❘", "99.9 %")])
DIGITS = key([("nnfast", "●", "training"), ("nnfast", "○", "with compiling before it")])
NEEDED = " where it would end with nothing but what a step needs: parameters, gradients, optimizer, arena"
MEMORY = shades(plots.PARTS, el("span", mark("ink", "❘"), NEEDED))
PLOTS: dict[tuple[str, str], _Plot] = {
    ("steps", "networks"): _each(plots.dots, lambda side: True),
    ("ops", "functions"): _lanes,
    ("ops", "kernels"): _kernels,
    ("fit", "programs"): _lanes,
    ("fit", "digits"): _each(plots.digits, lambda side: True, DIGITS),
    ("fit", "company"): _company,
    ("startup", "import"): _each(plots.dots, lambda side: True),
    ("startup", "first step"): _each(plots.dots, lambda side: True),
    ("startup", "first step, nothing compiled yet"): _each(plots.dots, lambda side: True),
    ("latency", "one row"): _each(plots.tails, lambda side: "latency" in side.info, TAILS),
    ("memory", "a training run"): _each(plots.memory, lambda side: "memory" in side.info, MEMORY),
}
FOLDED = (PLOTS["steps", "networks"], _sweeps, _kernels)  # their tables repeat what the plots show
NARROW = 8  # columns that a table may have to stand beside a plot
MANY = 24  # cases from which any table is folded away


# ---- the sections ---------------------------------------------------------------------------------------------------


def anchor(suite: str) -> str:
    return "suite-" + re.sub(r"\W+", "-", suite)


def suite_title(suite: str) -> str:
    return SUITES.get(suite, (suite.capitalize(), ""))[0]


def suite_section(run: Run, suite: str, artist: Artist) -> str:
    title, words = SUITES.get(suite, (suite.capitalize(), ""))
    inside = [el("h2", esc(title)), el("p", esc(words)) if words else ""]
    parts = [_section(suite, section, run.of(suite, section), artist) for section in run.sections(suite)]
    return el("section", *inside, el("div", *parts, cls="parts"), id=anchor(suite))


def _section(suite: str, section: str, groups: Sequence[Group], artist: Artist) -> str:
    figures, marks = PLOTS.get((suite, section), _sweeps)(artist, groups)
    words = SECTIONS.get((suite, section), "")
    head = el("h3", esc(section[:1].upper() + section[1:])) + (el("p", esc(words)) if words else "")
    name = f"{suite_title(suite)}, {section}"
    tables = table_of(groups, name, drawn=bool(figures)) + first_steps(groups, f"{name}, first steps")
    folded = bool(figures) and (PLOTS.get((suite, section), _sweeps) in FOLDED or len(groups) > MANY)
    lines = f" ({len(groups)} lines)" if len(groups) > 1 else ""
    body = details(f"All figures in a table{lines}", tables) if folded else tables
    named = [figure(caption if caption.lower() != section.lower() else "", svg) for caption, svg in figures]
    drawn = el("div", *named, cls="figures") if named else ""
    beside = "body beside" if len(figures) == 1 and not folded and columns(groups) <= NARROW else "body"
    wide = "part" if len(figures) == 1 and folded else "part wide"
    return el("div", head, marks, el("div", drawn, body, cls=beside), cls=wide)
