"""How a job reaches pool threads: through a box of their own, without Python where they are still awake.

A thread that has done its share lingers in compiled code for a fraction of a millisecond before it goes back to sleep
in Python. A job that comes meanwhile (the next batch, the next call of a kernel) starts within a microsecond, where to
wake a thread and to hear of it again takes 70 of them. Who lingers gives way to whoever wants the processor, and if
there is somebody, goes to sleep: a sleeper who is woken gets the processor sooner than one who keeps giving it away.

    boxes = Boxes()
    boxes.lead(interpreter, header, 3, cpu, wake)  # here: executor 0 of three; `wake` is called for each who sleeps
    boxes.serve(executor, move)                    # there, when woken

A box holds the state of one executor; box 0 is the leader's and says what is to be run, and whether anybody is leading.
The words are read and changed by compiled code, in an order that `atomics.py` vouches for.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from . import cache
from .addresses import LINE, address_of
from .modes import OPTIONS

__all__ = ["MOST", "Boxes", "prepare"]

MOST = 1024  # executors
WORDS = LINE // 8  # of a box
STATE, CPU, ASLEEP, RESERVE, CLOCK = 0, 1, 2, 3, 4  # CPU: where its thread was last; CLOCK: two words
BUSY, HEADER, INTERPRETER, EXECUTORS, ADDRESS = 6, 7, 8, 9, 10  # of box 0; ADDRESS: its own

# States of an executor. MOVING: posted, to a thread on the leader's own processor.
SLEEPING, LINGERING, POSTED, MOVING = 0, 1, 2, 3

# What somebody wants of the team: words of his own, and how far it is. Only who has made BUSY 1 may go on.
STAGE, REQUEST = 0, (HEADER, INTERPRETER, EXECUTORS, CPU)  # the words 1 … 4 go into those words of box 0
NEW, CLAIM, REFUSED, HANDED, CLAIMED, DONE = range(6)

SIGNATURE = "void(CPointer(int64), int64, int64)"


def prepare() -> None:
    """Compile what leads and serves, or load it."""
    _lead()
    _serve()


class Boxes:
    """The boxes of one team. Their memory is never freed: at exit a thread may still be looking into it."""

    def __init__(self) -> None:
        raw = (ctypes.c_char * ((MOST + 1) * LINE))()
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(raw))
        start = -ctypes.addressof(raw) % LINE
        self._words: Any = np.frombuffer(raw, "i8", MOST * WORDS, start)  # type: ignore[call-overload]
        self._address = self._words[ADDRESS] = ctypes.addressof(raw) + start

    def lead(
        self, interpreter: int, header: int, executors: int, cpu: int, wake: Callable[[int, set[int]], object]
    ) -> bool:
        """Run interpreter(header, executors, executor) with all executors, or say False: somebody else leads them.

        The caller is executor 0, on this `cpu`. `wake(executor, cpus)` has a sleeping thread call `serve`, on none of
        the processors where others are already. An interrupt (Ctrl-C) may come between two instructions of Python. What
        has begun is finished all the same, since others would wait at a barrier for ever; then the interrupt is raised.
        """
        prepare()  # what can fail does so here
        words, lead, failed = self._words, _lead(), None
        request = np.array([NEW, header, interpreter, executors, cpu])
        try:
            while request[STAGE] in (NEW, HANDED):
                try:
                    if request[STAGE] == NEW:
                        lead(self._address, address_of(request), 0)
                    if request[STAGE] == HANDED:  # somebody sleeps; who is woken twice does nothing
                        asleep = [i for i in range(1, executors) if words[i * WORDS + ASLEEP]]
                        cpus = {cpu, *(int(words[i * WORDS + CPU]) for i in range(1, executors) if i not in asleep)}
                        for executor in asleep:
                            wake(executor, cpus)
                        lead(self._address, address_of(request), 0)
                except BaseException as error:
                    failed = failed or error
            if failed is not None:
                raise failed
        finally:
            del failed
        return bool(request[STAGE] == DONE)

    def claim(self, executors: int) -> bool:
        """Keep others from leading, and send who lingers to sleep, until `free`; False: somebody is leading already."""
        request = np.array([CLAIM, 0, 0, executors, -1])
        _lead()(self._address, address_of(request), 0)
        return bool(request[STAGE] == CLAIMED)

    def free(self) -> None:
        self._words[BUSY] = 0

    def serve(self, executor: int, move: Callable[[int], object]) -> None:
        """Do shares as long as jobs keep coming; `move` this thread away from a processor, if asked to."""
        state = executor * WORDS + STATE
        _serve()(self._address, executor, 0)
        while self._words[state] == MOVING:
            with contextlib.suppress(BaseException):  # others wait for this one, wherever it runs
                move(int(self._words[CPU]))
            self._words[state] = POSTED
            _serve()(self._address, executor, 0)


@functools.cache
def _lead() -> Any:
    return _function("lead", cache.builder("handover_loops", "build_lead"))


@functools.cache
def _serve() -> Any:
    return _function("serve", cache.builder("handover_loops", "build_serve"))


def _function(name: str, build: Callable[[], Callable[..., None]]) -> Any:
    address = cache.compile_cfunc(name, build, SIGNATURE, OPTIONS).address
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(address)
