"""How the bodies of this backend run: compiled, compiled with bounds checks, or as plain Python.

Numba's own switches decide, read once: with NUMBA_DISABLE_JIT=1 every body is the Python function that it reads as,
with NUMBA_BOUNDSCHECK=1 each is compiled with checks; in both cases the table of compiled ops is out of use, and bodies
are called from Python one by one, so that an exception inside them is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import settings

__all__ = ["CHECKED", "COMPILED", "OPTIONS", "PLAIN", "inlined", "jit"]

PLAIN = bool(settings.config().DISABLE_JIT)
CHECKED = bool(settings.config().BOUNDSCHECK) and not PLAIN
COMPILED = not (PLAIN or CHECKED)

# No nnan and no ninf: NaN and inf are data. error_model "numpy": a division does not branch, so its loop vectorises.
OPTIONS: dict[str, Any] = {
    "fastmath": {"contract", "reassoc", "nsz", "arcp", "afn"},
    "error_model": "numpy",
    "nogil": True,
}


def jit(function: Callable[..., Any], options: Mapping[str, Any] = OPTIONS) -> Any:
    """`function` compiled for use inside other bodies; itself where plain Python is asked for."""
    if PLAIN:
        return function
    from . import parts

    if COMPILED and parts.SUPPORTED:
        return parts.part(function, dict(options))
    return parts.whole(function, dict(options))


def inlined(function: Any) -> Any:
    """A body, to be made part of its only caller: half of the time of compiling it goes into code of its own."""
    import numba

    return numba.njit(**OPTIONS, inline="always")(function.py_func)
