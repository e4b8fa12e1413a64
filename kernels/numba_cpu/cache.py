"""Compiled functions kept on disk: compiled once, then loaded in about a millisecond by every later process.

One function is one file, named by a hash of all that its machine code depends on: a change of any of it asks for
another file, so there is no index and nothing can be out of date. The file holds the object code as LLVM wrote it, the
symbols that the code refers to, and a checksum; no pickle. What does not check out is compiled again and written anew,
and where no folder can be used there is no cache. Each costs one warning in a process, and no computation fails of it.

Every object code is linked in an engine of its own, also where it has just been compiled. Numba numbers functions by
process, so two files may define one symbol with two meanings; in a shared engine one of them would call into the other.
And what several functions call is optimised, and so rounded, differently in each of them; Numba's engine has them all
call the first one's, so that bits would depend on what else a process has compiled.

Numba is imported where something must be compiled (`compiling.py`), and not before: that takes longer than all else.

NNFAST_CACHE=0 switches the cache off, NNFAST_CACHE_DIR moves it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import llvmlite.binding as llvm
import numpy as np

from nnfast.protocol import OpSpec

from . import cache_files, helpers, settings
from .modes import COMPILED

__all__ = [
    *(
        "Compiled",
        "Statistics",
        "builder",
        "clear",
        "compile_cfunc",
        "folder",
        "is_compilers",
        "is_kept",
        "locks_within",
    ),
    *("on_first_compile", "statistics"),
]

KEPT_DAYS = 60.0

# What else decides on the machine code, beside the sources: Numba's switches, and our own.
SWITCHES = (
    *("BOUNDSCHECK", "DEBUGINFO_DEFAULT", "DEBUG_ARRAY_OPT", "DEBUG_ARRAY_OPT_RUNTIME", "DEBUG_NRT", "DISABLE_JIT"),
    *("DISABLE_INTEL_SVML", "ENABLE_AVX", "EXTEND_VARIABLE_LIFETIMES", "LLVM_REFPRUNE_FLAGS", "LLVM_REFPRUNE_PASS"),
    *("LOOP_VECTORIZE", "OPT", "SLP_VECTORIZE", "USING_SVML"),
)
VARIABLES = ("NNFAST_VECTOR_BYTES",)

OBJECT_FILES = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"d\x86", b"d\xaa")  # ELF, Mach-O, COFF for x86-64 and for ARM64

on_first_compile: Callable[[str], None] | None = None  # told the key of the first function that this process compiles


class Compiled(NamedTuple):
    """A C-callable function. Its code stays where it is as long as the process lives."""

    address: int
    from_disk: bool
    owner: Any


class Statistics(NamedTuple):
    """Functions loaded, functions compiled, and the seconds that both took together, since the process began."""

    hits: int
    misses: int
    seconds: float


class _Process:
    """What this process has made, counted and warned of so far."""

    def __init__(self) -> None:
        self.made: dict[str, Compiled] = {}
        self.statistics = Statistics(0, 0, 0.0)
        self.warned: set[str] = set()
        self.unsaid: list[str] = []
        self.pruned = False

    def warn(self, kind: str, text: str) -> None:
        """Keep a warning, the first of its kind, until the work is done: a filter may turn it into an exception."""
        if kind not in self.warned:
            self.warned.add(kind)
            self.unsaid.append(text)


_process = _Process()

# Held while something is loaded or compiled. A fork waits for it, or the child would inherit it locked, and for those
# that are taken within it: Numba's.
_lock = threading.RLock()
locks_within: list[Any] = []


def _hold() -> None:
    for lock in (_lock, *locks_within):
        lock.acquire()


def _let_go() -> None:
    for lock in (*reversed(locks_within), _lock):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_let_go)


def compile_cfunc(
    key: str, build: Callable[[], Callable[..., Any]], signature: str, options: Mapping[str, Any], keep: bool = True
) -> Compiled:
    """The function that `key` stands for: from memory, from disk, or compiled from what `build()` returns.

    `signature` is written as Numba reads it: "void(CPointer(int64), int64)".
    `key` tells apart what the sources of this folder do not: the op, its dtype and attributes, and a hash of any source
    that comes from elsewhere. `build` is called with the compiler's lock held, and only where something is compiled.
    Without `keep` the disk has no part in it.
    """
    name = _name(key, signature, options)
    compiled = _process.made.get(name)
    if compiled is not None:
        return compiled
    with _lock:
        compiled = _process.made.get(name)
        if compiled is None:
            start = time.perf_counter()
            place = folder() if keep else None
            compiled = _load(place, name, key) or _in_turn(place, name, key, signature, options, build, keep)
            hits, misses, seconds = _process.statistics
            hit = int(compiled.from_disk)
            _process.statistics = Statistics(hits + hit, misses + 1 - hit, seconds + time.perf_counter() - start)
            _process.made[name] = compiled
        unsaid, _process.unsaid = _process.unsaid, []
    if unsaid:  # one warning, also where a file can be neither read nor written anew
        warnings.warn(f"nnfast: {'; '.join(unsaid)}", RuntimeWarning, stacklevel=2)
    return compiled


def builder(module: str, name: str = "build") -> Callable[[], Callable[..., Any]]:
    """A `build` that lies in a module of this folder, which imports Numba: it is imported when something is built."""
    return lambda: getattr(importlib.import_module(f".{module}", __package__), name)()


def _in_turn(
    place: Path | None,
    name: str,
    key: str,
    signature: str,
    options: Mapping[str, Any],
    build: Callable[[], Callable[..., Any]],
    keep: bool,
) -> Compiled:
    """Compile it, one process at a time: who had to wait finds what another has compiled meanwhile."""
    if keep and on_first_compile is not None and _process.statistics.misses == 0:
        on_first_compile(key)
    from . import compiling

    with contextlib.nullcontext() if place is None else cache_files.only_one(place, name):
        found = _load(place, name, key)
        return found or _linked_alone(place, name, key, compiling.function(build, signature, options))


def is_kept(key: str, signature: str, options: Mapping[str, Any]) -> bool:
    """Whether the disk has this function: then the Numba that is installed has worked here before."""
    place = folder()
    if place is None:
        return False
    return os.path.exists(place / (_name(key, signature, options) + cache_files.SUFFIX))  # False where none may look


def is_compilers(error: Exception) -> bool:
    """Whether this is Numba's way to say that a function cannot be compiled."""
    if not settings.is_loaded():
        return False
    from numba.core.errors import NumbaError

    return isinstance(error, NumbaError)


