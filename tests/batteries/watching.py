"""Calls that are watched: what they ask of the interpreter, how much time of a processor they take, how much memory.

An audit hook cannot be taken off again: a watch stays until the process ends.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from typing import NamedTuple

import numpy as np

from batteries.measuring import MIB, forget_peak, peak

SECONDS = 2
MEMORY = 64 * MIB  # beside twice the file
HARMLESS = {"object.__getattr__", "builtins.id"}  # `inspect.signature` looks at code objects, and takes ids
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Seen(NamedTuple):
    """What a call did."""

    events: list[str]  # beyond reading the file
    seconds: float
    growth: int  # bytes of memory, at its peak

    def complaints(self, size):
        """What is not to be forgiven a reader of a file of `size` bytes."""
        said = [f"it did {event}" for event in dict.fromkeys(self.events)]
        if self.seconds > SECONDS:
            said.append(f"it took {self.seconds:.1f} s")
        if self.growth > 2 * size + MEMORY:
            said.append(f"it took {self.growth / MIB:.0f} MiB of memory for a file of {size:,} bytes")
        return said


class Watch:
    """`watch(use)` calls `use()`, which may read the file at `path` and do nothing else."""

    def __init__(self, path):
        self._path = str(path)
        self._events = None
        sys.addaudithook(self._hook)

    def __call__(self, use):
        """What came of it, the exception that it ended in or None, and what was seen."""
        forget_peak()
        before, made, failed, events = peak(), None, None, []
        begin = time.process_time()
        self._events = events
        try:
            made = use()
        except Exception as error:
            failed = error
        finally:
            self._events = None
        return made, failed, Seen(events, time.process_time() - begin, peak() - before)

    def _hook(self, event, arguments):
        events = self._events
        if events is None or event in HARMLESS or self._reads(event, arguments):
            return
        self._events = None  # to write it down may be an event as well
        events.append(f"{event} {arguments!r:.200}")
        self._events = events

    def _reads(self, event, arguments):
        if event != "open":
            return False
        path, _, flags = arguments
        return not flags & WRITING and (isinstance(path, int) or str(path) == self._path)


def noticed(watch, path):
    """What careless readers do, and whether the watch sees it: it does, if it is worth anything."""
    with open(path, "wb") as file:
        np.savez_compressed(file, a=np.zeros(2 * MEMORY, np.uint8))
    raw = path.read_bytes()

    def unpack():
        with np.load(path) as bomb:
            return bomb["a"].nbytes

    def work():
        end = time.process_time() + 1.05 * SECONDS
        while time.process_time() < end:
            pass

    def bring():
        import colorsys  # which nobody else needs

        return colorsys

    careless = {
        "did pickle.find_class": lambda: pickle.loads(pickle.dumps(print)),
        "did import": bring,
        "did compile": lambda: compile("1", "file", "eval"),
        "did exec": lambda: exec("1"),
        "did os.system": lambda: os.system("exit 0"),
        "did open": lambda: path.write_bytes(raw),
        "MiB of memory": unpack,
        "took 2.": work,
    }
    seen = {words: watch(use)[2].complaints(len(raw)) for words, use in careless.items()}
    return {words: any(words in said for said in complaints) for words, complaints in seen.items()}
