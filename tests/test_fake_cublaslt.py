"""The stand-in for libcublasLt against NumPy: epilogues as the header has them, and its statuses."""

from __future__ import annotations

import ctypes
import importlib

import numpy as np
import pytest
from simulator import build

if build.unavailable():
    pytest.skip(build.unavailable(), allow_module_level=True)

fake_cupy = importlib.import_module("simulator.fake_cupy")

P, INT, SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
SUCCESS, NOT_INITIALIZED, INVALID_VALUE, NOT_SUPPORTED = 0, 1, 7, 15
F32, F64, C32, C64, TF32 = 0, 1, 68, 70, 77
DEFAULT, RELU, RELU_AUX, BIAS, RELU_BIAS, RELU_AUX_BIAS = 1, 2, 130, 4, 6, 134
DRELU, DRELU_BGRAD, BGRADA, BGRADB = 136, 152, 256, 512
TRANSA, TRANSB, EPILOGUE, BIAS_POINTER, AUX_POINTER, AUX_LD = 3, 4, 7, 8, 11, 12
MIB = 1 << 20


class Result(ctypes.Structure):
    _fields_ = (("algo", ctypes.c_uint64 * 8), ("workspace", SIZE), ("state", INT), ("waves", ctypes.c_float),
                ("reserved", INT * 4))  # fmt: skip


