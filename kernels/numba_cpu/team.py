"""The team: Python threads that run compiled code together, each as one executor of several.

Numba's own pools cost up to 300 µs per parallel region, abort the process or die after a fork, and which of them is
there depends on the installation. Here the calling thread is executor 0 and sleeping pool threads are 1, 2, …; all of
them call one compiled function that gave up the GIL and meets the others at barriers (`barrier.py`).

    TEAM.enter(num_threads(), interpreter, header)  # compiled code, by its address: see `handover.py`
    with TEAM.lend(num_threads()) as crew:
        crew.run(call)                              # any call(executor)

There is one team. Who finds it at work is told so, or gets a crew of one: he does all shares himself, in the same
order, so that the numbers are the same. So it is for a job inside a job, and in a process that can start no threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import sys
from _queue import SimpleQueue
from _thread import LockType, allocate_lock
from collections.abc import Callable
from threading import Thread
from types import TracebackType

from .handover import MOST, Boxes
from .modes import COMPILED

__all__ = ["TEAM", "Crew", "Team"]

ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)  # of what `Team.work` is given

Call = Callable[[int], object]


if sys.platform == "linux":
    current_cpu: Callable[[], int] = ctypes.PyDLL(None).sched_getcpu
else:

    def current_cpu() -> int:
        return -1


def spread(taken: set[int]) -> None:
    """Move this thread to a processor that no other executor of the job is on, if there is one, and note which.

    Linux wakes a thread where it slept, or where its waker runs; and two threads that take turns on one processor,
    yielding to each other, look too busy to it to be moved apart. The thread is not bound to where it is put.
    """
    cpu = current_cpu()
    if cpu in taken and cpu >= 0:
        with contextlib.suppress(OSError):  # a system may forbid it
            allowed = os.sched_getaffinity(0)
            free = allowed - taken
            if free:
                os.sched_setaffinity(0, free)
                os.sched_setaffinity(0, allowed)
                cpu = current_cpu()
    taken.add(cpu)


class Job:
    """One call by `size` executors: who has still to begin, who failed, and a lock that is free when all are back."""

    __slots__ = ("_done", "_returned", "begun", "call", "cpus", "errors", "open", "others")

    def __init__(self, size: int, call: Call) -> None:
        self.cpus = {current_cpu()}
        self.call = call
        self.others = size - 1
        self.open = set(range(1, size))
        self.begun = False
        self.errors: dict[int, BaseException] = {}
        self._returned = itertools.count(1)
        self._done = allocate_lock()
        self._done.acquire()

    def share(self, executor: int) -> None:
        """What a pool thread does with a job; it survives whatever happens in it."""
        if executor not in self.open:
            return  # woken twice, see `lead`
        self.open.discard(executor)
        try:
            spread(self.cpus)
            self.call(executor)
        except BaseException as error:
            self.errors[executor] = error
        if next(self._returned) == self.others:  # one step even between threads, so exactly one of them is the last
            self._done.release()

    def lead(self, inboxes: list[SimpleQueue[Job | Wake]]) -> None:
        """Wake the others, then do share 0.

        An interrupt (Ctrl-C) may come while they are woken. Those who are awake would then wait at a barrier for ever,
        so waking starts again, and who hears of a job for the second time passes over it.
        """
        while not self.begun:
            try:
                for inbox in inboxes:
                    inbox.put(self)
                self.begun = True
                self.call(0)
            except BaseException as error:
                self.errors.setdefault(0, error)

    def wait(self) -> None:
        """Return when all are back, interrupted or not."""
        while True:
            try:
                with self._done:
                    return
            except BaseException as error:
                self.errors.setdefault(0, error)


class Wake:
    """What a sleeping pool thread is sent when a job lies in its box."""

    __slots__ = ("_boxes", "_cpus")

    def __init__(self, boxes: Boxes, cpus: set[int]) -> None:
        self._boxes, self._cpus = boxes, cpus

    def share(self, executor: int) -> None:
        with contextlib.suppress(BaseException):  # others wait for this one, wherever it runs
            spread(self._cpus)
        self._boxes.serve(executor, lambda cpu: spread({cpu}))


class Crew:
    """Executors lent to one caller: `size` of them, himself included. A context, from `Team.lend`."""

    __slots__ = ("_lent", "_team", "size")

    def __init__(self, team: Team, size: int, lent: LockType | None) -> None:
        self._team = team
        self._lent = lent
        self.size = size

    def run(self, call: Call) -> None:
        """call(0) here, call(1) … call(size−1) on pool threads, at the same time; return when all have returned.

        What one of them raised is raised here, that of the lowest number first. `call` should be a C function, as
        `functools.partial` of a compiled function is: Python interrupts no such call before it has begun, whereas a
        Python function that Ctrl-C ends in its first line would leave the others waiting for it at a barrier.
        """
        if self.size == 1:
            call(0)
            return
        inboxes = self._team.inboxes(self.size, self._lent)
        job = Job(self.size, call)
        job.lead(inboxes)
        job.wait()
        if job.errors:
            raise job.errors[min(job.errors)]

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._lent is not None:
            if COMPILED:
                self._team.boxes.free()
            self._lent.release()


class Team:
    """Pool threads, started when first needed and asleep between jobs, and the locks that say who has them.

    They are daemons and hold up no exit.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, without threads: what a forked child needs, which inherits locks but no threads."""
        self._lock, self._starting = allocate_lock(), allocate_lock()
        self._inboxes: list[SimpleQueue[Job | Wake]] = []
        self.boxes = Boxes()

    def enter(self, n: int, interpreter: int, header: int) -> bool:
        """interpreter(header, n, executor), compiled and given by its address, by n executors at the same time.

        False if the team is not free, or does not have that many and cannot start them; it never waits for others.
        """
        if not self._can(n):
            return False
        inboxes, boxes = self._inboxes, self.boxes

        def wake(executor: int, cpus: set[int]) -> None:
            inboxes[executor - 1].put(Wake(boxes, cpus))

        return boxes.lead(interpreter, header, n, current_cpu(), wake)

    def work(self, n: int, compiled: int, control: int) -> None:
        """compiled(control, executors, executor), given by its address, by n executors; by the caller alone where the
        others cannot be had."""
        if n == 1 or not self.enter(n, compiled, control):
            ENTRY(compiled)(control, 1, 0)

    def lend(self, n: int) -> Crew:
        """`n` executors if the team is free and has, or can start, n−1 threads; else the caller alone. Never waits."""
        lock = self._lock
        if not self._can(n) or not lock.acquire(blocking=False):
            return Crew(self, 1, None)
        if COMPILED and not self.boxes.claim(n):
            lock.release()
            return Crew(self, 1, None)
        return Crew(self, n, lock)

    def inboxes(self, size: int, lent: LockType | None) -> list[SimpleQueue[Job | Wake]]:
        """Where to wake the pool threads of a crew that was given this lock."""
        if lent is not self._lock:
            raise RuntimeError("these threads were lent before a fork, and are not in this process; lend again")
        return self._inboxes[: size - 1]

    def _can(self, n: int) -> bool:
        """Whether there are so many executors, or can be."""
        if not 1 < n <= MOST or sys.is_finalizing():
            return False
        try:
            if len(self._inboxes) < n - 1:
                with self._starting:
                    self._start(n - 1)
        except (RuntimeError, MemoryError):  # "can't start new thread": a limit of the system, or it is shutting down
            return False
        return True

    def _start(self, count: int) -> None:
        while len(self._inboxes) < count:
            inbox: SimpleQueue[Job | Wake] = SimpleQueue()
            executor = len(self._inboxes) + 1
            Thread(target=self._serve, args=(executor, inbox), name=f"nnfast-{executor}", daemon=True).start()
            self._inboxes.append(inbox)

    def _serve(self, executor: int, inbox: SimpleQueue[Job | Wake]) -> None:
        while True:
            inbox.get().share(executor)  # no name for the job: it would keep its arrays alive until the next one


TEAM = Team()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TEAM.forget)
