"""Kernels around dense layers on the simulator: shapes, orders and numbers that the table of cases does not have."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from simulator.build import library, unavailable
from simulator.executing import execute, simulated

from nnfast.registry import get_backend
from nnfast.testing import CASES, assert_parity, check_parity

emitting = importlib.import_module("nnfast.kernels.cupy_gpu.emitter")
dense = importlib.import_module("nnfast.kernels.cupy_gpu.dense")

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, -1e-30, 3e38, -3e38, 20.0, -20.0, 87.0, -87.0, 104.0, -104.0]
ELEMENTWISE = ("relu", "leaky_relu", "elu", "softplus", "sigmoid", "tanh", "gelu", "silu")
WIDTHS = (1, 4, 5, 16, 17, 64, 65, 128, 130, 256, 260, 512, 513, 1000, 1023, 1024, 1025, 3000, 12000)


def placed(a: Any, dtype: str, shift: int = 0) -> np.ndarray[Any, Any]:
    """A copy that begins `shift` elements past a boundary of 16 bytes."""
    a = np.asarray(a, dtype)
    room = np.empty(a.size + shift + 16, dtype)
    begin = -room.ctypes.data % 16 // a.itemsize + shift
    out = room[begin : begin + a.size].reshape(a.shape)
    out[...] = a
    return out


def slopes(
    dtype: str, y: Any, dy: Any, activation: str, *, shift: int = 0, order: str = "forward"
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int]:
    """dz in place of dy, db, and the blocks per tile."""
    y, dz, db = placed(y, dtype, shift), placed(dy, dtype, shift), placed(np.full(dy.shape[1], np.nan), dtype, shift)
    e = emitting.Emitter(dtype)
    refs = [emitting.Ref(a.ctypes.data, a.shape, e.dtype) for a in (y, dz, db)]
    written = None if activation == "linear" else refs[1]
    dense.slopes(e, refs[0], refs[1], written, refs[2], 0.5, activation)
    execute(library(dtype), e, order=order)
    return dz, db, e.calls[0].blocks[1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("rows", "outputs", "chunked"),
    [
        (1, 1, False),
        (1, 3, False),
        (127, 10, False),
        (4097, 10, True),
        (20001, 1, True),
        (6001, 3, True),
        (1025, 33, True),
        (700, 65, True),
        (300, 129, True),
        (700, 32, True),
        (333, 256, True),
        (66, 1023, True),
        (66, 1028, False),
    ],
)
@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_bias_gradient(dtype: str, rows: int, outputs: int, chunked: bool, activation: str) -> None:
    """The same bits whatever the order of the threads and wherever the arrays begin, and exact but for the rounding."""
    rng = np.random.default_rng(rows)
    y, dy = rng.standard_normal((2, rows, outputs))
    y, dy = np.maximum(y, 0).astype(dtype), dy.astype(dtype)
    want = dy * (y > 0) if activation == "relu" else dy
    sums = want.astype(np.longdouble).sum(axis=0)
    limit = np.finfo(dtype).eps * np.abs(sums) + 1e-15 * np.abs(want).sum(axis=0)
    ways = [(0, "forward"), (0, "shuffled"), (1, "reversed")]
    results = [slopes(dtype, y, dy, activation, shift=shift, order=order) for shift, order in ways]
    for dz, db, chunks in results:
        assert_parity(dz, want)
        assert_parity(db, results[0][1])
        assert_parity(db, sums.astype(np.float64), limit=limit.astype(np.float64), dtype=dtype)
        assert (chunks > 1) == chunked


@pytest.mark.parametrize("pack", [2, 4])
def test_tilings_cover_every_shape_once(pack: int) -> None:
    for rows in (1, 2, 31, 128, 1000, 100_000):
        for outputs in (*range(1, 70), 127, 128, 129, 255, 256, 1000, 4096, 100_001):
            t = dense.tiling(rows, outputs, pack)
            assert t.rows * t.width * t.unit + t.rest == rows * outputs
            assert t.rest < t.width * t.unit
            assert t.tiles == -(-t.width // t.lanes)
            assert t.lanes * t.unit % t.columns == 0
            assert t.columns <= dense.THREADS
            assert t.chunk * (t.chunks - 1) < max(t.rows, 1) <= max(t.chunk * t.chunks, 1)
            assert t.tiles * t.chunks <= max(t.tiles, 1024)
            assert t.columns * t.tiles >= outputs


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", ELEMENTWISE)
def test_special_numbers(dtype: str, op: str) -> None:
    """NaN and infinities come out where the reference has them."""
    values = np.array([[a, b] for a in SPECIAL for b in SPECIAL], dtype)
    alpha = {"alpha": 0.5} if op in ("leaky_relu", "elu") else {}
    for name, arrays in ((op, values[:, :1]), (f"{op}_backward", values.T[..., None])):
        inputs = [np.ascontiguousarray(a) for a in (arrays if name != op else [arrays])]
        got, want = np.empty_like(inputs[0]), np.empty_like(inputs[0])
        with np.errstate(all="ignore"):
            get_backend("numpy").kernel(name)(*inputs, want, **alpha)  # type: ignore[misc]
        simulated(dtype).kernel(name)(*inputs, got, **alpha)  # type: ignore[misc]
        limit = 1e-5 * np.abs(np.where(np.isfinite(want), want, 0)) + np.finfo(dtype).tiny
        assert_parity(got, want, limit=np.minimum(limit, np.finfo(dtype).max), name=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", WIDTHS)
def test_softmax_rows(dtype: str, width: int) -> None:
    """Every way to share out a row, on rows with every special number at either end, and shifted in memory."""
    rng = np.random.default_rng(width)
    x = 3 * rng.standard_normal((11, width))
    for row, (value, at) in enumerate(
        [(np.nan, 0), (np.nan, -1), (np.inf, 0), (np.inf, -1), (-np.inf, 0), (-np.inf, -1)]
    ):
        x[row, at] = value
    x[6] = -np.inf
    x[7, : width // 2] = -np.inf
    x[8, : width // 2], x[8, -1] = -np.inf, np.nan
    x[9] = 1e4 * x[9]
    dy = rng.standard_normal(x.shape)
    reference = get_backend("numpy")
    y, dx = np.empty((2, *x.shape))
    with np.errstate(all="ignore"):
        reference.kernel("softmax")(x.astype(dtype).astype(float), y)  # type: ignore[misc]
        reference.kernel("softmax_backward")(y.astype(dtype).astype(float), dy.astype(dtype).astype(float), dx)  # type: ignore[misc]
    rtol, atol = (1e-5, 5e-7) if dtype == "float32" else (1e-13, 1e-15)
    for shift, order in [(0, "forward"), (1, "shuffled")]:
        kernel = simulated(dtype, order).kernel
        got = placed(x, dtype, shift)
        kernel("softmax")(got, got)  # type: ignore[misc]
        assert_parity(got, y, limit=rtol * np.abs(y) + atol, dtype=dtype)
        got, gradient = placed(np.full_like(x, np.nan), dtype, shift), placed(dy, dtype, shift)
        kernel("softmax_backward")(placed(y, dtype, shift), gradient, got)  # type: ignore[misc]
        assert_parity(got, dx, limit=rtol * np.abs(dx) + 2 * atol, dtype=dtype)


@pytest.mark.parametrize(
    "op",
    [
        "relu",
        "elu_backward",
        "softmax",
        "softmax_backward",
        "dropout",
        "dense",
        "dense_backward",
        "random_search_propose",
    ],
)
def test_blocks_take_turns_where_they_are_few(op: str, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emitting, "MAX_BLOCKS", 2)
    monkeypatch.setattr(dense, "MAX_BLOCKS", 2)
    case = CASES[op]
    keywords = case.keywords[-1]
    for dims in case.shapes[-2:]:
        call = case.make(case.rng(), dtype, dims, keywords)
        check_parity(simulated(dtype.name), get_backend("numpy"), case, call)
