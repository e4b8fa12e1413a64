"""Backends of a simulated GPU, for tests of what lies around a backend: nothing here needs a GPU, and none is used.

`Double` is the reference on device arrays: its kernels copy to the host, compute there, and copy back. `made("cupy")`
is the CuPy backend on a stand-in for CuPy. The arrays of both are as strict as CuPy's: they never become NumPy's
unasked, so whatever converts one in passing raises TypeError.
"""

from __future__ import annotations

import functools
import importlib
import shutil
from typing import Any

import numpy as np
import pytest
from simulator.fake_cupy import make

from nnfast.profiling.walking import walker
from nnfast.protocol import OPS
from nnfast.registry import get_backend

NAMES = ("double", "cupy")

Reference: Any = type(get_backend("numpy"))


class Double(Reference):
    """The reference backend as it would be on a GPU."""

    name = "double"
    device = "cuda"

    def __init__(self) -> None:
        self.cupy = make()

    def kernel(self, op: str) -> Any:
        reference = super().kernel(op)
        if reference is None:
            return None

        @functools.wraps(reference)
        def call(*arrays: Any, **scalars: Any) -> None:
            assert all(a is None or isinstance(a, self.cupy.ndarray) for a in arrays), f"{op}: not all on the device"
            hosts = [None if a is None else a.get() for a in arrays]
            reference(*hosts, **scalars)
            for arg, a, host in zip(OPS[op].args, arrays, hosts, strict=True):
                if a is not None and arg.role != "in":
                    a.set(host)

        return call

    def asarray(self, a: Any, dtype: Any = None) -> Any:
        if hasattr(a, "__cuda_array_interface__") or not hasattr(a, "__dlpack__"):
            return self.cupy.asarray(a, dtype, order="C")
        if isinstance(a, np.ndarray):
            return self.cupy.asarray(np.require(a, dtype, ["C_CONTIGUOUS"]))
        return self.cupy.asarray(self.cupy.from_dlpack(a), dtype, order="C")

    def to_numpy(self, a: Any) -> Any:
        return a if isinstance(a, np.ndarray) else a.get()

    def empty(self, shape: Any, dtype: Any) -> Any:
        return self.cupy.empty(shape, dtype)

    def zeros(self, shape: Any, dtype: Any) -> Any:
        return self.cupy.zeros(shape, dtype)

    def synchronize(self) -> None:
        self.cupy.cuda.Device().synchronize()

    def compile(self, program: Any) -> Any:
        return walker(program, self)


def made(name: str) -> Any:
    """A backend on a simulated device of its own; `backend.cupy` is the module of its arrays."""
    if name == "double":
        return Double()
    if shutil.which("g++") is None:
        pytest.skip("its kernels are compiled for the CPU with g++, which is not here")
    try:
        importlib.import_module("nnfast.kernels.cupy_gpu.table")
        module, cupy = importlib.import_module("nnfast.kernels.cupy_gpu"), make()
        backend = module.CupyBackend(cupy=cupy, cublaslt=cupy.cublaslt)
        backend.cupy = cupy
        return backend
    except (ImportError, OSError) as error:
        pytest.skip(f"the CuPy backend or its simulator cannot be had here: {error}")


class Foreign:
    """A device array of another library: one that says where it is, and can do nothing else."""

    def __init__(self, array: Any) -> None:
        self._array = array

    shape = property(lambda self: self._array.shape)
    ndim = property(lambda self: self._array.ndim)
    dtype = property(lambda self: f"other.{self._array.dtype}")
    __cuda_array_interface__ = property(lambda self: self._array.__cuda_array_interface__)

    def __len__(self) -> int:
        return len(self._array)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError("can't convert a device array to numpy; copy it to host memory first")

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)


class Elsewhere(Foreign):
    """The same on a second GPU."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 1)
