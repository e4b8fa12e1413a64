"""What callers may hand over, and what each wrong thing is answered with."""

from __future__ import annotations

import re

import numpy as np
import pytest

from nnfast.errors import DataError, DTypeError, OptionError, ShapeError
from nnfast.validation import (
    convert,
    features,
    host_array,
    integer,
    labels,
    number,
    targets,
    weights,
    working_dtype,
    writable,
)

F4, F8 = np.dtype(np.float32), np.dtype(np.float64)


class OnDevice:
    """An array that only DLPack can read, on the device of this DLPack type."""

    def __init__(self, a, kind=1):
        self.a, self.kind = a, kind

    def __dlpack__(self, **options):
        return self.a.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.kind, 0


class Cuda:
    """What CuPy and Numba arrays look like; NumPy would happily ask it for a copy."""

    @property
    def __cuda_array_interface__(self):
        return {"shape": (1, 1), "typestr": "<f4", "data": (0, False), "version": 3}

    def __array__(self, *args, **kwargs):
        raise AssertionError("copied from the GPU")


class Sparse:
    def tocsr(self):
        return self

    def toarray(self):
        return np.eye(2)


# ---- dtypes and hosts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32"), np.dtype(">f4")])
def test_working_dtype_is_native(dtype):
    assert working_dtype(dtype) == F4
    assert working_dtype(dtype).isnative


@pytest.mark.parametrize("dtype", ["float16", "int32", int, "flaot32", None, np.longdouble, 32, object])
def test_working_dtype_says_what_is_supported(dtype):
    with pytest.raises(DTypeError, match="'float32' and 'float64'"):
        working_dtype(dtype)


def test_host_array_does_not_copy():
    a = np.zeros((2, 3))
    assert host_array("x", a) is a
    assert np.shares_memory(host_array("x", OnDevice(a)), a)
    assert np.shares_memory(host_array("x", OnDevice(a, kind=1)), a)
    assert np.shares_memory(host_array("x", memoryview(a)), a)


def test_host_array_makes_plain_arrays():
    matrix = np.ones((2, 2)).view(np.matrix)
    assert type(host_array("x", matrix)) is np.ndarray
    assert host_array("x", [[1, 2], [3, 4]]).shape == (2, 2)


@pytest.mark.parametrize(
    ("a", "words"),
    [
        (OnDevice(np.zeros(1), kind=2), "x .*OnDevice.* lives on the device CUDA:0.*copy it first"),
        (OnDevice(np.zeros(1), kind=10), "ROCm"),
        (OnDevice(np.zeros(1), kind=99), "DLPack type 99"),
        (Cuda(), "a CUDA device"),
        (Sparse(), r"sparse.*x\.toarray\(\)"),
        (np.ma.array([1.0], mask=[True]), r"masked.*filled"),
        (np.array([1j]), "complex128.*real"),
        (np.array([1, "a"], dtype=object), "object"),
        (["a", "b"], "text.*np.unique"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "dates"),
        (np.zeros(1, dtype=[("a", "f4")]), "fields"),
        ([[1, 2], [3]], "cannot be read"),
        ([2**70], "object"),
        ({"a": 1}, "is a dict, not an array"),
        ({1, 2}, "is a set, not an array"),
        (iter([1]), "an iterable of batches is given alone"),
        (None, "x is None"),
    ],
)
def test_host_array_refuses(a, words):
    with pytest.raises(DTypeError, match=words) as error:
        host_array("x", a)
    assert isinstance(error.value, TypeError)
    assert str(error.value).startswith("x ")


def test_scipy_sparse_is_refused():
    sparse = pytest.importorskip("scipy.sparse", reason="needs SciPy")
    with pytest.raises(DTypeError, match="toarray"):
        host_array("x", sparse.csr_array(np.eye(3)))


