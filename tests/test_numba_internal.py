"""The ops that the Numba backend's runner adds between those of a program: what they compute and what they touch."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest

from nnfast.testing import assert_parity

pytest.importorskip("numba")
eager = importlib.import_module("nnfast.kernels.numba_cpu.eager")
table = importlib.import_module("nnfast.kernels.numba_cpu.table")
wrappers = importlib.import_module("nnfast.kernels.numba_cpu.wrappers")

SIZES = [0, 1, 7, 15, 16, 17, 63, 64, 129, 1031, 9001]
GUARD = 64


def call(op, *arrays, **scalars):
    eager.make_kernel(op)(*arrays, **scalars)


def fenced(values):
    """A copy of an array between two fences, and a function that fails where one of them was written to."""
    values = np.ascontiguousarray(values)
    block = np.full(values.size + 2 * GUARD, 77, values.dtype)
    inside = block[GUARD : GUARD + values.size].reshape(values.shape)
    inside[...] = values

    def intact():
        assert (block[:GUARD] == 77).all()
        assert (block[GUARD + values.size :] == 77).all()

    return inside, intact


def test_every_internal_op_is_tested_here():
    tested = {"combine", "check", "sum_of_squares", "scale_to_norm", "gather", "gather_labels", "dense_weights"}
    tested |= {"dense_block", "dense_block_backward", "dense_join"}
    assert set(table.INTERNAL) == tested


# ---- over flat arrays -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_combine_adds_a_part(size, dtype, rng):
    before, part = rng.standard_normal((2, size)).astype(dtype)
    g, intact = fenced(before)
    call("combine", g, part)
    assert_parity(g, before + part)
    intact()


@pytest.mark.parametrize("size", SIZES)
def test_check_adds_nothing_for_what_is_finite(size, dtype, rng):
    g = rng.standard_normal(size).astype(dtype)
    g[: size // 2] *= np.finfo(dtype).max / 100
    total = np.array(2.5)
    call("check", g, total)
    assert total == 2.5


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_check_finds_one_number_that_is_not_finite(size, bad, dtype, rng):
    for at in sorted({0, size // 2, size - 1}):
        g = rng.standard_normal(size).astype(dtype)
        g[at] = bad
        total = np.array(2.5)
        call("check", g, total)
        assert np.isnan(total)


def test_check_is_not_fooled_by_infinities_that_cancel(dtype):
    g = np.zeros(512, dtype)
    g[:256], g[256:] = np.inf, -np.inf
    total = np.array(0.0)
    call("check", g, total)
    assert np.isnan(total)


@pytest.mark.parametrize("size", SIZES)
def test_sum_of_squares_is_a_float64_sum(size, dtype, rng):
    g = rng.standard_normal(size).astype(dtype)
    total = np.array(np.nan)
    call("sum_of_squares", g, total)
    assert_parity(total, np.float64(math.fsum(float(x) ** 2 for x in g)), limit=2e-15 * size, dtype=np.float64)


def test_sum_of_squares_does_not_overflow_in_float32():
    total = np.array(np.nan)
    call("sum_of_squares", np.full(33, 1e30, np.float32), total)
    assert_parity(total, 33 * np.float64(np.float32(1e30)) ** 2, limit=1e46)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("clip_norm", [1e-3, 1.0, 1e6, np.inf])
def test_one_share_is_clipped_to_the_same_bits_as_the_whole(size, clip_norm, dtype, rng):
    before = rng.standard_normal(size).astype(dtype)
    whole, share = before.copy(), fenced(before)
    call("clip_by_global_norm", whole, clip_norm=clip_norm)
    squares = np.array([np.nan])
    call("sum_of_squares", before, squares.reshape(()))
    call("scale_to_norm", share[0], squares, clip_norm=clip_norm)
    assert_parity(share[0], whole)
    share[1]()
    assert (whole == before).all() == (clip_norm >= math.sqrt(squares[0]))


def test_shares_are_scaled_by_the_norm_of_all_of_them(dtype, rng):
    g = rng.standard_normal(1031).astype(dtype)
    squares = np.array([np.square(part, dtype=np.float64).sum() for part in np.array_split(g, 5)])
    want = g * (0.5 / math.sqrt(squares.sum()))
    call("scale_to_norm", g, squares, clip_norm=0.5)
    assert_parity(g, want, limit=4 * np.finfo(dtype).eps * np.abs(want), dtype=dtype)


@pytest.mark.parametrize(("squares", "want"), [(np.nan, [3.0, np.inf]), (np.inf, [0.0, np.nan])])
def test_a_norm_that_is_not_finite_is_treated_as_in_the_reference(squares, want, dtype):
    g = np.array([3.0, np.inf], dtype)
    call("scale_to_norm", g, np.array([1.0, squares]), clip_norm=0.5)
    assert_parity(g, np.array(want, dtype))


# ---- rows of a batch ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 13, 16, 17, 31, 64, 100, 784])
@pytest.mark.parametrize("count", [0, 1, 6])
def test_gather_copies_rows_to_the_bit(width, count, dtype, rng):
    source, intact = fenced(rng.standard_normal((11, width)).astype(dtype))
    source.flat[-1], source.flat[0] = np.nan, -np.inf
    order = np.append(rng.permutation(11), [10, 0])[-count or 13 :]
    source.flags.writeable = order.flags.writeable = False
    rows, untouched = fenced(np.full((count, width), np.nan, dtype))
    call("gather", order, source, rows)
    assert rows.tobytes() == source[order].tobytes()
    intact()
    untouched()


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_gather_labels(count, rng):
    source = rng.integers(-(2**62), 2**62, 1000)
    order = rng.permutation(1000)[:count]
    rows, untouched = fenced(np.full(count, -1))
    wrappers.body_of("gather_labels")(order, source, rows)  # it has no array of a working dtype to be called by
    assert_parity(rows, source[order])
    untouched()


@pytest.mark.parametrize(
    ("rows", "length", "first", "inputs", "outputs"),
    [
        (0, 5, 0, 5, 3),
        (1, 1, 0, 1, 1),
        (7, 9, 2, 4, 3),
        (33, 40, 16, 24, 17),
        (128, 70, 30, 33, 65),
        (5, 300, 99, 201, 2),
    ],
)
def test_dense_weights_of_some_inputs(rows, length, first, inputs, outputs, dtype, rng):
    """x begins at the first of these inputs, but its rows are as far apart as those of the whole."""
    x, dz = rng.standard_normal((rows, length)).astype(dtype), rng.standard_normal((rows, outputs)).astype(dtype)
    from_first = np.roll(x.ravel(), -first).reshape(rows, length)
    dw, untouched = fenced(np.full((inputs, outputs), np.nan, dtype))
    call("dense_weights", from_first, dz, dw)
    part = x[:, first : first + inputs].astype(np.float64)
    limit = (4 + rows / 128) * np.finfo(dtype).eps * (np.abs(part).T @ np.abs(dz))
    assert_parity(dw, part.T @ dz, limit=limit, dtype=dtype)
    untouched()


BLOCKS = [  # rows, inputs, all outputs, the first, how many
    (0, 5, 3, 1, 2),
    (1, 1, 1, 0, 1),
    (7, 9, 4, 1, 3),
    (33, 40, 129, 64, 65),
    (200, 17, 70, 3, 64),
    (5, 300, 40, 38, 2),
]


def limit_of(a, b, inner, dtype):
    return (4 + inner / 128) * np.finfo(dtype).eps * (np.abs(a) @ np.abs(b)) + np.finfo(dtype).tiny


@pytest.mark.parametrize(("rows", "inputs", "length", "first", "outputs"), BLOCKS)
@pytest.mark.parametrize("biased", [True, False])
def test_dense_block_of_some_outputs(rows, inputs, length, first, outputs, biased, dtype, rng):
    """w begins at the first of them, but its rows are as far apart as those of the whole."""
    x, w = rng.standard_normal((rows, inputs)).astype(dtype), rng.standard_normal((inputs, length)).astype(dtype)
    b = rng.standard_normal(outputs).astype(dtype) if biased else None
    y, untouched = fenced(np.full((rows, outputs), np.nan, dtype))
    call("dense_block", x, np.roll(w.ravel(), -first).reshape(w.shape), b, y)
    wide, part = x.astype(np.float64), w[:, first : first + outputs].astype(np.float64)
    added = np.zeros(outputs) if b is None else b.astype(np.float64)
    limit = limit_of(wide, part, inputs, dtype) + 4 * np.finfo(dtype).eps * np.abs(added)
    assert_parity(y, wide @ part + added, limit=limit, dtype=dtype)
    untouched()


@pytest.mark.parametrize(("rows", "inputs", "length", "first", "outputs"), BLOCKS)
@pytest.mark.parametrize("absent", ["", "dx", "dw"])
def test_dense_block_backward_of_some_outputs(rows, inputs, length, first, outputs, absent, dtype, rng):
    x, w = rng.standard_normal((rows, inputs)).astype(dtype), rng.standard_normal((inputs, length)).astype(dtype)
    dz = rng.standard_normal((rows, outputs)).astype(dtype)
    dx, beside_dx = fenced(np.full((rows, inputs), np.nan, dtype))
    dw, beside_dw = fenced(np.full((inputs, length), 5, dtype))
    from_first = np.roll(w.ravel(), -first).reshape(w.shape)
    # A view of as many rows as dw has, whose last one reaches into the fence: only its first elements are written.
    window = np.lib.stride_tricks.as_strided(dw.ravel()[first:], dw.shape, dw.strides)
    given = None if absent == "dx" else dx, None if absent == "dw" else window
    call("dense_block_backward", x, from_first, dz, *given)
    wide, z, part = (a.astype(np.float64) for a in (x, dz, w[:, first : first + outputs]))
    if absent != "dx":
        assert_parity(dx, z @ part.T, limit=limit_of(z, part.T, outputs, dtype), dtype=dtype)
    if absent != "dw":
        want = limit_of(wide.T, z, rows, dtype)
        assert_parity(dw[:, first : first + outputs].copy(), wide.T @ z, limit=want, dtype=dtype)
    rest = np.delete(dw, np.s_[first : first + outputs], axis=1) if absent != "dw" else dw
    assert (rest == 5).all()
    beside_dx()
    beside_dw()


@pytest.mark.parametrize("shares", [1, 2, 5])
@pytest.mark.parametrize(("rows", "room", "width"), [(0, 64, 3), (1, 64, 1), (33, 64, 17), (64, 64, 16), (70, 128, 5)])
def test_dense_join_adds_the_parts_in_order(shares, rows, room, width, dtype, rng):
    parts = rng.standard_normal((shares, room, width)).astype(dtype)
    parts[:, rows:] = np.nan
    y, untouched = fenced(np.full((rows, width), np.nan, dtype))
    call("dense_join", parts, y)
    want = parts[0, :rows].copy()
    for part in parts[1:, :rows]:
        want += part
    assert_parity(y, want)
    untouched()
