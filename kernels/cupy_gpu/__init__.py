"""The CuPy backend: training steps on an NVIDIA GPU, launched as one CUDA graph where that can be had.

The way through it: an op says which kernels it needs (`dense.py`, `losses.py`, …, named as in the reference), `plan.py`
makes a whole Program into a list of launches and products, `binding.py` makes these ready for a device, and
`runner.py` replays them. The kernels are CUDA sources in `src/`, compiled on the machine that they run on; the same
sources run on the CPU in `tests/simulator/`, which is how they are tested where there is no GPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nnfast.protocol import API_VERSION, CUSTOM, Array, Backend, Kernel, Runner

if TYPE_CHECKING:
    from nnfast.protocol import Program

    from .device import Device

__all__ = ["CupyBackend", "CupyTF32Backend"]


class CupyBackend:
    """CuPy on the GPU that is current when the backend is made. Products of float32 matrices are float32 throughout.

    `cupy` and `cublaslt` are for tests: a module and a library to use instead of those that are installed.
    """

    name: str = "cupy"
    device: str = "cuda"
    api_version: int = API_VERSION
    precision: str = "fp32"

    def __init__(self, *, cupy: Any = None, cublaslt: Any = None) -> None:
        self._kernels: dict[str, Kernel] = {}
        self._why_not: str | None = None
        if cupy is None:
            from .opening import open_cupy

            cupy, self._why_not = open_cupy()
        self._cupy, self._cublaslt = cupy, cublaslt
        self._device_id = None if cupy is None or self._why_not else int(cupy.cuda.Device().id)
        self._opened: Device | None = None

    def __deepcopy__(self, memo: Any) -> Self:
        """A copy of a model computes on the same GPU."""
        return self

    def unavailable(self) -> str | None:
        return self._why_not

    @property
    def gpu(self) -> Device:
        """The GPU, opened at first use."""
        if self._opened is None:
            from .device import Device

            assert self._device_id is not None
            with self._cupy.cuda.Device(self._device_id):
                self._opened = Device(self._cupy, self.precision, self._cublaslt)
        return self._opened

    def kernel(self, op: str) -> Kernel | None:
        """The op's kernel; for an op of your own its `cuda=` function, else its reference on copies."""
        if op not in self._kernels:
            from . import cuts, eager, table

            if table.has(op):
                self._kernels[op] = eager.make_kernel(op, self.gpu)
            elif op in CUSTOM:
                return cuts.kernel_of(op)
            else:
                return None
        return self._kernels[op]

    def asarray(self, a: Any, dtype: Any = None) -> Array:
        """`a` on the device, C-contiguous: itself or a view (DLPack) where it lies there already, else one copy."""
        cupy = self._cupy
        with self.gpu.current():
            if not isinstance(a, cupy.ndarray) and _has_dlpack_on_device(a):
                a = cupy.from_dlpack(a)  # which waits for the stream of the array's own library
            if isinstance(a, cupy.ndarray) or hasattr(a, "__cuda_array_interface__"):
                return cupy.asarray(a, dtype, order="C")
            host = np.from_dlpack(a) if hasattr(a, "__dlpack__") and not hasattr(a, "__array__") else np.asarray(a)
            wanted = host.dtype if dtype is None else np.dtype(dtype)
            return cupy.asarray(np.require(host, wanted.newbyteorder("="), ["C_CONTIGUOUS"]))

    def to_numpy(self, a: Array) -> np.ndarray[Any, Any]:
        return a if isinstance(a, np.ndarray) else self._cupy.asnumpy(a)

    def empty(self, shape: Any, dtype: Any) -> Array:
        with self.gpu.current():
            return self._cupy.empty(shape, dtype)

    def zeros(self, shape: Any, dtype: Any) -> Array:
        with self.gpu.current():
            return self._cupy.zeros(shape, dtype)

    def synchronize(self) -> None:
        self.gpu.synchronize()

    def row_orders(self, keys: object, epochs: object, rows: int) -> object:
        """`permutation` for many keys and epochs, by the Numba backend, where it can work; else None."""
        from ..numba_cpu import NumbaBackend

        numba = NumbaBackend()
        return None if numba.unavailable() else numba.row_orders(keys, epochs, rows)

    def warm_up(self, dtype: str) -> Iterator[str]:
        """Compile every kernel, or load it from CuPy's cache; yields the name of each when it is there."""
        from . import sources

        with self.gpu.current():
            for name in (name + ending for ending in ("", sources.EACH) for name in sources.kernels()):
                self.gpu.kernel(name, np.dtype(dtype).str[1:])
                yield name

    def cache_report(self) -> str:
        """Where compiled kernels are kept."""
        return f"CuPy keeps them in {os.environ.get('CUPY_CACHE_DIR') or os.path.expanduser('~/.cupy/kernel_cache')}"

    def gpu_state(self) -> dict[str, Any]:
        """The GPUs as CuPy sees them, for `nnfast info`; compiles nothing."""
        from .gpus import gpus

        return gpus(self._cupy)

    # How the ranks of an MPI job find each other's GPUs, for `nnfast.training.ranks_device`.

    def gpu_name(self) -> str:
        """This GPU among all of all machines; empty where NCCL is not installed."""
        from . import nccl

        assert self._device_id is not None
        return nccl.gpu_name(self._cupy, self._device_id)

    def draw_group(self) -> np.ndarray[Any, Any]:
        """The number of a new group of GPUs, for one process to draw and all to have."""
        from . import nccl

        return nccl.draw(self._cupy)

    def join_group(self, number: np.ndarray[Any, Any], rank: int, size: int) -> Any:
        """This process's end of the group, once all `size` processes have come."""
        from . import nccl

        assert self._device_id is not None
        return nccl.Group(self._cupy, self._device_id, number, rank, size)

    def compile(self, program: Program) -> Runner:
        from .runner import CupyRunner

        return CupyRunner(program, self.gpu)


class CupyTF32Backend(CupyBackend):
    """The same with products of float32 matrices on tensor cores: inputs rounded to TF32 (10 bits), sums in float32."""

    name = "cupy-tf32"
    precision = "tf32"


_ON_DEVICE = (2, 13)  # DLPack: CUDA, and CUDA's managed memory


def _has_dlpack_on_device(a: Any) -> bool:
    return hasattr(a, "__dlpack_device__") and int(a.__dlpack_device__()[0]) in _ON_DEVICE


_conforms: type[Backend] = CupyBackend
