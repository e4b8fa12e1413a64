"""Numba's version and switches, and the processor that it compiles for, known without importing Numba.

Numba takes longer to import than all kernels of a model to load, and where they are all on disk it has nothing to do.
So the files of Numba that say these things are run alone; where that fails, Numba is imported after all.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import llvmlite.binding as llvm

__all__ = ["alone", "config", "is_loaded", "processor", "version"]

# The library of vector functions that Numba uses where it is installed, by platform.
SVML = {"linux": "libsvml.so", "darwin": "libsvml.dylib", "win32": "svml_dispmd"}


def is_loaded() -> bool:
    return "numba" in sys.modules


def version() -> str:
    return _numba()[0]


def config() -> Any:
    """Numba's `config`: the one in use, whose switches a program may set, or what it will be."""
    return _numba()[1]


def _numba() -> tuple[str, Any]:
    """Version and `config`: of the Numba that is imported, else from its files."""
    known = None if is_loaded() else _known()
    if known is not None:
        return known
    import numba

    return str(numba.__version__), numba.config


def alone(name: str) -> Any:
    """A module of Numba's, by itself: of an import of Numba this is no part."""
    found = importlib.util.find_spec("numba")
    assert found is not None
    folder = Path(found.origin or "").parent.joinpath(*name.split(".")[1:-1])
    spec = importlib.machinery.PathFinder.find_spec(name, [str(folder)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    finally:
        if sys.modules.get(name) is module:  # where extension modules put themselves
            del sys.modules[name]
    return module


def processor() -> tuple[str, str]:
    """Name and features, as LLVM's words (`+avx2,-avx512f,…`), of the processor, which need not be this one."""
    switches = config()
    name, features = switches.CPU_NAME, switches.CPU_FEATURES
    host, of_host = _host(bool(switches.ENABLE_AVX))
    return name or host, of_host if features is None else features


@functools.cache
def _host(avx: bool) -> tuple[str, str]:
    name = llvm.get_host_cpu_name()
    try:
        features = llvm.get_host_cpu_features()
    except RuntimeError:  # LLVM does not know them on every platform
        return name, ""
    if not avx:
        features.update({feature: False for feature in features if feature.startswith("avx")})
    return name, features.flatten()


@functools.cache
def _known() -> tuple[str, ModuleType] | None:
    """Version and `config`, from their files; None where these do not say all."""
    try:
        switches = alone("numba.core.config")
        if not switches.DISABLE_INTEL_SVML and _has_svml():
            return None
        switches.USING_SVML = False
        return str(alone("numba._version").get_versions()["version"]), switches
    except Exception:  # whatever it is, Numba itself will say it better
        return None


def _has_svml() -> bool:
    library = SVML.get(sys.platform)
    if library is None:
        return False
    try:
        llvm.load_library_permanently(library)
    except RuntimeError:
        return False
    return True
