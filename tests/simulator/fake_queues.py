"""The queues behind the simulated device's streams, and what a capture collects.

A stream is a queue whose work is done as late as possible: when something synchronises it, or when another stream that
waits for it is synchronised. Whatever a program forgot to wait for is then not there yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from .fake_errors import CUDARuntimeError

if TYPE_CHECKING:
    from .fake_device import Device

__all__ = ["Capture", "Item", "Node", "Queue"]


class Item(NamedTuple):
    run: Callable[[], None]
    after: tuple[tuple[Queue, int], ...]  # (stream, how many of its items must be done)


class Node(NamedTuple):
    """One captured call."""

    label: str
    run: Callable[[], None]
    after: tuple[int, ...]
    queue: Queue


class Capture:
    """What one `begin_capture` … `end_capture` collects, over all the streams that take part."""

    def __init__(self, origin: Queue) -> None:
        self.origin = origin
        self.nodes: list[Node] = []
        self.tails: dict[Queue, tuple[int, ...]] = {origin: ()}
        self.invalid = False

    def add(self, queue: Queue, label: str, run: Callable[[], None]) -> None:
        if self.invalid:
            raise CUDARuntimeError(901)
        self.nodes.append(Node(label, run, self.tails[queue], queue))
        self.tails[queue] = (len(self.nodes) - 1,)

    def joined(self) -> bool:
        """Whether the origin waits for all that other streams were given."""
        seen: set[int] = set()
        todo = list(self.tails[self.origin])
        while todo:
            i = todo.pop()
            if i not in seen:
                seen.add(i)
                todo += self.nodes[i].after
        return len(seen) == len(self.nodes)

    def late_order(self) -> list[Node]:
        """The nodes in an order that respects what they wait for, and has other streams' work as late as possible."""
        order: list[int] = []
        done: set[int] = set()
        for first in sorted(range(len(self.nodes)), key=lambda i: (self.nodes[i].queue is not self.origin, i)):
            todo = [first]
            while todo:
                i = todo[-1]
                missing = [j for j in self.nodes[i].after if j not in done]
                if missing:
                    todo += missing
                    continue
                todo.pop()
                if i not in done:
                    done.add(i)
                    order.append(i)
        return [self.nodes[i] for i in order]


class Queue:
    """The work given to one stream; `blocking`: it and the null stream wait for each other."""

    def __init__(self, device: Device, ptr: int, blocking: bool) -> None:
        self.device, self.ptr, self.blocking = device, ptr, blocking
        self.items: deque[Item] = deque()
        self.given = self.done = 0
        self.capture: Capture | None = None

    def push(self, label: str, run: Callable[[], None]) -> bool:
        """Put work into the stream; False where it is recorded instead, because the stream is capturing."""
        with self.device.lock:
            if self.capture is not None:
                self.device.counts.captured += 1
                self.capture.add(self, label, run)
                return False
            self.check_legacy()
            self._push(run, self._implied())
            return True

    def _push(self, run: Callable[[], None], after: tuple[tuple[Queue, int], ...]) -> None:
        self.items.append(Item(run, after))
        self.given += 1

    def _implied(self) -> tuple[tuple[Queue, int], ...]:
        null = self.device.null
        if self is null:
            others = [q for q in list(self.device.queues.values()) if q.blocking and q is not self]
            return tuple((q, q.given) for q in others if q.items)
        return ((null, null.given),) if self.blocking and null.items else ()

    def check_legacy(self) -> None:
        """The null stream waits for all blocking ones, so it cannot be used while one of those is capturing."""
        if self is self.device.null:
            bad = [q for q in list(self.device.queues.values()) if q.blocking and q.capture is not None]
            for q in bad:
                q.capture.invalid = True
            if bad:
                raise CUDARuntimeError(906)

    def behind(self, run: Callable[[], None]) -> None:
        """Do something that is no call of CUDA's after all that was given so far; at once if that is done."""
        after = self._implied()
        if self.items or after:
            self._push(run, after)
        else:
            run()

    def drain(self, until: int | None = None) -> None:
        """Do the work, all of it or the first so many items."""
        with self.device.lock:
            while self.items and (until is None or self.done < until):
                item = self.items.popleft()
                self.done += 1
                for queue, count in item.after:
                    queue.drain(count)
                item.run()

    def refuse_capture(self, what: str) -> None:
        if self.capture is not None:
            self.capture.invalid = True
            raise CUDARuntimeError(900, what)

    def synchronize(self) -> None:
        self.refuse_capture("cudaStreamSynchronize")
        self.check_legacy()
        self.device.counts.synchronisations += 1
        with self.device.lock:
            for queue, count in self._implied() if self is self.device.null else ():
                queue.drain(count)
        self.drain()
