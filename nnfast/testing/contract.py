"""The rules of a kernel, one function each, on one call: what it reads, what it writes, and how well.

They work on any backend's arrays through its `asarray`, `empty` and `to_numpy`, so a device is tested like the CPU.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from nnfast.protocol import Array, Backend, Kernel
from nnfast.testing.case import Call, Case
from nnfast.testing.limits import Judged
from nnfast.testing.parity import NONE, Error, assert_parity

__all__ = [
    "check_call",
    "check_case",
    "check_fills_outputs",
    "check_guards",
    "check_inputs_kept",
    "check_optional",
    "check_parity",
    "check_signature",
    "check_weight",
    "judged_by",
    "run",
]

GUARD = 64  # elements before and after an array; keeps 256-byte alignment in float32 and float64


def check_case(backend: Backend, judge: Backend, case: Case, dtype: Any) -> Error:
    """Hold the backend's kernel of one op to all the rules, for every shape, keyword and form of its case."""
    calls = case.calls(case.rng(str(dtype)), dtype)
    return max((check_call(backend, judge, case, call) for call in calls), key=lambda e: e.share)


def check_call(backend: Backend, judge: Backend, case: Case, call: Call) -> Error:
    """All the rules on one call; gives the worst error."""
    error = check_parity(backend, judge, case, call)
    check_fills_outputs(backend, call)
    check_guards(backend, call)
    check_inputs_kept(backend, call)
    check_optional(backend, case, call)
    check_weight(backend, call)
    return error


def run(backend: Backend, call: Call) -> dict[str, np.ndarray[Any, Any]]:
    """Run a copy of the call on the backend; what it wrote, by name, as NumPy arrays. `call` stays as it was."""
    return _run(backend, call, backend.asarray)


def check_signature(kernel: Kernel, case: Case) -> None:
    """The arrays by position under the names of the signature, then scalars and attributes by keyword only."""
    parameters = inspect.signature(kernel).parameters.values()
    by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    by_keyword = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    spec = case.spec
    assert by_position == [arg.name for arg in spec.args], f"{spec}: the kernel takes the arrays {by_position}"
    assert set(by_keyword) == {*spec.scalars, *spec.attributes}, f"{spec}: the kernel takes the keywords {by_keyword}"
    assert len(by_position) + len(by_keyword) == len(parameters), f"{spec}: the kernel takes more than these"


def check_parity(backend: Backend, judge: Backend, case: Case, call: Call) -> Error:
    """Every output within its limit of what the judge computes in float64; dtype and shape kept. Gives the worst."""
    want, dtypes, limits = judged_by(judge, case, call)
    worst = NONE
    for name, got in run(backend, call).items():
        error = assert_parity(got, want[name], limit=limits[name], dtype=dtypes[name], name=f"{call}: {name}")
        worst = max(worst, error, key=lambda e: e.share)
    return worst


def judged_by(judge: Backend, case: Case, call: Call) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What the judge makes of a call in float64, by the outputs' names: values, the dtypes to come in, and limits."""
    before, after = call.astype(np.float64), _with_all_outputs(call).astype(np.float64)
    after(_kernel(judge, call))
    judged = Judged(before.arrays, after.arrays, call.keywords, call.dtype)
    values, dtypes, limits = {}, {}, {}
    for arg, array in call.args("out", "inout"):
        values[arg.name], dtypes[arg.name] = after.arrays[arg.name], array.dtype
        with np.errstate(all="ignore"):
            limits[arg.name] = np.broadcast_to(case.limit_of(arg.name)(judged, arg.name), array.shape)
    return values, dtypes, limits


def check_fills_outputs(backend: Backend, call: Call) -> None:
    """Outputs do not depend on what stood in them, so every element was written and none was read."""
    results: list[dict[str, Any]] = []
    for garbage in (np.nan, 12345.0):
        dirty = call.copy()
        for _, array in dirty.args("out"):
            array[...] = garbage
        results.append(run(backend, dirty))
    _assert_same(results[0], results[1], f"{call}: with other garbage in the outputs,")


