"""A planned step made ready: launched call by call, or as a CUDA graph of one or several steps.

A graph replays the addresses that it was captured with. Everything that changes from step to step, or from job to job,
is read from device memory (`control.py`), so neither a new learning rate nor other data need a new capture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .plan import Plan
from .stopwatch import captured

if TYPE_CHECKING:
    from .binding import Binder
    from .device import Device

__all__ = ["GROUPS", "Step"]

GROUPS = (32, 4, 1)  # steps per graph: the host wakes once for each


class Step:
    """One step, bound to addresses. `run` puts whole steps on the current stream; a step with cuts is run by pieces."""

    def __init__(self, plan: Plan, binder: Binder, device: Device) -> None:
        self.plan = plan
        self.bound = binder.bind_plan(plan)  # per piece
        self.why_no_graph = binder.why_no_graph
        self._kept = binder.kept
        self._cupy = device.cupy
        self.is_cut_short = False  # while a step is put on the stream call by call, and if that failed
        self._graphs: dict[int, Any] = {}
        self._warm = False  # kernels are loaded by their first launch, which must not fall into a capture

    @property
    def is_captured(self) -> bool:
        return bool(self._graphs)

    def run(self, count: int) -> None:
        """Put `count` steps on the current stream."""
        if not self._warm and count:
            self._warm = True
            self.launch()
            count -= 1
        for size in GROUPS:
            while count >= size and not self.why_no_graph:
                graph = self._graph(size)
                if graph is None:
                    break
                graph.launch(self._cupy.cuda.get_current_stream())
                count -= size
        for _ in range(count):
            self.launch()

    def launch(self) -> None:
        """One step, call by call."""
        self.is_cut_short = True
        for calls in self.bound:
            assert calls is not None
            for call in calls:
                call()
        self.is_cut_short = False

    def _graph(self, size: int) -> Any:
        if size not in self._graphs:
            try:
                self._graphs[size] = captured(self._cupy.cuda.get_current_stream(), self.launch, size)
            except Exception as error:  # whatever it is, single launches still work
                self.why_no_graph = f"{type(error).__name__}: {error}"
                return None
        return self._graphs[size]
