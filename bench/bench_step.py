"""Microseconds per training step: nnfast on each backend against the book's arithmetic in plain NumPy.

    python bench/bench_step.py [--quick] [--rounds N] [--backend NAME] [--json FILE] [--markdown FILE]

A step is forward, loss, accuracy, backward and Adam, in float32. nnfast is timed through `Model.fit` as everybody calls
it. Before anything is timed, each contender trains a few steps from the same weights and must end in the same place.
Rounds are interleaved, so that a machine that slows down slows all; a ratio is taken within each round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import nnfast as nn
from nnfast.text import table

sys.path.insert(0, str(Path(__file__).parent))

from peers import book

BOOK = "book"
BEGIN, END = "<!-- bench_step: begin -->", "<!-- bench_step: end -->"
RATE, DECAY = 0.001, 1e-3
CHECKED_STEPS = 10
# Adam divides by √v̂, so where a gradient is nothing but rounding, a step may be ±rate on either side; that is rare, so
# 99 % of the weights must be as close as float32 allows.
LARGEST, TYPICAL = 2 * RATE, 1e-6


@dataclass(frozen=True)
class Case:
    """A network, its data and its batches."""

    name: str
    widths: tuple[int, ...]
    X: Any
    y: Any
    batch_size: int

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.X) // self.batch_size)

    def model(self, backend: str) -> nn.Model:
        layers: list[nn.Layer] = []
        for i, o in zip(self.widths[:-1], self.widths[1:], strict=True):
            layers += [nn.Dense(i, o, "he_normal"), nn.ReLU()]
        adam = nn.Adam(RATE, decay=DECAY)
        return nn.Model(layers[:-1], nn.SoftmaxCrossEntropy(), adam, ["accuracy"], backend=backend, rng=0)


def cases() -> list[Case]:
    rng = np.random.default_rng(0)
    X, y = nn.datasets.spiral(100, 3, rng)
    made = [Case("spiral 2-64-3, batch 300", (2, 64, 3), X.astype(np.float32), y, 300)]
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        print("scikit-learn is not installed: the digits are left out (pip install nnfast[sklearn])", file=sys.stderr)
    else:
        images, labels = load_digits(return_X_y=True)
        rows = rng.permutation(len(images))[:1347]
        X, y = (images[rows] / 16).astype(np.float32), labels[rows].astype(np.uint8)
        made.append(Case("digits 64-128-64-10, batch 32", (64, 128, 64, 10), X, y, 32))
    X, y = rng.random((1280, 784), dtype=np.float32), rng.integers(0, 10, 1280).astype(np.uint8)
    made.append(Case("784-128-10, batch 128", (784, 128, 10), X, y, 128))
    return made


class Contender:
    """One of those compared, on one case, ready to train on and on."""

    def __init__(self, name: str, case: Case) -> None:
        self.name = name
        self.train, self.weights = _book(case) if name == BOOK else _nnfast(case, name)


def _book(case: Case) -> tuple[Callable[[int], None], Callable[[], list[Any]]]:
    network = book.Network(case.model("numpy").get_weights(), RATE, DECAY)
    return lambda epochs: book.train(network, case.X, case.y, epochs, case.batch_size), network.get_weights


def _nnfast(case: Case, backend: str) -> tuple[Callable[[int], None], Callable[[], list[Any]]]:
    model = case.model(backend)

    def train(epochs: int) -> None:
        model.fit(case.X, case.y, epochs=epochs, batch_size=case.batch_size, shuffle=False, verbose=0)

    return train, model.get_weights


def check(case: Case, names: Sequence[str]) -> float:
    """Train all a few steps from the same weights; their largest difference then, or an error if it is too large."""
    short = Case(case.name, case.widths, case.X[: 2 * case.batch_size], case.y[: 2 * case.batch_size], case.batch_size)
    ends = {}
    for name in names:
        contender = Contender(name, short)
        contender.train(CHECKED_STEPS // short.steps_per_epoch)
        ends[name] = np.concatenate([w.ravel() for w in contender.weights()]).astype(np.float64)
    apart = {name: np.abs(end - ends[BOOK]) for name, end in ends.items() if name != BOOK}
    for name, d in apart.items():
        if not (d.max() <= LARGEST and np.quantile(d, 0.99) <= TYPICAL):
            raise SystemExit(
                f"{case.name}: after {CHECKED_STEPS} steps {name} is {d.max():.1e} from the book (99 % within "
                f"{np.quantile(d, 0.99):.1e}); nothing was timed"
            )
    return float(max(d.max() for d in apart.values()))


def measure(case: Case, names: Sequence[str], rounds: int, seconds: float) -> dict[str, np.ndarray[Any, Any]]:
    """Microseconds per step of each contender in each round."""
    contenders = [Contender(name, case) for name in names]
    epochs = {}
    for c in contenders:
        c.train(1)  # compiles, and warms the caches
        begin = time.perf_counter()
        c.train(3)
        epochs[c.name] = max(3, round(3 * seconds / (time.perf_counter() - begin)))
    times: dict[str, list[float]] = {name: [] for name in names}
    for r in range(rounds):
        for c in contenders if r % 2 else reversed(contenders):  # neither is always the one that runs second
            begin = time.perf_counter()
            c.train(epochs[c.name])
            elapsed = time.perf_counter() - begin
            times[c.name].append(elapsed * 1e6 / (epochs[c.name] * case.steps_per_epoch))
    return {name: np.array(values) for name, values in times.items()}


def report(case: Case, times: dict[str, np.ndarray[Any, Any]]) -> tuple[list[list[str]], list[dict[str, Any]]]:
    """Rows for the table and for JSON: median and quartiles of the time, and of the ratio book/this per round."""
    rows, records = [], []
    for name, values in times.items():
        q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
        r1, ratio, r3 = np.quantile(times[BOOK] / values, [0.25, 0.5, 0.75])
        label = "the book's NumPy" if name == BOOK else f"nnfast, {name}"
        faster = "" if name == BOOK else f"{ratio:.2f}x ({r1:.2f} to {r3:.2f})"
        rows.append([case.name if name == BOOK else "", label, f"{median:.0f}", f"{q1:.0f} to {q3:.0f}", faster])
        records.append({
            "case": case.name,
            "contender": name,
            "microseconds_per_step": {"median": median, "q1": q1, "q3": q3},
            "book_over_this": {"median": ratio, "q1": r1, "q3": r3},
            "rounds": values.tolist(),
        })  # fmt: skip
    return rows, records


def machine() -> dict[str, Any]:
    """What the figures stand on."""
    from nnfast.cli import _facts

    facts = _facts()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {k: facts[k] for k in ("nnfast", "python", "numpy", "platform", "processor", "cpus", "blas")} | {
        "load before": load,
        "time": time.strftime("%Y-%m-%d %H:%M"),
        "machine": platform.machine(),
    }


def write_markdown(file: Path, facts: dict[str, Any], rows: list[list[str]]) -> None:
    """Put the table between the markers of a Markdown file, in the place of the one before."""
    lines = ["| network | who | µs/step | quartiles | book/this (quartiles) |", "|---|---|--:|--:|--:|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    stands_on = ", ".join(
        f"{name} {facts[name]}" for name in ("nnfast", "python", "numpy", "processor", "cpus", "blas")
    )
    before, rest = file.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    body = "\n".join([*lines, "", f"{stands_on}; {facts['time'].partition(' ')[0]}."])
    file.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Microseconds per training step, nnfast against the book's NumPy.")
    parser.add_argument("--backend", action="append", metavar="NAME", help="one of several (default: all that work)")
    parser.add_argument("--rounds", type=int, default=21, metavar="N", help="interleaved rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.2, help="per contender and round (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="5 rounds of 0.05 s: does it run?")
    parser.add_argument("--markdown", metavar="FILE", help="write the table between the markers of this file")
    parser.add_argument("--json", metavar="FILE", help="write everything measured into this file")
    options = parser.parse_args(argv)
    rounds, seconds = (5, 0.05) if options.quick else (options.rounds, options.seconds)
    backends = options.backend or [name for name, works in nn.available_backends().items() if works]
    names = [BOOK, *backends]

    facts = machine()
    print("\n".join(f"{name:12} {value}" for name, value in facts.items()), end="\n\n")
    rows, records = [], []
    for case in cases():
        apart = check(case, names)
        print(f"{case.name}: after {CHECKED_STEPS} steps within {apart:.1e} of the book's weights", file=sys.stderr)
        case_rows, case_records = report(case, measure(case, names, rounds, seconds))
        rows += case_rows
        records += case_records
    print(table(["network", "who", "µs/step", "quartiles", "book/this (quartiles)"], rows, right=(2,)))
    print(f"\n{rounds} interleaved rounds of about {seconds:g} s each; median and quartiles; more than 1x is faster.")
    if options.markdown:
        write_markdown(Path(options.markdown), facts, rows)
    if options.json:
        text = json.dumps({"machine": facts, "steps": records}, indent=2)
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
