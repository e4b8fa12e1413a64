"""Builds the CUDA sources with g++ into libraries that run their kernels on the CPU, and launches them.

Every unit becomes a shared library of its own, compiled when somebody asks for a library of all and kept in a cache by
its content: a unit that does not compile fails only those who launch its kernels.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import getpass
import hashlib
import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["ORDERS", "Library", "SimulatorError", "library", "sources", "unavailable"]

sources = importlib.import_module("nnfast.kernels.cupy_gpu.sources")

ORDERS = ("forward", "reversed", "shuffled")
HERE = Path(__file__).parent
SIMULATOR = ("simt.h", "simt_math.h", "simt_runtime.cpp")
USUAL = ("dense.cu", "gather.cu", "optimizers.cu", "softmax_xent.cu", "metrics.cu")  # what training needs most often

# -fno-gnu-unique so that statics of templates belong to one library. What a GPU faults at, a misaligned access above
# all, is found in the usual build as well, by checks whose handlers are our own. -O1 where compiling takes long anyway.
COMMON = ("-std=c++17", "-g1", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique", "-ffp-contract=off", "-w")
CHECKED = ("-O2", "-fsanitize=alignment,null,bounds,integer-divide-by-zero")
SANITIZED = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize=null,pointer-overflow", "-fno-sanitize-recover=all")


class SimulatorError(RuntimeError):
    """A fault of a kernel, or a unit that does not compile."""


@functools.cache
def unavailable() -> str | None:
    """Why kernels cannot be simulated here, or None."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return f"the simulator runs on Linux on x86-64 and aarch64, not on {sys.platform} on {platform.machine()}"
    return None if shutil.which("g++") else "the simulator needs g++"


class Library:
    """The kernels of all units, and of sources of a test's own, in one working dtype."""

    def __init__(self, dtype: str, sanitize: bool, extra_sources: Sequence[str]) -> None:
        self.dtype = dtype
        self.sanitize = sanitize
        self.kernels: Mapping[str, Any] = {**sources.kernels(), **_kernels_of(extra_sources)}
        self._built: dict[tuple[str, bool], Future[str]] = {}
        self._launchers: dict[str, Any] = {}

    def compile(self, units: Sequence[str], each: bool = False) -> None:
        """Start compiling these units, where that has not been done yet; `each`: with kernels that take tables."""
        for unit in units:
            if (unit, each) not in self._built:
                self._built[unit, each] = _compiler().submit(_build, unit, self.dtype, self.sanitize, each)

    def layout(self, kernel: str) -> np.dtype[Any]:
        """The dtype of the record that a kernel takes."""
        source = self.kernels[kernel]
        return sources.struct_dtype(source.unit, source.struct, self.dtype)

    def launch(
        self,
        kernel: str,
        blocks: int | tuple[int, int],
        args: Any,
        shared: int = 0,
        order: str = "forward",
        seed: int = 0,
    ) -> None:
        """Run one launch to its end. `args` is a record of the kernel's struct; pointers are addresses in this process.

        Raises SimulatorError where a GPU would hang, fault or do what nobody promised.
        """
        record = np.ascontiguousarray(args, self.layout(kernel))
        self._run(kernel, (blocks, 1) if isinstance(blocks, int) else blocks, 1, record, shared, order, seed)

    def launch_each(
        self,
        kernel: str,
        blocks: tuple[int, int],
        table: np.ndarray[Any, Any],
        shared: int = 0,
        order: str = "forward",
        seed: int = 0,
    ) -> None:
        """Run a launch of the kernel that takes a table of records, one for each of its third axis."""
        self._run(kernel + sources.EACH, blocks, len(table), table, shared, order, seed)

    def _run(
        self, name: str, blocks: tuple[int, int], z: int, args: np.ndarray[Any, Any], shared: int, order: str, seed: int
    ) -> None:
        launcher = self._launchers.get(name) or self._launcher(name)
        text = launcher(*blocks, z, shared, ORDERS.index(order), seed, args.ctypes.data, args.nbytes // z)
        if text:
            raise SimulatorError(text.decode())

    def _launcher(self, kernel: str) -> Any:
        each = kernel.endswith(sources.EACH)
        unit = self.kernels[kernel.removesuffix(sources.EACH)].unit
        self.compile([unit], each)
        if not os.path.isabs(unit):  # who wants one of the package's will want others
            self.compile(USUAL if each else sources.units(), each)
        try:
            function = getattr(_loaded(self._built[unit, each].result()), f"simt_launch_{kernel}")
        except AttributeError:
            raise SimulatorError(f"{unit} has no {kernel} any more: it was changed while this process ran") from None
        function.restype = ctypes.c_char_p
        unsigned, wide = ctypes.c_uint, ctypes.c_ulonglong
        function.argtypes = [unsigned, unsigned, unsigned, wide, ctypes.c_int, wide, ctypes.c_void_p, wide]
        self._launchers[kernel] = function
        return function


@functools.cache
def library(dtype: Any, sanitize: bool = False, extra_sources: tuple[str, ...] = ()) -> Library:
    """The library of a working dtype. The first launch begins compiling; each waits for its own unit only.

    With `sanitize` the process must have been started with the runtime of the sanitizers, see `simulator.sanitized`.
    """
    reason = unavailable()
    if reason:
        raise SimulatorError(reason)
    return Library(np.dtype(dtype).name, sanitize, extra_sources)


@functools.cache
def _loaded(path: str) -> ctypes.CDLL:
    return ctypes.CDLL(path)


KEPT = 7 * 24 * 3600  # seconds that a library nobody asks for is kept


def _forget_old(folder: Path) -> None:
    """Every change of a kernel makes another library; those that were not used for long are removed."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another process may do the same
            if path.is_file() and time.time() - path.stat().st_mtime > KEPT:
                path.unlink()


@functools.cache
def _compiler() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, "g++")


def _kernels_of(units: Sequence[str]) -> dict[str, Any]:
    """The kernels of sources outside of the package, by absolute path."""
    return {
        name: sources.KernelSource(name, str(Path(unit).resolve()), int(threads), struct)
        for unit in units
        for threads, name, struct, _ in sources._KERNEL.findall(Path(unit).read_text(encoding="utf-8"))
    }


def cache() -> Path:
    """Where libraries are kept: a folder of the user's own in the platform's folder for temporary files."""
    folder = Path(tempfile.gettempdir()) / f"nnfast-simulator-{getpass.getuser()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _build(unit: str, dtype: str, sanitize: bool, each: bool) -> str:
    """The path of a unit's library, compiled where the cache has none."""
    options = [*COMMON, *(SANITIZED if sanitize else CHECKED), *sources.options(dtype), "-DNNF_HOST"]
    text = _translation_unit(unit, dtype, each)
    simulator = "".join((HERE / name).read_text(encoding="utf-8") for name in SIMULATOR)
    # Not `expanded`, which remembers: a source may have been changed since this process began.
    content = _contents(sources.SRC / unit, set())
    key = hashlib.sha256("\0".join([*options, text, simulator, content, platform.machine()]).encode()).hexdigest()[:24]
    target = cache() / f"{Path(unit).stem}-{key}.so"
    if target.exists():
        os.utime(target)
        return str(target)
    _forget_old(cache())
    with tempfile.TemporaryDirectory(dir=cache()) as name:
        folder = Path(name)
        (folder / "unit.cpp").write_text(text, encoding="utf-8")
        (folder / "begin.cpp").write_text("char simt_static_begin[64];\n", encoding="utf-8")
        (folder / "end.cpp").write_text("char simt_static_end[64];\n", encoding="utf-8")
        include = ["-I", str(HERE), "-I", str(sources.SRC)]
        sanitizer = [option for option in options if "sanitize" in option]
        plain = [option for option in options if option not in sanitizer]
        _run("g++", "-c", *options, *include, "unit.cpp", "-o", "unit.o", cwd=folder)
        _run("g++", "-c", *plain, "begin.cpp", "end.cpp", cwd=folder)
        runtime = [*plain, *(["-fsanitize=address"] if sanitize else [])]
        _run("g++", "-c", *runtime, *include, str(HERE / "simt_runtime.cpp"), "-o", "runtime.o", cwd=folder)
        # In this order: what lies between `begin` and `end` is the shared memory of the unit.
        objects = ["begin.o", "unit.o", "end.o", "runtime.o"]
        link = sanitizer if sanitize else []
        _run(
            "g++",
            "-shared",
            *link,
            *objects,
            "-o",
            "library.so",
            "-lm",
            "-Wl,-z,defs" if not sanitize else "-g",
            cwd=folder,
        )
        os.replace(folder / "library.so", target)
    return str(target)


def _run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SimulatorError(f"{' '.join(command)}\n{done.stderr[-4000:]}")


def _contents(path: Path, seen: set[str]) -> str:
    """A source and its own headers, one after the other."""
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r'^#include "([\w.]+)"', text, re.MULTILINE):
        if name not in seen:
            seen.add(name)
            text += _contents(sources.SRC / name, seen)
    return text


