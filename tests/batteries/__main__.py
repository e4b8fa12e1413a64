"""The command: see the package's text."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from batteries import NAMES, figures_of
from nnfast.text import table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/batteries", description="Try to break everything.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--thorough", action="store_true", help="to their full size")
    options = parser.parse_args()
    if wrong := set(options.names) - set(NAMES):
        parser.error(f"there is no battery {', '.join(sorted(wrong))}; there are {', '.join(NAMES)}")
    rows, failures = [], []
    for name in options.names or NAMES:
        begin = time.perf_counter()
        for figure in figures_of(name, thorough=options.thorough):
            seconds, begin = time.perf_counter() - begin, time.perf_counter()
            rows.append(
                (
                    name,
                    figure.what,
                    f"{figure.tried:,}",
                    f"{len(figure.failures):,}",
                    figure.said or figure.skipped,
                    f"{seconds:.1f} s",
                )
            )
            print(*rows[-1], sep="; ", file=sys.stderr, flush=True)
            failures += [f"{name}, {figure.what}: {failure}" for failure in figure.failures]
    print(table(("battery", "what", "tried", "failed", "", "took"), rows, right=(2, 3, 5)))
    print(*failures, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
