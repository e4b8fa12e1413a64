"""Random search in mode "sample", where no candidate depends on another: a job's candidates over several threads.

Each thread runs the same program on a range of the candidates, with buffers of its own, and keeps the best of its
range. Put together in order, that is what one thread would have found, to the bit, because a candidate's numbers follow
from its own number.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.protocol import Buffers, Job, Result, num_threads

from .memory import share_bounds
from .team import TEAM

if TYPE_CHECKING:
    from nnfast.protocol import Program

    from .runner import NumbaRunner

__all__ = ["SplitSearch", "is_independent"]

FEWEST = 64  # candidates for each thread, so that waking it is worth its while


def is_independent(program: Program) -> bool:
    """Whether the program draws every candidate afresh."""
    return any(op.name == "random_search_propose" and ("mode", "sample") in op.attributes for op in program.ops)


class SplitSearch:
    """The runners of the other threads, and how their finds are put together."""

    def __init__(self, runner: NumbaRunner) -> None:
        self._first = runner
        self._others: list[tuple[NumbaRunner, Buffers]] = []

    def run(self, job: Job) -> Result | None:
        """The whole job, or None where it is too small to be split."""
        threads = num_threads()
        if threads == 1 or job.steps < threads * FEWEST:
            return None
        ranges = [bounds for bounds in share_bounds(job.steps, threads, 1) if bounds[0] < bounds[1]]
        threads = len(ranges)  # with very many threads the last ones can be left with nothing
        jobs = [self._part(job, t, *bounds) for t, bounds in enumerate(ranges)]
        runners = [self._first, *(runner for runner, _ in self._others)]
        results: list[Any] = [None] * threads

        def search(t: int) -> None:
            results[t] = runners[t].run_alone(jobs[t])

        try:
            with TEAM.lend(threads) as crew:
                if crew.size == threads:
                    crew.run(search)
                else:
                    for t in range(threads):
                        search(t)
        finally:  # Ctrl-C is heard when the threads are done, or, alone, after a range: what follows on is whole
            whole = list(itertools.takewhile(lambda r: r is not None, results))
            job.done = sum(part.steps for part in jobs[: len(whole)])
            result = self._merge(job, jobs[: len(whole)], whole) if whole else None
        return result

    def _part(self, job: Job, t: int, low: int, high: int) -> Job:
        """The candidates low … high − 1 as a job of its own; all but the first have their own buffers."""
        buffers = job.buffers
        if t:
            if len(self._others) < t:
                self._others.append((self._first.twin(), _copies(self._first, buffers)))
            buffers = self._others[t - 1][1]
            for own, theirs in zip(_arrays(buffers), _arrays(job.buffers), strict=True):
                own[...] = theirs
        lists: dict[str, Any] = {name: getattr(job, name) for name in ("learning_rates", "normalisers", "first_rows")}
        cut: dict[str, Any] = {name: None if values is None else values[low:high] for name, values in lists.items()}
        return replace(job, buffers=buffers, steps=high - low, first_step=job.first_step + low, done=0, **cut)

    def _merge(self, job: Job, jobs: list[Job], results: list[Result]) -> Result:
        """What comes later counts only where it is better than all before."""
        best = np.array(job.buffers.state)
        rows = [results[0].sums]
        for part, result in zip(jobs[1:], results[1:], strict=True):
            normalisers = np.ones(part.steps) if part.normalisers is None else np.asarray(part.normalisers)
            found = result.sums[:, 0] / normalisers + result.sums[:, 1]
            better = found < best[0] / normalisers + best[1]
            rows.append(np.where(better[:, None], result.sums, best))
            if better[-1]:
                best = np.array(part.buffers.state)
                job.buffers.parameters[...] = part.buffers.parameters
        job.buffers.state[...] = best
        sums = np.concatenate(rows)
        finite = np.isfinite(sums[:, :2]).all(axis=1)
        return Result(sums, -1 if finite.all() else int(np.argmin(finite)))


def _arrays(buffers: Buffers) -> list[Any]:
    return [buffers.parameters, buffers.gradients, buffers.state, *buffers.slots.values()]


def _copies(runner: NumbaRunner, buffers: Buffers) -> Buffers:
    """Arrays like these, with undefined contents."""

    def like(a: Any) -> Any:
        return runner.backend.empty(a.shape, a.dtype)

    slots = {name: like(a) for name, a in buffers.slots.items()}
    return Buffers(like(buffers.parameters), like(buffers.gradients), slots, like(buffers.state))
