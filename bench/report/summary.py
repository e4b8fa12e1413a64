"""The README's summary: a line for each kind of work, nnfast against the best of the others, lost rows included.

python bench/report/summary.py RECORD.json       writes README.md and bench/README.md between their markers
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))

from gpu_parts.table import of_results as gpu_tables  # noqa: E402

from report.records import Group, Run, load  # noqa: E402
from report.tables import Table, left_out, markdown, stands_on, tables  # noqa: E402
from report.words import duration, number, percent, share, times  # noqa: E402

__all__ = ["main", "score", "summary", "write_between"]

# Sections whose groups stand in the README one by one, with the words before them.
SHOWN = (
    ("steps", "networks", "training step, "),
    ("fit", "digits", "digits, "),
    ("fit", "programs", "whole program, "),
    ("ops", "functions", ""),
    ("latency", "one row", ""),
    ("estimators", "fit", "MLP estimators, fit, "),
    ("estimators", "one row", "MLP estimators, one row, "),
    ("startup", "first step", ""),
)


def summary(run: Run) -> str:
    """The table, and under it how often nnfast is faster, and what all stands on."""
    rows = [row for suite, section, what in SHOWN for group in run.of(suite, section) for row in _row(group, what)]
    rows += _memory_rows(run)
    if not rows:
        raise SystemExit("there is nothing in which nnfast stands beside another; measure first")
    head = ["", "nnfast", "best other", "nnfast/other", "", "noise", "of the limit"]
    return "\n\n".join([markdown(Table("", head, (3, 5, 6), rows)), score(run), stands_on(run)])


def _row(group: Group, what: str) -> Iterator[list[str]]:
    ours, best = group.ours, group.best_other
    if ours is not None and best is not None:
        ratio = group.ratio(ours, best)
        mine, other = (f"{duration(side.median)} ({side.title})" for side in (ours, best))
        verdict = "" if ratio.verdict == "faster" else f"**{ratio.verdict}**"
        yield [
            what + group.case,
            mine,
            other,
            times(ratio.median)[:-1],
            verdict,
            share(group.noise),
            percent(group.reached(ours)),
        ]


def _memory_rows(run: Run) -> Iterator[list[str]]:
    for group in run.of("memory"):
        peaks = {side.name: side.info["memory"]["peak MB"] for side in group.sides}
        ours = group.ours
        best = min(group.others, key=lambda side: peaks[side.name], default=None)
        if ours is not None and best is not None:
            mine, other = (f"{number(peaks[side.name])} MB ({side.title})" for side in (ours, best))
            ratio = peaks[ours.name] / peaks[best.name]
            yield [
                f"peak memory, {group.case}",
                mine,
                other,
                times(ratio)[:-1],
                "" if ratio < 1 else "**more**",
                "",
                "",
            ]


def score(run: Run) -> str:
    """In how many groups nnfast, on the backend that it chooses itself, is faster than all others, ties, or loses."""
    parts = []
    for suite in dict.fromkeys(group.suite for group in run.groups if group.suite != "memory"):
        verdicts = [g.ratio(g.ours, g.best_other).verdict for g in run.of(suite) if g.ours and g.best_other]
        if verdicts:
            n, ties, lost = len(verdicts), verdicts.count("tie"), verdicts.count("slower")
            parts.append(f"{suite} {n - ties - lost} of {n}" + (f" ({ties} ties, {lost} lost)" if ties or lost else ""))
    return f"Faster than every other, over all that was measured: {'; '.join(parts)}."


# ---- files ----------------------------------------------------------------------------------------------------------


def write_between(file: Path, name: str, body: str) -> None:
    """Put text between the markers `<!-- NAME: begin -->` and `<!-- NAME: end -->` instead of what stood there."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = file.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise SystemExit(f"{file}: expected the markers {begin} and {end}, once each and in this order")
    before, after = text.split(begin)[0], text.split(end)[1]
    file.write_text(f"{before}{begin}\n{body}\n{end}{after}", encoding="utf-8")


def write(run: Run, readme: Path, bench: Path, results: Path) -> None:
    write_between(readme, "bench", summary(run))
    for suite in dict.fromkeys(group.suite for group in run.groups):
        parts = [f"**{each.title}**\n\n{markdown(each)}" for each in tables(run, suite)]
        write_between(bench, f"bench_{suite}", "\n\n".join(parts))
    write_between(bench, "bench_machine", "\n\n".join([stands_on(run), *left_out(run)]))
    write_between(bench, "bench_gpu", gpu_tables(results))


def main(argv: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else list(argv)
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    write(load(Path(arguments[0])), ROOT / "README.md", ROOT / "bench/README.md", ROOT / "bench/results")
    return 0


if __name__ == "__main__":
    sys.exit(main())
