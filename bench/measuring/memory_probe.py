"""Asked inside a contender's process: how much memory it holds, has held, and takes anew for each step."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

__all__ = ["allocations", "imported", "peak", "resident"]

STATUS = Path("/proc/self/status")


def imported(module: str, function: str | None = None, *args: Any) -> int:
    """Bytes resident once a module is loaded (and, where it loads more on first use, a function of it called)."""
    loaded = importlib.import_module(module)
    if function is not None:
        getattr(loaded, function)(*args)
    return resident()


def resident() -> int:
    """Bytes in memory now."""
    return _status("VmRSS")


def peak() -> int:
    """The most that ever was. Not getrusage: its peak is inherited from the process that started this one."""
    return _status("VmHWM")


def _status(field: str) -> int:
    if not STATUS.exists():
        raise RuntimeError("memory is read from /proc, which only Linux has")
    lines = STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024


def allocations(subject: Any, epochs: int) -> dict[str, int | None]:
    """What `epochs` more epochs take, of a subject that has run before.

    "temporary": the largest that Python and NumPy held at once beyond what they held before, in bytes; "grown": by how
    much the process grew; "numba": how many arrays compiled code made, or None where no Numba is loaded.
    """
    import tracemalloc

    subject.run(epochs)
    made, before = _numba_allocations(), resident()  # in this order: counting may load something
    subject.run(epochs)
    grown, made_since = resident() - before, _numba_allocations()
    tracemalloc.start()
    try:
        subject.run(1)  # what tracemalloc sees for the first time
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        subject.run(epochs)
        largest = tracemalloc.get_traced_memory()[1] - held
    finally:
        tracemalloc.stop()
    compiled = None if made is None or made_since is None else made_since - made
    return {"temporary": largest, "grown": grown, "numba": compiled}


def _numba_allocations() -> int | None:
    """Allocations by Numba's runtime so far; it counts only under NUMBA_NRT_STATS=1."""
    if "numba" not in sys.modules:
        return None
    from numba.core.registry import cpu_target
    from numba.core.runtime import rtsys

    rtsys.initialize(cpu_target.target_context)  # kernels from a cache may have come without it
    return int(rtsys.get_allocation_stats().alloc)
