"""The Numba backend: compiled, fused kernels and the whole training step without Python.

The way through it: `plan.py` cuts a Program into shares, `placing.py` and `binding.py` lay it out in memory,
`interpreter.py` runs it and calls ops through a table of compiled functions (`table.py`), which are kept on disk
(`cache.py`). What the ops compute is in files named as those of the reference: `dense.py`, `losses.py`, …, on explicit
vectors (`simd.py`); these, and all that imports Numba, are imported when something must be compiled.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

from nnfast.protocol import CUSTOM, Backend, Kernel, Runner

from ..reference import ReferenceBackend

__all__ = ["NumbaBackend"]


class NumbaBackend(ReferenceBackend):
    """Numba on the CPU: compiled ops, and programs run by a compiled interpreter."""

    name = "numba"

    def __init__(self) -> None:
        self._made: dict[str, Kernel] = {}
        self._prepared: set[str] = set()  # what `warm_up` has named

    def unavailable(self) -> str | None:
        try:
            from . import cache, settings
            from .interpreter import is_kept

            if settings.is_loaded() or not is_kept():
                import numba  # noqa: F401
        except Exception as error:  # it refuses a NumPy that is newer than it knows, among other things
            return f"Numba cannot be imported ({error}); install one that fits: pip install --upgrade numba"
        cache.on_first_compile = _tell
        return None

    def kernel(self, op: str) -> Kernel | None:
        """The op's kernel; for an op registered without one for Numba, its reference."""
        if op not in self._made:
            from . import eager, table

            if not table.has(op):
                return CUSTOM.get(op, {}).get("reference")
            self._made[op] = eager.make_kernel(op)
        return self._made[op]

    def compile(self, program: object) -> Runner:
        from .modes import COMPILED

        if not COMPILED:
            return super().compile(program)
        from .runner import NumbaRunner

        return NumbaRunner(program, self)  # type: ignore[arg-type]

    def row_orders(self, keys: object, epochs: object, rows: int) -> object:
        """`permutation` for many keys and epochs, (len(keys), rows); None: draw them yourself."""
        from .orders import row_orders

        return row_orders(keys, epochs, rows)

    def warm_up(self, dtype: str) -> Iterator[str]:
        """Compile every op, in every variant, or load it from the cache; yields the name of each when it is there.

        What is the same for all dtypes is not named again.
        """
        from . import interpreter, orders, population_driver, table
        from .modes import COMPILED

        if not COMPILED:  # one of Numba's switches is set: nothing is compiled ahead
            return
        for room, name in ((interpreter, "interpreter"), (population_driver, "population"), (orders, "row orders")):
            if name not in self._prepared:
                room.prepare()
                self._prepared.add(name)
                yield name
        for op, attributes, pieces in table.variants():
            table.address(op, dtype, attributes, pieces=pieces)
            yield " ".join([op, *(str(value) for _, value in attributes)]) + " in pieces" * pieces

    def cache_report(self) -> str:
        """What the cache did in this process, and where it is."""
        from . import cache

        hits, misses, seconds = cache.statistics()
        where = cache.folder() or "nowhere: the cache is off"
        return f"{hits} loaded from disk, {misses} compiled in {seconds:.1f} s; kept in {where}"

    def cache_state(self) -> dict[str, Any]:
        """The cache on disk, for `nnfast info`: see `survey`; and what switches it off, or None."""
        from .cache_files import survey
        from .modes import CHECKED, COMPILED

        switch = "NUMBA_BOUNDSCHECK" if CHECKED else "NUMBA_DISABLE_JIT"
        off = "NNFAST_CACHE=0" if os.environ.get("NNFAST_CACHE") == "0" else None if COMPILED else switch
        return {**survey(), "off": off}


def _tell(key: str) -> None:
    """The first compilation of a process takes seconds, so the user is told what he waits for."""
    from . import cache

    place = cache.folder()
    where = f"they are kept in {place}" if place else "they are not kept: there is no cache (NNFAST_CACHE)"
    print(f"nnfast: compiling kernels for this machine, which takes some seconds once; {where}", file=sys.stderr)


_conforms: type[Backend] = NumbaBackend
