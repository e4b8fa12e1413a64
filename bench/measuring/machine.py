"""What the figures stand on: the machine's facts, and its limits measured in the same run.

Limits are the best of many repeats, so that a percentage of them is never flattering: the peak of NumPy's BLAS on
large square matrices, and the bandwidth of copying, adding and updating arrays, in main memory or, for a working set
that fits there, in the caches. These are NumPy's loops, one thread per share of the arrays; bytes count as read plus
written.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np

from measuring import overheads
from measuring.workers import allowed_cpus

__all__ = ["bandwidth", "blas_peak", "facts", "limits", "load"]

MEMORY = 192 << 20  # bytes: far more than any cache
THREADED = 4 << 20  # bytes per share from which one call takes so long that handing over Python's lock does not count
WINDOW = 0.004  # seconds that a measured repeat lasts at least


def facts(threads: int) -> dict[str, Any]:
    """Versions, processor, memory, threads, load."""
    from nnfast.commands.machine import blas, machine_facts, versions

    installed, machine, numpy_blas = versions(), machine_facts(), blas()["numpy"] or {}
    return {
        **{name: installed[name] for name in ("nnfast", "python", "numpy")},
        **{name: machine[name] for name in ("platform", "processor")},
        "cpus": machine["allowed"],
        "blas": " ".join([numpy_blas.get("name", "unknown"), numpy_blas.get("version", "")]).strip(),
        "caches": _caches(),
        "memory": _memory(),
        "threads": threads,
        "pinned to": allowed_cpus(threads),
        "load before": load(),
        "time": time.strftime("%Y-%m-%d %H:%M"),
        "machine": platform.machine(),
        "peers": _versions(),
    }


def load(seconds: float = 1.0) -> float | None:
    """How many processors others keep busy just now; the average of the last minute where Linux does not tell.

    That average would still hold the installation which `make bench` begins with.
    """
    try:
        before = _ticks()
        time.sleep(seconds)
        (busy, all_of_it), cpus = np.subtract(_ticks(), before), os.cpu_count() or 1
        return float(busy / all_of_it * cpus) if all_of_it else None
    except (OSError, ValueError):
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _ticks() -> tuple[int, int]:
    """Of all processors together since the machine began: busy (for others than the host, too), and all."""
    fields = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)  # without idle and waiting for a disk


def _caches() -> str:
    """The first CPU's caches, as Linux names them; nothing elsewhere."""
    found = []
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            found.append(f"L{level} {size.removesuffix('K')} kB")
    return ", ".join(found)


def _memory() -> str:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return ""
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.0f} GB"


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("numba", "scipy", "scikit-learn", "torch", "jax", "keras", "tinygrad", "onnxruntime"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def limits(threads: int, quick: bool = False) -> dict[str, float]:
    """The machine's limits with this many threads: FLOP/s in both dtypes, bytes/s in main memory, overheads."""
    n, repeats = (512, 5) if quick else (1536, 10)
    return {
        "float32 flops per second": blas_peak(np.float32, n, repeats),
        "float64 flops per second": blas_peak(np.float64, n, repeats),
        "memory bytes per second": bandwidth(MEMORY // 4 if quick else MEMORY, threads, repeats),
    } | overheads.limits(threads)


def blas_peak(dtype: Any, n: int, repeats: int) -> float:
    """FLOP/s of an n × n by n × n product, the best of `repeats`."""
    a, b = np.random.default_rng(0).random((2, n, n)).astype(dtype)
    c = np.empty_like(a)
    best = min(_seconds(lambda: np.matmul(a, b, out=c)) for _ in range(repeats))
    return 2 * n**3 / best


def bandwidth(working_set: int, threads: int, repeats: int = 15) -> float:
    """Bytes/s over arrays of this size together: of the fastest of MOVES, the best of `repeats`.

    A share that is small enough for its core's own cache is measured on one core and multiplied by their number.
    """
    share = max(working_set // threads, 1 << 15)
    if share < THREADED:
        return threads * max(_pass(move, share, 1, repeats) for move in MOVES)
    return max(_pass(move, share, threads, repeats) for move in MOVES)


# Ways over arrays of one size: the call, the arrays it needs, the arrays' worth of bytes that it moves. A copy or a sum
# into a third array also fetches, unasked, the memory it is about to overwrite; an update in place does not.
MOVES: tuple[tuple[Callable[[Any], Any], int, int], ...] = (
    (lambda a: np.copyto(a[0], a[1]), 2, 2),
    (lambda a: np.add(a[1], a[2], out=a[0]), 3, 3),
    (lambda a: np.add(a[0], a[1], out=a[0]), 2, 3),
)


def _pass(move: tuple[Callable[[Any], Any], int, int], share: int, threads: int, repeats: int) -> float:
    """Bytes/s of `threads` threads, each moving over its own share again and again."""
    function, arrays, moved = move
    shares = [[np.ones(share // arrays // 4, np.float32) for _ in range(arrays)] for _ in range(threads)]
    each = _seconds(lambda: function(shares[0]))
    again = max(1, int(WINDOW / max(each, 1e-7)))
    total = again * moved * threads * shares[0][0].nbytes
    return max(total / _together(function, shares, again) for _ in range(repeats))


def _together(move: Callable[[Any], Any], shares: list[list[Any]], again: int) -> float:
    """Seconds until all threads have moved over their shares `again` times."""
    if len(shares) == 1:
        return _seconds(lambda: [move(shares[0]) for _ in range(again)])
    barrier = Barrier(len(shares) + 1)

    def work(arrays: list[Any]) -> None:
        barrier.wait()
        for _ in range(again):
            move(arrays)

    workers = [Thread(target=work, args=(arrays,)) for arrays in shares]
    for worker in workers:
        worker.start()
    barrier.wait()
    begin = time.perf_counter()
    for worker in workers:
        worker.join()
    return time.perf_counter() - begin


def _seconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
