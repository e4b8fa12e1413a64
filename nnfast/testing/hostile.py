"""Hostile numbers, one op at a time: NaN, infinities, the largest, the smallest and both zeros, planted in every input.

Two things are asked: what does not depend on the planted number is as good as ever, and what does has NaN and
infinities where the judge has them and else lies within its limit, if there is one beside an infinity. What depends on
the number is where a NaN in its place would be seen. The largest numbers overflow in float32 where float64 still holds
them; there only the first is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from nnfast.protocol import Array, Backend
from nnfast.testing.case import Call, Case
from nnfast.testing.contract import judged_by, run
from nnfast.testing.parity import assert_parity

__all__ = ["Planted", "check_hostile", "hostile_calls"]

# Few of everything; one class; many inputs of few outputs, which compiled kernels may treat apart.
DIMENSIONS = (
    {"N": 5, "I": 4, "O": 3, "P": 9, "S": 3},
    {"N": 1, "I": 9, "O": 1, "P": 1, "S": 2},
    {"N": 6, "I": 67, "O": 2, "P": 37, "S": 3},
)
PLACES = ("first", "middle", "last", "everywhere")
# Never negative by what they are: sums of squares, and sample weights, which are finite as well.
SQUARES = {("adam_step", "v"), ("adagrad_step", "cache"), ("rmsprop_step", "cache")}


class Planted(NamedTuple):
    """A usual call, with a hostile number somewhere."""

    name: str  # of the array
    place: str
    number: float
    overflows: bool
    call: Call

    def __str__(self) -> str:
        return f"{self.call}, {self.number} {self.place} in {self.name}"


def hostile_calls(case: Case, dtype: Any) -> Iterator[tuple[Call, list[Planted]]]:
    """Usual calls, each with every number in every place of every input; all keywords and forms in the first shape."""
    for dims in DIMENSIONS:
        first = dims is DIMENSIONS[0]
        for keywords in case.keywords if first else case.keywords[:1]:
            for form in case.forms if first else case.forms[:1]:
                usual = case.make(case.rng("hostile"), dtype, dims, keywords, form)
                yield usual, list(_planted(case, usual))


def check_hostile(backend: Backend, judge: Backend, case: Case, dtype: Any) -> Iterator[Planted]:
    """The kernel on all of them: nothing raised or warned, nothing spoilt that need not be. Gives each when done."""
    for usual, planted in hostile_calls(case, dtype):
        expected = judged_by(judge, case, usual)
        free: dict[tuple[str, str], Mapping[str, Array]] = {}
        for each in planted:
            where = each.name, each.place
            if where not in free:
                spoilt, _, _ = judged_by(judge, case, _plant(usual, *where, np.nan))
                free[where] = {name: _same(spoilt[name], value) for name, value in expected[0].items()}
            _check(backend, judge, case, each, expected, free[where])
            yield each


def _check(backend: Backend, judge: Backend, case: Case, each: Planted, usual: Any, free: Mapping[str, Array]) -> None:
    values, dtypes, limits = usual
    want, _, own = judged_by(judge, case, each.call)
    for name, got in run(backend, each.call).items():
        kept = free[name] & _same(want[name], values[name])
        allowed = np.where(kept, limits[name], np.where(np.isnan(own[name]), np.inf, own[name]))
        with np.errstate(over="ignore"):
            rounded = want[name].astype(dtypes[name])
        expected = np.where(np.isfinite(rounded), want[name], rounded)
        if each.overflows:
            got, expected, allowed = got[kept], expected[kept], allowed[kept]
        assert_parity(got, expected, limit=allowed, dtype=dtypes[name], name=f"{each}: {name}")


def _same(a: Array, b: Array) -> Array:
    return np.equal(a, b) | (np.isnan(a) & np.isnan(b))


def _planted(case: Case, usual: Call) -> Iterator[Planted]:
    for arg, array in usual.args("in", "inout"):
        if array.dtype.kind == "f" and array.size:
            for place in PLACES[: 1 if array.size == 1 else None]:
                for number, overflows in _numbers(array.dtype, case.op, arg.name):
                    yield Planted(arg.name, place, number, overflows, _plant(usual, arg.name, place, number))


def _numbers(dtype: Any, op: str, name: str) -> list[tuple[float, bool]]:
    """(number, whether its square overflows)."""
    info = np.finfo(dtype)
    largest, tiny = float(info.max), float(info.tiny)
    numbers = [0.0, 1e4, tiny, tiny / 8, float(info.eps)]
    if name != "weight":
        numbers += [np.nan, np.inf, largest]
        if (op, name) not in SQUARES:
            numbers += [-0.0, -1e4, -tiny, -tiny / 8, -np.inf, -largest]
    return [(number, abs(number) == largest) for number in numbers]


def _plant(usual: Call, name: str, place: str, number: float) -> Call:
    call = usual.copy()
    array = call.arrays[name]
    assert array is not None
    flat = array.reshape(-1)
    flat[{"first": 0, "middle": flat.size // 2, "last": -1, "everywhere": slice(None)}[place]] = number
    return call
