"""nnfast's kernels by themselves: no checks of the arguments, arrays in the backend's own memory, all bound beforehand.

What an op updates in place is updated again by every call.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from cases.kernels import KernelCase

from nnfast.registry import get_backend
from peers.nnfast_fit import set_threads

__all__ = ["Kernel", "subject"]


class Kernel:
    def __init__(self, case: KernelCase, backend: str) -> None:
        self.backend, self.asked = get_backend(backend), case.call()
        self.arrays = {name: None if a is None else self.backend.asarray(a) for name, a in self.asked.arrays.items()}
        kernel = self.backend.kernel(case.op)
        if kernel is None:
            raise RuntimeError(f"backend {backend!r} has no kernel for {case.op!r}")
        self.call = partial(kernel, *self.arrays.values(), **self.asked.keywords)

    def prepare(self, count: int) -> None:
        pass

    def run(self, count: int) -> None:
        call = self.call
        for _ in range(count):
            call()
        self.backend.synchronize()

    def results(self) -> dict[str, Any]:
        written = [arg.name for arg, _ in self.asked.args("out", "inout")]
        return {name: np.array(self.backend.to_numpy(self.arrays[name])) for name in written}


def subject(case: KernelCase, backend: str) -> Kernel:
    set_threads()
    return Kernel(case, backend)
