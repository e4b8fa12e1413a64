"""What the scripts of this folder share: times that stand a busy machine, and what they were measured on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import nnfast as nn
from nnfast.commands.machine import machine_facts
from nnfast.profiling.report import duration

__all__ = ["best_of_rounds", "duration", "machine"]

ROUNDS = 7
AT_LEAST = 0.03  # seconds of a round


def best_of_rounds(calls: Mapping[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds per call of each, the best of several rounds, in which all have their turn one after the other."""
    repeats = {}
    for name, call in calls.items():
        call()  # what has to be compiled is compiled here
        begin = time.perf_counter()
        call()
        repeats[name] = max(1, round(AT_LEAST / (time.perf_counter() - begin)))
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            best[name] = min(best[name], (time.perf_counter() - begin) / repeats[name])
    return best


def machine() -> str:
    """What the times stand on."""
    processor, threads = machine_facts()["processor"], nn.get_num_threads()
    versions = f"nnfast {nn.__version__}, NumPy {np.__version__}"
    return f"{processor}; {threads} thread{'s' * (threads != 1)}; {versions}"
