"""One contender in a process of its own: makes it, runs it, times it, and sleeps until it is asked again.

    python bench/measuring/contender.py CPUS      (CPUS as in "0,1": those it may run on; "" for all)

Started by `workers.Worker`, which sends pickled requests to stdin and reads pickled answers from stdout. The clock
runs here, so the way through the pipe is in no figure.
"""

from __future__ import annotations

import importlib
import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parent.parent)  # bench/, where the contenders are


class Contender:
    """What the requests call. A subject has `prepare(count)` (not timed), `run(count)` and `results()`."""

    def __init__(self) -> None:
        self.subject: Any = None
        self.rest()

    def rest(self) -> None:
        """The last answer went out: from now on it should sleep."""
        self.rested = time.process_time()  # CPU time of all threads

    def burnt(self) -> float:
        """CPU seconds since the last answer."""
        return time.process_time() - self.rested

    def load(self, module: str) -> None:
        """Import what the subjects of a module need."""
        importlib.import_module(module)

    def make(self, module: str, function: str, *args: Any) -> tuple[float, float]:
        """Build a subject; seconds for its imports, and for building it."""
        begin = time.perf_counter()
        maker = getattr(importlib.import_module(module), function)
        imported = time.perf_counter()
        self.subject = maker(*args)
        return imported - begin, time.perf_counter() - imported

    def run(self, count: int, warm: int = 0) -> float:
        """Run the subject `count` times, after `warm` times off the clock; seconds for the former."""
        if warm:
            self.subject.prepare(warm)
            self.subject.run(warm)
        self.subject.prepare(count)
        begin = time.perf_counter()
        self.subject.run(count)
        return time.perf_counter() - begin

    def results(self) -> Any:
        return self.subject.results()

    def latencies(self, count: int) -> Any:
        """Seconds of each of so many single calls."""
        return self.subject.latencies(count)

    def probe(self, module: str, function: str, *args: Any) -> Any:
        """Call a function with the subject."""
        return getattr(importlib.import_module(module), function)(self.subject, *args)

    def call(self, module: str, function: str, *args: Any) -> Any:
        return getattr(importlib.import_module(module), function)(*args)


def main() -> None:
    cpus = [int(cpu) for cpu in sys.argv[1].split(",") if cpu]
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus)  # before any library counts them
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not end up among the answers
    contender = Contender()
    while True:
        try:
            name, args = pickle.load(requests)
        except EOFError:
            return
        try:
            answer = (True, getattr(contender, name)(*args))
        except Exception as error:  # anything at all may go wrong in somebody else's library; the parent decides
            answer = (False, f"{type(error).__name__}: {error}")
        pickle.dump(answer, answers)
        answers.flush()
        contender.rest()


if __name__ == "__main__":
    main()
