"""cupy.cuda.runtime of the simulated device: copies by address, versions, properties."""

from __future__ import annotations

import ctypes
import types
from typing import Any

import numpy as np

from .fake_device import Device
from .fake_errors import CUDARuntimeError

__all__ = ["ATTRIBUTES", "runtime"]

H2H, H2D, D2H, D2D, DEFAULT = range(5)

ATTRIBUTES = {
    "ComputeCapabilityMajor": 9,
    "ComputeCapabilityMinor": 0,
    "MultiProcessorCount": 132,
    "MaxThreadsPerBlock": 1024,
    "MaxSharedMemoryPerBlock": 48 << 10,
    "MaxSharedMemoryPerBlockOptin": 227 << 10,
    "MaxSharedMemoryPerMultiprocessor": 228 << 10,
    "WarpSize": 32,
    "L2CacheSize": 50 << 20,
}


class Copies:
    """cudaMemcpy and cudaMemset, with and without Async."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def memcpyAsync(self, dst: int, src: int, size: int, kind: int, stream: int) -> None:
        queue = self._device.queue(stream)
        if not size:
            return
        to_device, from_device = self._sides(dst, src, size, kind)
        pinned = all(on or self._device.is_pinned(at, size) for on, at in ((to_device, dst), (from_device, src)))
        if not pinned:
            queue.refuse_capture("a copy of pageable host memory")
        if not from_device and not pinned:  # the driver copies pageable memory before it returns
            kept = ctypes.create_string_buffer(ctypes.string_at(src, size), size)
            queue.push("memcpy", lambda: self._move(dst, ctypes.addressof(kept), size, to_device, False))
        else:
            queue.push("memcpy", lambda: self._move(dst, src, size, to_device, from_device))
        self._count(size, to_device, from_device)
        if not to_device and not pinned:  # and waits where it writes to it
            queue.synchronize()

    def memcpy(self, dst: int, src: int, size: int, kind: int) -> None:
        self._device.refuse_capture("cudaMemcpy")
        if not size:
            return
        to_device, from_device = self._sides(dst, src, size, kind)
        self._device.null.push("memcpy", lambda: self._move(dst, src, size, to_device, from_device))
        self._count(size, to_device, from_device)
        if not (to_device and from_device):
            self._device.null.synchronize()

    def memsetAsync(self, ptr: int, value: int, size: int, stream: int) -> None:
        queue = self._device.queue(stream)
        if not size:
            return
        self._check(ptr, size)

        def run() -> None:
            self._check(ptr, size)
            ctypes.memset(ptr, value & 0xFF, size)

        if queue.push("memset", run):
            self._device.counts.memsets += 1

    def memset(self, ptr: int, value: int, size: int) -> None:
        self._device.refuse_capture("cudaMemset")
        self.memsetAsync(ptr, value, size, 0)

    def _check(self, address: int, size: int) -> None:
        if self._device.find(address) is None:
            raise CUDARuntimeError(1, f"{address:#x} is not in device memory")
        if fault := self._device.fault(address, size):
            raise CUDARuntimeError(700 if "given back" in fault else 1, fault)

    def _sides(self, dst: int, src: int, size: int, kind: int) -> tuple[bool, bool]:
        """Whether the target and the source are on the device; they must be where the kind says."""
        if not dst or not src or size < 0 or kind not in range(5):
            raise CUDARuntimeError(1, f"memcpy({dst:#x}, {src:#x}, {size}, {kind})")
        on = [self._device.find(a) is not None for a in (dst, src)]
        wanted = on if kind == DEFAULT else [kind in (H2D, D2D), kind in (D2H, D2D)]
        if on != wanted:
            raise CUDARuntimeError(
                1, f"memcpy({dst:#x}, {src:#x}, {size}, {kind}): the kind and the addresses disagree"
            )
        for address, there in zip((dst, src), on, strict=True):
            if there:
                self._check(address, size)
        return on[0], on[1]

    def _move(self, dst: int, src: int, size: int, to_device: bool, from_device: bool) -> None:
        for address, there in ((dst, to_device), (src, from_device)):
            if there:
                self._check(address, size)
        ctypes.memmove(dst, src, size)

    def _count(self, size: int, to_device: bool, from_device: bool) -> None:
        counts = self._device.counts
        if to_device and from_device:
            counts.d2d += 1
        elif to_device:
            counts.h2d += 1
            counts.h2d_bytes += size
        elif from_device:
            counts.d2h += 1
            counts.d2h_bytes += size


def runtime(device: Device) -> types.ModuleType:
    """The module `cupy.cuda.runtime`."""
    module: Any = types.ModuleType("cupy.cuda.runtime")
    module.CUDARuntimeError = CUDARuntimeError
    module.is_hip = False
    kinds = ("HostToHost", "HostToDevice", "DeviceToHost", "DeviceToDevice")
    for value, name in enumerate(kinds):
        setattr(module, f"memcpy{name}", value)
    module.memcpyDefault = DEFAULT
    for value, name in enumerate(("Global", "ThreadLocal", "Relaxed")):
        setattr(module, f"streamCaptureMode{name}", value)
    module.streamNonBlocking, module.streamDefault = 1, 0
    copies = Copies(device)
    for name in ("memcpyAsync", "memcpy", "memsetAsync", "memset"):
        setattr(module, name, getattr(copies, name))

    def check_id(number: int) -> None:
        if number != 0:
            raise CUDARuntimeError(101)

    def properties(number: int) -> dict[str, Any]:
        check_id(number)
        return {
            "name": device.NAME.encode(),
            "major": 9,
            "minor": 0,
            "totalGlobalMem": device.MEMORY,
            "multiProcessorCount": ATTRIBUTES["MultiProcessorCount"],
            "sharedMemPerBlock": ATTRIBUTES["MaxSharedMemoryPerBlock"],
            "sharedMemPerBlockOptin": ATTRIBUTES["MaxSharedMemoryPerBlockOptin"],
            "warpSize": 32,
            "maxThreadsPerBlock": 1024,
            "l2CacheSize": ATTRIBUTES["L2CacheSize"],
            "uuid": np.zeros(16, np.uint8).tobytes(),
        }

    module.getDeviceProperties = properties
    module.getDeviceCount = lambda: 1
    module.getDevice = lambda: 0
    module.setDevice = check_id
    module.runtimeGetVersion = lambda: 13020
    module.driverGetVersion = lambda: 13020
    module.deviceSynchronize = device.synchronize
    module.streamSynchronize = lambda stream: device.queue(stream).synchronize()
    module.streamIsCapturing = lambda stream: device.queue(stream).capture is not None
    module.memGetInfo = lambda: (device.MEMORY - device.allocated, device.MEMORY)
    return module
