"""A step walked op by op with the kernels of any backend, for one whose own runner cannot time its ops."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnfast.program import Program
from nnfast.protocol import Backend
from nnfast.registry import get_backend

__all__ = ["walker"]


def walker(program: Program, backend: Backend) -> Any:
    """The reference's runner with this backend's kernels. On a device it keeps the sums of a step there."""
    reference: Any = type(get_backend("numpy").compile(program))
    if backend.device == "cpu":
        return reference(program, backend)

    class OnDevice(reference):  # type: ignore[misc]  # a base known at run time only
        def _take(self, job: Any, arrays: Any, rows: Any, out: slice, sums: Any) -> None:
            self._sums = backend.zeros(sums.shape, np.float64)
            rows = rows if isinstance(rows, slice) else backend.asarray(rows)
            super()._take(job, arrays, rows, out, self._sums)

        def _step(self, job: Any, arrays: Any, scalars: Any, sums: Any) -> bool:
            finite = bool(super()._step(job, arrays, scalars, self._sums))
            sums[...] = backend.to_numpy(self._sums)
            return finite

    return OnDevice(program, backend)
