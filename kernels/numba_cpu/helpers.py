"""What machine code refers to outside of itself: told to LLVM, and if possible without importing Numba.

Functions that Numba compiled call helpers of its own, in C, where an exception has to be reported. They lie in
extension modules, which are loaded alone; where these are not as expected, Numba tells LLVM itself.
"""

from __future__ import annotations

import builtins
import ctypes
import functools
import importlib
import sys
from collections.abc import Iterable
from typing import Any

import llvmlite.binding as llvm

from . import settings

__all__ = ["provide", "start_llvm"]

HELPERS, RUNTIME = "numba._helperlib", "numba.core.runtime._nrt_python"


def provide(symbols: Iterable[str]) -> None:
    """See to it that LLVM knows these, if anybody does."""
    missing = False
    for symbol in symbols:
        address = _system().get(symbol) or _helpers().get(symbol)
        if address:
            llvm.add_symbol(symbol, address)
        elif not llvm.address_of_symbol(symbol):
            missing = True
    if missing:
        _by_numba()


@functools.cache
def start_llvm() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


@functools.cache
def _by_numba() -> None:
    from numba.core.registry import cpu_target
    from numba.core.runtime import _nrt_python

    _ = cpu_target.target_context  # tells LLVM of everything but these
    for name, address in _nrt_python.c_helpers.items():
        llvm.add_symbol(_runtime_name(name), address)


@functools.cache
def _helpers() -> dict[str, int]:
    """Addresses by the names that Numba gives them; those of C's mathematics and of exceptions bear their own."""
    try:
        helpers, runtime = _extension(HELPERS).c_helpers, _extension(RUNTIME).c_helpers
    except Exception:  # not where, or not what they used to be
        return {}
    classes = [kind for kind in vars(builtins).values() if isinstance(kind, type)]
    return {
        **helpers,
        **{f"numba_{name}": address for name, address in helpers.items()},
        **{_runtime_name(name): address for name, address in runtime.items()},
        **{f"PyExc_{kind.__name__}": id(kind) for kind in classes if issubclass(kind, BaseException)},
        "_Py_NoneStruct": id(None),
    }


def _runtime_name(name: str) -> str:
    return name if name.startswith("_") else f"NRT_{name}"


def _extension(name: str) -> Any:
    return importlib.import_module(name) if settings.is_loaded() else settings.alone(name)


@functools.cache
def _system() -> dict[str, int]:
    """Functions of the system that LLVM does not find by itself."""
    if sys.platform != "win32":
        return {}
    names = ("SwitchToThread", "Sleep", "QueryPerformanceCounter")
    functions = (getattr(ctypes.windll.kernel32, name) for name in names)
    return {name: ctypes.cast(f, ctypes.c_void_p).value or 0 for name, f in zip(names, functions, strict=True)}
