"""Losses, metrics and updates on the simulator where the case table does not reach: every width at which a kernel
changes its ways, outputs overwritten in place, hostile rows, and a thousand steps with numbers in device memory."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from simulator.build import library, unavailable
from simulator.executing import execute, op_function, simulated

from nnfast.registry import get_backend
from nnfast.testing import assert_parity
from nnfast.testing.cases import CASES
from nnfast.testing.limits import Judged

emitting = importlib.import_module("nnfast.kernels.cupy_gpu.emitter")

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

JUDGE = get_backend("numpy")
ORDERS = ("forward", "reversed", "shuffled")
WIDTHS = (1, 2, 3, 4, 5, 31, 32, 33, 64, 127, 128, 129, 256, 257, 512, 516, 1023, 1024, 1025, 12288, 12289, 60000)
SOFTMAX = CASES["softmax_cross_entropy"]


@pytest.fixture
def rng() -> Any:
    return np.random.default_rng(20)


def judged(op: str, arrays: dict[str, Any], **keywords: Any) -> dict[str, Any]:
    """What the reference makes of the same numbers in float64."""
    wide = {name: a.astype(np.float64) if a is not None and a.dtype.kind == "f" else a for name, a in arrays.items()}
    with np.errstate(all="ignore"):
        JUDGE.kernel(op)(*wide.values(), **keywords)  # type: ignore[misc]
    return wide


def check(case: Any, backend: Any, arrays: dict[str, Any], *, in_place: bool = False, **keywords: Any) -> None:
    """Losses, total and gradient within the limits of the case table."""
    before = {name: None if a is None else a.copy() for name, a in arrays.items()}
    after = judged(case.op, arrays, **keywords)
    placed = {name: None if a is None else backend.asarray(a) for name, a in arrays.items()}
    if in_place:
        placed["dz"] = placed["z"]
    backend.kernel(case.op)(*placed.values(), **keywords)
    call = Judged(before, after, keywords, backend.dtype)
    for name in ("total", "dz", "losses"):
        with np.errstate(all="ignore"):
            limit = case.limit_of(name)(call, name)
        dtype = np.float64 if name == "total" else backend.dtype
        assert_parity(placed[name], after[name], limit=limit, dtype=dtype, name=f"{case.op}: {name}")


def losing(case: Any, rng: Any, dtype: str, rows: int, width: int, form: str) -> dict[str, Any]:
    one_hot = form == "one_hot"  # not by the case table, whose np.eye is as large as the width squared
    call = case.make(rng, dtype, {"N": rows, "O": width}, None, "labels" if one_hot else form)
    arrays: dict[str, Any] = call.arrays
    if one_hot:
        arrays["y"] = (np.arange(width) == arrays["y"][:, None]).astype(dtype)
    return arrays


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", WIDTHS)
def test_softmax_cross_entropy_at_every_width(rng: Any, width: int, dtype: str) -> None:
    rows = 2 if width > 5000 else 70 if width < 40 else 9
    for i, form in enumerate(SOFTMAX.forms):
        for smoothing in (0.0, 0.1):
            keywords = {"normaliser": 13.0, "label_smoothing": smoothing}
            arrays = losing(SOFTMAX, rng, dtype, rows, width, form)
            if smoothing:
                arrays["z"] *= 10000 / np.abs(arrays["z"]).max()
            elif width > 2:
                arrays["z"] = rng.integers(-1, 2, (rows, width)).astype(dtype)  # ties
                arrays["weight"] = None
            backend = simulated(dtype, ORDERS[i], shift=int(smoothing > 0 and form == "labels"))
            check(SOFTMAX, backend, arrays, in_place=form != "one_hot", **keywords)


@pytest.mark.parametrize("width", [3, 33, 132, 300, 1024, 1500, 16500])
def test_softmax_cross_entropy_of_rows_that_are_not_finite(rng: Any, width: int) -> None:
    z = 3 * rng.standard_normal((8, width)).astype(np.float32)
    z[0, 1] = np.nan
    z[1, 2] = np.inf
    z[2] = -np.inf
    z[3, : width - 1] = -np.inf  # p is 1 at the last
    z[4, 1:] = -np.inf
    z[5, ::2] = -np.inf
    z[6] = np.nan
    labels = np.array([0, 2, 1, width - 1, 0, 1, 0, 2])
    targets = (np.arange(width) == labels[:, None]).astype(np.float32)
    for y in (labels, targets):
        for smoothing in (0.0, 0.1):
            arrays = {"z": z, "y": y, "weight": None, "total": np.zeros(()), "dz": z.copy(), "losses": z[:, 0].copy()}
            backend = simulated("float32", "shuffled")
            check(SOFTMAX, backend, arrays, in_place=True, normaliser=2.0, label_smoothing=smoothing)


@pytest.mark.parametrize("width", [1030, 12289, 30001])
def test_what_a_row_keeps_in_shared_memory_changes_no_bit(rng: Any, width: int) -> None:
    z = rng.standard_normal((2, width)).astype(np.float32)
    labels = np.array([5, width - 1])
    results = []
    for share in (0, 1, 2):
        dz, total = np.empty_like(z), np.zeros(())
        e = emitting.Emitter("float32")
        refs = [None if a is None else emitting.Ref(a.ctypes.data, a.shape, a.dtype.str[1:]) for a in (z, labels)]
        out = [emitting.Ref(a.ctypes.data, a.shape, a.dtype.str[1:]) for a in (total, dz)]
        op_function("softmax_cross_entropy")(e, *refs, None, *out, None, normaliser=2.0, label_smoothing=0.0)  # type: ignore[misc]
        (call,) = e.calls
        call.args["kept"] = call.args["kept"] * share // 2
        execute(library("float32"), e)
        results.append((dz, total))
    for dz, total in results[1:]:
        np.testing.assert_array_equal(dz, results[0][0])
        assert total == results[0][1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "op", [op for op in CASES if "cross_entropy" in op and op != SOFTMAX.op] + ["huber", "poisson"]
)
def test_losses_in_place_and_misaligned(rng: Any, op: str, dtype: str) -> None:
    case = CASES[op]
    for i, (rows, width) in enumerate([(1500, 1), (700, 3), (5, 1030), (64, 33)]):
        for form in case.forms:
            arrays = losing(case, rng, dtype, rows, width, form)
            check(case, simulated(dtype, ORDERS[i % 3], shift=i % 2), arrays, in_place=True, **case.keywords[0])


@pytest.mark.parametrize(
    "op", ["mean_squared_error", "mean_absolute_error", "huber", "binary_cross_entropy", "poisson"]
)
def test_losses_of_numbers_that_are_not_finite(op: str) -> None:
    hostile = np.array([0.5, np.nan, np.inf, -np.inf, 0, 2, -0.0, 1], np.float32)
    z, y = (a.reshape(8, 8).copy() for a in np.meshgrid(hostile, hostile))
    arrays = {"z": z, "y": y, "weight": None, "total": np.zeros(()), "dz": z.copy(), "losses": z[:, 0].copy()}
    check(CASES[op], simulated("float32"), arrays, **CASES[op].keywords[0])


@pytest.mark.parametrize("width", [1, 4, 33, 1024, 1025, 12289])
@pytest.mark.parametrize("form", ["labels", "soft"])
def test_metrics_of_wide_rows_with_ties_and_nan(rng: Any, form: str, width: int) -> None:
    rows = 12
    z = rng.integers(-2, 3, (rows, width)).astype(np.float32)
    y = rng.integers(0, width, rows) if form == "labels" else rng.integers(0, 3, (rows, width)).astype(np.float32)
    z[0, -1] = z[1, 0] = np.nan
    z[2] = -np.inf
    z[3, width // 2] = np.inf
    if form == "soft":
        y[4, -1] = np.nan
        y[5] = z[5]
        y[6] = -np.inf
    weight = rng.uniform(0, 1, rows).astype(np.float32)
    for order in ORDERS:
        for op, keywords in (("accuracy", {}), ("top_k_accuracy", {"k": min(3, width)})):
            got = np.array(2.0)
            simulated("float32", order).kernel(op)(z, y, weight, got, **keywords)
            want = judged(op, {"z": z, "y": y, "weight": weight, "total": np.array(2.0)}, **keywords)["total"]
            assert_parity(got, want, limit=1e-12, name=op)
        if form == "soft":
            for op, keywords in (("binary_accuracy", {"threshold": 0.3}), ("regression_accuracy", {"precision": 1.0})):
                got = np.array(2.0)
                simulated("float32", order).kernel(op)(z, y, None, got, **keywords)
                want = judged(op, {"z": z, "y": y, "weight": None, "total": np.array(2.0)}, **keywords)["total"]
                assert_parity(got, want, limit=1e-12, name=op)


@pytest.mark.parametrize(("rows", "outputs"), [(5000, 1), (900, 3), (700, 40), (300, 70)])
def test_moments_of_many_rows(rng: Any, rows: int, outputs: int) -> None:
    z = rng.standard_normal((rows, outputs)).astype(np.float32)
    y = (100 + rng.standard_normal((rows, outputs))).astype(np.float32)
    weight = np.where(np.arange(rows) < rows // 2, 0, rng.uniform(0, 1, rows)).astype(np.float32)  # blocks of zeros
    for order in ORDERS:
        for w in (None, weight, 0 * weight):
            got = np.full((3, outputs), np.nan)
            simulated("float32", order).kernel("r2_moments")(z, y, w, got)
            want = judged("r2_moments", {"z": z, "y": y, "weight": w, "moments": got.copy()})["moments"]
            assert_parity(got, want, limit=1e-12 * np.abs(want), name="moments")


# ---- updates --------------------------------------------------------------------------------------------------------

UPDATES: dict[str, tuple[int, dict[str, float]]] = {
    "sgd_step": (1, {"learning_rate": 0.01, "momentum": 0.9}),
    "adagrad_step": (1, {"learning_rate": 0.05, "epsilon": 1e-7}),
    "rmsprop_step": (1, {"learning_rate": 0.001, "epsilon": 1e-7, "rho": 0.9}),
    "adam_step": (
        2,
        {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "weight_decay": 0.01},
    ),
}


class Stepping:
    """An optimizer step emitted once, whose numbers lie in memory and change between its runs."""

    def __init__(self, op: str, arrays: list[Any], **attributes: Any) -> None:
        _, numbers = UPDATES[op]
        self.numbers = {name: np.array([value]) for name, value in numbers.items()}
        self.flag, self.index = np.array([-1]), np.array([0])
        self.emitter = emitting.Emitter(arrays[0].dtype)
        if op == "adam_step":
            self.numbers["step"] = np.array([0])
        op_function(op)(  # type: ignore[misc]
            self.emitter,
            *[emitting.Ref(a.ctypes.data, a.shape, a.dtype.str[1:]) for a in arrays],
            **{name: emitting.At(a.ctypes.data) for name, a in self.numbers.items()},
            **attributes,
            watch=(self.flag.ctypes.data, self.index.ctypes.data),
        )
        self.library = library(arrays[0].dtype)

    def step(self, number: int) -> None:
        self.index[0] = number
        if "step" in self.numbers:
            self.numbers["step"][0] = number
        execute(self.library, self.emitter)


@pytest.mark.parametrize("op", UPDATES)
def test_a_thousand_steps_stay_near_those_in_float64(rng: Any, op: str) -> None:
    slots, numbers = UPDATES[op]
    attributes = {"nesterov": True} if op == "sgd_step" else {}
    arrays = [rng.standard_normal(37).astype(np.float32), *(np.zeros(37, np.float32) for _ in range(slots + 1))]
    wide = [a.astype(np.float64) for a in arrays]
    stepping = Stepping(op, arrays, **attributes)
    kernel = JUDGE.kernel(op)
    for t in range(1, 1001):
        arrays[1][...] = rng.standard_normal(37)
        wide[1][...] = arrays[1]
        rate = numbers["learning_rate"] * 0.999**t
        stepping.numbers["learning_rate"][0] = rate
        stepping.step(t)
        now = {**numbers, "learning_rate": rate, **attributes, **({"step": t} if op == "adam_step" else {})}
        kernel(*wide, **now)  # type: ignore[misc]
    np.testing.assert_allclose(arrays[0], wide[0], rtol=1e-5, atol=1e-5)
    assert stepping.flag[0] == -1


def test_adam_corrects_to_the_last_digit_and_after_very_many_steps(rng: Any) -> None:
    g = rng.standard_normal(5)
    for step, beta_2 in [(1, 0.999), (2, 0.9999999), (10, 0.0), (2**53, 0.999), (2**53, 1 - 2.0**-53)]:
        arrays = [np.zeros(5), g.copy(), np.zeros(5), np.zeros(5)]
        stepping = Stepping("adam_step", arrays)
        stepping.numbers["beta_2"][0] = beta_2
        stepping.numbers["weight_decay"][0] = stepping.numbers["epsilon"][0] = 0
        stepping.step(step)
        exponent = step * np.log1p(beta_2 - 1) if beta_2 else -np.inf
        corrections = np.sqrt(-np.expm1(exponent)) / -np.expm1(step * np.log(0.9))
        want = -0.001 * corrections * 0.1 * g / np.sqrt((1 - beta_2) * g * g)
        np.testing.assert_allclose(arrays[0], want, rtol=1e-14)


@pytest.mark.parametrize("op", UPDATES)
def test_the_first_step_that_is_not_finite_is_noted(op: str) -> None:
    slots, _ = UPDATES[op]
    attributes = {"nesterov": False} if op == "sgd_step" else {}
    for size, at in [(1, 0), (1031, 1030), (9000, 4321)]:
        arrays = [np.ones(size, np.float32) for _ in range(slots + 2)]
        stepping = Stepping(op, arrays, **attributes)
        stepping.step(3)
        assert stepping.flag[0] == -1
        arrays[1][at] = np.inf
        stepping.step(4)
        assert stepping.flag[0] == 4
        arrays[1][at] = np.nan
        stepping.step(5)
        assert stepping.flag[0] == 4
        stepping.flag[0] = -1
        arrays[0][:], arrays[1][:] = 1, 1
        for slot in arrays[2:]:
            slot[:] = 1
        arrays[0][at] = -np.inf  # the parameter alone
        stepping.step(6)
        assert stepping.flag[0] == 6


def test_a_penalty_of_nothing_touches_nothing() -> None:
    p, g, total = np.full(9, np.nan, np.float32), np.full(9, 2, np.float32), np.array(1.0)
    op = op_function("penalty")
    zero = np.zeros(2)
    g.flags.writeable = False
    refs = [emitting.Ref(a.ctypes.data, a.shape, a.dtype.str[1:]) for a in (p, g, total)]
    e = emitting.Emitter("float32")
    op(e, *refs, l1=0.0, l2=0.0)  # type: ignore[misc]
    assert not e.calls
    op(e, *refs, l1=emitting.At(zero.ctypes.data), l2=emitting.At(zero.ctypes.data))  # type: ignore[misc]
    execute(library("float32"), e)
    assert (g == 2).all()
    assert total == 1


@pytest.mark.parametrize("l1", [0.0, 0.5])
@pytest.mark.parametrize("l2", [0.0, 0.25])
def test_penalties_of_numbers_that_are_not_finite(l1: float, l2: float) -> None:
    hostile = np.array([0.0, -0.0, 3, -3, np.inf, -np.inf, np.nan, 1e25], np.float32)
    for p in (hostile, hostile[:4], hostile[7:], hostile[2:5]):
        arrays = {"p": p, "g": np.ones_like(p), "total": np.array(1.0)}
        want = judged("penalty", arrays, l1=l1, l2=l2)
        got = {name: a.copy() for name, a in arrays.items()}
        simulated("float32").kernel("penalty")(*got.values(), l1=l1, l2=l2)
        assert_parity(got["g"], want["g"], limit=1e-6 * np.abs(want["g"]), dtype=np.float32, name="g")
        assert_parity(got["total"], want["total"], limit=1e-12 * np.abs(want["total"]), name="total")


@pytest.mark.parametrize("size", [1, 7, 5000])
def test_clipping_follows_the_equation_where_the_norm_is_not_finite(rng: Any, size: int) -> None:
    for value in (np.nan, np.inf, -np.inf, 0.0, 1e30):
        for clip_norm in (1.0, 1e35, np.inf):
            for from_memory in (False, True):
                g = rng.standard_normal(size).astype(np.float32)
                g[size // 2] = value
                want = judged("clip_by_global_norm", {"g": g}, clip_norm=clip_norm)["g"]
                before = g.copy()
                kernel = simulated("float32", from_memory=from_memory).kernel("clip_by_global_norm")
                kernel(g, clip_norm=clip_norm)
                limit = 1e-6 * np.abs(want) + np.finfo(np.float32).tiny
                assert_parity(g, want, limit=limit, dtype=np.float32, name=f"{value} {clip_norm}")
                if np.array_equal(want, before, equal_nan=True):
                    np.testing.assert_array_equal(g, before)
