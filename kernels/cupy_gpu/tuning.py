"""What only a measurement can decide, and the file in which the answers are kept.

    store = Store("NVIDIA H200", lt.version)
    tuner = Tuner(store, timer, precision="tf32", prepare=prepare, supports=supports)
    emitter = Emitter(dtype, policy=tuner)                          # asks `joins` while ops are emitted
    algorithm = tuner.algorithm(matmul, lambda a: matmul.run(a, workspace, stream))   # where a product is bound

The caller hands in what needs a GPU:

- `timer(work)` runs what it is given as often as it likes and returns the seconds of one run, as exactly as it can:
  between two events, say, with ten runs in between. `work` is a function without arguments, or what `prepare` made.
- `prepare(calls)` makes such a function of emitted calls. It is told no scratch memory yet (`Emitter.place_scratch`
  comes later), and may ask `algorithm` for the products among them. Without it the timer gets the calls themselves.
- `supports(product)`: whether the library can do a product with an epilogue. What it cannot do is never measured.

What runs on trial is the real work on the real arrays, in any order and several times; outputs are written, no more.
A trial that raises is out of the race; if all are, the last error is raised.

Without a timer, or with NNFAST_GPU_TUNING=0, nothing is measured and nothing remembered is used: the library's first
proposal, and separate calls. The results are then the same in every process. Otherwise they are the same as long as
the file is; a process that measures anew may choose another algorithm, which sums in another order.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .cublaslt import WORKSPACE, Algorithm, CublasLtError, product_key
from .emitter import Call, Product
from .tuning_store import Store

__all__ = ["Store", "Tunable", "Tuner", "fastest", "proposals"]

ROUNDS = 9  # in which each candidate that is still in the race has one turn
FEWEST = 3  # rounds before anything is decided
BEHIND = 1.05  # whose best time is worse than the leader's median by this is out
TIE = 1.02  # and within this the first candidate wins, so that noise seldom decides

NOT_SUPPORTED = 15  # a status of cublasLt

Work = Callable[[], object]


class Tunable(Protocol):
    """A product as the tuner sees it: `cublaslt.Matmul`."""

    key: str

    def algorithms(self, limit: int = 8, workspace: int = WORKSPACE) -> Sequence[Algorithm]: ...


class Tuner:
    """The policy that measures. `precision` is that of the products, "fp32" or "tf32"; it belongs to their keys."""

    def __init__(
        self,
        store: Store,
        timer: Callable[[Any], float] | None = None,
        *,
        precision: str = "fp32",
        prepare: Callable[[Sequence[Call]], Work] | None = None,
        supports: Callable[[Product], bool] | None = None,
    ) -> None:
        self._store = store
        self._timer = timer if os.environ.get("NNFAST_GPU_TUNING") != "0" else None
        self._precision = precision
        self._prepare = prepare or _as_they_are
        self._supports = supports or (lambda product: True)

    def joins(self, joined: Sequence[Call], separate: Sequence[Call]) -> bool:
        """Whether the same work runs faster as `joined` than as `separate`."""
        products = [call for call in joined if isinstance(call, Product)]
        if self._timer is None or not products or any(map(_is_empty, products)):
            return False
        key = " | ".join("; ".join(self._words(call) for call in calls) for calls in (joined, separate))
        answer = self._store.join(key)
        if answer is False or not all(product.epilogue == "" or self._supports(product) for product in products):
            return False
        if answer is None:
            trials = [lambda calls=calls: self._prepare(calls) for calls in (separate, joined)]
            try:
                answer = fastest(trials, self._timer) == 1
            except Exception:  # neither could be tried; what runs separately needs the least
                return False
            self._store.keep_join(key, answer)
        return answer

    def algorithm(
        self, matmul: Tunable, run: Callable[[Algorithm], object] | None = None, *, workspace: int = WORKSPACE
    ) -> Algorithm:
        """The algorithm for a product: `run(algorithm)` runs it once, with at most so many bytes of workspace."""
        candidates = proposals(matmul, workspace)
        if len(candidates) == 1 or run is None or self._timer is None:
            return candidates[0]
        kept = self._store.algorithm(matmul.key)
        for candidate in candidates:  # no other bytes than the library's own of today are ever handed to it
            if candidate.data == kept:
                return candidate
        trials = [lambda candidate=candidate: lambda: run(candidate) for candidate in candidates]
        best = candidates[fastest(trials, self._timer)]
        self._store.keep_algorithm(matmul.key, best.data)
        return best

    def _words(self, call: Call) -> str:
        if isinstance(call, Product):
            return product_key(call, self._precision)
        return f"{call.kernel} {call.blocks[0]}x{call.blocks[1]}"


def proposals(matmul: Tunable, workspace: int = WORKSPACE) -> Sequence[Algorithm]:
    """The library's algorithms for a product, its first choice first; at least one."""
    found = matmul.algorithms(workspace=workspace)
    if not found:
        raise CublasLtError("cublasLtMatmulAlgoGetHeuristic", NOT_SUPPORTED, f"no algorithm for {matmul.key}")
    return found


def _as_they_are(calls: Sequence[Call]) -> Any:
    return calls


def _is_empty(product: Product) -> bool:
    return 0 in (product.a.size, product.b.size, product.c.size)


def fastest(trials: Sequence[Callable[[], Any]], timer: Callable[[Any], float]) -> int:
    """Which of them is the fastest; each, when called, makes the work that the timer is given.

    After a turn to warm up, all that are still in the race have one turn per round, in alternating order.
    """
    works: dict[int, Any] = {}
    error: Exception | None = None
    for i, trial in enumerate(trials):
        try:
            work = trial()
            timer(work)
            works[i] = work
        except Exception as its:  # too little memory for its workspace, a capture that fails: out of the race
            error = its
    times: dict[int, list[float]] = {i: [] for i in works}
    for done in range(1, ROUNDS + 1):
        if len(times) <= 1:
            break
        for i in sorted(times, reverse=done % 2 == 0):
            try:
                times[i].append(_checked(timer(works[i])))
            except Exception as its:
                error = its
                del times[i]
        if done >= FEWEST and times:
            limit = BEHIND * min(map(statistics.median, times.values()))
            times = {i: seconds for i, seconds in times.items() if min(seconds) <= limit}
    if not times:
        raise error or ValueError("there is nothing to choose from")
    if len(times) == 1:
        return next(iter(times))
    medians = {i: statistics.median(seconds) for i, seconds in times.items()}
    limit = TIE * min(medians.values())
    return next(i for i in sorted(medians) if medians[i] <= limit)


def _checked(seconds: float) -> float:
    """A clock that says nothing of use must not look like the fastest."""
    return seconds if seconds >= 0 else math.inf