def hostile(a):
    """The same values in layouts that kernels cannot take, or must not write to."""
    raw = np.empty(a.nbytes + 1, np.uint8)[1:]
    unaligned = np.frombuffer(raw, a.dtype).reshape(a.shape)
    unaligned.setflags(write=True)
    unaligned[...] = a
    strided = np.repeat(a, 2, axis=1)[:, ::2]
    read_only = a.copy()
    read_only.setflags(write=False)
    backwards = a[::-1, ::-1].copy()[::-1, ::-1]
    return {
        "fortran": np.asfortranarray(a),
        "strided": strided,
        "backwards": backwards,
        "big-endian": a.astype(a.dtype.newbyteorder(">")),
        "unaligned": unaligned,
        "read-only": read_only,
        "list": a.tolist(),
        "float16": a.astype(np.float16),
        "int8": a.astype(np.int8),
    }


VALUES = np.arange(12.0).reshape(4, 3) - 5


@pytest.mark.parametrize("dtype", [F4, F8], ids=str)
@pytest.mark.parametrize("layout", hostile(VALUES))
def test_features_come_out_as_kernels_take_them(layout, dtype):
    x = features("x", hostile(VALUES)[layout], 3, dtype)
    assert x.dtype == dtype
    assert x.dtype.isnative
    assert x.flags.c_contiguous
    assert x.flags.aligned
    np.testing.assert_array_equal(x, VALUES)


# ---- features -------------------------------------------------------------------------------------------------------


def test_features_are_not_copied_when_they_fit():
    x = np.zeros((2, 3), np.float32)
    assert features("x", x, 3, F4) is x
    assert features("x", x, None, F4) is x


def test_features_let_nan_and_inf_through():
    x = features("x", [[np.nan, np.inf, -np.inf]], 3, F4)
    np.testing.assert_array_equal(x, np.array([[np.nan, np.inf, -np.inf]], np.float32))


@pytest.mark.parametrize(
    ("x", "width", "error", "words"),
    [
        (np.zeros(3), 3, ShapeError, r"x has shape \(3,\).*x\.reshape\(1, -1\)"),
        (np.zeros(3), 1, ShapeError, r"x\.reshape\(-1, 1\)"),
        (np.zeros((5, 2, 2)), 4, ShapeError, r"x\.reshape\(5, -1\)"),
        (np.zeros((3, 5)), 3, ShapeError, r"5 columns where 3.*x\.T"),
        (np.zeros((3, 5)), 4, ShapeError, "5 columns where 4 are expected$"),
        (1.0, 3, ShapeError, r"shape \(\)"),
        (np.zeros((3, 0)), None, ShapeError, "no columns"),
        (np.zeros((0, 3)), 3, DataError, "no rows"),
    ],
)
def test_features_of_the_wrong_shape(x, width, error, words):
    with pytest.raises(error, match=words):
        features("x", x, width, F4)


def test_features_without_rows_where_allowed():
    assert features("x", np.zeros((0, 3)), 3, F4, allow_empty=True).shape == (0, 3)


def test_a_value_beyond_float32_is_an_error_and_not_inf():
    with pytest.raises(DataError, match="beyond the range of float32"):
        convert("x", np.array([[1e300]]), F4)
    np.testing.assert_array_equal(convert("x", np.array([1e-300, np.inf]), F4), [0, np.inf])


# ---- targets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint64, np.int64, bool, ">i4"])
def test_labels_become_int64(dtype):
    y = labels("y", np.array([0, 1, 1, 0], dtype), 4, 2, F4)
    assert y.dtype == np.int64
    assert y.flags.c_contiguous
    np.testing.assert_array_equal(y, [0, 1, 1, 0])


def test_labels_take_strided_and_listed_classes():
    np.testing.assert_array_equal(labels("y", np.arange(6)[::-2], 3, 6, F4), [5, 3, 1])
    np.testing.assert_array_equal(labels("y", [2, 0], 2, 3, F4), [2, 0])


@pytest.mark.parametrize("rows", [np.eye(3, dtype=int), np.eye(3, dtype=bool), np.full((3, 3), 1 / 3)])
def test_label_rows_become_the_working_dtype(rows):
    y = labels("y", rows, 3, 3, F4)
    assert y.dtype == F4
    np.testing.assert_array_equal(y, rows.astype(np.float32))


