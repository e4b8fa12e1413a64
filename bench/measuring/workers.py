"""The parent's end of contenders: a process each, so that no library disturbs another with its threads or imports.

All have the same processors and the same number of threads.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "Failed",
    "Worker",
    "Workers",
    "allowed_cpus",
    "caches_in",
    "environment",
]

Array = np.ndarray[Any, Any]

SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


# OpenBLAS's threads spin for 2^n cycles after each product: 8 ms, longer than any pause within a step. By default n is
# 28, and everybody would wait for 110 ms after each turn of theirs.
OPENBLAS_SPIN = {"OPENBLAS_THREAD_TIMEOUT": "24"}
LONGEST_SPIN = 0.3  # seconds; OpenMP was seen to spin for 0.01
SHORTEST_LOOK, LOOK = 0.003, 0.01  # seconds that one looks
SPINNING = 0.2  # of that time, in which the processor was busy


class Failed(Exception):
    """A contender could not do what it was asked."""


def allowed_cpus(threads: int) -> list[int]:
    """The CPUs that every contender is held to, as many as it has threads; empty where that cannot be set."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    return sorted(os.sched_getaffinity(0))[:threads]


def environment(threads: int, **extra: str) -> dict[str, str]:
    """The environment of a contender: the same number of threads for every library that reads it there.

    Python keeps byte code, as it does unless it is told otherwise: else what is not installed would start slower.
    """
    same = {name: str(threads) for name in SETTINGS} | {"KERAS_BACKEND": "jax", "PYTHONDONTWRITEBYTECODE": ""}
    return os.environ | same | OPENBLAS_SPIN | extra


def caches_in(folder: str) -> dict[str, str]:
    """Settings that make compilers keep what they made in this folder."""
    return {
        "NNFAST_CACHE_DIR": f"{folder}/nnfast",
        "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor",
        "CACHEDB": f"{folder}/tinygrad.db",
    }


class Worker:
    """The parent's end of a contender. Every request may raise Failed, with the contender's own words."""

    def __init__(self, threads: int, **extra: str) -> None:
        cpus = ",".join(map(str, allowed_cpus(threads)))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process that writes to it
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("contender.py")), cpus],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(threads, **extra),
        )

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

    def run(self, count: int, warm: int = 0) -> float:
        """Seconds that `count` runs take, after `warm` more that are not timed."""
        return float(self.ask("run", count, warm))

    def settle(self) -> None:
        """Wait until its threads sleep: those of OpenMP and OpenBLAS spin for a while when they have nothing to do."""
        until, step = time.monotonic() + LONGEST_SPIN, SHORTEST_LOOK
        while time.monotonic() < until:
            time.sleep(step)
            if self.ask("burnt") < SPINNING * step:
                return
            step = LOOK

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
