"""What the contract of `nnfast.protocol` says beyond single calls, and the checks of `nnfast.testing` on trial.

That every op of our backends keeps it is in test_parity.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nnfast import testing
from nnfast.protocol import CUSTOM, OPS
from nnfast.registry import get_backend
from nnfast.testing import CASES, DTYPES, assert_parity
from nnfast.testing.case import SHAPES

each_op = pytest.mark.parametrize("op", CASES)
REFERENCE = get_backend("numpy")


def test_every_op_has_a_case() -> None:
    assert set(CASES) == set(OPS) - set(CUSTOM)


def test_the_cases_cover_empty_single_odd_and_wide() -> None:
    for letters, shapes in SHAPES.items():
        rows = [dims[letters.index(letters[0])] for dims in shapes]
        assert 1 in rows
        assert any(n % 2 and n > 1 for n in rows)
        assert max(max(dims) for dims in shapes) > 1000 or letters == "NIO"
        assert 0 in rows or letters == "PS"


@each_op
def test_signature(backend: Any, op: str) -> None:
    testing.check_signature(backend.kernel(op), CASES[op])


IN_PLACE = [op for op in OPS if op.startswith(("relu", "leaky", "elu", "softplus", "sigmoid", "tanh", "gelu", "silu"))]


@pytest.mark.parametrize("op", [op for op in IN_PLACE if "cross_entropy" not in op])
def test_elementwise_ops_work_in_place(backend: Any, op: str, dtype: Any) -> None:
    source, target = ("dy", "dx") if op.endswith("_backward") else ("x", "y")
    for call in calls(op, dtype):
        apart = testing.run(backend, call)[target]
        call.arrays[target] = call.arrays[source]
        call(backend.kernel(op))
        assert_parity(call.arrays[target], apart)


LOSSES = [op for op in OPS if {"weight", "dz", "losses"} <= {arg.name for arg in OPS[op].args}]


@pytest.mark.parametrize("backend", ["numpy", "numba", "cupy"], indirect=True)
@pytest.mark.parametrize("op", LOSSES)
@pytest.mark.parametrize("large", [True, False], ids=["large", "tiny"])
def test_only_the_proportions_of_weights_count(backend: Any, op: str, dtype: Any, large: bool) -> None:
    """Also where their sum is beyond the dtype, or its inverse is; on a GPU subnormal numbers are zero."""
    exponents = {"float32": (123, -120 if backend.device != "cpu" else -140), "float64": (1000, -900)}
    exponent = exponents[np.dtype(dtype).name][not large]
    tried = 0
    for call in calls(op, dtype):
        weight = call.arrays["weight"]
        if weight is None or call.arrays["dz"] is None or not weight.size:
            continue
        tried += 1
        weight[...] = 0.125 + np.round(8 * weight) / 8
        usual = testing.run(backend, call)["dz"]
        np.ldexp(weight, exponent, out=weight)
        call.keywords["normaliser"] = float(np.ldexp(call.keywords["normaliser"], exponent))
        scaled = testing.run(backend, call)["dz"]
        np.testing.assert_allclose(scaled, usual, rtol=8 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)
    assert tried > 3


def test_dense_backward_may_overwrite_dy(backend: Any, dtype: Any) -> None:
    for call in calls("dense_backward", dtype):
        apart = testing.run(backend, call)
        call.arrays["dz"] = call.arrays["dy"]
        call(backend.kernel("dense_backward"))
        for name, want in apart.items():
            assert_parity(call.arrays[name], want)


# The kit itself: each check must catch the kernel that breaks its rule.


class Broken:
    """The reference with one kernel replaced."""

    def __init__(self, op: str, kernel: Callable[..., None]) -> None:
        self.op, self.broken = op, kernel

    def __getattr__(self, name: str) -> Any:
        return getattr(REFERENCE, name)

    def kernel(self, op: str) -> Any:
        return self.broken if op == self.op else REFERENCE.kernel(op)


def leaves_the_last(x: Any, y: Any) -> None:
    y.flat[:-1] = np.maximum(x, 0).flat[:-1]


def writes_one_more(x: Any, y: Any) -> None:
    y[...] = np.maximum(x, 0)
    np.lib.stride_tricks.as_strided(y, (y.size + 1,), (y.itemsize,))[-1] = 0


def changes_its_input(x: Any, y: Any) -> None:
    y[...] = np.maximum(x, 0)
    x.flags.writeable = True
    x[...] = y


def is_slightly_off(x: Any, y: Any) -> None:
    y[...] = np.maximum(x, 0) * (1 + 1e-6)


def loses_nan(x: Any, y: Any) -> None:
    y[...] = np.where(x > 0, x, 0)


def spoils_its_neighbours(x: Any, y: Any) -> None:
    y[...] = np.maximum(x, 0) + 0 * x.sum()


def caps_infinities(x: Any, y: Any) -> None:
    y[...] = np.clip(x, 0, np.finfo(x.dtype).max)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("kernel", "check"),
    [
        (leaves_the_last, testing.check_fills_outputs),
        (writes_one_more, testing.check_guards),
        (changes_its_input, testing.check_inputs_kept),
        (is_slightly_off, lambda b, call: testing.check_parity(b, REFERENCE, CASES["relu"], call)),
    ],
)
def test_a_check_catches_its_kernel(kernel: Any, check: Any, dtype: str) -> None:
    call = CASES["relu"].make(CASES["relu"].rng(), dtype, {"N": 5, "I": 3})
    check(REFERENCE, call)
    with pytest.raises(AssertionError):
        check(Broken("relu", kernel), call)
    with pytest.raises(AssertionError):
        testing.check_case(Broken("relu", kernel), REFERENCE, CASES["relu"], dtype)


def check_hostile(backend: Any) -> None:
    assert len(list(testing.check_hostile(backend, REFERENCE, CASES["relu"], np.float32))) > 60


@pytest.mark.parametrize("kernel", [loses_nan, spoils_its_neighbours, caps_infinities])
def test_hostile_numbers_catch_what_happens_to_them(kernel: Any) -> None:
    check_hostile(REFERENCE)
    with pytest.raises(AssertionError, match=r"relu.* (everywhere|first|middle|last) in x"):
        check_hostile(Broken("relu", kernel))


def test_optional_and_weight_checks_catch_a_dependence() -> None:
    def weighs_twice(z: Any, y: Any, weight: Any, total: Any, dz: Any, losses: Any, **k: Any) -> None:
        REFERENCE.kernel("huber")(z, y, None if weight is None else 2 * weight, total, dz, losses, **k)

    def needs_losses(z: Any, y: Any, weight: Any, total: Any, dz: Any, losses: Any, **k: Any) -> None:
        REFERENCE.kernel("huber")(z, y, weight, total, dz, losses, **k)
        if losses is None:
            total += 1

    call = CASES["huber"].make(CASES["huber"].rng(), np.float32, {"N": 5, "O": 3})
    with pytest.raises(AssertionError, match="without weights"):
        testing.check_weight(Broken("huber", weighs_twice), call)
    with pytest.raises(AssertionError, match="without"):
        testing.check_optional(Broken("huber", needs_losses), CASES["huber"], call)


def test_signature_check_catches_a_renamed_array() -> None:
    with pytest.raises(AssertionError, match="takes the arrays"):
        testing.check_signature(lambda a, y: None, CASES["relu"])


@pytest.mark.parametrize(
    ("got", "want", "limit", "message"),
    [
        (np.zeros(2, np.float32), np.zeros(2), 0, "dtype float32, expected float64"),
        (np.zeros(2), np.zeros((2, 1)), 0, r"shape \(2,\), expected \(2, 1\)"),
        (np.array([1.0, np.nan]), np.ones(2), 9, "NaN at 1 other places"),
        (np.array([1.0, 2.0]), np.array([1.0, np.nan]), 9, "NaN at 1 other places"),
        (np.array([np.inf]), np.array([-np.inf]), 9, "inf at 1 other places"),
        (np.array([1.0, 1.1]), np.ones(2), 0.05, r"result\[1\]"),
        (np.array([1.0, 1.0]), np.ones(2), np.nan, "2 of 2 elements"),
    ],
)
def test_parity_catches(got: Any, want: Any, limit: float, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_parity(got, want, limit=limit)


def test_parity_accepts_equal_infinities_and_values_in_the_limit() -> None:
    want = np.array([np.inf, -np.inf, np.nan, 1.0])
    assert_parity(want, want)
    assert_parity(np.array([np.inf, -np.inf, np.nan, 1.001]), want, limit=0.01)


def calls(op: str, dtype: Any) -> Any:
    return CASES[op].calls(CASES[op].rng(str(dtype)), dtype)
