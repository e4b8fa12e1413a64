"""The start and the end of a step on the simulator: which step it is, whose rows come in, where outputs go."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from simulator.build import library, unavailable
from simulator.executing import execute

emitting = importlib.import_module("nnfast.kernels.cupy_gpu.emitter")
gather = importlib.import_module("nnfast.kernels.cupy_gpu.gather")

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

ORDERS = ("forward", "reversed", "shuffled")


def placed(a: Any, shift: int = 0) -> np.ndarray[Any, Any]:
    """A copy that begins `shift` elements past a boundary of 16 bytes."""
    a = np.asarray(a)
    room = np.empty(a.size + shift + 16, a.dtype)
    begin = -room.ctypes.data % 16 // a.itemsize + shift
    out = room[begin : begin + a.size].reshape(a.shape)
    out[...] = a
    return out


def ref(a: Any) -> Any:
    return None if a is None else emitting.Ref(a.ctypes.data, a.shape, a.dtype.str[1:])


class Device:
    """A job and its step as they lie in device memory, and the arrays of a batch."""

    def __init__(self, dtype: str, **job: Any) -> None:
        self.dtype = dtype
        self.kept: list[Any] = []
        self.job = np.zeros((), gather.job_layout())
        self.step = np.zeros((), gather.step_layout())
        self.step["nonfinite"] = -1
        for name, value in job.items():
            self.job[name] = value.ctypes.data if isinstance(value, np.ndarray) else value
            self.kept.append(value)

    def begin(self, x: Any, y: Any, weight: Any, *, rows: int, order: str = "forward") -> None:
        e = emitting.Emitter(self.dtype)
        job, step = self.job.ctypes.data, self.step.ctypes.data
        gather.begin_step(e, job, step, ref(x), ref(y), ref(weight), rows=rows)
        execute(library(self.dtype), e, order=order)

    def scatter(self, output: Any, order: str = "forward") -> None:
        e = emitting.Emitter(self.dtype)
        gather.scatter_output(e, self.job.ctypes.data, self.step.ctypes.data, ref(output))
        execute(library(self.dtype), e, order=order)

    def check(self, values: Any, order: str = "forward") -> int:
        e = emitting.Emitter(self.dtype)
        gather.check_finite(e, ref(values), self.step.ctypes.data)
        execute(library(self.dtype), e, order=order)
        return int(self.step["nonfinite"])

    def sums(self) -> int:
        """How far the running step's row of sums is from the first one, in numbers."""
        return (int(self.step["sums"]) - int(self.job["sums"])) // 8


@pytest.mark.parametrize("order", ORDERS)
def test_a_step_publishes_its_numbers(order: str) -> None:
    sums = np.full((4, 3), np.nan)
    rates, normalisers = np.array([0.5, 0.25, 0.125]), np.array([7.0, 8.0, 9.0])
    first_rows = np.array([10, 2**33, 30])
    tables = {"learning_rates": rates, "normalisers": normalisers, "first_rows": first_rows}
    d = Device("float32", sums=sums, n_sums=3, rows=10, batch_size=4, batches=3, first_batch=2, first_step=41, **tables)
    for s in range(3):
        d.begin(None, None, None, rows=4, order=order)
        assert (d.step["next"], d.step["current"], d.step["number"]) == (s + 1, s, 41 + s)
        assert d.step["start"] == (2 + s) % 3 * 4
        assert d.step["learning_rate"] == rates[s]
        assert d.step["normaliser"] == normalisers[s]
        assert d.step["first_row"] == first_rows[s]
        assert d.step["nonfinite"] == -1
        assert d.sums() == 3 * s
        assert (sums[: s + 1] == 0).all()
        assert np.isnan(sums[s + 1 :]).all()