def test_label_rows_may_miss_one_by_a_thousandth():
    assert labels("y", [[0.5, 0.5009]], 1, 2, F8).shape == (1, 2)
    with pytest.raises(DataError, match=r"y\[0\] sums to 1\.002"):
        labels("y", [[0.5, 0.502]], 1, 2, F8)


@pytest.mark.parametrize(
    ("y", "error", "words"),
    [
        ([0, 3, 1], DataError, r"y\[1\] is 3, .*3 classes, numbered 0 to 2"),
        ([0, 1, -1], DataError, r"y\[2\] is -1"),
        (np.array([0, 1, 2**63 + 1], np.uint64), DataError, r"y\[2\] is 9223372036854775809"),
        (np.array([0, 1, 2**64 - 1], np.uint64), DataError, r"y\[2\] is 18446744073709551615"),
        (np.array([0, 1, 255], np.uint8), DataError, r"y\[2\] is 255"),
        ([0.0, 1.0, 2.0], DTypeError, r"integers, 0 to 2.*astype"),
        ([0.0, np.nan, 2.0], DataError, r"y\[1\] is nan"),
        ([0, 1], ShapeError, "2 labels for 3 rows"),
        ([[0], [1], [2]], ShapeError, r"y has shape \(3, 1\).*y\.ravel\(\)"),
        (np.eye(4)[:3], ShapeError, r"\(3, 3\)"),
        (0, ShapeError, r"shape \(\)"),
        ([], DataError, "no labels"),
        ([[1, 0, 0], [0, 0, 0], [0, 1, 0]], DataError, r"y\[1\] sums to 0"),
        ([[1, 0, 0], [2, -1, 0], [0, 1, 0]], DataError, r"y\[1\] holds -1"),
        ([[1, 0, 0], [0, 1, 0], [np.nan, 1, 0]], DataError, r"y\[2\] holds NaN"),
        ([[1, 0, 0], [0, 1, 0], [np.inf, 1, 0]], DataError, r"y\[2\] holds NaN or inf"),
    ],
)
def test_wrong_labels(y, error, words):
    with pytest.raises(error, match=words):
        labels("y", y, 3, 3, F4)


def test_targets_are_converted():
    y = targets("y", [[1], [0]], 2, 1, F4, 0, 1)
    assert y.dtype == F4
    np.testing.assert_array_equal(y, [[1], [0]])


@pytest.mark.parametrize(
    ("y", "width", "limits", "error", "words"),
    [
        (np.zeros(3), 1, (), ShapeError, r"y has shape \(3,\); expected \(3, 1\).*y\.reshape\(-1, 1\)"),
        (np.zeros((3, 1)), 2, (), ShapeError, r"expected \(3, 2\)"),
        (np.zeros((2, 3)), 2, (), ShapeError, r"y\.T"),
        (np.zeros((2, 1)), 1, (), ShapeError, r"expected \(3, 1\)"),
        ([], 1, (), DataError, "no targets"),
        ([[0], [np.nan], [np.inf]], 1, (), DataError, r"y\[1, 0\] is nan; targets must be finite"),
        ([[0], [1], [-np.inf]], 1, (), DataError, r"y\[2, 0\] is -inf"),
        ([[0], [1], [2]], 1, (0, 1), DataError, r"y\[2, 0\] is 2\.0; targets must be from 0 to 1"),
        ([[0], [-1], [2]], 1, (0, None), DataError, r"y\[1, 0\] is -1\.0; targets must be at least 0"),
    ],
)
def test_wrong_targets(y, width, limits, error, words):
    with pytest.raises(error, match=words):
        targets("y", y, 3, width, F4, *limits)


def test_weights():
    assert weights("w", None, 2, F4) is None
    w = weights("w", [1, 0], 2, F4)
    assert w.dtype == F4
    np.testing.assert_array_equal(w, [1, 0])


