"""CuPy's streams, events and graphs on the simulated device."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from .fake_device import Device
from .fake_errors import CUDARuntimeError
from .fake_queues import Capture, Queue

__all__ = ["Event", "Graph", "Stream", "get_elapsed_time"]


class Event:
    _device: Device

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        if interprocess and not disable_timing:
            raise ValueError("Timing must be disabled for interprocess events")
        self.ptr = id(self)
        self.timed = not disable_timing
        self.time: float | None = None
        self.at: tuple[Queue, int] | None = None
        self.captured: tuple[Capture, tuple[int, ...]] | None = None

    def record(self, stream: Any = None) -> None:
        queue = self._device.current if stream is None else stream.queue
        with self._device.lock:
            if queue.capture is not None:
                if queue.capture.invalid:
                    raise CUDARuntimeError(901)
                self.at, self.captured = None, (queue.capture, queue.capture.tails[queue])
                return
            self.captured, self.time = None, None

            def mark() -> None:
                self.time = self._device.clock()

            queue.push("event", mark)
            self.at = (queue, queue.given)

    def _usable(self) -> None:
        if self.captured is not None:
            self.captured[0].invalid = True
            raise CUDARuntimeError(907)

    def synchronize(self) -> None:
        self._usable()
        self._device.counts.synchronisations += 1
        if self.at is not None:
            self.at[0].drain(self.at[1])

    @property
    def done(self) -> bool:
        """Each query lets one more item of the stream happen, so that waiting in a loop ends."""
        self._usable()
        if self.at is None:
            return True
        queue, count = self.at
        if queue.done >= count:
            return True
        queue.drain(queue.done + 1)
        return False


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    for event in (start_event, end_event):
        event._usable()
        if event.at is None or not event.timed:
            raise CUDARuntimeError(400)
        if event.time is None or event.at[0].done < event.at[1]:
            raise CUDARuntimeError(600)
    assert start_event.time is not None
    assert end_event.time is not None
    return (end_event.time - start_event.time) * 1e3


class Graph:
    """A captured sequence of calls, with the pointers that they had then."""

    _device: Device

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(
            "currently this class cannot be initiated by the user and must be created via stream capture"
        )

    @classmethod
    def _of(cls, capture: Capture) -> Graph:
        graph = cls.__new__(cls)
        graph._nodes = tuple(capture.nodes)
        graph._order = tuple(capture.late_order())
        return graph

    def _run(self) -> None:
        for node in self._order:
            node.run()

    def launch(self, stream: Any = None) -> None:
        queue = self._device.current if stream is None else stream.queue
        if queue.push("graph", self._run):
            self._device.counts.graph_launches += 1

    def upload(self, stream: Any = None) -> None:
        queue = self._device.current if stream is None else stream.queue
        queue.refuse_capture("cudaGraphUpload")

    def debug_dot_str(self, flags: int = 0) -> str:
        lines = ["digraph dot {"]
        lines += [f'"graph_1_node_{i}" [label="{i}\\n{node.label}\\n"];' for i, node in enumerate(self._nodes)]
        for i, node in enumerate(self._nodes):
            lines += [f'"graph_1_node_{j}" -> "graph_1_node_{i}";' for j in node.after]
        return "\n".join([*lines, "}"])


class Stream:
    _device: Device
    _graph: type[Graph]
    _event: type[Event]
    null: Stream

    def __init__(
        self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None
    ) -> None:
        if ptds:
            raise ValueError("PTDS is not simulated")
        self.queue = self._device.null if null else self._device.new_queue(not non_blocking)
        self.ptr = self.queue.ptr
        self.device_id = -1 if null else 0
        self.is_non_blocking = non_blocking
        self.priority = priority or 0
        if not null:
            weakref.finalize(self, self._device.forget, self.queue).atexit = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.queue is other.queue

    def __hash__(self) -> int:
        return self.ptr

    def __repr__(self) -> str:
        return f"<Stream {self.ptr} (device {self.device_id})>"

    def __enter__(self) -> Stream:
        local = self._device.local
        local.stack = [*getattr(local, "stack", ()), getattr(local, "stream", None)]
        local.stream = self
        return self

    def __exit__(self, *error: object) -> None:
        local = self._device.local
        local.stream = local.stack.pop()

    def use(self) -> Stream:
        self._device.local.stream = self
        return self

    def synchronize(self) -> None:
        self.queue.synchronize()

    @property
    def done(self) -> bool:
        """Each query lets one more item happen, so that waiting in a loop ends."""
        self.queue.refuse_capture("cudaStreamQuery")
        if not self.queue.items:
            return True
        self.queue.drain(self.queue.done + 1)
        return False

    def record(self, event: Event | None = None) -> Event:
        event = self._event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        queue = self.queue
        with self._device.lock:
            if event.captured is not None:
                capture, tails = event.captured
                if capture.origin.capture is not capture:
                    raise CUDARuntimeError(907)
                if queue.capture not in (None, capture):
                    raise CUDARuntimeError(902)
                if queue is self._device.null:
                    raise CUDARuntimeError(906)
                queue.capture = capture
                capture.tails[queue] = tuple(dict.fromkeys(capture.tails.get(queue, ()) + tails))
            elif queue.capture is not None:
                if event.at is not None:
                    queue.capture.invalid = True
                    raise CUDARuntimeError(905)
            elif event.at is not None:
                queue.check_legacy()
                queue._push(lambda: None, (event.at, *queue._implied()))

    def begin_capture(self, mode: int | None = None) -> None:
        if self.ptr in (0, 1):
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self.queue.capture is not None:
            self.queue.capture.invalid = True
            raise CUDARuntimeError(401)
        self.queue.capture = Capture(self.queue)
        self._device.captures += 1

    def end_capture(self) -> Graph:
        capture = self.queue.capture
        if capture is None:
            raise CUDARuntimeError(401)
        if capture.origin is not self.queue:
            capture.invalid = True
            raise CUDARuntimeError(903)
        for queue in capture.tails:
            queue.capture = None
        self._device.captures -= 1
        if capture.invalid:
            raise CUDARuntimeError(901)
        if not capture.joined():
            raise CUDARuntimeError(904)
        return self._graph._of(capture)

    def is_capturing(self) -> bool:
        capture = self.queue.capture
        if capture is not None and capture.invalid:
            raise RuntimeError("the stream was capturing, but an error has invalidated the capture sequence")
        return capture is not None

    def launch_host_func(self, callback: Callable[[Any], Any], arg: Any) -> None:
        self.queue.push("host", lambda: callback(arg))
