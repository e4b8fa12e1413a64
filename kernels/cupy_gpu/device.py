"""One GPU as this backend uses it: its kernels by name, its cublasLt, and what was measured on it."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from . import sources
from .cublaslt import Algorithm, CublasLt, LibraryMissing, open_library
from .emitter import MOST_SHARED, Launch
from .memory import Memory
from .tuning import Store

__all__ = ["Device", "tell"]

STREAMS = 8  # on which ops by hand keep their working memory
STATIC_SHARED = 48 << 10  # bytes of shared memory that a kernel may have without asking for more


class Device:
    """The device that is current when this is made. `precision` is how products of float32 matrices are computed."""

    def __init__(self, cupy: Any, precision: str, cublaslt: Any = None) -> None:
        self.cupy = cupy
        self.precision = precision
        self.id = int(cupy.cuda.Device().id)
        self._by_hand: OrderedDict[int, Memory] = OrderedDict()  # working memory of ops called by hand, by stream
        self._lock = threading.RLock()
        self.first_algorithms: dict[str, Algorithm] = {}  # the library's proposals for products by hand, by key
        self._kernels: dict[tuple[str, str], Any] = {}
        self._shared: dict[tuple[str, str], int] = {}  # bytes that each may ask for
        self._modules: dict[tuple[str, str, bool], Any] = {}
        self.lt: CublasLt | None = None
        try:
            self.lt = CublasLt(open_library(cublaslt))
        except LibraryMissing as error:
            tell(f"products go through cupy.matmul, and steps are launched one kernel at a time: {error}")

    @functools.cached_property
    def name(self) -> str:
        raw = self.cupy.cuda.runtime.getDeviceProperties(self.id)["name"]
        return raw.decode() if isinstance(raw, bytes) else str(raw)

    @functools.cached_property
    def most_shared(self) -> int:
        """Bytes of shared memory that a kernel may ask for beside its own few."""
        return min(MOST_SHARED, int(self.cupy.cuda.Device(self.id).attributes["MaxSharedMemoryPerBlockOptin"]) - 2048)

    @functools.cached_property
    def store(self) -> Store:
        """What was measured on this kind of device before."""
        return Store(self.name, self.lt.version if self.lt is not None else 0)

    @contextlib.contextmanager
    def by_hand(self) -> Iterator[Memory]:
        """Working memory for the current stream, held against other threads while an op is put there.

        What is on one stream runs one after the other, so all of it may share.
        """
        stream = int(self.cupy.cuda.get_current_stream().ptr)
        with self._lock:
            if stream not in self._by_hand:
                self._by_hand[stream] = Memory(self.cupy)
                while len(self._by_hand) > STREAMS:  # memory goes back to its own stream, after what uses it there
                    self._by_hand.popitem(last=False)
            self._by_hand.move_to_end(stream)
            yield self._by_hand[stream]

    def current(self) -> Any:
        """`with device.current():` makes it the device that CuPy works on."""
        return self.cupy.cuda.Device(self.id)

    def synchronize(self) -> None:
        self.cupy.cuda.Device(self.id).synchronize()

    def function(self, call: Launch) -> Any:
        """What launches this kernel: `function(grid, block, arguments, shared)`; compiled when first asked for."""
        key = (call.kernel + sources.EACH * call.args.ndim, call.dtype)
        kernel = self.kernel(*key)
        if call.shared > self._shared[key]:  # it holds for the kernel, whoever launches it, so it must never shrink
            kernel.max_dynamic_shared_size_bytes = self._shared[key] = call.shared
        return kernel.kernel

    def kernel(self, name: str, dtype: str) -> Any:
        """CuPy's kernel of this name for a working type, compiled; with `sources.EACH` at its end, the one for many."""
        key = (name, dtype)
        if key not in self._kernels:
            each = name.endswith(sources.EACH)
            unit = sources.kernels()[name.removesuffix(sources.EACH)].unit
            kernel = self._module(unit, dtype, each).get_function(name)
            _ = kernel.kernel  # compiles it
            self._kernels[key], self._shared[key] = kernel, STATIC_SHARED
        return self._kernels[key]

    def _module(self, unit: str, dtype: str, each: bool) -> Any:
        key = (unit, dtype, each)
        if key not in self._modules:
            code, options = sources.expanded(unit), sources.options(dtype)
            code = sources.for_each(code) if each else code
            self._modules[key] = self.cupy.RawModule(code=code, options=options, backend="nvrtc")
        return self._modules[key]


_told: set[str] = set()


def tell(text: str) -> None:
    """Say something on stderr, once per process: for what works, but not as the user may expect."""
    if text not in _told:
        _told.add(text)
        print(f"nnfast: {text}", file=sys.stderr)
