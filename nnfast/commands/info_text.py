"""The facts of `nnfast info` as text for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nnfast.text import quantity

__all__ = ["text"]

Line = tuple[str, str]  # name and value; a value alone goes on with the line above


def text(facts: Mapping[str, Any]) -> str:
    """Blocks of names and values; the problems at the end."""
    blocks = [
        list(_machine(facts)),
        [("backends", ""), *_backends(facts)],
        [("gpu", ""), *_gpu(facts["gpu"])],
        [("packages", ""), *_packages(facts["versions"])],
        [("environment", ""), *_environment(facts["environment"])],
    ]
    width = max(len(name) for block in blocks for name, _ in block) + 2
    tables = ["\n".join(f"{name:{width}}{value}".rstrip() for name, value in block) for block in blocks]
    return "\n\n".join([*tables, _problems(facts["problems"])])


def _machine(facts: Mapping[str, Any]) -> Iterator[Line]:
    versions, machine, threads = facts["versions"], facts["machine"], facts["threads"]
    selected = facts["selected"]
    yield "nnfast", versions["nnfast"]
    yield "python", versions["python"]
    yield "platform", machine["platform"]
    yield "processor", machine["processor"]
    yield "cpus", f"{machine['cpus']}, of which this process may use {machine['allowed']}"
    yield "threads", f"{threads['count'] or 'unknown'}: {threads['why']}"
    for owner, blas in facts["blas"].items():
        yield f"blas of {owner}", _blas(blas)
    yield "computes", f"{selected['backend'] or 'nobody'}: {selected['why']}"
    yield "kernel cache", _cache(facts["cache"])


def _blas(blas: Mapping[str, Any] | None) -> str:
    if blas is None:
        return "not installed"
    threads = "threads unknown" if blas["threads"] is None else _count(blas["threads"], "thread")
    return f"{blas['name']} {blas['version']}".rstrip() + f", {threads}"


def _cache(cache: Mapping[str, Any] | None) -> str:
    if cache is None:
        return "none: the Numba backend does not work"
    if cache["off"]:
        return f"off, by {cache['off']}"
    if cache["folder"] is None:
        return f"none: {cache['problem']}"
    size = quantity(cache["bytes"], "B")
    writable = f"NOT usable: {cache['problem']}" if cache["problem"] else "writable"
    return f"{cache['folder']}: {_count(cache['files'], 'file')}, {size}, {writable}"


def _backends(facts: Mapping[str, Any]) -> Iterator[Line]:
    for name, state in facts["backends"].items():
        yield f"  {name}", state["reason"] or "available"


def _gpu(gpu: Mapping[str, Any]) -> Iterator[Line]:
    if not gpu["devices"]:
        yield "  none", gpu["reason"] or "CuPy sees none"
    for number, device in enumerate(gpu["devices"]):
        memory = device["memory_bytes"] and f"{device['memory_bytes'] / 2**30:.1f} GiB"
        capability = device["compute_capability"] and f"compute capability {device['compute_capability']}"
        yield f"  {number}", ", ".join(filter(None, [device["name"], memory, capability]))
    names = {"driver": "driver", "cuda_driver": "CUDA of the driver", "cuda_runtime": "CUDA of CuPy"}
    for key, name in names.items():
        if gpu[key]:
            yield f"  {name}", gpu[key]


def _packages(versions: Mapping[str, str | None]) -> Iterator[Line]:
    for name, version in versions.items():
        if name not in ("nnfast", "python"):
            yield f"  {name}", version or "not installed"


def _environment(variables: Mapping[str, str | None]) -> Iterator[Line]:
    """Those that are set: that the others are not is what is expected."""
    known = [(f"  {name}", value) for name, value in variables.items() if value is not None]
    yield from known or [("  none set", "")]


def _problems(problems: list[dict[str, str]]) -> str:
    if not problems:
        return "nothing wrong"
    lines = [f"{i}. {one['problem']}\n   fix: {one['fix']}" for i, one in enumerate(problems, 1)]
    return "\n".join([_count(len(problems), "problem"), *lines])


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
