"""How everything here is timed: one process per contender, interleaved rounds, medians and ratios within rounds.

Each contender lives in a process of its own, so that no library's thread pool, allocator or import disturbs another.
The parent asks them in turn, with a pause after each in which spinning threads go to sleep; the CPU time that a
contender burns while it is not its turn is measured too. A machine that slows down slows all in the same round.
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nnfast.threads import cpu_count

__all__ = [
    "Failed",
    "Worker",
    "Workers",
    "allowed_cpus",
    "backends",
    "environment",
    "fresh_caches",
    "measure",
    "options_of",
    "parser",
    "spread",
]

Array = np.ndarray[Any, Any]

PAUSE = 0.15  # seconds; threads of OpenMP and OpenBLAS spin for a while before they sleep
SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class Failed(Exception):
    """A contender could not do what it was asked."""


def parser(description: str, rounds: int, seconds: float) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    p = argparse.ArgumentParser(description=description)
    p.add_argument(
        "--backend", action="append", metavar="NAME", help="one of several of nnfast's (default: all that work)"
    )
    p.add_argument(
        "--threads", type=int, default=min(2, cpu_count()), metavar="N", help="of everybody (default: %(default)s)"
    )
    p.add_argument("--rounds", type=int, default=rounds, metavar="N", help="interleaved rounds (default: %(default)s)")
    p.add_argument("--seconds", type=float, default=seconds, help="per contender and round (default: %(default)s)")
    p.add_argument("--quick", action="store_true", help="a few short rounds: does it run?")
    p.add_argument("--markdown", metavar="FILE", help="write the table between its markers of this file")
    p.add_argument("--json", metavar="FILE", help="write everything measured into this file")
    return p


def options_of(p: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    options = p.parse_args(argv)
    if options.threads < 1 or options.threads > cpu_count():
        p.error(f"--threads {options.threads}: this process may use {cpu_count()} CPUs")
    if options.quick:
        options.rounds, options.seconds = 3, 0.02
    return options


def backends(asked: list[str] | None) -> list[str]:
    """The backends of nnfast to measure: those asked for, else all that work here on the CPU."""
    import nnfast as nn

    return asked or [
        name for name, works in nn.available_backends().items() if works and nn.get_backend(name).device == "cpu"
    ]


def allowed_cpus(threads: int) -> list[int]:
    """The CPUs that every contender is held to, as many as it has threads; empty where that cannot be set."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    return sorted(os.sched_getaffinity(0))[:threads]


def environment(threads: int, **extra: str) -> dict[str, str]:
    """The environment of a contender: the same number of threads for every library that reads it there."""
    return os.environ | {name: str(threads) for name in SETTINGS} | extra


@contextmanager
def fresh_caches() -> Iterator[dict[str, str]]:
    """Empty folders for what the compilers keep on disk: what one run measures must not depend on the one before."""
    with tempfile.TemporaryDirectory(prefix="nnfast-bench-") as folder:
        yield {"NNFAST_CACHE_DIR": f"{folder}/nnfast", "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor"}


class Worker:
    """The parent's end of a contender. Every request may raise Failed, with the contender's own words."""

    def __init__(self, threads: int, **extra: str) -> None:
        cpus = ",".join(map(str, allowed_cpus(threads)))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process that writes to it
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py")), cpus],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(threads, **extra),
        )
        self.idle_seconds = 0.0  # CPU time burnt between its turns

    def ask(self, request: str, *args: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump((request, args), self._process.stdin)
            self._process.stdin.flush()
            worked, answer = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError) as error:
            raise Failed(f"its process ended with status {self._process.wait()}: {self._last_words()}") from error
        if not worked:
            raise Failed(answer)
        return answer

    def make(self, module: str, function: str, *args: Any) -> tuple[float, float]:
        imports, making = self.ask("make", module, function, *args)
        return imports, making

    def run(self, count: int) -> float:
        seconds, idle = self.ask("run", count)
        self.idle_seconds += idle
        return float(seconds)

    def results(self) -> list[Array]:
        answer: list[Array] = self.ask("results")
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


class Workers:
    """`with Workers(threads) as workers:` starts contenders on demand and ends them all."""

    def __init__(self, threads: int, extra: Mapping[str, str]) -> None:
        self._threads, self._extra = threads, extra
        self._all: list[Worker] = []

    def start(self) -> Worker:
        worker = Worker(self._threads, **self._extra)
        self._all.append(worker)
        return worker

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._all:
            worker.close()


def calibrate(worker: Worker, seconds: float) -> int:
    """How often it runs in about this time."""
    worker.run(1)  # compiles, where something is left to compile, and warms the caches
    count, taken = 1, worker.run(1)
    while taken < seconds / 4:
        count *= 4
        taken = worker.run(count)
    return max(1, round(count * seconds / taken))


def measure(workers: dict[str, Worker], rounds: int, seconds: float) -> dict[str, Array]:
    """Seconds per run of each contender in each round."""
    counts = {name: calibrate(worker, seconds) for name, worker in workers.items()}
    for worker in workers.values():
        worker.run(1)
        worker.idle_seconds = 0.0
    times: dict[str, list[float]] = {name: [] for name in workers}
    for r in range(rounds + 1):
        turn = list(workers) if r % 2 else list(reversed(workers))  # neither is always the one that runs second
        for name in turn:
            time.sleep(PAUSE)
            taken = workers[name].run(counts[name])
            if r > 0:  # the first round is not kept: a new count may compile something
                times[name].append(taken / counts[name])
    return {name: np.array(values) for name, values in times.items()}


def spread(values: Array) -> dict[str, float]:
    """Median and quartiles."""
    q1, median, q3 = (float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))
    return {"median": median, "q1": q1, "q3": q3}
