"""The guard that keeps every BLAS of the process to the thread that calls it.

OpenBLAS and its like have one setting for the whole process, so it cannot be each caller's own: the first who needs it
sets one thread, the last restores what was set before. threadpoolctl finds the libraries; without it, or where BLAS is
one that it does not know, nothing is set and `guard_reason()` says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from _thread import RLock, get_ident
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

__all__ = ["guard_reason", "limit_this_thread", "single_threaded_blas"]


class Setting(NamedTuple):
    """The number of threads of one library, to read and to set."""

    get: Callable[[], int]
    set: Callable[[int], object]


class Settings(NamedTuple):
    """All libraries: those with one setting for the process, and those with one for each thread."""

    process: list[Setting]
    thread: list[Setting]
    reason: str | None  # why there is nothing to set


class _Guard:
    def __init__(self) -> None:
        self.found: Settings | None = None
        self.lock = RLock()
        self._inside: dict[int, int] = {}  # thread -> how many guards it holds
        self._before: list[int] = []  # what `process` was set to when the first came in
        self._before_here: dict[int, list[int]] = {}  # the same of `thread`, for each thread inside

    def settings(self) -> Settings:
        if self.found is None:  # outside the lock, because it imports; finding them twice does no harm
            self.found = _find()
        return self.found

    def enter(self) -> int:
        process, own, _ = self.settings()
        me = get_ident()
        with self.lock:
            if not self._inside:
                self._before = _replace(process)
            if own and me not in self._inside:
                self._before_here[me] = _replace(own)
            self._inside[me] = self._inside.get(me, 0) + 1
        return me

    def leave(self, who: int) -> None:
        process, own, _ = self.settings()
        with self.lock:
            held = self._inside.pop(who) - 1
            if held:
                self._inside[who] = held
                return
            _restore(own, self._before_here.pop(who, []))
            if not self._inside:
                _restore(process, self._before)

    def forget_other_threads(self) -> None:
        """In a forked child: those who were inside and are not in this process will never leave."""
        self.lock = RLock()
        me = get_ident()
        was = bool(self._inside)
        self._inside = {me: self._inside[me]} if me in self._inside else {}
        self._before_here = {me: self._before_here[me]} if me in self._before_here else {}
        if was and not self._inside and self.found is not None:
            _restore(self.found.process, self._before)


def _replace(settings: list[Setting]) -> list[int]:
    before = [setting.get() for setting in settings]
    for setting in settings:
        setting.set(1)
    return before


def _restore(settings: list[Setting], before: list[int]) -> None:
    for setting, threads in zip(settings, before, strict=False):
        setting.set(threads)


_GUARD = _Guard()
if hasattr(os, "register_at_fork"):
    # The forking thread holds the lock meanwhile, so the child never inherits a change half made.
    os.register_at_fork(
        before=lambda: _GUARD.lock.acquire(),
        after_in_parent=lambda: _GUARD.lock.release(),
        after_in_child=_GUARD.forget_other_threads,
    )


class single_threaded_blas:  # used as a function
    """`with single_threaded_blas(): …`: inside, no BLAS call starts threads of its own, in any thread of the process.

    May be nested, and held by many threads at once; the last to leave restores what the first found.
    """

    __slots__ = ("_who",)

    def __enter__(self) -> None:
        self._who = _GUARD.enter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _GUARD.leave(self._who)


def limit_this_thread() -> None:
    """For good, in a thread that is ours: one BLAS thread in libraries that keep a setting for each thread.

    Only in those that a guard has found already: to look for them here would import SciPy in a thread of the pool, and
    a fork at that moment leaves the child with an import that never ends.
    """
    if _GUARD.found is not None:
        _replace(_GUARD.found.thread)


def guard_reason() -> str | None:
    """None, or why BLAS may go on starting threads of its own."""
    return _GUARD.settings().reason


# ---- finding the libraries ------------------------------------------------------------------------------------------


def _find() -> Settings:
    with contextlib.suppress(ImportError):
        import scipy.linalg  # noqa: F401  # brings its own BLAS, which must be there to be found
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError as error:
        return Settings([], [], f"BLAS keeps its own threads: {error}; install threadpoolctl")
    process: list[Setting] = []
    thread: list[Setting] = []
    for library in ThreadpoolController().lib_controllers:  # a few ms
        if library.user_api != "blas" or library.get_num_threads() is None:
            continue
        if library.internal_api == "openblas" and library.info().get("threading_layer") == "openmp":
            thread.append(_by_threadpoolctl(library))
        else:
            process.append(_openblas(library) or _by_threadpoolctl(library))
    reason = None if process or thread else "BLAS keeps its own threads: threadpoolctl finds none that it knows"
    return Settings(process, thread, reason)


def _by_threadpoolctl(library: Any) -> Setting:
    return Setting(library.get_num_threads, library.set_num_threads)


def _openblas(library: Any) -> Setting | None:
    """OpenBLAS's own two functions.

    threadpoolctl 3.8 lets one thread alone change this setting and ignores all others without a word, which would keep
    the last to leave from restoring it. Calling them directly also takes a third of the time.
    """
    if library.internal_api != "openblas":
        return None
    loaded = ctypes.CDLL(library.filepath)
    for prefix in ("", "scipy_"):
        for suffix in ("", "64_", "_64"):
            names = [f"{prefix}openblas_{verb}_num_threads{suffix}" for verb in ("get", "set")]
            if all(hasattr(loaded, name) for name in names):
                get, change = (getattr(loaded, name) for name in names)
                change.argtypes, change.restype = [ctypes.c_int], None
                return Setting(get, change)
    return None
