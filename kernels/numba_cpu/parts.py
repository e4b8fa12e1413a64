"""Functions that only compiled bodies call: typed, optimised and copied into their callers, as Numba does with any.

Numba would also make machine code of each by itself, with a wrapper for calls from Python, though nobody ever calls it
there: the callers are linked alone (`cache.py`) and hold what they need. That, and versions for
constant arguments, were two fifths of the time of compiling.

What is used of Numba here is not part of its public interface. `SUPPORTED` says whether it is as expected; where it is
not, `modes.jit` has Numba compile parts as it does by default.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numba
from numba import types

__all__ = ["NO_PYTHON", "SUPPORTED", "part", "whole"]

NO_PYTHON = "it uses Python objects: print, or an exception with arguments that it computes"
NO_WRAPPERS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

try:
    from numba.core.codegen import JITCodeLibrary
    from numba.core.compiler import Compiler
    from numba.core.errors import UnsupportedError
    from numba.core.registry import CPUDispatcher
except ImportError:
    SUPPORTED = False
else:
    REPLACED = ("_finalize_final_module", "get_pointer_to_function", "codegen")
    CALLED = ("_finalize_dynamic_globals", "_verify_declare_only_symbols")
    SUPPORTED = all(hasattr(JITCodeLibrary, name) for name in (*REPLACED, *CALLED))

if SUPPORTED:

    class _Library(JITCodeLibrary):  # type: ignore[misc]
        """A module that callers link a copy of; what makes machine code never gets to see it."""

        def _finalize_final_module(self) -> None:
            for function in self._final_module.functions:
                if function.is_declaration and function.name.startswith(("Py", "numba_gil_", "numba_unpickle")):
                    raise UnsupportedError(f"{self.name}: {NO_PYTHON}")
            self._finalize_dynamic_globals()
            self._verify_declare_only_symbols()
            self._finalized = True

        def get_pointer_to_function(self, name: str) -> int:
            return 0  # as for a name that it does not define

        @property
        def codegen(self) -> _Library:
            return self

        def set_env(self, name: str, env: Any) -> None:
            """An environment is for what needs Python."""

    class _Compiler(Compiler):  # type: ignore[misc]
        def compile_extra(self, func: Any) -> Any:
            self.state.library = _Library(self.state.targetctx.codegen(), func.__qualname__)
            return super().compile_extra(func)

    class _Part(CPUDispatcher):  # type: ignore[misc]
        def get_call_template(self, args: tuple[Any, ...], kws: Mapping[str, Any]) -> Any:
            """Without this there would be one more version for every constant among the arguments."""
            plain = {name: types.unliteral(kind) for name, kind in kws.items()}
            return super().get_call_template(tuple(map(types.unliteral, args)), plain)

        def __call__(self, *arguments: Any) -> Any:
            return self.from_python(*arguments)

        @functools.cached_property
        def from_python(self) -> Any:
            """The same with machine code of its own, for calls by hand."""
            options = {name: value for name, value in self.targetoptions.items() if name not in NO_WRAPPERS}
            return numba.jit(self.py_func, **options)


def part(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """`function` for use inside others."""
    return _Part(function, targetoptions={"nopython": True, **options, **NO_WRAPPERS}, pipeline_class=_Compiler)


def whole(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """The same with machine code of its own, as Numba does it by default."""
    # The wrapper that is left out is for calls from C; without that for calls from Python such a call would crash.
    return numba.njit(**options, no_cfunc_wrapper=True)(function)
