"""What a loss or a metric in plain Python is given when it is called by hand: checked, and on the right side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nnfast import validation
from nnfast._functional_call import BackendLike, following
from nnfast.devices import fetched, takes
from nnfast.protocol import Array, Backend
from nnfast.validation import FLOAT32, FLOAT64, DType

__all__ = ["Given", "given_by_hand", "lenient", "strict"]


class Given(NamedTuple):
    """Output, targets and weights; `total` is a sum at zero, and `backend` that of the device where all of them lie."""

    output: Array
    y: Array
    weight: Array | None
    total: Array
    normaliser: float
    backend: Backend | None

    def mean(self) -> float:
        """What was added to the total, divided by the weight of all rows."""
        return float(self.total if self.backend is None else self.backend.to_numpy(self.total)) / self.normaliser


def given_by_hand(
    check: Callable[..., Any],
    output: Any,
    y: Any,
    sample_weight: Any,
    backend: BackendLike,
    dtype_of: Callable[[DType], DType],
) -> Given:
    """On the host, or where the output lies on a GPU, there; targets and weights are looked at on the host."""
    chosen = following(backend, {"output": output}, {"y": y, "sample_weight": sample_weight})
    place = None if isinstance(chosen, str) or not takes(chosen, output) else chosen
    z = validation.any_array("output", output, place)
    z = validation.features("output", z, None, dtype_of(z.dtype), backend=place)
    y = check("y", fetched("y", y, place), z.shape[0], z.shape[1], z.dtype)
    w = validation.weights("sample_weight", fetched("sample_weight", sample_weight, place), len(z), z.dtype)
    put: Callable[[Any], Array] = np.asarray if place is None else place.asarray
    normaliser = float(len(z) if w is None else w.sum(dtype=np.float64))
    return Given(z, put(y), None if w is None else put(w), put(np.zeros(())), normaliser, place)


def strict(dtype: DType) -> DType:
    """That of an output of floats, float64 for integers; other floats are an error."""
    return validation.working_dtype(dtype if dtype.kind == "f" else FLOAT64)


def lenient(dtype: DType) -> DType:
    """float32 stays, everything else becomes float64."""
    return FLOAT32 if dtype == FLOAT32 else FLOAT64