def statistics() -> Statistics:
    return _process.statistics


def folder() -> Path | None:
    """The folder of compiled functions, made if need be; None where the cache is off or no folder can be used."""
    if os.environ.get("NNFAST_CACHE") == "0" or not COMPILED:
        return None
    try:
        if not _STAMP:
            raise FileNotFoundError("without its sources nnfast cannot know which files are up to date")
        return cache_files.open_folder()
    except OSError as error:
        remedy = "NNFAST_CACHE_DIR names another folder, NNFAST_CACHE=0 does without"
        _process.warn("folder", f"compiled functions are not kept on disk: {_reason(error)}; {remedy}")
        return None


def clear() -> int:
    """Remove all files of the cache, of this version and others; returns how many. What is loaded stays loaded."""
    place = folder()
    return cache_files.remove(place, 0) if place else 0


def _load(place: Path | None, name: str, key: str) -> Compiled | None:
    if place is None:
        return None
    path = place / (name + cache_files.SUFFIX)
    try:
        return _link(*cache_files.unpack(name, cache_files.read(path)))
    except FileNotFoundError:
        return None
    except Exception as error:  # not only damage: any release of Numba may change the private parts that _link uses
        _process.warn("load", f"recompiling {key!r}, because {path} cannot be used: {_reason(error)}")
        return None


def _linked_alone(place: Path | None, name: str, key: str, function: Any) -> Compiled:
    """What was compiled just now, as it will be loaded from the disk the next time, and put there."""
    from . import compiling

    compiled = Compiled(int(function.address), False, function)
    try:
        code = compiling.object_code(function)
        compiled = _link(*code)._replace(from_disk=False)
        if place and source_stamp() == _STAMP:  # else they are being edited, and nobody knows which ones were compiled
            _store(place, name, code)
    except compiling.UnsupportedError:  # it would end in the middle, and only say so
        raise
    except Exception as error:
        if place:
            _process.warn("store", f"{key!r} is compiled, but not kept in {place}: {_reason(error)}")
    return compiled


def _store(place: Path, name: str, code: tuple[str, list[str], bytes]) -> None:
    if not _process.pruned:
        _process.pruned = True
        cache_files.remove(place, KEPT_DAYS)
    cache_files.write(place / (name + cache_files.SUFFIX), cache_files.pack(name, *code))


# --- the name: all that the machine code depends on ---


def source_stamp() -> str:
    """A hash of the sources that compiled functions are made from; empty where there are none to read."""
    here, table = Path(__file__), Path(sys.modules[OpSpec.__module__].__file__ or "")
    if here.suffix != ".py" or table.suffix != ".py":  # installed as byte code alone
        return ""
    try:
        sources = [*sorted(here.parent.rglob("*.py")), table]
        return _digest(part for path in sources for part in (path.name.encode(), path.read_bytes()))
    except OSError:
        return ""


def _name(key: str, signature: str, options: Mapping[str, Any]) -> str:
    versions = [sys.version, np.__version__, settings.version(), llvmlite.__version__, llvm.get_process_triple()]
    switches = [repr(getattr(settings.config(), switch, None)) for switch in SWITCHES]
    variables = [os.environ.get(variable, "") for variable in VARIABLES]
    own = [key, signature, _canonical(options), _STAMP]
    parts = [*own, *versions, *settings.processor(), *switches, *variables]
    return _digest([cache_files.FORMAT, *(part.encode("utf-8", "surrogatepass") for part in parts)])


def _canonical(value: Any) -> str:
    """The same text for the same options in every process: the order of a set depends on the process."""
    if isinstance(value, Mapping):
        return "{" + ",".join(sorted(f"{key!r}:{_canonical(item)}" for key, item in value.items())) + "}"
    if isinstance(value, set | frozenset):
        return "{" + ",".join(sorted(map(repr, value))) + "}"
    return repr(value)


def _digest(parts: Iterable[bytes]) -> str:
    """One hash of many parts, each with its length, so that no two lists run together to the same bytes."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "little") + part)
    return whole.hexdigest()


# Taken when the backend is imported, before the modules whose functions it compiles.
_STAMP = source_stamp()


# --- the machine code, into a process ---


def _check(symbols: list[str], code: bytes) -> None:
    """What LLVM does not check: a missing symbol, or code that is no object file, is the end of the process there."""
    missing = [symbol for symbol in symbols if not llvm.address_of_symbol(symbol)]
    if missing:
        raise LookupError(f"it needs {', '.join(missing)}, which this process does not have")
    if not code.startswith(OBJECT_FILES):
        raise ValueError("it is no object file")


def _link(entry: str, symbols: list[str], code: bytes) -> Compiled:
    helpers.start_llvm()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    helpers.provide(symbols)  # LLVM knows those of this process once it has an engine
    _check(symbols, code)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = engine.get_function_address(entry)
    if not address:
        raise LookupError(f"it has no {entry}")
    return Compiled(address, True, engine)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
