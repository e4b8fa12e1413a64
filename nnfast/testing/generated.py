"""As many cases of an op as one likes: shapes, keywords and contents drawn from the number of the case.

Case 17 of an op is the same call on every machine, so a failure is repeated by its number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nnfast.protocol import Backend
from nnfast.testing.case import Call, Case
from nnfast.testing.contract import check_call, check_parity
from nnfast.testing.parity import Error

__all__ = ["ALL_RULES_EVERY", "check_generated", "generated_call"]

ALL_RULES_EVERY = 8  # one in so many cases is held to every rule, the others to their values
EDGES = (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129)

Number = Callable[[np.random.Generator], Any]


def _between(low: float, high: float) -> Number:
    return lambda rng: float(rng.uniform(low, high))


def _power(low: float, high: float) -> Number:
    """10 to a power between these."""
    return lambda rng: float(10 ** rng.uniform(low, high))


def _or_zero(number: Number) -> Number:
    return lambda rng: number(rng) if rng.integers(2) else 0.0


# How keywords may differ from those of the case table; what is not here stays as it is there.
NUMBERS: Mapping[str, Number] = {
    "alpha": _between(0, 2),
    "beta_1": _between(0, 0.99),
    "beta_2": _between(0.9, 0.9999),
    "clip_norm": _power(-3, 3),
    "delta": _power(-1, 1),
    "epsilon": _power(-8, -4),
    "first_row": lambda rng: int(rng.integers(2**32)),
    "key": lambda rng: int(rng.integers(2**64, dtype=np.uint64)),
    "l1": _or_zero(_power(-4, 0)),
    "l2": _or_zero(_power(-4, 0)),
    "label_smoothing": _or_zero(_between(0, 1)),
    "layer": lambda rng: int(rng.integers(2**16)),
    "learning_rate": _power(-5, 0),
    "momentum": _between(0, 0.99),
    "normaliser": _power(0, 3),
    "offset": lambda rng: int(rng.integers(2**34)) * 2,
    "precision": _power(-2, 0),
    "rate": _or_zero(_between(0, 0.95)),
    "rho": _between(0, 0.999),
    "scale": _power(-3, 0),
    "step": lambda rng: int(1 + 10 ** rng.uniform(0, 6)),
    "threshold": _between(0, 1),
    "weight_decay": _or_zero(_power(-4, -1)),
}


def generated_call(case: Case, dtype: Any, number: int) -> Call:
    """The call with this number."""
    rng = case.rng(str(np.dtype(dtype)), number)
    dims = {"N": _rows(rng), "I": _size(rng), "O": _size(rng), "P": _rows(rng) * _size(rng), "S": 1 + _size(rng)}
    keywords = dict(case.keywords[int(rng.integers(len(case.keywords)))])
    if rng.integers(2):
        keywords |= {name: NUMBERS[name](rng) for name in keywords if name in NUMBERS}
    call = case.make(rng, dtype, dims, keywords, case.forms[int(rng.integers(len(case.forms)))])
    if "k" in keywords:
        keywords["k"] = int(rng.integers(1, dims["O"] + 1))
        call.keywords["k"] = keywords["k"]
    _thin(case, call, rng)
    return call


def check_generated(backend: Backend, judge: Backend, case: Case, dtype: Any, number: int) -> Error:
    """The case with this number: its values, and one in eight for all the rules of a kernel."""
    call = generated_call(case, dtype, number)
    check = check_parity if number % ALL_RULES_EVERY else check_call
    try:
        return check(backend, judge, case, call)
    except Exception as failure:
        failure.add_note(f"this was case {number} of {case.op} in {np.dtype(dtype)}")
        raise


def _rows(rng: np.random.Generator) -> int:
    """0 now and then, most often few, sometimes a few hundred."""
    most = rng.choice([0, 1, 20, 70, 300], p=[0.04, 0.1, 0.5, 0.28, 0.08])
    return int(rng.integers(min(most, 2), most + 1))


def _size(rng: np.random.Generator) -> int:
    """A width: at the edge of a vector or a tile, or any."""
    return int(rng.choice(EDGES)) if rng.integers(2) else math.ceil(200 ** rng.uniform(0, 1))


def _thin(case: Case, call: Call, rng: np.random.Generator) -> None:
    """In a quarter of the cases, zeros among the inputs whose contents are free."""
    if rng.integers(4):
        return
    for arg, array in call.args("in"):
        if arg.name not in case.values and array.dtype.kind == "f":
            array[rng.random(array.shape) < rng.uniform(0, 1)] = 0.0
