"""How the bodies of this backend run: compiled, compiled with bounds checks, or as plain Python.

Numba's own switches decide, read once: with NUMBA_DISABLE_JIT=1 every body is the Python function that it reads as,
with NUMBA_BOUNDSCHECK=1 each is compiled with checks; in both cases the table of compiled ops is out of use, and bodies
are called from Python one by one, so that an exception inside them is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

__all__ = ["CHECKED", "COMPILED", "OPTIONS", "PLAIN", "jit"]

PLAIN = bool(numba.config.DISABLE_JIT)
CHECKED = bool(numba.config.BOUNDSCHECK) and not PLAIN
COMPILED = not (PLAIN or CHECKED)

# No nnan and no ninf: NaN and inf are data. error_model "numpy": a division does not branch, so its loop vectorises.
OPTIONS: dict[str, Any] = {
    "fastmath": {"contract", "reassoc", "nsz", "arcp", "afn"},
    "error_model": "numpy",
    "nogil": True,
}


def jit(function: Callable[..., Any]) -> Any:
    """`function` compiled for use inside other bodies; itself where plain Python is asked for."""
    return function if PLAIN else numba.njit(**OPTIONS)(function)
