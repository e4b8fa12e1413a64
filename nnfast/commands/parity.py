"""`nnfast parity`: tries a backend in every way, and prints the report."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from nnfast.commands.parsing import BACKEND, COUNT, Names, Parser

__all__ = ["parser", "run"]


def parser() -> Parser:
    from nnfast.testing.report import CASES_EACH, KINDS, THOROUGHLY

    made = Parser(
        "nnfast parity",
        "Try a backend in every way: each op within its limit of the NumPy reference in float64, also with hostile "
        "numbers, then gradients and whole trainings. 0 if all agrees, else 1.",
    )
    made.add_argument(
        "--backend", type=BACKEND, metavar="NAME", help="who is tried (default: the one that would compute)"
    )
    made.add_argument("--cases", type=COUNT, metavar="N", help=f"generated per op and dtype (default: {CASES_EACH})")
    made.add_argument("--thorough", action="store_true", help=f"{THOROUGHLY:,} cases, and ten times all else")
    made.add_argument(
        "--op",
        action="append",
        type=Names(_ops),
        metavar="NAME",
        help="one of several ops, without models (default: all)",
    )
    made.add_argument("--only", action="append", choices=KINDS, help="one of several parts (default: all)")
    made.add_argument(
        "--dtype", action="append", choices=["float32", "float64"], help="one of several, of the ops (default: both)"
    )
    return made


def _ops() -> list[str]:
    from nnfast.testing.cases import CASES

    return list(CASES)


def run(options: argparse.Namespace) -> int:
    from nnfast.registry import get_backend
    from nnfast.testing.report import BY_OP, CASES_EACH, KINDS, THOROUGHLY, check_backend

    whole = [kind for kind in options.only or () if kind not in BY_OP]
    if options.op and whole:
        parser().error(f"--op chooses among {' and '.join(BY_OP)}, and --only {whole[0]} is tried as a whole")
    cases = options.cases if options.cases is not None else THOROUGHLY if options.thorough else CASES_EACH
    report = check_backend(
        get_backend(options.backend),
        cases=cases,
        thorough=options.thorough,
        ops=options.op,
        kinds=options.only or (BY_OP if options.op else KINDS),
        dtypes=options.dtype or ("float32", "float64"),
        on_row=_on_row,
    )
    if sys.stderr.isatty():
        print(f"\r{'':50}\r", end="", file=sys.stderr)
    print(report)
    return 0 if report.passed else 1


def _on_row(row: Any) -> None:
    if sys.stderr.isatty():
        print(f"\r{row.name:<40.40} {row.dtype:8}", end="", file=sys.stderr, flush=True)
