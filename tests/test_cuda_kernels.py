"""Every op of the GPU backend, its CUDA kernels run on the CPU, over the case table of `nnfast.testing`.

What a GPU adds to this is timing; what it takes away is seeing an unset value, a missing barrier, or a fault's line.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from simulator import build
from simulator.build import ORDERS
from simulator.executing import op_function, simulated

from nnfast import testing
from nnfast.protocol import CUSTOM, OPS
from nnfast.registry import get_backend
from nnfast.testing import CASES, DTYPES, Call, assert_parity

pytestmark = pytest.mark.skipif(bool(build.unavailable()), reason=str(build.unavailable()))

JUDGE = get_backend("numpy")
READY = [op for op in CASES if op_function(op)]
each_op = pytest.mark.parametrize("op", READY)

# Several blocks, several rows to a block, rows longer than a block, and what is left over of each.
MEDIUM = {
    "NIO": [(33, 17, 9), (257, 129, 65)],
    "NI": [(33, 17), (3, 1031), (1031, 3)],
    "NO": [(33, 17), (3, 1031), (1031, 3)],
    "P": [(129,), (4099,)],
    "PS": [(1031, 4)],
}


def test_every_op_has_an_op_function() -> None:
    assert [op for op in OPS if op not in CUSTOM and op not in READY] == []


@each_op
def test_signature(op: str) -> None:
    testing.check_signature(simulated("float32").kernel(op), CASES[op])


@each_op
def test_contract(op: str, dtype: Any) -> None:
    """All rules of the contract, for every shape, keyword and form."""
    testing.check_case(simulated(dtype.name), JUDGE, CASES[op], dtype)


@each_op
def test_misaligned_arrays(op: str, dtype: Any) -> None:
    """Every array begins one element past a boundary of 16 bytes."""
    backend = simulated(dtype.name, shift=1)
    for call in turned(op, dtype, CASES[op].shapes):
        testing.check_parity(backend, JUDGE, CASES[op], call)
        testing.check_guards(backend, call)


@each_op
@pytest.mark.parametrize("shift", [0, 1], ids=["aligned", "misaligned"])
def test_the_order_of_threads_changes_no_bit(op: str, dtype: Any, shift: int) -> None:
    forward, *others = [simulated(dtype.name, order, shift=shift) for order in ORDERS]
    for call in turned(op, dtype, medium(op), shift):
        want = testing.run(forward, call)
        for backend in others:
            assert_same(testing.run(backend, call), want, f"{call}, {backend.order}")


@pytest.mark.parametrize("op", [op for op in READY if OPS[op].scalars])
def test_scalars_in_device_memory_give_the_same_bits(op: str, dtype: Any) -> None:
    plain, reading = simulated(dtype.name), simulated(dtype.name, from_memory=True)
    for keywords, form in itertools.product(CASES[op].keywords, CASES[op].forms):
        for dims in medium(op)[:1]:
            call = CASES[op].make(CASES[op].rng(str(dtype)), dtype, dims, keywords, form)
            assert_same(testing.run(reading, call), testing.run(plain, call), str(call))


# `best` is the state of a search; all other float64 arrays are sums of the step.
@pytest.mark.parametrize("op", [op for op in READY if any(a.dtype == "f8" and a.name != "best" for a in OPS[op].args)])
def test_sums_in_the_row_of_a_step(op: str, dtype: Any) -> None:
    plain, in_row = simulated(dtype.name), simulated(dtype.name, in_row=True)
    for call in turned(op, dtype, [*CASES[op].shapes[:1], *medium(op)]):
        assert_same(testing.run(in_row, call), testing.run(plain, call), str(call))


class Joining:
    """The policy that lets the library do all that it can."""

    def joins(self, joined: Any, separate: Any) -> bool:
        return True


JOINING = Joining()


@pytest.mark.parametrize("op", ["dense", "dense_backward"])
def test_products_with_epilogues(op: str, dtype: Any) -> None:
    backend = simulated(dtype.name, policy=JOINING)
    for call in CASES[op].calls(CASES[op].rng(str(dtype)), dtype):
        testing.check_parity(backend, JUDGE, CASES[op], call)
        testing.check_fills_outputs(backend, call)


ELEMENTWISE = [op for op in READY if op.removesuffix("_backward") in (
    "relu", "leaky_relu", "elu", "softplus", "sigmoid", "tanh", "gelu", "silu", "dropout",
)]  # fmt: skip


@pytest.mark.parametrize("op", ELEMENTWISE)
def test_elementwise_ops_work_in_place(op: str, dtype: Any) -> None:
    source, target = ("dy", "dx") if op.endswith("_backward") else ("x", "y")
    for shift in (0, 1):
        backend = simulated(dtype.name, shift=shift)
        for call in turned(op, dtype, medium(op), shift):
            apart = testing.run(backend, call)[target]
            arrays = {name: backend.asarray(a) for name, a in call.arrays.items() if name != target}
            arrays[target] = arrays[source]
            backend.kernel(op)(*(arrays[name] for name in call.arrays), **call.keywords)
            assert_parity(arrays[target], apart, name=str(call))


@pytest.mark.skipif("dense_backward" not in READY, reason="no such op yet")
def test_dense_backward_may_overwrite_dy(dtype: Any) -> None:
    backend = simulated(dtype.name)
    for keywords in CASES["dense_backward"].keywords:
        call = CASES["dense_backward"].make(CASES["dense_backward"].rng(), dtype, {"N": 33, "I": 17, "O": 9}, keywords)
        apart = testing.run(backend, call)
        call.arrays["dz"] = call.arrays["dy"]
        call(backend.kernel("dense_backward"))
        for name, want in apart.items():
            assert_parity(call.arrays[name], want, name=f"{call}: {name}")


# Few of everything; many inputs of few outputs.
HOSTILE_SHAPES = [{"N": 5, "I": 4, "O": 3, "P": 9, "S": 3}, {"N": 6, "I": 67, "O": 2, "P": 37, "S": 3}]
POSITIVE = {("adam_step", "v")}  # roots are taken of these, so a negative value has no business there


@each_op
@pytest.mark.parametrize("hostile", [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e4, -1e4, 1e-40])
def test_hostile_values_come_out_as_in_float64(op: str, hostile: float) -> None:
    """One value of each input in turn; NaN and infinities where the judge has them. A subnormal number may be zero."""
    case, backend = CASES[op], simulated("float32")
    for shape, keywords, form in itertools.product(HOSTILE_SHAPES, case.keywords, case.forms):
        call = case.make(case.rng(hostile), np.float32, shape, keywords, form)
        for arg, array in call.args("in", "inout"):
            if array.dtype.kind != "f" or arg.name in ("cache", "weight") or (op, arg.name) in POSITIVE:
                continue
            planted = call.copy()
            planted.arrays[arg.name].flat[-1] = hostile
            got = testing.run(backend, planted)
            wanted = [testing.run(JUDGE, planted.astype(np.float64))]
            if 0 < abs(hostile) < 1e-38:
                planted.arrays[arg.name].flat[-1] = 0
                wanted.append(testing.run(JUDGE, planted.astype(np.float64)))
            assert any(places(got) == places(want) for want in wanted), f"{planted}: {arg.name} is {hostile}"


def places(results: dict[str, Any]) -> list[bytes]:
    """Where NaN and the infinities are."""
    return [f(results[name]).tobytes() for name in results for f in (np.isnan, np.isposinf, np.isneginf)]


# The harness itself: what it looks for, planted.


class Wrong:
    """A backend with one field of one kernel's arguments changed."""

    def __init__(self, backend: Any, field: str, change: Any) -> None:
        self.backend, self.field, self.change = backend, field, change
        self.name = "wrong"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def kernel(self, op: str) -> Any:
        from simulator.executing import emitting, execute

        function = op_function(op)

        def kernel(*arrays: Any, **keywords: Any) -> None:
            emitter = emitting.Emitter(self.dtype)
            refs = [None if a is None else emitting.Ref(a.ctypes.data, a.shape, a.dtype.str[1:]) for a in arrays]
            function(emitter, *refs, **keywords)
            for call in emitter.calls:
                call.args[self.field] = self.change(call.args[self.field])
            execute(self.library, emitter, arrays)

        return kernel


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda n: n - 1, testing.check_fills_outputs),
        (lambda n: n + 1, testing.check_guards),
    ],
    ids=["one too few", "one too many"],
)
def test_a_wrong_length_is_caught(change: Any, check: Any, dtype: Any) -> None:
    for shape in ({"N": 7, "I": 5}, {"N": 33, "I": 17}):
        call = CASES["sigmoid"].make(CASES["sigmoid"].rng(), dtype, shape)  # of which 77 is no fixed point
        check(Wrong(simulated(dtype.name), "n", lambda n: n), call)
        with pytest.raises(AssertionError):
            check(Wrong(simulated(dtype.name), "n", change), call)


