"""What this process holds: memory, threads, open files, objects. Linux says it all; elsewhere, what there is to ask."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import sys
import threading

MIB = 1 << 20


def resident():
    """Bytes of memory; where the system does not say, the most that there were so far."""
    found = _said("smaps_rollup", "Rss")  # exact, where `status` is behind by some pages of each CPU
    return _most() if found is None else found


def trim():
    """Give back to the system what `malloc` keeps for later, where it can: what is resident then is in use."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def peak():
    """The most bytes of memory since `forget_peak`, or since the start where that cannot be forgotten."""
    found = _said("status", "VmHWM")
    return _most() if found is None else found


def forget_peak():
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _said(file, name):
    try:
        with open(f"/proc/self/{file}", encoding="ascii") as said:
            found = re.search(rf"^{name}:\s+(\d+) kB", said.read(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found[1]) * 1024


def _most():
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def threads():
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


def open_files():
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return len(os.listdir(folder))
    return 0


def objects():
    """Those that the garbage collector keeps track of, after a collection."""
    gc.collect()
    return len(gc.get_objects())
