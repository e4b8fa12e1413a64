"""The page that shows a run: one HTML file that needs no other, for phones and desks, light and dark."""

from __future__ import annotations

from pathlib import Path

from report import words
from report.page_html import el, esc
from report.page_looks import Looks
from report.page_matrix import headline, matrix, not_ahead
from report.page_sections import Artist, anchor, suite_section, suite_title
from report.page_svg import style
from report.records import Run

__all__ = ["render", "write"]

HEAD = """<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="description" content="How fast nnfast trains dense networks, beside others and the machine's limit.">
<link rel="icon" href="data:,">
<title>nnfast: benchmarks</title>
"""
ABOUT = (
    "How long nnfast takes to train small and medium dense networks on a CPU, beside other libraries that do the same "
    "work on the same machine, and beside the least time that this machine needs for it."
)
METHOD = (
    "Every contender's answer is checked against the same reference in float64 before anything is timed.",
    "Contenders run in turn, round by round, so what slows the machine slows all; a ratio is taken within a round.",
    "Each lives in a process of its own.",
    "All have the same CPUs and the same number of threads.",
    "Figures are medians, with quartiles; ratios say how many times as long as nnfast the other takes.",
    "nnfast runs against itself for the noise. A ratio's interval goes from quartile to quartile of the rounds, and is "
    "widened by that noise; where it contains 1, that is a tie.",
)
LIMITS = {
    "float32 flops per second": "arithmetic in float32: the best of NumPy's large matrix products",
    "float64 flops per second": "arithmetic in float64, measured alike",
    "memory bytes per second": "main memory, read and written by all threads together",
    "seconds to call compiled code": "from Python into compiled code and back, with nothing to do there",
    "seconds to hand a job to a thread": "until another thread has taken up a job and told of its end",
}
FLOOR = (
    "The limit of a case, its floor, comes from these figures. nnfast knows the ops that a step is made of. Each takes "
    "at least as long as its bytes take at this bandwidth, or its arithmetic at this peak, whichever is longer; the "
    "floor is their sum. Ops that are fused move fewer bytes than they would one by one, so a step may go below it."
)
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
{head}<style>
{css}</style>
</head>
<body>
{main}
</body>
</html>
"""


def write(run: Run, file: Path) -> None:
    file.write_text(render(run), encoding="utf-8")


def render(run: Run) -> str:
    """The page; the same record gives the same text."""
    suites = list(dict.fromkeys(group.suite for group in run.groups))
    css = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    with style():
        artist = Artist(Looks(run))
        sections = [suite_section(run, suite, artist) for suite in suites]
    main = el("main", _top(run), _links(run, suites), _ahead(run), _limits(run), *sections, _left_out(run), _method())
    return PAGE.format(head=HEAD, css=css, main=main)


def _top(run: Run) -> str:
    facts = run.machine
    load = words.busy(facts)
    notices = []
    if run.quick:
        text = "This was a quick run. It shows that everything works; the figures mean nothing."
        notices.append(el("p", esc(text), cls="notice loud", role="note"))
    if load is not None:
        text = f"The machine was busy before the run began (load {load:.1f}). Do not trust these figures."
        notices.append(el("p", esc(text), cls="notice", role="note"))
    when = f"{facts['time']}. " if facts.get("time") else ""
    lines = [words.machine(facts), when + words.versions(facts)]
    stand = el("p", "<br>".join(esc(line) for line in lines), cls="stand")
    head = el("header", el("h1", "nnfast: benchmarks"), el("p", ABOUT, cls="about"), *notices, stand)
    against = matrix(run)
    if against:
        against = el("section", el("h2", "A training step, against each peer"), against)
    return head + headline(run) + against


def _links(run: Run, suites: list[str]) -> str:
    found = [("ahead", "Where nnfast is not ahead"), *([("limits", "Limits")] if run.limits else [])]
    found += [(anchor(suite), suite_title(suite)) for suite in suites] + [("method", "Method")]
    return el("nav", *(el("a", esc(title), href=f"#{to}") for to, title in found), aria_label="Sections")


def _ahead(run: Run) -> str:
    return el("section", el("h2", "Where others are faster, or it is a tie"), not_ahead(run), id="ahead")


def _limits(run: Run) -> str:
    if not run.limits:
        return ""
    tiles = [
        el("p", el("b", esc(words.limit(name, value))), el("span", esc(LIMITS.get(name, name))))
        for name, value in run.limits.items()
    ]
    inside = el("div", *tiles, cls="tiles small") + el("p", FLOOR)
    return el("section", el("h2", "What this machine can do"), inside, id="limits")


def _left_out(run: Run) -> str:
    if not run.left_out:
        return ""
    items = [el("li", el("b", esc(who)), f": {esc(why)}") for who, why in run.left_out.items()]
    return el("section", el("h2", "Who was left out, and why"), el("ul", *items))


def _method() -> str:
    return el("section", el("h2", "Method"), el("ol", *(el("li", esc(line)) for line in METHOD)), id="method")
