"""The backend: which kernel an op has, on what arrays, and who walks a Program.

Its arrays are NumPy's, since nnfast reshapes them and cuts rows out of them. A kernel sees them through the namespace
that the backend was made with, which must share their memory: NumPy itself, or `array_api_strict`, which has nothing
but the standard.
"""

from __future__ import annotations

import functools
import importlib

import numpy as np

from nnfast.profiling.walking import walker
from nnfast.protocol import ALIGNMENT, API_VERSION

from . import activations, dropout, losses, metrics, products, search, standardize, updates

__all__ = ["KERNELS", "ArrayAPIBackend"]

STANDARD = "2023.12"  # the first version with clip

KERNELS = {
    op: getattr(family, op)
    for family in (products, activations, dropout, standardize, losses, metrics, updates, search)
    for op in family.__all__
}


class ArrayAPIBackend:
    """`namespace` is the name of the module in which kernels compute; `kernels` has other ones than this package's."""

    name = "array-api"
    device = "cpu"
    api_version = API_VERSION

    def __init__(self, namespace="numpy", kernels=KERNELS):
        self.namespace = namespace
        self.kernels = kernels

    def unavailable(self):
        try:
            xp = importlib.import_module(self.namespace)
        except ImportError as error:
            return f"{self.namespace} cannot be imported ({error}); install it"
        version = getattr(xp, "__array_api_version__", "none")
        if version == "none" or version < STANDARD:
            return f"{self.namespace} has version {version} of the array API standard; {STANDARD} or newer is needed"
        return None

    def kernel(self, op):
        """The kernel of one of nnfast's ops. An op that somebody registered is not this backend's to know."""
        kernel = self.kernels.get(op)
        return None if kernel is None else _on_numpy(kernel, importlib.import_module(self.namespace))

    def asarray(self, a, dtype=None):
        """C-contiguous, aligned, in native byte order; `a` itself where it is that already."""
        a = np.asarray(a)
        dtype = np.dtype(a.dtype if dtype is None else dtype)
        return np.require(a, dtype if dtype.isnative else dtype.newbyteorder("="), ["C_CONTIGUOUS", "ALIGNED"])

    def to_numpy(self, a):
        return np.asarray(a)

    def empty(self, shape, dtype):
        """NumPy aligns to 16 bytes only, so: take some more, and begin at the first boundary."""
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        raw = np.empty(size + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        return raw[start : start + size].view(dtype).reshape(shape)

    def zeros(self, shape, dtype):
        array = self.empty(shape, dtype)
        array[...] = 0
        return array

    def synchronize(self):
        """NumPy has finished when it returns."""

    def compile(self, program):
        return walker(program, self)


def _on_numpy(kernel, xp):
    """The kernel as a function of NumPy arrays. NaN and infinities are data to it, no reason to warn."""

    @functools.wraps(kernel)
    def call(*arrays, **numbers):
        with np.errstate(all="ignore"):
            kernel(*[None if a is None else xp.asarray(a) for a in arrays], **numbers)

    return call