def _translation_unit(unit: str, dtype: str, each: bool) -> str:
    """What g++ compiles: the source in a namespace without a name, so that nothing of it meets another unit's or the C
    library's, and a launcher for each kernel."""
    path = sources.SRC / unit
    text = path.read_text(encoding="utf-8")
    flush = int(np.dtype(dtype) == np.float32)
    launchers = "\n".join(
        (_LAUNCHER_EACH if each else _LAUNCHER).format(name=name, threads=threads, struct=struct, flush=flush)
        for threads, name, struct, _ in sources._KERNEL.findall(text)
    )
    source = f'#line 1 "{path}"\n{sources.for_each(text)}' if each else f'#include "{path}"'
    return f'#include "simt.h"\nnamespace {{\n{source}\n}}\n{launchers}'


_LAUNCHER = """
extern "C" __attribute__((visibility("default"))) const char* simt_launch_{name}(
    unsigned x, unsigned y, unsigned z, unsigned long long shared, int order, unsigned long long seed, const void* args,
    unsigned long long size) {{
    if (size != sizeof({struct})) return "{name}: the record has another size than struct {struct}";
    alignas({struct}) unsigned char copy[sizeof({struct})];
    __builtin_memcpy(copy, args, sizeof copy);
    const auto body = [](const void* p) {{ {name}(*static_cast<const {struct}*>(p)); }};
    return simt_run({{"{name}", body, copy, {threads}, x, y, z, shared, order, seed, {flush}}});
}}
"""
_LAUNCHER_EACH = """
extern "C" __attribute__((visibility("default"))) const char* simt_launch_{name}_each(
    unsigned x, unsigned y, unsigned z, unsigned long long shared, int order, unsigned long long seed, const void* args,
    unsigned long long size) {{
    if (size != sizeof({struct})) return "{name}_each: the records have another size than struct {struct}";
    const auto body = [](const void* p) {{ {name}_each(static_cast<const {struct}*>(p)); }};
    return simt_run({{"{name}_each", body, args, {threads}, x, y, z, shared, order, seed, {flush}}});
}}
"""
