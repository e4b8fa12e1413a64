"""Graphs of work on a stream, and timing by them: what the device needs, not what the host does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["OpClock", "Stopwatch", "captured"]

REPEATS = 10  # of the work in one graph, at most, so that launching it does not count;
ENOUGH = 1e-3  # seconds in which it does not count anyway


class Stopwatch:
    """`stopwatch(work)`: seconds of one run. Short work is captured once as a graph of several runs, and replayed."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._graphs: dict[int, tuple[Any, Any, int]] = {}  # by the id of the work, which is kept, so that it stays so

    def __call__(self, work: Callable[[], object]) -> float:
        stream = self._cupy.cuda.get_current_stream()
        if id(work) not in self._graphs:
            work()  # loads what it launches, which must not happen within a capture
            repeats = max(1, min(REPEATS, int(ENOUGH / max(self._seconds(stream, work), 1e-6))))
            self._graphs[id(work)] = work, captured(stream, work, repeats), repeats
        _, graph, repeats = self._graphs[id(work)]
        return self._seconds(stream, lambda: graph.launch(stream)) / repeats

    def _seconds(self, stream: Any, work: Callable[[], object]) -> float:
        cuda = self._cupy.cuda
        begin, end = cuda.Event(), cuda.Event()
        begin.record(stream)
        work()
        end.record(stream)
        end.synchronize()
        return float(cuda.get_elapsed_time(begin, end)) * 1e-3


def captured(stream: Any, work: Callable[[], object], times: int) -> Any:
    """A graph of so many runs of `work`. Where that fails the stream is as it was before, and the error is raised."""
    stream.begin_capture()
    try:
        for _ in range(times):
            work()
    except BaseException:
        with contextlib.suppress(Exception):  # what was captured is void, which CuPy reports once more
            stream.end_capture()
        raise
    return stream.end_capture()


class OpClock:
    """Events around each op of a step, for profiling; while it does not run, `around` costs nothing to speak of."""

    def __init__(self, cupy: Any) -> None:
        self._cuda = cupy.cuda
        self._events: list[tuple[int, Any, Any]] | None = None

    @property
    def runs(self) -> bool:
        return self._events is not None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self._events = []
        try:
            yield
        finally:
            self._events = None

    @contextlib.contextmanager
    def around(self, op: int) -> Iterator[None]:
        if self._events is None:
            yield
            return
        begin, end = self._cuda.Event(), self._cuda.Event()
        begin.record()
        yield
        end.record()
        self._events.append((op, begin, end))

    def seconds(self) -> list[tuple[int | str, float]]:
        """Seconds by op, in the order of the step; what belongs to none is "begin and end of a step"."""
        found: dict[int | str, float] = {}
        for op, begin, end in self._events or ():
            name: int | str = op if op >= 0 else "begin and end of a step"
            found[name] = found.get(name, 0.0) + float(self._cuda.get_elapsed_time(begin, end)) * 1e-3
        return list(found.items())
