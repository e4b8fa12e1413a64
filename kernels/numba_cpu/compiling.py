"""Compiling: a Python function as Numba compiles it, and the object code of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numba
from numba.core.errors import UnsupportedError

from . import cache
from .parts import NO_PYTHON

__all__ = ["UnsupportedError", "function", "object_code"]

try:
    from numba.core.compiler_lock import global_compiler_lock
except ImportError:
    pass
else:
    cache.locks_within.append(global_compiler_lock)


def function(build: Callable[[], Callable[..., Any]], signature: str, options: Mapping[str, Any]) -> Any:
    """What `build()` returns, compiled, with an address that C can call."""
    return numba.cfunc(signature, **options)(build())


def object_code(function: Any) -> tuple[str, list[str], bytes]:
    """Entry symbol, outside symbols and object code of a compiled function, if these are all that it consists of."""
    module = function._library._final_module
    code: bytes = function._library._get_compiled_object()
    values = [*module.functions, *module.global_variables]
    if any(value.name.startswith("numba.dynamic.globals") for value in values):
        raise ValueError("it holds an address of this process")
    if b"missing Environment" in code:  # the text of a check that stands before every use of them
        raise UnsupportedError(NO_PYTHON)
    symbols = [value.name for value in values if value.is_declaration and not value.name.startswith("llvm.")]
    return function.native_name, symbols, code