def check_guards(backend: Backend, call: Call) -> None:
    """Nothing is written before or after an array that the kernel may write to."""
    fences: list[tuple[str, Array]] = []

    def fenced(a: np.ndarray[Any, Any]) -> Array:
        block = backend.asarray(np.full(a.size + 2 * GUARD, 77, a.dtype))
        inside = block[GUARD : GUARD + a.size].reshape(a.shape)
        inside[...] = backend.asarray(a)
        fences.append((str(a.shape), block))
        return inside

    _run(backend, call, fenced)
    for shape, block in fences:
        edges = backend.to_numpy(block)
        intact = (edges[:GUARD] == 77).all() and (edges[-GUARD:] == 77).all()
        assert intact, f"{call}: wrote outside its array of shape {shape}"


def check_inputs_kept(backend: Backend, call: Call) -> None:
    """Inputs may be read-only and hold afterwards what they held before."""
    moved: dict[int, tuple[np.ndarray[Any, Any], Array]] = {}
    inputs = {id(array): arg.name for arg, array in call.args("in")}

    def frozen(a: np.ndarray[Any, Any]) -> Array:
        array = backend.asarray(a.copy())
        if id(a) in inputs:
            moved[id(a)] = a, array
            if isinstance(array, np.ndarray):
                array.flags.writeable = False
        return array

    _run(backend, call, frozen, copy=False)
    for key, (original, array) in moved.items():
        assert_parity(backend.to_numpy(array), original, name=f"{call}: input {inputs[key]} afterwards")


def check_optional(backend: Backend, case: Case, call: Call) -> None:
    """Without an optional array the other results are the same to the bit, alone and all at once."""
    full = run(backend, call)
    names = list(case.droppable(call.keywords))
    for absent in [*([name] for name in names), names]:
        part = run(backend, call.without(*absent))
        kept = {name: full[name] for name in full if name not in absent}
        _assert_same(part, kept, f"{call}: without {absent},")


def check_weight(backend: Backend, call: Call) -> None:
    """No sample weights mean weights of one; only the order of a float64 sum may differ."""
    weight = call.arrays.get("weight")
    if weight is None:
        return
    ones = call.copy()
    ones.arrays["weight"] = np.ones_like(weight)
    with_ones, without = run(backend, ones), run(backend, call.without("weight"))
    for name, got in without.items():
        want = with_ones[name]
        assert_parity(got, want, limit=1e-13 * np.abs(want) + 1e-13, name=f"{call}: {name} without weights")


def _run(
    backend: Backend, call: Call, place: Callable[[Any], Array], *, copy: bool = True
) -> dict[str, np.ndarray[Any, Any]]:
    source = call.copy() if copy else call
    arrays = {name: None if a is None else place(a) for name, a in source.arrays.items()}
    _kernel(backend, call)(*arrays.values(), **call.keywords)
    backend.synchronize()
    return {arg.name: np.array(backend.to_numpy(arrays[arg.name])) for arg, _ in call.args("out", "inout")}


def _with_all_outputs(call: Call) -> Call:
    """The same call, with outputs that it does without: limits of others may follow from them."""
    dims = {n: size for arg, a in call.args() for n, size in zip(arg.shape, a.shape, strict=False)}
    more = {
        arg.name: np.zeros([dims[n] for n in arg.shape], call.dtype)
        for arg in call.spec.args
        if arg.role == "out" and call.arrays[arg.name] is None
    }
    return replace(call, arrays=call.arrays | more)


def _kernel(backend: Backend, call: Call) -> Kernel:
    kernel = backend.kernel(call.spec.name)
    assert kernel is not None, f"backend {backend.name!r} has no kernel for {call.spec.name!r}"
    return kernel


def _assert_same(got: dict[str, Any], want: dict[str, Any], what: str) -> None:
    assert got.keys() == want.keys(), f"{what} results are {sorted(got)}, expected {sorted(want)}"
    for name in want:
        assert_parity(got[name], want[name], name=f"{what} {name}")
