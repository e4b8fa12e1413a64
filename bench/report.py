"""From what was measured to what is read: records, tables, and the summary in the top README.

    python bench/report.py [--results DIR] [--bench README.md] [--readme FILE]

A benchmark makes a record, plain data that goes into bench/results/NAME.json as it is; every table is made from a
record, in the terminal as in Markdown, so no figure is ever typed. Run as a program, this puts the tables of all
records in DIR between the markers of the files named.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gpu_parts.table import of_results as gpu_tables
from harness import spread

__all__ = ["compared", "deliver", "load", "number", "summary", "tables", "text_table", "write_between"]

VERSION = 2  # of the records
NAMES = ("step", "ops", "startup", "memory", "fit")
BUSY = 0.5  # load from which the figures are called into question

Record = dict[str, Any]
Rows = list[list[str]]


def compared(
    case: str, times: Mapping[str, Any], titles: Mapping[str, str], ours: Sequence[str], floor: float | None = None
) -> list[Record]:
    """Rows of a record from seconds per unit in each round: who, how long, and our ratio to the best of the others.

    The best of the others is the one with the lowest median; the ratio is taken within each round.
    """
    others = [name for name in times if name not in ours]
    best = min(others, key=lambda name: float(np.median(times[name])), default=None)
    rows = []
    for name, seconds in times.items():
        row = {
            "case": case,
            "contender": name,
            "title": titles[name],
            "nnfast": name in ours,
            "best other": name == best,
            "microseconds": spread(seconds * 1e6),
            "over best other": spread(seconds / times[best]) if best is not None and name in ours else None,
            "floor microseconds": None if floor is None else floor * 1e6,
            "rounds": (seconds * 1e6).tolist(),
        }
        rows.append(row)
    return rows


def number(value: float) -> str:
    """About three digits."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _range(s: Mapping[str, float]) -> str:
    return f"{number(s['q1'])} to {number(s['q3'])}"


# ---- tables ---------------------------------------------------------------------------------------------------------

Table = tuple[list[str], tuple[int, ...], Rows]  # head, columns flush right, rows


def _compared_table(record: Record, what: str, unit: str) -> Table:
    head = [what, "who", unit, "quartiles", "nnfast/best other", "floor", "floor/time"]
    rows, last = [], None
    for r in record["rows"]:
        ratio, floor = r["over best other"], r["floor microseconds"]
        rows.append([
            r["case"] if r["case"] != last else "",
            r["title"],
            number(r["microseconds"]["median"]),
            _range(r["microseconds"]),
            f"{ratio['median']:.2f} ({ratio['q1']:.2f} to {ratio['q3']:.2f})" if ratio else "best" * r["best other"],
            number(floor) if floor is not None and r["case"] != last else "",
            f"{floor / r['microseconds']['median']:.0%}" if floor is not None else "",
        ])  # fmt: skip
        last = r["case"]
    return head, (2, 5, 6), rows


def _step_table(record: Record) -> Table:
    head, right, rows = _compared_table(record, "network", "µs/step")
    for row, r in zip(rows, record["rows"], strict=True):
        row.append(f"{r['first seconds']:.1f}")
    return [*head, "first steps, s"], (*right, 7), rows


def _startup_table(record: Record) -> Table:
    rows, last = [], None
    for r in record["rows"]:
        what = r["what"] if r["what"] != last else ""
        median, q1, q3 = (f"{r['seconds'][q]:.3f}" for q in ("median", "q1", "q3"))
        rows.append([what, r["title"], median, f"{q1} to {q3}"])
        last = r["what"]
    return ["what", "who", "s", "quartiles"], (2,), rows


def _memory_table(record: Record) -> Table:
    columns: tuple[str, ...] = ("peak MB", "peak over PyTorch's", "imports MB", "loaded MB", "data MB", "needed MB")
    columns += ("above imports/needed", "above loaded/needed", "temporary kB", "growth kB")
    rows = [[r["title"], *("" if r[c] is None else number(r[c]) for c in columns)] for r in record["rows"]]
    return ["who", *columns], tuple(range(1, len(columns) + 1)), rows


def _fit_table(record: Record) -> Table:
    columns = ("bare", "whole", "validating", "saving")
    rows = []
    for r in record["rows"]:
        over = [f"{100 * r['over'][q]:+.1f}" for q in ("median", "q1", "q3")]
        seconds = [f"{r[c]['median']:.3f}" for c in columns]
        rows.append([r["case"], r["title"], f"{r['epochs']:,}", *seconds, over[0], f"{over[1]} to {over[2]}"])
    head = ["network", "who", "epochs", "bare, s", "with everything, s", "of it validating", "saving", "left over, %"]
    return [*head, "quartiles"], tuple(range(2, 8)), rows


def table_of(record: Record) -> Table:
    if record["bench"] == "step":
        return _step_table(record)
    if record["bench"] == "fit":
        return _fit_table(record)
    if record["bench"] == "ops":
        return _compared_table(record, "op", "µs")
    return _startup_table(record) if record["bench"] == "startup" else _memory_table(record)


def text_table(record: Record) -> str:
    """For a terminal."""
    from nnfast.text import table

    head, right, rows = table_of(record)
    return table(head, rows, right=right)


