"""Facts of the machine and of what is installed on it: versions, processor, BLAS, threads, environment."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["VARIABLES", "blas", "machine_facts", "threads_facts", "variables", "versions"]

# The distributions that matter to nnfast, needed or optional. CuPy has one per CUDA version.
PACKAGES = (
    *("numpy", "numba", "llvmlite", "scipy", "threadpoolctl", "rich", "matplotlib", "scikit-learn", "onnx"),
    "tensorboardX",
)
BLAS_OWNERS = ("numpy", "scipy")
CUPY = ("cupy", "cupy-cuda12x", "cupy-cuda13x")

# What changes how nnfast computes, by who reads it: nnfast, Numba, BLAS and OpenMP, CUDA, Python.
VARIABLES = (
    *("NNFAST_BACKEND", "NNFAST_NUM_THREADS", "NNFAST_CACHE", "NNFAST_CACHE_DIR", "NNFAST_VECTOR_BYTES"),
    *("NNFAST_GPU_TUNING", "XDG_CACHE_HOME"),
    *("NUMBA_NUM_THREADS", "NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"),
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_PATH", "CUPY_CACHE_DIR"),
    *("PYTHONPATH", "PYTHONOPTIMIZE"),
)


def machine_facts() -> dict[str, Any]:
    """platform, processor, cpus (of the machine), allowed (to this process)."""
    import platform

    from nnfast.threads import cpu_count

    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count() or 1,
        "allowed": cpu_count(),
    }


def versions() -> dict[str, str | None]:
    """nnfast, Python and each distribution; None for those that are missing. From the metadata: nothing is imported."""
    import platform

    import nnfast

    found: dict[str, str | None] = {
        "nnfast": nnfast.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    found |= {name: _version(name) for name in PACKAGES}
    return found | {"cupy": ", ".join(f"{name} {version}" for name in CUPY if (version := _version(name))) or None}


def threads_facts() -> dict[str, Any]:
    """count (None where the environment is wrong) and why."""
    from nnfast.errors import OptionError
    from nnfast.threads import found

    try:
        count, why = found()
    except OptionError as error:
        return {"count": None, "why": str(error)}
    return {"count": count, "why": why}


def variables() -> dict[str, str | None]:
    """The environment variables that matter; None for those that are not set."""
    return {name: os.environ.get(name) for name in VARIABLES}


def blas() -> dict[str, dict[str, Any] | None]:
    """The BLAS of NumPy and of SciPy: name, version, threads (None where threadpoolctl cannot tell); None: no SciPy."""
    return {owner: _blas(owner) for owner in BLAS_OWNERS}


def _blas(owner: str) -> dict[str, Any] | None:
    """As it was built; or as it is loaded: from the owner's own folder, or from one that belongs to neither."""
    import importlib

    try:
        package = importlib.import_module(owner)
        importlib.import_module(f"{owner}.linalg")  # which loads the library
        built = package.show_config(mode="dicts")["Build Dependencies"]["blas"]
    except Exception:  # a broken installation may raise anything
        return None
    pools = _pools()
    pool = next((pool for who in (owner, None) for pool in pools if _owner(pool) == who), None)
    if pool is None:
        return {"name": built.get("name", "unknown"), "version": built.get("version", ""), "threads": None}
    return {"name": pool["internal_api"], "version": pool["version"], "threads": pool["num_threads"]}


def _owner(pool: dict[str, Any]) -> str | None:
    """Wheels bring their libraries along, in numpy.libs/ or in numpy/.dylibs/."""
    folders = pool["filepath"].replace("\\", "/").split("/")
    return next((owner for owner in BLAS_OWNERS if owner in folders or f"{owner}.libs" in folders), None)


def _pools() -> list[dict[str, Any]]:
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return []
    return [pool for pool in threadpool_info() if pool["user_api"] == "blas"]


def _processor() -> str:
    """The CPU's name. `platform.processor()` says only "x86_64" on Linux, or nothing."""
    import platform

    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _version(distribution: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