class Lt:
    """A binding of column-major products: d = op(a)·op(b), arrays in Fortran order."""

    def __init__(self, cp):
        self.cp, self.lib = cp, cp.cublaslt
        types = {
            "Create": [P], "Destroy": [P], "MatmulDescCreate": [P, INT, INT], "MatmulDescDestroy": [P],
            "MatmulDescSetAttribute": [P, INT, P, SIZE], "MatmulDescGetAttribute": [P, INT, P, SIZE, P],
            "MatrixLayoutCreate": [P, INT, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64],
            "MatrixLayoutDestroy": [P], "MatrixLayoutSetAttribute": [P, INT, P, SIZE], "MatmulPreferenceCreate": [P],
            "MatmulPreferenceSetAttribute": [P, INT, P, SIZE], "MatmulAlgoGetHeuristic": [*[P] * 7, INT, P, P],
            "Matmul": [*[P] * 14, SIZE, P],
        }  # fmt: skip
        for name, kinds in types.items():
            getattr(self.lib, f"cublasLt{name}").argtypes = kinds
        self.handle = self.made("Create")
        self.preference = self.made("MatmulPreferenceCreate")
        self.prefer(1, 32 * MIB, ctypes.c_uint64)

    def made(self, name, *arguments):
        pointer = P()
        assert getattr(self.lib, f"cublasLt{name}")(ctypes.byref(pointer), *arguments) == SUCCESS
        return pointer

    def prefer(self, attribute, value, kind=ctypes.c_uint32):
        value = kind(value)
        set_attribute = self.lib.cublasLtMatmulPreferenceSetAttribute
        assert set_attribute(self.preference, attribute, ctypes.byref(value), ctypes.sizeof(value)) == SUCCESS

    def desc(self, compute=C32, scale=F32, **attributes):
        desc = self.made("MatmulDescCreate", compute, scale)
        for name, value in attributes.items():
            wide = name.endswith(("POINTER", "LD"))
            value = (ctypes.c_int64 if wide else ctypes.c_int32)(value)
            self.set(desc, globals()[name], value)
        return desc

    def set(self, desc, attribute, value):
        size = ctypes.sizeof(value)
        assert self.lib.cublasLtMatmulDescSetAttribute(desc, attribute, ctypes.byref(value), size) == SUCCESS

    def layout(self, a, kind=None):
        kind = (F64 if a.dtype == np.float64 else F32) if kind is None else kind
        return self.made("MatrixLayoutCreate", kind, a.shape[0], a.shape[1], a.strides[1] // a.itemsize)

    def algorithms(self, desc, layouts, count=8):
        results, found = (Result * max(count, 1))(), INT(-1)
        status = self.lib.cublasLtMatmulAlgoGetHeuristic(
            self.handle, desc, *layouts, self.preference, count, results, ctypes.byref(found)
        )
        return status, list(results[: found.value]) if not status else []

    def matmul(
        self, desc, layouts, a, b, d, algo=None, workspace=None, alpha=1.0, beta=0.0, c=None, stream=0, size=None
    ):
        number = ctypes.c_double if d.dtype == np.float64 else ctypes.c_float
        alpha, beta = number(alpha), number(beta)
        c = d if c is None else c
        return self.lib.cublasLtMatmul(
            *(self.handle, desc, ctypes.byref(alpha), a.data.ptr, layouts[0], b.data.ptr, layouts[1]),
            *(ctypes.byref(beta), c.data.ptr, layouts[2], d.data.ptr, layouts[3]),
            *(None if algo is None else ctypes.byref(algo.algo), workspace.data.ptr if workspace is not None else None),
            *((workspace.nbytes if workspace is not None else 0) if size is None else size, stream),
        )


@pytest.fixture
def cp():
    return fake_cupy.make()


@pytest.fixture
def lt(cp):
    return Lt(cp)


M, N, K = 37, 19, 23


def operands(cp, dtype=np.float32, transa=False, transb=False):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((K, M) if transa else (M, K)).astype(dtype)
    b = rng.standard_normal((N, K) if transb else (K, N)).astype(dtype)
    d = cp.empty((M, N), dtype, "F")
    true = (a.T if transa else a).astype(np.float64) @ (b.T if transb else b).astype(np.float64)
    return cp.asarray(a, order="F"), cp.asarray(b, order="F"), d, true


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("transa", [0, 1])
@pytest.mark.parametrize("transb", [0, 1])
def test_products_with_every_algorithm(cp, lt, dtype, transa, transb):
    a, b, d, true = operands(cp, dtype, transa, transb)
    wide = dtype == np.float64
    desc = lt.desc(C64 if wide else C32, F64 if wide else F32, TRANSA=transa, TRANSB=transb)
    layouts = [lt.layout(x) for x in (a, b, d, d)]
    status, found = lt.algorithms(desc, layouts)
    assert status == SUCCESS
    assert [one.workspace for one in found] == [0, MIB, 32 * MIB]
    results = []
    for one in found:
        assert lt.matmul(desc, layouts, a, b, d, one, cp.empty(one.workspace, np.uint8)) == SUCCESS
        results.append(d.get())
        np.testing.assert_allclose(results[-1], true, rtol=0, atol=1e-12 if wide else 1e-5)
    assert not np.array_equal(results[0], results[1])
    assert not np.array_equal(results[1], results[2])
    c = cp.asarray(np.asfortranarray(np.ones((M, N), dtype)))
    assert lt.matmul(desc, layouts, a, b, d, found[0], alpha=2.0, beta=-1.0, c=c) == SUCCESS
    np.testing.assert_allclose(d.get(), 2 * true - 1, rtol=0, atol=1e-11 if wide else 2e-5)


def test_tf32_rounds_its_inputs(cp, lt):
    a, b, d, true = operands(cp)
    layouts = [lt.layout(x) for x in (a, b, d, d)]
    assert lt.matmul(lt.desc(TF32), layouts, a, b, d) == SUCCESS
    error = np.abs(d.get() - true).max()
    assert 1e-4 < error < 1e-2


def bits(mask, rows):
    """A mask (rows of d, columns of d) as it lies in aux: one row of `rows` bits per column of d."""
    padded = np.zeros((mask.shape[1], rows), bool)
    padded[:, : mask.shape[0]] = mask.T
    return np.packbits(padded, axis=1, bitorder="little")


@pytest.mark.parametrize(
    "epilogue", [RELU, RELU_AUX, BIAS, RELU_BIAS, RELU_AUX_BIAS, DRELU, DRELU_BGRAD, BGRADA, BGRADB]
)
def test_epilogues(cp, lt, epilogue):
    a, b, d, true = operands(cp)
    rng = np.random.default_rng(1)
    host_bias = rng.standard_normal(N if epilogue == BGRADB else M).astype(np.float32)
    mask = rng.random((M, N)) < 0.5
    bias, aux = cp.asarray(host_bias), cp.asarray(bits(mask, 128))
    desc = lt.desc(EPILOGUE=epilogue, BIAS_POINTER=bias.data.ptr, AUX_POINTER=aux.data.ptr, AUX_LD=128)
    layouts = [lt.layout(x) for x in (a, b, d, d)]
    assert lt.matmul(desc, layouts, a, b, d) == SUCCESS
    want, want_bias, want_aux = true, host_bias, bits(mask, 128)
    if epilogue in (BIAS, RELU_BIAS, RELU_AUX_BIAS):
        want = want + host_bias[:, None]
    if epilogue in (RELU_AUX, RELU_AUX_BIAS):
        got = np.unpackbits(aux.get(), axis=1, bitorder="little")[:, :M].T
        np.testing.assert_array_equal(got, want > 0)
        want_aux = aux.get()
    if epilogue in (RELU, RELU_AUX, RELU_BIAS, RELU_AUX_BIAS):
        want = np.maximum(want, 0)
    if epilogue in (DRELU, DRELU_BGRAD):
        want = want * mask
    if epilogue == DRELU_BGRAD:
        want_bias = want.sum(1)
    if epilogue == BGRADA:
        want_bias = a.get().sum(1)
    if epilogue == BGRADB:
        want_bias = b.get().sum(0)
    np.testing.assert_allclose(d.get(), want, rtol=0, atol=1e-5)
    np.testing.assert_allclose(bias.get(), want_bias, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(aux.get(), want_aux)


def test_relu_loses_nan_and_bits_go_round(cp, lt):
    a, b, d, _ = operands(cp)
    a[3, 0] = np.nan
    aux, grad = cp.zeros((N, 16), np.uint8), cp.empty(M, np.float32)
    layouts = [lt.layout(x) for x in (a, b, d, d)]
    forward = lt.desc(EPILOGUE=RELU_AUX, AUX_POINTER=aux.data.ptr, AUX_LD=128)
    assert lt.matmul(forward, layouts, a, b, d) == SUCCESS
    y = d.get()
    assert y[3].tolist() == [0] * N
    a[3, 0] = 0
    backward = lt.desc(EPILOGUE=DRELU_BGRAD, BIAS_POINTER=grad.data.ptr, AUX_POINTER=aux.data.ptr, AUX_LD=128)
    assert lt.matmul(backward, layouts, a, b, d) == SUCCESS
    np.testing.assert_array_equal(d.get() != 0, y > 0)
    np.testing.assert_allclose(grad.get(), d.get().sum(1), atol=1e-5)


def test_what_the_heuristic_refuses(cp, lt):
    a, b, d, _ = operands(cp)
    layouts = [lt.layout(x) for x in (a, b, d, d)]
    doubles = [lt.layout(x, F64) for x in (a, b, d, d)]
    plain = lt.desc()

    def status(desc=plain, layouts=layouts, count=8):
        return lt.algorithms(desc, layouts, count)[0]

    assert status() == SUCCESS
    assert status(layouts=doubles) == NOT_SUPPORTED
    assert status(lt.desc(C64, F64), doubles) == SUCCESS
    assert status(lt.desc(C64, F64)) == NOT_SUPPORTED
    assert status(lt.desc(C32, F64)) == NOT_SUPPORTED
    assert status(lt.desc(72, F32)) == NOT_SUPPORTED
    assert status(lt.desc(C64, F64, EPILOGUE=BIAS, BIAS_POINTER=d.data.ptr), doubles) == NOT_SUPPORTED
    assert status(lt.desc(EPILOGUE=3)) == NOT_SUPPORTED
    for ld, expected in [(0, NOT_SUPPORTED), (64, NOT_SUPPORTED), (100, NOT_SUPPORTED), (256, SUCCESS)]:
        assert status(lt.desc(EPILOGUE=RELU_AUX, AUX_POINTER=d.data.ptr, AUX_LD=ld)) == expected
    assert status(lt.desc(EPILOGUE=RELU_AUX, AUX_POINTER=d.data.ptr + 4, AUX_LD=128)) == NOT_SUPPORTED
    assert status(count=0) == INVALID_VALUE
    assert status(layouts=[layouts[1], layouts[0], *layouts[2:]]) == INVALID_VALUE
    assert status(layouts=[*layouts[:3], lt.layout(b)]) == INVALID_VALUE
    assert status(desc=None) == INVALID_VALUE
    empty = lt.made("MatrixLayoutCreate", F32, M, 0, M)
    assert status(layouts=[layouts[0], empty, empty, empty]) == INVALID_VALUE
    short = lt.made("MatrixLayoutCreate", F32, M, K, M - 1)
    assert status(layouts=[short, *layouts[1:]]) == INVALID_VALUE
    order = ctypes.c_int32(1)
    assert lt.lib.cublasLtMatrixLayoutSetAttribute(short, 1, ctypes.byref(order), 4) == SUCCESS
    lt.prefer(1, MIB, ctypes.c_uint64)
    assert [one.workspace for one in lt.algorithms(plain, layouts)[1]] == [0, MIB]
    assert len(lt.algorithms(plain, layouts, 1)[1]) == 1
    first, second = lt.algorithms(plain, layouts)[1]
    assert bytes(first.algo) != bytes(second.algo)


def test_attributes_have_sizes(lt):
    desc, value = lt.desc(), ctypes.c_int64(1)
    set_attribute, get_attribute = lt.lib.cublasLtMatmulDescSetAttribute, lt.lib.cublasLtMatmulDescGetAttribute
    assert set_attribute(desc, TRANSA, ctypes.byref(value), 8) == INVALID_VALUE
    assert set_attribute(desc, TRANSA, None, 4) == INVALID_VALUE
    assert set_attribute(desc, 999, ctypes.byref(value), 8) == INVALID_VALUE
    lt.set(desc, TRANSA, ctypes.c_int32(1))
    back, size = ctypes.c_int32(), SIZE()
    assert get_attribute(desc, TRANSA, ctypes.byref(back), 4, ctypes.byref(size)) == SUCCESS
    assert (back.value, size.value) == (1, 4)
    assert lt.lib.cublasLtMatmulDescDestroy(desc) == SUCCESS
    assert lt.lib.cublasLtGetVersion() == 131000
    lt.lib.cublasLtGetStatusString.restype = ctypes.c_char_p
    assert lt.lib.cublasLtGetStatusString(7) == b"CUBLAS_STATUS_INVALID_VALUE"


def test_what_a_product_refuses(cp, lt):
    a, b, d, _ = operands(cp)
    layouts, desc = [lt.layout(x) for x in (a, b, d, d)], lt.desc()
    first, second, _ = lt.algorithms(desc, layouts)[1]
    room = cp.empty(MIB + 8, np.uint8)
    assert lt.matmul(desc, layouts, a, b, d, second) == INVALID_VALUE
    assert lt.matmul(desc, layouts, a, b, d, second, room[: MIB - 1]) == INVALID_VALUE
    assert lt.matmul(desc, layouts, a, b, d, second, room[8:]) == INVALID_VALUE
    assert lt.matmul(desc, layouts, a, b, d, second, room) == SUCCESS
    assert lt.matmul(desc, layouts, a, b, d, Result()) == INVALID_VALUE
    assert lt.matmul(lt.desc(TF32), layouts, a, b, d, first) == INVALID_VALUE
    assert lt.matmul(lt.desc(EPILOGUE=BIAS), layouts, a, b, d) == INVALID_VALUE
    flat = cp.zeros(M * K + 1, np.float32)
    assert lt.matmul(desc, layouts, flat[1:], b, d, first) == NOT_SUPPORTED
    for attribute in (5, 6, 7, 8):
        lt.prefer(attribute, 4)
    low = lt.algorithms(desc, layouts)[1][0]
    assert lt.matmul(desc, layouts, flat[1:], b, d, low) == SUCCESS
    assert lt.lib.cublasLtDestroy(lt.handle) == SUCCESS
    lt.handle = None
    assert lt.matmul(desc, layouts, a, b, d, first) == NOT_INITIALIZED
    lt.handle = lt.made("Create")
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="not in device memory"):
        lt.matmul(lt.desc(EPILOGUE=BIAS, BIAS_POINTER=64), layouts, a, b, d)
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="beyond their allocation"):
        lt.matmul(desc, layouts, a, b, cp.empty((M, N - 1), np.float32, "F"))
    lt.lib.cublasLtMatmul.argtypes = None
    with pytest.raises(TypeError, match="32 bits"):
        lt.matmul(desc, layouts, a, b, d)


