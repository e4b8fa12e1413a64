"""The GPUs and versions that CuPy finds, as facts: for `nnfast info`. Opens no device."""

from __future__ import annotations

from typing import Any

__all__ = ["gpus"]


def gpus(cupy: Any) -> dict[str, Any]:
    """Each device with its name, memory and compute capability, the CUDA versions, and the one in use."""
    runtime = cupy.cuda.runtime
    return {
        "devices": [_device(runtime, number) for number in range(runtime.getDeviceCount())],
        "current": int(cupy.cuda.Device().id),
        "cuda_driver": _version(runtime.driverGetVersion()),
        "cuda_runtime": _version(runtime.runtimeGetVersion()),
    }


def _device(runtime: Any, number: int) -> dict[str, Any]:
    properties = runtime.getDeviceProperties(number)
    name = properties["name"]
    return {
        "name": name.decode() if isinstance(name, bytes) else str(name),
        "memory_bytes": int(properties["totalGlobalMem"]),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
    }


def _version(number: int) -> str:
    """13020 -> "13.2"."""
    return f"{number // 1000}.{number % 1000 // 10}"
