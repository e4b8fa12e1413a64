"""What the device is and what it can do: facts, the ceilings that all figures stand on, and what each call costs."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from gpu_parts.clock import Replay, host_seconds, interleaved, spread
from gpu_parts.section import Section
from gpu_parts.stand import PRECISIONS, Stand

__all__ = ["facts", "limits", "probe"]

NODES = (1, 32, 320)  # of a graph
CALLS = 400  # of one kind in a row; the device keeps up, and the queue has room
QUERY = (
    "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,power.limit,temperature.gpu,ecc.mode.current"
)


def probe(section: Section, stand: Stand) -> None:
    section.step("facts", facts, stand)
    with stand.stream():
        section.step("limits", limits, stand)
        section.step("launches", _launches, stand)
        section.step("graph nodes", _nodes, stand)
        section.step("products in a graph", _captured_product, stand)


# ---- facts ----------------------------------------------------------------------------------------------------------


def facts(stand: Stand) -> dict[str, Any]:
    runtime = stand.cupy.cuda.runtime
    properties = runtime.getDeviceProperties(0)
    lt = stand.backend("fp32").gpu.lt
    found: dict[str, Any] = {
        "name": stand.name,
        "multiprocessors": properties["multiProcessorCount"],
        "compute capability": f"{properties['major']}.{properties['minor']}",
        "memory bytes": properties["totalGlobalMem"],
        "L2 bytes": properties["l2CacheSize"],
        "CUDA driver": runtime.driverGetVersion(),
        "CUDA runtime": runtime.runtimeGetVersion(),
        "cublasLt": None if lt is None else lt.version,
        "CuPy": stand.cupy.__version__,
        "python": platform.python_version(),
        "processor": _processor(),
        "CPUs": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "time": time.strftime("%Y-%m-%d %H:%M"),
    }
    for package in ("numpy", "torch", "jax", "jaxlib", "triton"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found | {"nvidia-smi": None if stand.simulated else _smi()}


def _smi() -> dict[str, str] | None:
    """Clocks, power and driver as they are; nothing is set."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, f"--query-gpu={QUERY}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    values = done.stdout.splitlines()[0].split(",")
    return {name: value.strip() for name, value in zip(QUERY.split(","), values, strict=True)}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


# ---- ceilings -------------------------------------------------------------------------------------------------------


def limits(stand: Stand) -> dict[str, Any]:
    """Bytes/s of a large copy, read and written; FLOP/s of large products. The best of many, so none is flattering."""
    found = {"copy": _copy(stand, 1 << (12 if stand.simulated else 30))}
    sizes = (16,) if stand.simulated else (4096, 8192)
    for precision in PRECISIONS:
        found[precision] = max((_square(stand, precision, n) for n in sizes), key=lambda product: product["best"])
    return found


def _copy(stand: Stand, nbytes: int) -> dict[str, Any]:
    a, b = (stand.cupy.zeros(nbytes, np.uint8) for _ in range(2))
    runtime, stream = stand.cupy.cuda.runtime, stand.cupy.cuda.get_current_stream()

    def copy() -> None:
        runtime.memcpyAsync(b.data.ptr, a.data.ptr, nbytes, runtime.memcpyDeviceToDevice, stream.ptr)

    ways = {"graph": Replay(stand.cupy, [copy], 4), "stream": Replay(stand.cupy, [copy], 4, capture=False)}
    times = interleaved({name: replay.seconds for name, replay in ways.items()}, 15)
    rates = [2 * nbytes / s for s in min(times.values(), key=min)]
    return {"unit": "bytes/s", "best": max(rates), **spread(rates), "bytes": nbytes}


