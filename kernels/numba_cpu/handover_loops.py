"""What leads and serves jobs through the boxes, which is compiled; see `handover.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import carray, types

from .atomics import NAP, current_cpu, let_others, load, nap, now, pause, store, swap
from .barrier import SPINS, YIELDS
from .handover import (
    ADDRESS,
    ASLEEP,
    BUSY,
    CLAIM,
    CLAIMED,
    CLOCK,
    CPU,
    DONE,
    EXECUTORS,
    HANDED,
    HEADER,
    INTERPRETER,
    LINGERING,
    MOST,
    MOVING,
    NEW,
    POSTED,
    REFUSED,
    REQUEST,
    RESERVE,
    SLEEPING,
    STAGE,
    WORDS,
)
from .modes import jit
from .pointers import at_address, enter

__all__ = ["build_lead", "build_serve"]

LINGER = 1_000  # times that others are let before a thread goes to sleep, 0.2 to 0.4 ms where nobody else is about
CROWDED = 200_000  # ns: who gave way for longer shares the processor with somebody, and rather sleeps,
SHY = 64  # for as many jobs


def _patience(words: Any, at: int, yields: int) -> int:
    """How often to look before going to sleep, for the executor whose box begins at this word."""
    if words[at + RESERVE]:
        words[at + RESERVE] -= 1
        return SPINS
    return SPINS + yields


def _crowded(words: Any, at: int) -> bool:
    """Let others have the processor; whether somebody kept it, which is remembered for the next jobs."""
    clock = words[ADDRESS] + (at + CLOCK) * 8
    begin = now(clock)
    let_others()
    if now(clock) - begin <= CROWDED:
        return False
    words[at + RESERVE] = SHY
    return True


patience, crowded = jit(_patience), jit(_crowded)


def build_lead() -> Callable[..., None]:
    i8 = types.int64
    header, interpreter, size, cpu = REQUEST

    def lead(base: Any, request_at: Any, _: Any) -> None:
        """Called once where all are awake; where somebody sleeps, once to post the job and again to take part."""
        words, request = carray(base, (MOST * WORDS,)), carray(at_address(request_at, i8), (5,))
        executors = request[3]
        if request[STAGE] != HANDED:
            if not swap(words[BUSY : BUSY + 1], 0, 1):
                request[STAGE] = REFUSED
                return
            words[header], words[interpreter], words[size], words[cpu] = request[1], request[2], executors, request[4]
            asleep = 0
            for i in range(WORDS, executors * WORDS, WORDS):
                state = words[i : i + 1]
                beside = words[CPU] < 0 or words[i + CPU] != words[CPU]
                if request[STAGE] == CLAIM:
                    swap(state, LINGERING, SLEEPING)
                else:
                    words[i + ASLEEP] = not swap(state, LINGERING, POSTED if beside else MOVING)
                    if words[i + ASLEEP]:
                        store(state, POSTED)
                        asleep += 1
            request[STAGE] = HANDED if request[STAGE] == NEW else CLAIMED
            if asleep or request[STAGE] == CLAIMED:
                return
        enter(words[INTERPRETER], words[HEADER], executors, 0)
        most = patience(words, 0, YIELDS)
        for i in range(WORDS, executors * WORDS, WORDS):
            waited = 0
            while load(words[i : i + 1]) >= POSTED:
                if waited < SPINS:
                    pause()
                elif waited < most:
                    if crowded(words, 0):
                        most = 0
                else:
                    nap(NAP)
                waited += 1
        request[STAGE] = DONE
        store(words[BUSY : BUSY + 1], 0)

    return lead


def build_serve() -> Callable[..., None]:
    def serve(base: Any, executor: Any, _: Any) -> None:
        words = carray(base, (MOST * WORDS,))
        at = executor * WORDS
        state = words[at : at + 1]
        while True:
            waited, most = 0, patience(words, at, LINGER)
            while load(state) == LINGERING:
                if waited < SPINS:
                    pause()
                elif waited < most:
                    if crowded(words, at):
                        most = 0
                elif swap(state, LINGERING, SLEEPING):
                    return
                waited += 1
            if load(state) != POSTED:
                return
            enter(words[INTERPRETER], words[HEADER], words[EXECUTORS], executor)
            words[at + CPU] = current_cpu()
            store(state, LINGERING)

    return serve