def test_products_go_into_streams_and_graphs(cp, lt):
    a, b, d, true = operands(cp)
    cp.cuda.Device().synchronize()
    layouts, desc = [lt.layout(x) for x in (a, b, d, d)], lt.desc()
    stream = cp.cuda.Stream(non_blocking=True)
    assert lt.matmul(desc, layouts, a, b, d, stream=stream.ptr) == SUCCESS
    assert np.isnan(d._host()).all()
    stream.synchronize()
    np.testing.assert_allclose(d._host(), true, atol=1e-5)
    stream.begin_capture()
    assert lt.matmul(desc, layouts, a, b, d, stream=stream.ptr) == SUCCESS
    graph = stream.end_capture()
    lt.set(desc, TRANSA, ctypes.c_int32(1))  # the library has read it
    assert lt.lib.cublasLtMatmulDescDestroy(desc) == SUCCESS
    d.fill(0)
    a *= 2
    cp.cuda.Device().synchronize()
    graph.launch(stream)
    assert (d._host() == 0).all()
    stream.synchronize()
    np.testing.assert_allclose(d._host(), 2 * true, atol=1e-5)
    assert "cublasLt" in graph.debug_dot_str()
    counts = cp.counts.snapshot()
    assert (counts.products, counts.products_run, counts.captured, counts.graph_launches) == (1, 2, 1, 1)
