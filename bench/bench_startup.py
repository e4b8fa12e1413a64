"""Seconds until something works: imports, the first training step, a cold compile, and the sine as a whole program.

    python bench/bench_startup.py [--quick] [--backend NAME] [--json FILE] [--markdown FILE]

Each figure comes from fresh processes, interleaved. "Import" and "first step" are read inside the process, the latter
after the import: building a 2-64-3 network and training it for one step on the spiral. "Cold" means with an empty
NNFAST_CACHE_DIR, "warm" after at least one run with the same one; a backend that compiles nothing has only one row.
Whole programs are timed from start to exit.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import machine
import numpy as np
import peers
from harness import backends, environment, options_of, parser, spread
from report import deliver

HERE = str(Path(__file__).parent)
CASE = "2-64-3, batch 300"
COMPILES_NOTHING = ("numpy",)
EPOCHS = 10_001  # of the sine, as in nnfast.examples.regression

IMPORT = "import time; begin = time.perf_counter(); import {package}; print(time.perf_counter() - begin)"
NNFAST = """
import time
import nnfast as nn
begin = time.perf_counter()
X, y = nn.datasets.spiral(100, 3, 0)
layers = [nn.Dense(2, 64), nn.ReLU(), nn.Dense(64, 3)]
model = nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.Adam(), backend={backend!r}, rng=0)
model.fit(X, y, epochs=1, verbose=0)
print(time.perf_counter() - begin)
"""
OTHER = """
import sys, time
sys.path.insert(0, {here!r})
from cases import case
made = case({case!r})
import {package}
begin = time.perf_counter()
from peers.{peer} import trainer
trained = trainer(made)
trained.prepare(1)
trained.run(1)
print(time.perf_counter() - begin)
"""
BOOK = """
import sys
sys.path.insert(0, {here!r})
from cases import case
from peers.book import trainer
trainer(case("1-64-64-1, batch 1000")).run({epochs})
"""


class Start(NamedTuple):
    """A kind of fresh process."""

    what: str
    title: str
    command: tuple[str, ...]
    cache: str = ""  # "warm" or "cold" where nnfast compiles something
    whole: bool = False  # timed from outside, from start to exit
    rounds: int = 1000  # at most: fewer where one takes long


def starts(ours: Sequence[str], others: Sequence[str], epochs: int) -> list[Start]:
    """All that is started: imports, first steps, whole programs."""
    found = [Start("import", name, _code(IMPORT, package=name)) for name in ("numpy", "nnfast")]
    libraries = [(name, package) for name, (_, package) in peers.PEERS.items() if name in others and name != "book"]
    present = [(name, package) for name, package in libraries if peers.missing(package) is None]
    for package in dict.fromkeys(package for _, package in present):
        found.append(Start("import", package, _code(IMPORT, package=package)))
    for backend in ours:
        code, title, what = _code(NNFAST, backend=backend), f"nnfast, {backend}", "first step after the import"
        if backend in COMPILES_NOTHING:
            found.append(Start(what, title, code))
        else:
            found.append(Start(what, f"{title}, warm", code, "warm"))
            found.append(Start(what, f"{title}, cold", code, "cold", rounds=3))
    for name, package in present:
        code = _code(OTHER, here=HERE, case=CASE, package=package, peer=name)
        found.append(Start("first step after the import", peers.TITLES[name], code, rounds=3))
    what = f"the sine, {epochs:,} epochs, whole program"
    for backend in ours:
        module = "nnfast.examples.regression"
        program = (sys.executable, "-m", module, "--backend", backend, "--epochs", str(epochs))
        cache = "" if backend in COMPILES_NOTHING else "warm"
        found.append(Start(what, f"nnfast, {backend}", program, cache, whole=True, rounds=3))
    if "book" in others:
        code = _code(BOOK, here=HERE, epochs=epochs)
        found.append(Start(what, "the book's NumPy, training only", code, whole=True, rounds=1))
    return found


def _code(template: str, **values: Any) -> tuple[str, ...]:
    return sys.executable, "-c", template.format(**values)


def seconds(start: Start, threads: int, warm: str) -> float:
    """Run one process; what it printed, or how long it took."""
    with tempfile.TemporaryDirectory(prefix="nnfast-bench-") as empty:
        folder = empty if start.cache == "cold" else warm
        extra = {"NNFAST_CACHE_DIR": folder, "TORCHINDUCTOR_CACHE_DIR": f"{empty}/inductor"}
        begin = time.perf_counter()
        done = subprocess.run(start.command, env=environment(threads, **extra), capture_output=True, text=True)
        elapsed = time.perf_counter() - begin
    if done.returncode != 0:
        raise SystemExit(f"{start.what}, {start.title}: {done.stderr.strip()}")
    return elapsed if start.whole else float(done.stdout)


def main(argv: Sequence[str] | None = None) -> int:
    p = parser("Seconds until something works, from fresh processes.", rounds=11, seconds=0)
    p.add_argument("--peer", action="append", choices=peers.PEERS, help="one of several (default: all)")
    options = options_of(p, argv)
    if options.quick:
        options.rounds = 1
    facts = machine.facts(options.threads)
    kinds = starts(backends(options.backend), options.peer or list(peers.PEERS), 11 if options.quick else EPOCHS)
    values: dict[Start, list[float]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory(prefix="nnfast-bench-") as warm:
        for kind in kinds:
            if kind.cache == "warm" or not (kind.cache or kind.whole or options.quick):
                seconds(kind, options.threads, warm)  # fills the caches: nnfast's, and that of the disk
        for r in range(options.rounds):
            for kind in kinds:
                if r < kind.rounds:
                    values[kind].append(seconds(kind, options.threads, warm))
                    print(f"{kind.what}, {kind.title}: {values[kind][-1]:.3f} s", file=sys.stderr)
    rows = [
        {
            "what": kind.what,
            "title": kind.title,
            "nnfast": kind.title.startswith("nnfast"),
            "seconds": spread(np.array(v)),
            "rounds": v,
        }
        for kind, v in values.items()
    ]
    skipped = {title: reason for title, package in peers.PEERS.values() if (reason := peers.missing(package))}
    record = {"bench": "startup", "machine": facts, "skipped": skipped, "rows": rows, "quick": options.quick}
    deliver(record | {"settings": vars(options)}, options.json, options.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
