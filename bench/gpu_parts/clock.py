"""Time as the device spends it: work captured as a graph, replayed between two events, in interleaved rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from measuring.rounds import spread

__all__ = ["ROUNDS", "Replay", "host_seconds", "interleaved", "spread"]

ROUNDS = 9
WINDOW = 2e-3  # seconds that one measurement lasts at least; an event is good to half a microsecond


class Replay:
    """Works captured one after the other, and the whole `repeats` times; `seconds()` is the time of one work.

    Several works are the same on different memory, so that none finds its data in the L2 cache. Where capturing fails,
    the works are launched one by one, and `captured` says so.
    """

    def __init__(
        self, cupy: Any, works: Sequence[Callable[[], object]], repeats: int = 1, *, capture: bool = True
    ) -> None:
        self._cuda, self._works, self._repeats = cupy.cuda, list(works), repeats
        self._stream = cupy.cuda.get_current_stream()
        self._play()  # loads what is launched, which must not happen within a capture
        self._stream.synchronize()
        self._graph = self._captured() if capture else None
        self.captured = self._graph is not None
        self._launches = 1
        taken = min(self._timed() for _ in range(2))
        self._launches = max(1, min(1000, round(WINDOW / max(taken, 1e-7))))

    def seconds(self) -> float:
        return self._timed() / (self._launches * self._repeats * len(self._works))

    def _play(self) -> None:
        for _ in range(self._repeats):
            for work in self._works:
                work()

    def _captured(self) -> Any:
        self._stream.begin_capture()
        failed = False
        try:
            self._play()
        except Exception:
            failed = True
        try:
            graph = self._stream.end_capture()
        except Exception:
            failed = True
        return None if failed else graph

    def _timed(self) -> float:
        begin, end = self._cuda.Event(), self._cuda.Event()
        begin.record(self._stream)
        for _ in range(self._launches):
            if self._graph is not None:
                self._graph.launch(self._stream)
            else:
                self._play()
        end.record(self._stream)
        end.synchronize()
        return float(self._cuda.get_elapsed_time(begin, end)) * 1e-3


def interleaved(timers: Mapping[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """The seconds of each in each round, in alternating order; the first round is not kept."""
    times: dict[str, list[float]] = {name: [] for name in timers}
    for r in range(rounds + 1):
        for name in timers if r % 2 else reversed(list(timers)):
            seconds = timers[name]()
            if r > 0:
                times[name].append(seconds)
    return times


def host_seconds(
    work: Callable[[], object], wait: Callable[[], object], count: int, rounds: int = ROUNDS
) -> list[float]:
    """What a call costs its caller, not the device: seconds per call of `count` calls, in each round."""
    times = []
    for r in range(rounds + 1):
        wait()
        begin = time.perf_counter()
        for _ in range(count):
            work()
        taken = time.perf_counter() - begin
        if r > 0:
            times.append(taken / count)
    wait()
    return times
