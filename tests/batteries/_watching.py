"""What a refused call must leave alone: kernels, which it must not run, and everything that can be seen to change.

`Kernels` counts the kernels and programs that run, on both backends of the CPU. `seen` takes down the contents of
arrays and the attributes of objects, `process_seen` what the process has set; `difference` names one that
differs.
"""

from __future__ import annotations

import functools
import os
import types
from collections.abc import Mapping

import numpy as np

import nnfast as nn
from nnfast import registry, threads
from nnfast.compat import _data
from nnfast.errors import BackendUnavailable
from nnfast.ops import CUSTOM, OPS

__all__ = ["Kernels", "backends", "difference", "process_seen", "seen"]

# What an object remembers to be quick, and who computes: chosen at the first call, whatever that call is.
# The engine of the book's Model is made of its parts, and brought up to date at every call.
SKIPPED = {"_programs", "_lowered", "_layout", "_backend", "_backend_choice", "backend", "_engine"}


def backends():
    """The names of the backends of the CPU that work here."""
    found = []
    for name in ("numpy", "numba"):
        try:
            registry.get_backend(name)
        except BackendUnavailable:
            continue
        found.append(name)
    return found


class Kernels:
    """Counts what runs, while it is entered: kernels that a backend was asked for, and runs of programs."""

    def __init__(self):
        self.ran = 0
        self._before = []

    def __enter__(self):
        for name in backends():
            backend = registry.get_backend(name)
            kind, runner = type(backend), type(backend.compile(_program()))
            self._patch(kind, "kernel", self._counting_what_it_gives)
            self._patch(runner, "run", self._counting)
            if hasattr(runner, "repeat"):
                self._patch(runner, "repeat", lambda function: self._counting(self._counting_what_it_gives(function)))
        return self

    def __exit__(self, *_):
        for owner, name, function in reversed(self._before):
            setattr(owner, name, function)
        self._before.clear()

    def _patch(self, owner, name, make):
        function = vars(owner)[name]
        self._before.append((owner, name, function))
        setattr(owner, name, make(function))

    def _counting(self, function):
        @functools.wraps(function)
        def call(*args, **keywords):
            self.ran += 1
            return function(*args, **keywords)

        return call

    def _counting_what_it_gives(self, function):
        """For what gives a function: that one is counted."""

        @functools.wraps(function)
        def give(*args, **keywords):
            kernel = function(*args, **keywords)
            return None if kernel is None else self._counting(kernel)

        return give


def _program():
    """Any program: it takes one to see the class of a backend's runner."""
    return nn.Model([nn.Dense(1, 1)], backend="numpy", rng=0).program


# ---- what can be seen -----------------------------------------------------------------------------------------------


def seen(thing, name):
    """By path: everything in this thing."""
    found = {}
    _walk(name, thing, found, {})
    return found


def process_seen(folder):
    """By path: what the process has set, and which files are in the folder."""
    found = {}
    process = {
        "threads": threads._count,
        "backends": tuple(registry._factories),
        "current backend": id(registry._current.get()),
        "ops": tuple(OPS),
        "own ops": tuple(CUSTOM),
        "compat dtype": _data._dtype,
        "NumPy's stream": np.random.mtrand._rand,
        "NumPy's errors": np.geterr(),
        "files": sorted((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in os.scandir(folder)),
    }
    _walk("process", process, found, {})
    return found


def difference(before, after, ignored=()):
    """The first path where they differ, in words; empty if there is none. Paths with an ignored part may differ."""
    if before == after:
        return ""
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path) and not any(part in path for part in ignored):
            return f"{path} was {_short(before.get(path))} and is {_short(after.get(path))}"
    return ""


def _short(value):
    return "not there" if value is None else f"{value!r:.120}"


_PLAIN = (str, bytes, int, float, complex, bool, type(None), np.generic, np.dtype, type, types.ModuleType, os.PathLike)
_CODE = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.GeneratorType, functools.partial)


def _walk(path, thing, found, known):
    if type(thing) is int:
        found[path] = hex(thing)
    elif isinstance(thing, _CODE):
        found[path] = id(thing)
    elif isinstance(thing, _PLAIN):
        found[path] = (type(thing).__name__, repr(thing))
    elif isinstance(thing, np.ndarray):
        content = repr(thing) if thing.dtype.hasobject else thing.tobytes()
        found[path] = (thing.dtype.str, thing.shape, thing.strides, thing.flags.writeable, content)
    elif isinstance(thing, np.random.Generator):
        found[path] = repr(thing.bit_generator.state)
    elif isinstance(thing, np.random.RandomState):
        kind, keys, *rest = thing.get_state()
        found[path] = (kind, keys.tobytes(), *rest)
    elif id(thing) in known:
        found[path] = f"the same as {known[id(thing)]}"
    else:
        known[id(thing)] = path
        _walk_parts(path, thing, found, known)


def _walk_parts(path, thing, found, known):
    if path.endswith(".slots"):
        # The arrays of an optimizer are made when they are needed, of zeros: until then they are as good as there.
        parts = [(f"[{key}]", slot) for key, slot in thing.items() if slot.any()]
    elif isinstance(thing, Mapping) or hasattr(thing, "items"):
        parts = [(f"[{key!r:.40}]", value) for key, value in thing.items()]
    elif isinstance(thing, list | tuple | set | frozenset):
        parts = [(f"[{i}]", value) for i, value in enumerate(thing)]
    else:
        slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
        named = {n: getattr(thing, n) for n in slots if hasattr(thing, n)} | getattr(thing, "__dict__", {})
        parts = [(f".{name}", value) for name, value in named.items() if name not in SKIPPED]
    found[path] = (type(thing).__name__, len(parts))
    for name, value in parts:
        _walk(path + name, value, found, known)