@pytest.mark.parametrize(
    ("w", "error", "words"),
    [
        ([[1], [1]], ShapeError, r"w\.ravel\(\)"),
        ([1, 1, 1], ShapeError, r"expected \(2,\)"),
        (1.0, ShapeError, r"shape \(\)"),
        ([1, -1], DataError, r"w\[1\] is -1"),
        ([np.nan, 1], DataError, r"w\[0\] is nan"),
        ([np.inf, 1], DataError, r"w\[0\] is inf"),
        ([0, 0], DataError, "no weight above 0"),
    ],
)
def test_wrong_weights(w, error, words):
    with pytest.raises(error, match=words):
        weights("w", w, 2, F4)


# ---- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 0.0, 0.5, 1, np.float32(0.5), np.int8(1)])
def test_number_gives_a_float(value):
    assert type(number("rate", value, 0, 1)) is float
    assert number("rate", value, 0, 1) == value


@pytest.mark.parametrize(
    "value", [True, np.True_, np.nan, np.inf, -np.inf, "0.5", None, [0.5], np.array(0.5), np.array([0.5]), 1j, 10**400]
)
def test_number_refuses(value):
    with pytest.raises(OptionError, match=r"^rate is .*; expected a finite number$"):
        number("rate", value)


def test_number_keeps_to_its_range():
    assert number("x", 0, 0, low_open=False) == 0
    with pytest.raises(OptionError, match=re.escape("x is 0; expected a finite number above 0")):
        number("x", 0, 0, low_open=True)
    with pytest.raises(OptionError, match=re.escape("x is 1; expected a finite number of at least 0 and below 1")):
        number("x", 1, 0, 1, high_open=True)
    with pytest.raises(OptionError, match=re.escape("x is -0.1; expected a finite number from 0 to 1")):
        number("x", -0.1, 0, 1)
    with pytest.raises(OptionError, match=re.escape("x is 2; expected a finite number of at most 1")):
        number("x", 2, high=1)


def test_integer():
    assert integer("n", np.int32(3), 1) == 3
    assert type(integer("n", np.int32(3))) is int
    assert integer("n", 2**64 - 1, 0, 2**64 - 1) == 2**64 - 1
    with pytest.raises(OptionError, match="n is 0; expected a whole number of at least 1"):
        integer("n", 0, 1)
    with pytest.raises(OptionError, match="from 0 to 3"):
        integer("n", 4, 0, 3)


@pytest.mark.parametrize("value", [True, np.True_, 2.0, np.float64(2), "2", None, np.array(2), [2], np.nan])
def test_integer_refuses(value):
    with pytest.raises(OptionError, match="expected a whole number"):
        integer("n", value)


# ---- arrays to write to ---------------------------------------------------------------------------------------------


def test_writable_is_the_callers_memory_in_any_layout():
    for a in (np.zeros((2, 3)), np.zeros((3, 2)).T, np.zeros((2, 6))[:, ::2], np.zeros((2, 3))[::-1, ::-1]):
        assert np.shares_memory(writable("p", a, (2, 3), F8), a)
    assert writable("p", np.zeros((2, 3), ">f8"), (2, 3), F8).shape == (2, 3)


def read_only(a):
    a.setflags(write=False)
    return a


@pytest.mark.parametrize(
    ("a", "error", "words"),
    [
        ([0.0, 0.0, 0.0], DTypeError, "p is a list.*NumPy array"),
        (np.float64(0), DTypeError, "NumPy array"),
        (np.zeros(3, np.float32), DTypeError, "float32.*must be float64"),
        (np.zeros(3, int), DTypeError, "int64"),
        (np.zeros((3, 1)), ShapeError, r"expected \(3,\)"),
        (read_only(np.zeros(3)), DataError, r"read-only.*p\.copy\(\)"),
        (np.ma.zeros(3), DTypeError, "masked"),
        (np.lib.stride_tricks.as_strided(np.zeros(1), (3,), (0,)), DataError, "elements share memory"),
        (np.lib.stride_tricks.as_strided(np.zeros(3), (3,), (4,)), DataError, "elements share memory"),
    ],
)
def test_writable_refuses(a, error, words):
    with pytest.raises(error, match=words):
        writable("p", a, (3,), F8)
