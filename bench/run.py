"""`nnfast bench`: runs the suites under pytest, then writes what they measured as tables, JSON and a page.

    nnfast bench [--quick] [--suite NAME] [--backends A,B] [--peers A,B] [--json FILE] [--html FILE]
    nnfast bench --compare OLD.json [NEW.json]     with both, nothing is measured

Exit status: 0 all well, 1 a benchmark failed (a wrong answer, most of all) or something got slower,
2 the call was wrong.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parent
ROOT = BENCH.parent
sys.path.insert(0, str(BENCH))

from measuring.stand import SUITES  # noqa: E402
from peers import PEERS  # noqa: E402
from report import compare, tables  # noqa: E402
from report.records import Run, load, read  # noqa: E402

from nnfast.commands.parsing import BACKENDS, Names, Parser  # noqa: E402

__all__ = ["main", "parser", "run"]

USAGE = 4  # pytest's exit status for a wrong call


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser().parse_args(argv))


def run(options: argparse.Namespace) -> int:
    wrong = parser().error
    for file in (options.json, options.html):
        if file is not None and not file.parent.is_dir():
            wrong(f"there is no folder {file.parent}")
    old = load(options.compare[0]) if options.compare else None
    if len(options.compare or ()) > 2:
        wrong("--compare takes an older record, and a newer one if nothing is to be measured")
    if len(options.compare or ()) == 2:
        return _compared(old, load(options.compare[1]), sure=True)
    needed = {"pytest_benchmark": "pytest-benchmark", **({"matplotlib": "matplotlib"} if options.html else {})}
    for module, distribution in needed.items():
        if find_spec(module) is None:
            wrong(f"{distribution} is not installed: pip install -e '.[bench]'")
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record.json"
        status = subprocess.run(_command(options, record), cwd=ROOT, check=False).returncode
        if not record.exists():
            return 2 if status == USAGE else 1
        content = json.loads(record.read_text(encoding="utf-8"))
    deliver(content, options)
    if status != 0:
        return 1
    return 0 if old is None else _compared(old, read(content), sure=not options.quick)


def parser() -> Parser:
    p = Parser(
        "nnfast bench",
        "Time nnfast beside other libraries and the machine's limits; needs the checkout.",
        epilog=f"peers: {', '.join(peer.name for peer in PEERS)}; bench/README.md says what each figure stands on",
    )
    p.add_argument("--quick", action="store_true", help="does it all run? a minute or two; the figures mean nothing")
    p.add_argument(
        "--suite", action="append", choices=SUITES, metavar="NAME", help=f"one of several of {', '.join(SUITES)}"
    )
    p.add_argument("--backends", type=BACKENDS, metavar="A,B", help="of nnfast (default: all that work on this CPU)")
    everybody = Names(lambda: [*(peer.name for peer in PEERS), "none"], commas=True)
    p.add_argument(
        "--peers", type=everybody, metavar="A,B", help="who else (default: all that are installed; none: nobody)"
    )
    p.add_argument("--threads", type=int, metavar="N", help="of everybody (default: 2)")
    p.add_argument("-k", metavar="TEXT", help="only benchmarks whose names match, as in pytest")
    p.add_argument("--json", type=Path, metavar="FILE", help="everything measured, in pytest-benchmark's format")
    p.add_argument("--html", type=Path, metavar="FILE", help="the report as one page")
    p.add_argument(
        "--compare", type=Path, nargs="+", metavar="JSON", help="name what got slower since this older record"
    )
    return p


def _command(options: argparse.Namespace, record: Path) -> list[str]:
    command = [sys.executable, "-m", "pytest", str(BENCH), "-q", "--no-header", "--benchmark-quiet"]
    command += ["--benchmark-json", str(record), *(["--quick"] if options.quick else [])]
    for suite in options.suite or ():
        command += ["--suite", suite]
    for name in ("backends", "peers", "threads", "k"):
        value = getattr(options, name)
        if value is not None:
            command += [f"--{name}" if name != "k" else "-k", str(value)]
    return command


def deliver(content: dict[str, Any], options: argparse.Namespace) -> None:
    """Tables to the terminal, and the files that were asked for."""
    text = compact(content)
    run = read(json.loads(text))  # what is shown is what is kept, to the last digit
    print(tables.terminal(run))
    if options.json is not None:
        options.json.write_text(text, encoding="utf-8")
    if options.html is not None:
        from report import page  # loads matplotlib

        page.write(run, options.html)
    for file in filter(None, (options.json, options.html)):
        print(f"wrote {file}")


def compact(content: dict[str, Any]) -> str:
    """The same JSON with a line for each benchmark and four digits of each time, so that records stay small."""
    rows = []
    for benchmark in content["benchmarks"]:
        stats = benchmark["stats"]
        stats["data"] = [float(f"{value:.4g}") for value in stats["data"]]
        rows.append(json.dumps(benchmark))
    rest = {name: value for name, value in content.items() if name != "benchmarks"}
    head = json.dumps(rest, indent=1)[:-2]
    return f'{head},\n "benchmarks": [\n' + ",\n".join(f"  {row}" for row in rows) + "\n ]\n}\n"


def _compared(old: Run | None, new: Run, *, sure: bool) -> int:
    assert old is not None
    text, slower = compare.text(old, new)
    print(text)
    return 1 if slower and sure else 0


if __name__ == "__main__":
    sys.exit(main())
