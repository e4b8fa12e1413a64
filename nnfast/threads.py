"""How many threads backends may use: one number for the whole process, asked for or found out.

The same number of threads gives the same bits, on the same machine and versions, however busy the machine is: work is
cut by shapes and this number, never by timing. Another number may cut sums elsewhere and so round differently.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

from nnfast._numbers import integer
from nnfast.errors import OptionError

__all__ = ["cpu_count", "found", "get_num_threads", "set_num_threads"]

ENVIRONMENT = "NNFAST_NUM_THREADS"
SHARES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")  # what a worker process is given
CGROUPS = "/sys/fs/cgroup"
OWN_CGROUPS = "/proc/self/cgroup"

_count: int | None = None  # None until somebody asks or sets
_unasked = True  # whether nobody has said how many, here or in the environment


def set_num_threads(n: int) -> None:
    """Let backends use `n` threads from now on, the calling one included; holds for all threads of the process.

    The same number gives the same bits; another may round differently.
    """
    global _count, _unasked
    _count, _unasked = integer("n", n, 1), False


def get_num_threads() -> int:
    """How many threads backends may use.

    What `set_num_threads` said, else the environment variable NNFAST_NUM_THREADS, else the CPUs that this process may
    use: those of its affinity mask, or fewer where a control group (a container) grants less CPU time than that, or
    where NUMBA_NUM_THREADS or OMP_NUM_THREADS names fewer, as joblib and Dask have it in the processes that they start.
    """
    global _count, _unasked
    if _count is None:
        _count, _unasked = found()[0], _from_environment() is None
    return _count


def limit_unasked(n: int) -> None:
    """At most `n` threads from now on, unless somebody has said how many."""
    global _count
    count = get_num_threads()
    if _unasked:
        _count = min(count, n)


def found() -> tuple[int, str]:
    """The number that holds until `set_num_threads` names another, and in words where it comes from."""
    named = _from_environment()
    if named is not None:
        return named, f"the environment variable {ENVIRONMENT}"
    count, why = min(_limits(), key=lambda limit: limit[0])  # the first of those that are equal
    return max(1, count), why


def _from_environment() -> int | None:
    text = os.environ.get(ENVIRONMENT, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise OptionError(f"the environment variable {ENVIRONMENT} is {text!r}; expected a whole number of at least 1")
    return int(text)


def cpu_count() -> int:
    """The CPUs that this process may run on: taskset, for one, may allow fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _limits() -> Iterator[tuple[int, str]]:
    cpus, machine = cpu_count(), os.cpu_count() or 1
    yield cpus, "all CPUs of the machine" if cpus == machine else f"the CPU affinity: {cpus} of the machine's {machine}"
    for name in SHARES:
        share = os.environ.get(name, "").partition(",")[0].strip()  # of OpenMP, the outermost level
        if share.isascii() and share.isdigit() and int(share) >= 1:  # what is no number there is not for us to mend
            yield int(share), f"the environment variable {name}"
    for quota in _quotas():
        yield math.ceil(quota), f"the control group (a container), which grants the time of {quota:g} CPUs"


def _quotas() -> Iterator[float]:
    """CPUs' worth of time that each control group around this process grants; nothing where there is no limit.

    Inside a container the path of the group may be that of the host, where nothing is found; the root of what is
    mounted is then the container's own group, and it is on the way up from every path.
    """
    for line in _read(OWN_CGROUPS).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield from _quotas_on_the_way(CGROUPS, path, "cpu.max")
        elif "cpu" in controllers.split(","):
            yield from _quotas_on_the_way(f"{CGROUPS}/cpu", path, "cpu.cfs_quota_us", "cpu.cfs_period_us")


def _quotas_on_the_way(root: str, path: str, *files: str) -> Iterator[float]:
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        folder = "/".join([root, *parts[:depth]])
        words = " ".join(_read(f"{folder}/{file}") for file in files).split()
        if len(words) == 2 and all(word.isdigit() and int(word) for word in words):  # no limit reads "max", or -1
            yield int(words[0]) / int(words[1])


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeError):  # no such group, no such system, or not for us to see
        return ""