def markdown(head: Sequence[str], right: Sequence[int], rows: Rows) -> str:
    rule = "|".join("--:" if c in right else "---" for c in range(len(head)))
    return "\n".join([f"| {' | '.join(head)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)])


def tables(record: Record) -> str:
    """The record as Markdown, with what it stands on."""
    return f"{markdown(*table_of(record))}\n\n{stands_on(record)}"


def stands_on(record: Record) -> str:
    facts = record["machine"]
    parts = [f"{name} {facts[name]}" for name in ("nnfast", "python", "numpy", "processor", "blas")]
    parts += [f"{name} {version}" for name, version in facts["peers"].items()]
    lines = [f"{', '.join(parts)}; {facts['threads']} threads each; {facts['time'].partition(' ')[0]}."]
    if facts["load before"] is not None and facts["load before"] > BUSY:
        lines.append(f"The machine was busy before the run began (load {facts['load before']:.1f}): do not trust this.")
    if "limits" in record:
        giga = {name: value / 1e9 for name, value in record["limits"].items()}
        lines.append(
            f"Limits measured in the same run: {giga['float32 flops per second']:.0f} GFLOP/s in float32, "
            f"{giga['float64 flops per second']:.0f} in float64, {giga['memory bytes per second']:.0f} GB/s of memory."
        )
    if record.get("skipped"):
        lines.append("Left out: " + "; ".join(f"{who}: {why}" for who, why in record["skipped"].items()) + ".")
    if record.get("quick"):
        lines.append("A quick run, which shows that all works and no more.")
    return " ".join(lines)


# ---- the summary ----------------------------------------------------------------------------------------------------


def summary(records: Mapping[str, Record]) -> str:
    """One line per case: nnfast on the backend that "auto" chooses against the best of the others."""
    rows: Rows = []
    for name, what in (("step", "training step, "), ("ops", "")):
        record = records.get(name, {"rows": []})
        for case in dict.fromkeys(r["case"] for r in record["rows"]):
            rows += _summary_of_times(what + case, [r for r in record["rows"] if r["case"] == case])
    record = records.get("startup", {"rows": []})
    for what in dict.fromkeys(r["what"] for r in record["rows"] if r["what"] != "import"):
        starts = [(r["title"], r["seconds"]["median"], r["nnfast"]) for r in record["rows"] if r["what"] == what]
        rows += _summary_row(what, starts, "s")
    peaks = [(r["title"], r["peak MB"], r["nnfast"]) for r in records.get("memory", {"rows": []})["rows"]]
    rows += _summary_row("peak memory, 784-512-512-10", peaks, "MB")
    if not rows:
        raise SystemExit("there is no record in which nnfast stands beside another; measure first")
    head = ["", "nnfast", "best other", "nnfast/other"]
    return f"{markdown(head, (3,), rows)}\n\n{stands_on(next(iter(records.values())))}"


def _summary_of_times(label: str, rows: Sequence[Record]) -> Rows:
    """With the ratio as it was taken, within rounds."""
    ours = _automatic({r["title"]: r for r in rows if r["nnfast"]})
    best = next((r for r in rows if r["best other"]), None)
    if ours is None or best is None:
        return []
    mine, other = (f"{number(r['microseconds']['median'])} µs ({r['title']})" for r in (ours, best))
    return [[label, mine, other, f"{ours['over best other']['median']:.2f}"]]


def _automatic(ours: Mapping[str, Any]) -> Any:
    """Of nnfast's rows by title: the backend that "auto" prefers, from a warm cache; None where it has none."""
    from nnfast.registry import AUTO

    titles = (title for name in AUTO for title in (f"nnfast, {name}, warm", f"nnfast, {name}"))
    return next((ours[title] for title in titles if title in ours), None)


def _summary_row(label: str, values: Sequence[tuple[str, float, bool]], unit: str) -> Rows:
    """From (title, value, whether it is nnfast's); smaller is better."""
    ours = _automatic({v[0]: v for v in values if v[2]})
    best = min((v for v in values if not v[2]), key=lambda v: v[1], default=None)
    if ours is None or best is None:
        return []
    mine, other = (f"{number(value)} {unit} ({title})" for title, value, _ in (ours, best))
    return [[label, mine, other, f"{ours[1] / best[1]:.2f}"]]


# ---- files ----------------------------------------------------------------------------------------------------------


def write_between(file: Path, name: str, body: str) -> None:
    """Put text between the markers `<!-- NAME: begin -->` and `<!-- NAME: end -->` instead of what stood there."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = file.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise SystemExit(f"{file}: expected the markers {begin} and {end}, once each and in this order")
    before, after = text.split(begin)[0], text.split(end)[1]
    file.write_text(f"{before}{begin}\n{body}\n{end}{after}", encoding="utf-8")


def load(file: Path) -> Record:
    record: Record = json.loads(file.read_text(encoding="utf-8"))
    if record.get("version") != VERSION:
        raise SystemExit(f"{file} was written by another version of these benchmarks; measure again")
    return record


def deliver(record: Record, json_file: str | None, markdown_file: str | None) -> None:
    """Print a record's table, and write it where it was asked for."""
    record["version"] = VERSION
    print(text_table(record))
    print(f"\n{stands_on(record)}")
    if json_file:
        Path(json_file).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if markdown_file:
        write_between(Path(markdown_file), f"bench_{record['bench']}", tables(record))


def main(argv: Sequence[str] | None = None) -> int:
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description="Write the tables of what was measured.")
    parser.add_argument("--results", type=Path, default=here / "results", metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--bench", type=Path, metavar="FILE", help="all tables, between their markers of this file")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="the summary, between its markers of this file")
    options = parser.parse_args(argv)
    files = {name: options.results / f"{name}.json" for name in NAMES}
    records = {name: load(file) for name, file in files.items() if file.exists()}
    if options.bench:
        for name, record in records.items():
            write_between(options.bench, f"bench_{name}", tables(record))
        write_between(options.bench, "bench_gpu", gpu_tables(options.results))
    if options.readme:
        write_between(options.readme, "bench", summary(records))
    if not (options.bench or options.readme):
        print(summary(records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
