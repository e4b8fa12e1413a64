"""The NumPy reference backend: complete, readable, the judge of all others.

Every op of `nnfast.protocol.OPS` is one function in one of the family modules; each module's `__all__` lists its ops.
Kernels fill the outputs they are given, may make temporaries, and keep the dtype of their inputs; bias gradients,
losses, metrics, penalties and norms accumulate in float64 (but for the Σ q·log p of one row).

A backend of your own starts from here and replaces what it speeds up; all else keeps working:

    class MyBackend(ReferenceBackend):
        name = "mine"
        kernels = {**ReferenceBackend.kernels, "relu": my_relu}
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from nnfast.protocol import ALIGNMENT, API_VERSION, CUSTOM, Array, Backend, Kernel, Runner

from . import activations, dense, dropout, losses, metrics, optimizers, random_search, regularization, standardize

__all__ = ["KERNELS", "ReferenceBackend"]


def _quiet(kernel: Kernel) -> Kernel:
    """NaN and inf are data to a kernel: they travel to the result, and the training loop looks for them there."""

    @functools.wraps(kernel)
    def call(*args: Any, **scalars: Any) -> None:
        with np.errstate(all="ignore"):
            kernel(*args, **scalars)

    return call


KERNELS: dict[str, Kernel] = {
    op: _quiet(getattr(family, op))
    for family in (
        *(dense, activations, dropout, standardize, losses, metrics),
        *(regularization, optimizers, random_search),
    )
    for op in family.__all__
}


class ReferenceBackend:
    """NumPy on the CPU, op by op."""

    name: str = "numpy"
    device: str = "cpu"
    api_version: int = API_VERSION
    kernels: Mapping[str, Kernel] = KERNELS

    def unavailable(self) -> str | None:
        return None

    def kernel(self, op: str) -> Kernel | None:
        """The op's kernel, or the reference that was registered with it."""
        return self.kernels.get(op) or CUSTOM.get(op, {}).get("reference")

    def asarray(self, a: Any, dtype: Any = None) -> Array:
        """`a` as a C-contiguous, aligned array in native byte order; `a` itself where it is one already."""
        a = np.asarray(a)
        wanted = a.dtype if dtype is None else np.dtype(dtype)
        native = wanted if wanted.isnative else wanted.newbyteorder("=")
        return np.require(a, native, ["C_CONTIGUOUS", "ALIGNED"])

    def to_numpy(self, a: Array) -> np.ndarray[Any, Any]:
        return np.asarray(a)

    def empty(self, shape: Any, dtype: Any) -> Array:
        return _aligned(np.empty, shape, dtype)

    def zeros(self, shape: Any, dtype: Any) -> Array:
        return _aligned(np.zeros, shape, dtype)

    def synchronize(self) -> None:
        """NumPy has finished when it returns."""

    def compile(self, program: Any) -> Runner:
        from .runner import ReferenceRunner

        return ReferenceRunner(program, self)


def _aligned(allocate: Any, shape: Any, dtype: Any) -> Array:
    """NumPy promises 16 bytes only, so: take some more, and begin at the first boundary."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = allocate(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


_conforms: type[Backend] = ReferenceBackend