def test_numbers_that_a_job_does_not_give() -> None:
    d = Device("float32", rows=10, batch_size=4, batches=3)
    d.begin(None, None, None, rows=3)
    assert (d.step["learning_rate"], d.step["normaliser"], d.step["first_row"]) == (0, 3, 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize(("inputs", "outputs", "shift"), [(1, 0, 0), (4, 1, 0), (7, 3, 0), (8, 4, 1), (784, 10, 0)])
def test_batches_come_in(dtype: str, shuffled: bool, inputs: int, outputs: int, shift: int) -> None:
    """Two epochs and a bit of 3 batches, the last of each short; `outputs` 0 means labels."""
    rows, size, batches, first_batch = 22, 8, 3, 1
    rng = np.random.default_rng(inputs)
    x = placed(rng.standard_normal((rows, inputs)).astype(dtype), shift)
    y = rng.standard_normal((rows, outputs)).astype(dtype) if outputs else rng.integers(0, 9, rows)
    y, weight = placed(y, shift), placed(rng.standard_normal(rows).astype(dtype), shift)
    permutations = np.array([rng.permutation(rows) for _ in range(3)])
    numbers = {"rows": rows, "batch_size": size, "batches": batches, "first_batch": first_batch}
    given = {"x": x, "labels" if not outputs else "y": y, "weight": weight}
    d = Device(dtype, **numbers, **given, **({"order": permutations} if shuffled else {}))
    for s in range(7):
        epoch, batch = divmod(first_batch + s, batches)
        n = min(size, rows - batch * size)
        take = np.arange(batch * size, batch * size + n)
        if shuffled:
            take = permutations[epoch, take]
        got_x = placed(np.full((n, inputs), np.nan, dtype), shift)
        got_y, got_weight = placed(np.full_like(y[:n], -1), shift), placed(np.full(n, np.nan, dtype), shift)
        wanted = s != 5
        d.begin(got_x, got_y if wanted else None, got_weight if wanted else None, rows=n, order=ORDERS[s % 3])
        np.testing.assert_array_equal(got_x, x[take])
        if wanted:
            np.testing.assert_array_equal(got_y, y[take])
            np.testing.assert_array_equal(got_weight, weight[take])


@pytest.mark.parametrize("shuffled", [False, True])
def test_blocks_take_turns_where_they_are_few(shuffled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emitting, "MAX_BLOCKS", 2)
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((1500, 9)), rng.standard_normal((1500, 4))
    order = np.array([rng.permutation(1500)])
    d = Device("float64", x=x, y=y, rows=1500, batch_size=1501, batches=1, **({"order": order} if shuffled else {}))
    got_x, got_y = np.full_like(x, np.nan), np.full_like(y, np.nan)
    d.begin(got_x, got_y, None, rows=1500)
    np.testing.assert_array_equal(got_x, x[order[0]] if shuffled else x)
    np.testing.assert_array_equal(got_y, y[order[0]] if shuffled else y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("width", "shift"), [(1, 0), (4, 0), (10, 1), (257, 0)])
def test_outputs_go_to_their_rows(dtype: str, order: str, width: int, shift: int) -> None:
    rows, size = 19, 8
    output = placed(np.full((rows, width), np.nan, dtype), shift)
    d = Device(dtype, output=output, rows=rows, batch_size=size, batches=3)
    batches = [np.random.default_rng(b).standard_normal((n, width)).astype(dtype) for b, n in enumerate((8, 8, 3))]
    for b, batch in enumerate(batches):
        d.begin(None, None, None, rows=len(batch), order=order)
        d.scatter(placed(batch), order)
        np.testing.assert_array_equal(output[: b * size + len(batch)], np.concatenate(batches[: b + 1]))
        assert np.isnan(output[b * size + len(batch) :]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_step_that_is_not_finite_is_noted(dtype: str, shift: int, bad: float) -> None:
    values = placed(np.random.default_rng(0).standard_normal(5003).astype(dtype), shift)
    values[:2] = np.finfo(dtype).max, np.finfo(dtype).tiny / 2
    d = Device(dtype, rows=1, batch_size=1, batches=1)
    noted = []
    for at in (None, 5002, 0):
        d.begin(None, None, None, rows=1)
        now = values.copy() if at is None else values
        if at is not None:
            values[at] = bad
        noted.append(d.check(now))
    assert noted == [-1, 1, 1]


@pytest.mark.parametrize("at", [0, 1, 1023, 4098, 9999])
def test_every_value_is_looked_at(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emitting, "MAX_BLOCKS", 2)
    values = np.zeros(10000, np.float32)
    values[at] = np.nan
    d = Device("float32", rows=1, batch_size=1, batches=1)
    assert d.check(values) == 0
