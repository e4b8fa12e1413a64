"""Sums over very many rows, all of one sign: there a running sum in float32 loses digits that one in float64 keeps."""

from __future__ import annotations

import numpy as np

from nnfast.testing.case import Call, Case

__all__ = ["long_call"]

DIMENSIONS = {"N": 200_000, "I": 2, "O": 2}


def long_call(case: Case) -> Call | None:
    """A float32 call with many rows, none of its inputs negative; None where no output is a sum over rows."""
    args = case.spec.args
    if not any("N" in arg.shape for arg in args) or all("N" in arg.shape for arg in args if arg.role != "in"):
        return None
    call = case.make(case.rng("long"), np.float32, DIMENSIONS)
    for _, array in call.args("in"):
        if array.dtype.kind == "f":
            np.abs(array, out=array)
    return call