def _square(stand: Stand, precision: str, n: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    a, b = (stand.cupy.asarray(rng.random((n, n), np.float32) - np.float32(0.5)) for _ in range(2))
    c = stand.cupy.zeros((n, n), np.float32)
    works = stand.runs(stand.matmul(precision, a, b, c), 4)
    replays = {str(i): Replay(stand.cupy, [work]) for i, work in enumerate(works)}
    times = interleaved({name: replay.seconds for name, replay in replays.items()}, 7)
    rates = [2 * n**3 / min(times[name]) for name in times]
    fastest = max(times, key=lambda name: 1 / min(times[name]))
    return {"unit": "FLOP/s", "best": max(rates), **spread([2 * n**3 / t for t in times[fastest]]), "size": n}


# ---- what calls cost ------------------------------------------------------------------------------------------------


def _launches(stand: Stand) -> dict[str, Any]:
    """Microseconds of the host per call, by each way to call."""
    gpu, cupy = stand.backend("fp32").gpu, stand.cupy
    words = cupy.zeros(4, np.float32)
    call, bound = stand.launch("nnf_zero", 1, words=int(words.data.ptr), n=4)
    raw = gpu.kernel("nnf_zero", "f4")
    pointer = cupy.cuda.function.CPointer(call.args.ctypes.data)
    threads = (stand.part("sources").kernels()["nnf_zero"].threads, 1, 1)
    a, b, c = (cupy.zeros((16, 16), np.float32) for _ in range(3))
    (product, *_) = stand.runs(stand.matmul("fp32", a, b, c), 1)
    replay = Replay(cupy, [bound])
    stream = cupy.cuda.get_current_stream()
    event, host, runtime = cupy.cuda.Event(), np.zeros(64, np.uint8), cupy.cuda.runtime
    ways: dict[str, Callable[[], object]] = {
        "RawKernel.__call__, struct as a NumPy record": lambda: raw((1, 1, 1), threads, (call.args[()],)),
        "RawKernel.__call__, struct as a CPointer": lambda: raw((1, 1, 1), threads, (pointer,)),
        "Function, struct as a CPointer": lambda: raw.kernel((1, 1, 1), threads, (pointer,), 0),
        "a bound call of the backend": bound,
        "cublasLtMatmul through ctypes": product,
        "CuPy, a + b": lambda: a + b,
        "launch of a graph of one kernel": lambda: replay._graph.launch(stream),
        "record of an event": lambda: event.record(stream),
        "16 bytes to the device": lambda: runtime.memcpyAsync(
            words.data.ptr, host.ctypes.data, 16, runtime.memcpyHostToDevice, stream.ptr
        ),
        "synchronise, nothing to wait for": stream.synchronize,
        "one kernel and synchronise": lambda: (bound(), stream.synchronize()),
    }
    found: dict[str, Any] = {}
    for name, way in ways.items():
        try:
            way()
            found[name] = spread(
                [s * 1e6 for s in host_seconds(way, stream.synchronize, 5 if stand.simulated else CALLS)]
            )
        except Exception as error:  # a way that this CuPy does not have
            found[name] = f"{type(error).__name__}: {error}"
    return found


def _nodes(stand: Stand) -> dict[str, Any]:
    """Graphs of so many kernels that do next to nothing: microseconds per graph, and per node beyond the first."""
    words = stand.cupy.zeros(4, np.float32)
    _, bound = stand.launch("nnf_zero", 1, words=int(words.data.ptr), n=4)
    nodes = NODES[:2] if stand.simulated else NODES
    replays = {str(n): Replay(stand.cupy, [bound] * n) for n in nodes}
    times = interleaved({n: (lambda r=replay, k=int(n): r.seconds() * k) for n, replay in replays.items()})  # type: ignore[misc]
    middle = {n: float(np.median(seconds)) for n, seconds in times.items()}
    first, last = str(nodes[0]), str(nodes[-1])
    per_node = (middle[last] - middle[first]) / (nodes[-1] - nodes[0])
    stream, wait = stand.cupy.cuda.get_current_stream(), stand.cupy.cuda.get_current_stream().synchronize
    host = {
        n: host_seconds(lambda r=replay: r._graph.launch(stream), wait, 20)  # type: ignore[misc]
        for n, replay in replays.items()
        if replay.captured
    }
    return {
        "captured": all(replay.captured for replay in replays.values()),
        "microseconds per graph": {n: spread([s * 1e6 for s in seconds]) for n, seconds in times.items()},
        "microseconds per node": per_node * 1e6,
        "host microseconds per launch": {n: spread([s * 1e6 for s in seconds]) for n, seconds in host.items()},
    }


def _captured_product(stand: Stand) -> dict[str, Any]:
    """Whether a product by cublasLt, called through ctypes, becomes part of a graph and computes the same there."""
    rng = np.random.default_rng(0)
    a, b = (stand.cupy.asarray(rng.standard_normal((64, 64)).astype(np.float32)) for _ in range(2))
    c = stand.cupy.zeros((64, 64), np.float32)
    found: dict[str, Any] = {}
    for precision in PRECISIONS:
        (work, *_) = stand.runs(stand.matmul(precision, a, b, c), 1)
        work()
        direct = stand.cupy.asnumpy(c)
        replay = Replay(stand.cupy, [work])
        c.fill(0)
        replay.seconds()
        found[precision] = {"captured": replay.captured, "same bits": bool((stand.cupy.asnumpy(c) == direct).all())}
    return found
