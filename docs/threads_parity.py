"""For docs/own-backend.md: the backend's source, what the parity kit says of it, and how long its ops take.

python docs/threads_parity.py source|parity|times
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import numpy as np
from threads_backend import ThreadsBackend
from timing import best_of_rounds, duration, machine

import nnfast as nn
from nnfast.testing import check_backend
from nnfast.text import table

SOURCE = Path(__file__).with_name("threads_backend.py")


def source() -> None:
    print(SOURCE.read_text(encoding="utf-8"))


def parity() -> None:
    report = check_backend(ThreadsBackend(least=256), cases=20, dtypes=["float32"])
    lines = str(report).split("\n")
    shown = ("dense ", "dropout ", "softmax_cross_entropy ", "penalty ", "adam_step ", "random_search_propose ")
    print("\n".join([*lines[:2], *(line for line in lines[2:] if line.startswith(shown)), "..."]))
    print(f"{len(report.rows)} rows, {sum(row.cases for row in report.rows):,} cases; {lines[-1].partition('; ')[2]}")
    if not report.passed:
        raise SystemExit(str(report))


def times() -> None:
    rng = np.random.default_rng(0)
    X, parameters = rng.standard_normal((4096, 512), np.float32), rng.random((4, 2_000_000), np.float32)
    z, labels = rng.standard_normal((4096, 100), np.float32), rng.integers(0, 100, 4096)
    works = {
        "tanh, 4096×512": lambda who: nn.functional.tanh(X, backend=who),
        "GELU, 4096×512": lambda who: nn.functional.gelu(X, backend=who),
        "dropout, 4096×512": lambda who: nn.functional.dropout(X, rate=0.2, key=1, backend=who),
        "softmax cross-entropy, 4096×100": lambda who: nn.functional.softmax_cross_entropy(z, labels, backend=who),
        "Adam, 2 million": lambda who: nn.functional.adam_step(*parameters, step=1, learning_rate=1e-3, backend=who),
    }
    mine, rows = ThreadsBackend(), []
    for name, work in works.items():
        backends = {"numpy": "numpy", "threads": mine, "numba": "numba"}
        calls = {title: functools.partial(work, who) for title, who in backends.items()}
        seconds = best_of_rounds(calls)
        ratio = f"{seconds['threads'] / seconds['numpy']:.2f}"
        rows.append([name, *map(duration, seconds.values()), ratio])
    print(table(["op", "numpy", "threads", "numba", "threads/numpy"], rows, right=(1, 2, 3, 4)))
    print(f"\nBest of several rounds on {machine()}")


if __name__ == "__main__":
    {"source": source, "parity": parity, "times": times}[sys.argv[1]]()
