"""Threads and processes: whoever trains at the same time, wherever, ends with the bits of one who trains alone.

All of it in processes of their own, under a watchdog: a hang is a failure, with the stack of each thread in its text.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from pathlib import Path

import pytest

from batteries import Figure
from batteries.trainees import PATIENCE, THREADS, Trainees

pytest.importorskip("numba")

SEEDS = list(range(8))
LAYERS = ("workqueue", "omp", "tbb")
FORKS = ("after the import", "after a kernel", "while another thread trains")
AT_MOST = 20  # repeats in one process, whose watchdog gives it a minute


def battery(thorough):
    repeats, children = (100, 20) if thorough else (2, 4)
    with tempfile.TemporaryDirectory() as folder:
        ground = Ground(Path(folder))
        yield ground.first_compilation(16, 25 if thorough else 1)
        yield ground.together(repeats)
        yield ground.asked(8, 10 * repeats)
        yield ground.trained_while_asked(4, repeats)
        yield ground.fitted_twice(10 * repeats)
        if hasattr(os, "sched_setaffinity"):
            yield ground.on_one_cpu(repeats)
        if hasattr(os, "fork"):
            for when in FORKS:
                yield ground.children(f"forks {when}", children, "forks", when=when, more=when == FORKS[-1])
            yield ground.beside_numba(children)
        for method in ("spawn", "forkserver"):
            if method in multiprocessing.get_all_start_methods():
                yield ground.children(f"processes of {method}", children, "processes", method=method)


class Ground:
    """Processes that share one cache, and how trainings end that run one after the other."""

    def __init__(self, folder):
        self._folder, self._trainees = folder, Trainees(folder)
        self._cache = folder / "cache"
        self._alone = {}

    def ask(self, module, function, **given):
        return self._trainees.ask(module, function, cache=self._cache, **given)

    def in_parts(self, function, repeats, expected, **given):
        """What went wrong in so many repeats, some in each process, of what should end so each time."""
        failures = []
        for done in range(0, repeats, AT_MOST):
            some = min(AT_MOST, repeats - done)
            failures += compare(self.ask("trainee_threads", function, repeats=some, **given), expected * some)
        return failures

    def ends(self, seeds, threads=THREADS):
        """Those of trainings one after the other, each of so many threads."""
        if threads not in self._alone:
            answer = self.ask("trainee_threads", "alone", seeds=SEEDS, NNFAST_NUM_THREADS=threads)
            assert not answer.trouble, answer.trouble
            assert len(set(answer.value)) == len(SEEDS), "seeds end alike: nothing could be told from their ends"
            self._alone[threads] = answer.value
        return [self._alone[threads][seed] for seed in seeds]

    # ---- threads ----------------------------------------------------------------------------------------------------

    def first_compilation(self, threads, repeats):
        """From an empty cache; each function is compiled once, whoever asks first. The last cache is kept."""
        seeds, failures, written = [i % len(SEEDS) for i in range(threads)], [], 0
        for i in range(repeats):
            self._cache = self._folder / f"cache {i}"
            answer = self.ask("trainee_threads", "together", seeds=seeds, seconds=PATIENCE)
            failures += compare(answer, self.ends(seeds))
            written = len(list((self._cache / "numba").iterdir()))
            if not answer.trouble and (answer.compiled != written or not written):
                failures.append(f"{answer.compiled} functions were compiled, and {written} files were written")
        what = f"{threads} threads at the first compilation"
        return Figure(what, threads * repeats, tuple(failures), f"{written} functions")

    def together(self, repeats):
        failures = self.in_parts("together", repeats, self.ends(SEEDS), seeds=SEEDS)
        return Figure(f"{len(SEEDS)} trainings of 200 steps at once", len(SEEDS) * repeats, tuple(failures))

    def asked(self, threads, repeats):
        failures = self.in_parts("asked", repeats, [0], threads=threads)
        return Figure(f"one model asked by {threads} threads at once", threads * repeats, tuple(failures))

    def trained_while_asked(self, threads, repeats):
        failures = self.in_parts("trained_while_asked", repeats, self.ends([0]), threads=threads)
        return Figure(f"one model trained while {threads} threads ask it", repeats, tuple(failures))

    def fitted_twice(self, repeats):
        failures = self.in_parts("fitted_twice", repeats, [""])
        return Figure("one model fitted by two threads at once", repeats, tuple(failures))

    def on_one_cpu(self, repeats):
        failures, seeds, counts = [], SEEDS[:2], (1, 2, 4, 8)
        for threads in counts:
            expected = self.ends(seeds, threads)
            found = self.in_parts("pinned", repeats, expected, seeds=seeds, NNFAST_NUM_THREADS=threads)
            failures += [f"{threads} threads: {failure}" for failure in found]
        what = "trainings of 1, 2, 4, 8 threads on one CPU"
        return Figure(what, len(seeds) * len(counts) * repeats, tuple(failures))

    # ---- processes --------------------------------------------------------------------------------------------------

    def children(self, what, count, function, more=False, **given):
        """Each child trains with seed 0; with `more` one end is that of the trainings in the parent meanwhile."""
        answer = self.ask("trainee_processes", function, children=count, **given)
        return Figure(what, count, tuple(compare(answer, self.ends([0]) * (count + more))))

    def beside_numba(self, count):
        """Each layer of Numba's threads that is here: trainings, then forks, beside a parallel kernel."""
        failures, said, tried = [], [], 0
        for layer in LAYERS:
            given = {"children": count, "seeds": SEEDS, "NUMBA_THREADING_LAYER": layer}
            answer = self.ask("trainee_processes", "beside_numba", **given)
            if answer.value == "missing":
                said.append(f"no {layer} here")
                continue
            expected = [layer, *self.ends(SEEDS), *self.ends([0]) * (count + 1)]
            failures += [f"{layer}: {failure}" for failure in compare(answer, expected)]
            said.append(layer)
            tried += len(SEEDS) + count
        return Figure("beside Numba's own threads", tried, tuple(failures), ", ".join(said))


def compare(answer, expected):
    """A line for each item of the answer that is another; one where there is no such answer."""
    if answer.trouble:
        return [answer.trouble]
    if len(answer.value) != len(expected):
        return [f"{len(answer.value)} answers where {len(expected)} were expected: {answer.value}"]
    pairs = enumerate(zip(answer.value, expected, strict=True))
    return [f"number {i}: {found} instead of {right}" for i, (found, right) in pairs if found != right]