def medium(op: str) -> list[dict[str, int]]:
    letters = "".join(dict.fromkeys(n for arg in OPS[op].args for n in arg.shape if not n.isdigit()))
    return [dict(zip(letters, dims, strict=True)) for dims in MEDIUM[letters]]


def turned(op: str, dtype: Any, shapes: list[dict[str, int]], start: int = 0) -> list[Call]:
    """Every shape and every set of keywords and form, though not each with each."""
    case = CASES[op]
    kinds = list(itertools.product(case.keywords, case.forms))
    count = max(len(shapes), len(kinds))
    return [
        case.make(case.rng(str(dtype), i), dtype, shapes[i % len(shapes)], *kinds[(i + start) % len(kinds)])
        for i in range(count)
    ]


def assert_same(got: dict[str, Any], want: dict[str, Any], what: str) -> None:
    assert got.keys() == want.keys()
    for name in want:
        same = got[name].tobytes() == want[name].tobytes()
        assert same or assert_parity(got[name], want[name], name=f"{what}: {name}") or _signs(got[name], want[name])


def _signs(got: Any, want: Any) -> bool:
    """Equal up to the bits of NaN, then; a zero's sign counts."""
    return bool((np.signbit(got) == np.signbit(want))[~np.isnan(want)].all())


assert DTYPES == ("float32", "float64")  # the fixture `dtype` has the same
