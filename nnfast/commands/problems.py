"""What is wrong with an installation, from the facts of `nnfast info`: each problem with what mends it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["problems"]

CUDA_EXTRAS = 'pip install "nnfast[cuda13]", or "nnfast[cuda12]" where `nvidia-smi` reports CUDA 12'

# Switches for looking at kernels one by one; with them nothing runs at its speed.
SLOW = {
    "NUMBA_DISABLE_JIT": "kernels run as plain Python, hundreds of times slower",
    "NUMBA_BOUNDSCHECK": "kernels check every index, and whole steps are not compiled",
}


def problems(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """All of them, the worst first; `facts` as `nnfast.commands.info.facts` gives them, without this list."""
    found = [*_selection(facts), *_numba(facts), *_threads(facts), *_cache(facts), *_gpu(facts), *_packages(facts)]
    return [{"problem": problem, "fix": fix} for problem, fix in found]


def _selection(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if facts["selected"]["backend"] is None:
        usable = [name for name, state in facts["backends"].items() if state["available"]]
        given = facts["environment"]["NNFAST_BACKEND"]
        fix = f"unset NNFAST_BACKEND, or set it to one of {', '.join(usable)}" if given else "pip install nnfast"
        yield f"no backend computes by default: {facts['selected']['why']}", fix


def _numba(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    state = facts["backends"].get("numba")
    if state is not None and not state["available"]:
        why, fix = _parted(state["reason"])
        yield f"trainings run on NumPy alone, without the Numba backend: {why}", fix
    for switch, effect in SLOW.items():
        if facts["environment"][switch] not in (None, "", "0"):
            yield f"{switch} is set: {effect}", f"unset {switch}"


def _parted(reason: str) -> tuple[str, str]:
    """A backend's reason ends with what mends it, behind the last semicolon, or else the last colon."""
    for mark in ("; ", ": "):
        why, found, fix = reason.rpartition(mark)
        if found:
            return why, fix
    return reason, "mend that, or choose another backend"


def _threads(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    count, allowed = facts["threads"]["count"], facts["machine"]["allowed"]
    if count is None:
        yield facts["threads"]["why"], f"unset NNFAST_NUM_THREADS, or set it to a number from 1 to {allowed}"
        return
    if count > allowed:
        fix = f"set NNFAST_NUM_THREADS to {allowed} at most, or unset it"
        yield f"{count} threads would share {allowed} CPUs and wait for each other", fix
    for owner, blas in facts["blas"].items():
        if blas is not None and (blas["threads"] or 0) > allowed:
            fix = f"set OPENBLAS_NUM_THREADS (or MKL_NUM_THREADS, OMP_NUM_THREADS) to {allowed}"
            yield f"the BLAS of {owner} uses {blas['threads']} threads on {allowed} CPUs", fix


def _cache(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    cache = facts["cache"]
    if cache is None or cache["off"]:
        return
    if cache["problem"]:
        place = f" in {cache['folder']}" if cache["folder"] else ""
        fix = "set NNFAST_CACHE_DIR to a folder that is yours alone, or mend that one; NNFAST_CACHE=0 does without"
        yield f"compiled kernels cannot be kept{place}, so every process compiles anew: {cache['problem']}", fix


def _gpu(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A GPU that lies idle, and two installations of CuPy that overwrite each other."""
    state = facts["backends"].get("cupy")
    if facts["gpu"]["devices"] and state is not None and not state["available"]:
        why, fix = _parted(state["reason"])
        yield f"there is a GPU, and the backend 'cupy' cannot use it: {why}", fix
    installed = (facts["versions"]["cupy"] or "").split(", ")
    if len(installed) > 1:
        names = [one.partition(" ")[0] for one in installed]
        fix = f"pip uninstall {' '.join(names)}, then install the one that fits: {CUDA_EXTRAS}"
        yield f"several CuPy are installed and overwrite each other's files: {', '.join(installed)}", fix


def _packages(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Those that nnfast itself asks for."""
    effects = {
        "scipy": "GELU is slow in the NumPy backend, and nnfast.sklearn cannot be used",
        "threadpoolctl": "the threads of BLAS cannot be told, and profiles cannot hold them to one number",
    }
    for name, effect in effects.items():
        if facts["versions"][name] is None:
            yield f"{name} is not installed: {effect}", f"pip install {name}"
