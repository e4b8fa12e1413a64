"""The CUDA sources as text: which kernels there are, what each takes, and what a compiler gets to see.

The structs in `src/` are the only description of a kernel's arguments: they are read from there, and a test holds the
NumPy dtypes made of them against the compiler's own layout.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "EACH",
    "SRC",
    "KernelSource",
    "constants",
    "expanded",
    "for_each",
    "kernels",
    "options",
    "struct_dtype",
    "units",
]

SRC = Path(__file__).parent / "src"

_STRUCT = re.compile(r"^struct (?:alignas\(\d+\) )?(\w+) \{$(.*?)^\};$", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\s*(?:const )?((?:unsigned long long|unsigned|\w+))\b\s*((?:\*\s*(?:const\b)?\s*)*)(\w+);")
_KERNEL = re.compile(
    r'^extern "C" __global__ void __launch_bounds__\((\d+)(?:, \d+)?\)\s+(\w+)\(const (\w+) (\w+)\)', re.MULTILINE
)
_HEAD = re.compile(
    r'^(extern "C" __global__ void __launch_bounds__\(.+?\)\s+\w+)\(const (\w+) (\w+)\) \{$', re.MULTILINE
)
_ENUM = re.compile(r"^enum (\w+) \{(.*?)\};", re.MULTILINE | re.DOTALL)
_INCLUDE = re.compile(r'^#include "([\w.]+)"\n', re.MULTILINE)

_PLAIN = {"index": "i8", "int": "i4", "unsigned": "u4", "double": "f8", "unsigned long long": "u8"}


class KernelSource(NamedTuple):
    """One `__global__` function: the file that holds it, threads per block, and its struct of arguments."""

    name: str
    unit: str
    threads: int
    struct: str


def units() -> list[str]:
    """The files that are compiled, each by itself."""
    return sorted(path.name for path in SRC.glob("*.cu"))


@functools.cache
def expanded(unit: str) -> str:
    """A unit with its own headers in place: one text, as compilers' caches key on what they are given.

    In ASCII, since CuPy writes it to a file in the encoding of the locale; other signs stand in comments only.
    """
    seen: set[str] = set()

    def read(name: str) -> str:
        if name in seen:  # as `#pragma once`
            return ""
        seen.add(name)
        text = (SRC / name).read_text(encoding="utf-8").replace("#pragma once\n", "")
        return _INCLUDE.sub(lambda match: read(match[1]), text)

    return read(unit).encode("ascii", "replace").decode("ascii")


EACH = "_each"  # ends the name of a kernel that takes a table


def for_each(text: str) -> str:
    """A unit whose kernels take a table of their structs each: block (x, y, z) does what (x, y) would with the z-th."""
    # Restricted, so that a field may be read again instead of being kept in a register, or spilled.
    return _HEAD.sub(rf"\1{EACH}(const \2* const __restrict__ each) {{\n    const \2& \3 = each[blockIdx.z];", text)


def options(dtype: Any) -> tuple[str, ...]:
    """Compiler options for a working dtype."""
    return ("-std=c++17", f"-DNNF_DOUBLE={int(np.dtype(dtype) == np.float64)}")


@functools.cache
def kernels() -> Mapping[str, KernelSource]:
    """All kernels by name."""
    found = {}
    for unit in units():
        for threads, name, struct, _ in _KERNEL.findall(expanded(unit)):
            found[name] = KernelSource(name, unit, int(threads), struct)
    return found


@functools.cache
def struct_dtype(unit: str, struct: str, dtype: str) -> np.dtype[Any]:
    """The NumPy dtype that lies in memory as the struct does, with pointers as uint64."""
    bodies = dict(_STRUCT.findall(expanded(unit)))
    fields = []
    for line in bodies[struct].strip().splitlines():
        match = _FIELD.match(line)
        if match is None:
            raise ValueError(f"{unit}: cannot read {line.strip()!r} in struct {struct}; write `type name;`")
        kind, stars, name = match[1].strip(), match[2], match[3]
        fields.append((name, "u8" if stars.strip() else _field(unit, kind, dtype, bodies)))
    return np.dtype(fields, align=True)


def _field(unit: str, kind: str, dtype: str, structs: Mapping[str, str]) -> Any:
    if kind == "real":
        return np.dtype(dtype)
    if kind in structs:
        return struct_dtype(unit, kind, dtype)
    return _PLAIN[kind]


@functools.cache
def constants(unit: str, enum: str) -> Mapping[str, int]:
    """The names of an enum, in lower case, and their values: 0, 1, 2, … in the order of the text."""
    body = dict(_ENUM.findall(expanded(unit)))[enum]
    names = [name.partition("//")[0].strip() for name in re.sub(r"//.*", "", body).split(",")]
    return {name.lower(): i for i, name in enumerate(n for n in names if n)}
