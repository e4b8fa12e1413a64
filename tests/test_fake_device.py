"""The stand-in for CuPy refuses what CuPy refuses, and does nothing before somebody waits for it."""

from __future__ import annotations

import copy
import importlib

import numpy as np
import pytest
from simulator import build

if build.unavailable():
    pytest.skip(build.unavailable(), allow_module_level=True)

fake_cupy = importlib.import_module("simulator.fake_cupy")
sources = build.sources


@pytest.fixture
def cp():
    return fake_cupy.make()


@pytest.fixture
def stream(cp):
    with cp.cuda.Stream(non_blocking=True) as stream:
        yield stream


class Zero:
    """The launch of nnf_zero over an array."""

    def __init__(self, cp, a):
        module = cp.RawModule(code=sources.expanded("memory.cu"), options=sources.options("f4"), backend="nvrtc")
        self.kernel = module.get_function("nnf_zero")
        self.args = np.zeros((), sources.struct_dtype("memory.cu", "Zero", "float32"))
        self.args["words"], self.args["n"] = a.data.ptr, a.nbytes // 4
        self.pointer = cp.cuda.function.CPointer(self.args.ctypes.data)

    def __call__(self, grid=(1,), block=(256,), shared=0, **options):
        self.kernel.kernel(grid, block, (self.pointer,), shared, **options)


def now(a):
    """What lies in the array's memory at this moment."""
    return a._host().copy()


# arrays


def test_arrays_look_like_cupys(cp):
    host = np.arange(12, dtype=np.float32).reshape(3, 4)
    a = cp.asarray(host)
    assert (a.shape, a.dtype, a.size, a.nbytes, a.ndim, a.itemsize, len(a)) == ((3, 4), np.float32, 12, 48, 2, 4, 3)
    assert a.strides == (16, 4)
    assert a.flags.c_contiguous
    assert not a.T.flags["C_CONTIGUOUS"]
    assert a.data.ptr % 512 == 0
    assert a.data.ptr == a.data.mem.ptr == a.__cuda_array_interface__["data"][0]
    assert a.device.id == a.data.device_id == 0
    assert cp.asarray(a) is a
    assert cp.asarray(a, np.float64).dtype == np.float64
    assert cp.get_array_module(a) is cp
    assert cp.get_array_module(host) is np
    assert not isinstance(a, np.ndarray)
    assert cp.asarray(5).shape == ()
    assert cp.ascontiguousarray(a.T).flags.c_contiguous


def test_arithmetic_follows_numpy(cp):
    host = np.arange(12, dtype=np.float32).reshape(3, 4)
    a = cp.asarray(host)
    for got, want in [
        (a * 2 + 1, host * 2 + 1),
        (1 - a / 3, 1 - host / 3),
        (np.float64(2) * a, np.float64(2) * host),
        (a[:, 1:2] + a[0], host[:, 1:2] + host[0]),
        (a > 3, host > 3),
        (a.sum(0), host.sum(0)),
        (a.max(axis=1, keepdims=True), host.max(axis=1, keepdims=True)),
        (cp.isfinite(a / 0), np.isfinite(np.array([np.nan] + 11 * [np.inf])).reshape(3, 4)),
        (cp.matmul(a, a.T), host @ host.T),
        (a.astype(np.int64), host.astype(np.int64)),
        (a.T.ravel(), host.T.ravel()),
        (a.reshape(2, -1), host.reshape(2, -1)),
        (a.view(np.uint8), host.view(np.uint8)),
        (a[[2, 0]], host[[2, 0]]),
        (a[cp.asarray([2, 0]), 1:], host[[2, 0], 1:]),
        (a[np.array([1, 1])], host[[1, 1]]),
        (a[a > 5], host[host > 5]),
        (cp.arange(2, 7), np.arange(2, 7)),
        (cp.full((2,), 3.5), np.full(2, 3.5)),
    ]:
        np.testing.assert_array_equal(got.get(), want)
        assert got.dtype == want.dtype
    assert a.sum().item() == 66.0
    assert float(a[1, 1]) == 5.0
    assert int(a.max()) == 11
    assert bool((a >= 0).all())
    assert (a * 2)[1].tolist() == [8, 10, 12, 14]


def test_views_share_memory_and_copies_do_not(cp):
    a = cp.zeros((4, 3), np.float32)
    a[1:3, ::2] = 7
    a[..., 1] = cp.arange(4)
    view, taken = a[1], a[cp.asarray([1])]
    view[...] = cp.full(3, 9, np.float32)
    assert a.get().tolist() == [[0, 0, 0], [9, 9, 9], [7, 2, 7], [0, 3, 0]]
    assert taken.get().tolist() == [[7, 1, 7]]
    a += 1
    assert view.get().tolist() == [10, 10, 10]
    assert view.data.ptr == a.data.ptr + 12


def test_empty_memory_is_nan(cp):
    assert np.isnan(cp.empty(5, np.float32).get()).all()
    assert cp.empty(5, np.int64).get().tolist() == [-1] * 5
    assert cp.empty((0, 3)).get().shape == (0, 3)


def test_numpy_arrays_do_not_mix_in(cp):
    a, host = cp.zeros((2, 2)), np.zeros((2, 2))
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array is not allowed"):
        np.asarray(a)
    with pytest.raises(ValueError, match=r"non-scalar numpy\.ndarray cannot be used for fill"):
        a[...] = host
    with pytest.raises(ValueError, match=r"non-scalar numpy\.ndarray cannot be used for fill"):
        a.fill(host)
    with pytest.raises(TypeError, match="Unsupported type"):
        a + host
    with pytest.raises(TypeError):
        host + a
    with pytest.raises(TypeError):
        np.sum(a)
    with pytest.raises(TypeError):
        cp.matmul(a, host)
    with pytest.raises(TypeError, match=r"Only numpy\.ndarray can be set"):
        a.set(a)
    with pytest.raises(TypeError, match="float32 array cannot be set"):
        a.set(host.astype(np.float32))
    with pytest.raises(ValueError, match="Shape mismatch"):
        a.set(host[0])
    with pytest.raises(TypeError, match="cannot be obtained"):
        a.get(out=host.astype(np.float32))
    with pytest.raises(ValueError, match="Unsupported dtype"):
        cp.asarray(np.array(["text"]))
    with pytest.raises(IndexError):
        a[1.5]
    with pytest.raises(TypeError):
        hash(a)
    assert copy.deepcopy(a).data.ptr != a.data.ptr


def test_memory_of_others(cp):
    class Other:
        def __init__(self, a):
            self.__cuda_array_interface__ = a.__cuda_array_interface__

    a = cp.arange(6, dtype=np.float32).reshape(2, 3)
    for shared in (cp.asarray(Other(a)), cp.from_dlpack(a), cp.from_dlpack(a.T).T):
        assert shared.data.ptr == a.data.ptr
        np.testing.assert_array_equal(shared.get(), a.get())
    assert a.__dlpack_device__() == (2, 0)
    with pytest.raises(BufferError):
        cp.from_dlpack(np.zeros(3))
    memory = cp.cuda.UnownedMemory(a.data.ptr, a.nbytes, a, 0)
    assert cp.ndarray(3, np.float32, cp.cuda.MemoryPointer(memory, 12)).get().tolist() == [3, 4, 5]


# kernels


def test_a_kernel_runs_when_somebody_waits(cp, stream):
    a = cp.full(100, 3.0, np.float32)
    stream.synchronize()
    zero = Zero(cp, a)
    zero()
    zero.args["n"] = 0  # the driver has copied the struct
    assert now(a)[0] == 3
    assert stream.done is False
    while not stream.done:
        pass
    assert now(a).tolist() == [0] * 100
    counts = cp.counts.snapshot()
    assert (counts.launches, counts.kernels_run, counts.captured) == (1, 1, 0)
    cp.counts.reset()
    assert cp.counts.launches == 0


def test_all_ways_to_launch(cp):
    for way in range(3):
        a = cp.full(5, 3.0, np.float32)
        zero = Zero(cp, a)
        if way == 0:
            zero.kernel((1,), (256,), (zero.pointer,))
        elif way == 1:
            zero.kernel((1, 1, 1), (256, 1, 1), (zero.args[()],), shared_mem=1024)
        else:
            zero(stream=cp.cuda.Stream.null)
        assert a.get().tolist() == [0] * 5


def test_launches_that_the_driver_refuses(cp):
    zero = Zero(cp, cp.zeros(4, np.float32))
    driver = cp.cuda.driver.CUDADriverError
    for options in [{"grid": (0,)}, {"grid": (1, 0)}, {"grid": (1, 70000)}, {"block": (128,)}, {"block": (512,)}]:
        with pytest.raises(driver):
            zero(**options)
    with pytest.raises(driver, match="invalid argument"):
        zero(shared=50 << 10)
    zero.kernel.max_dynamic_shared_size_bytes = 60 << 10
    zero(shared=50 << 10)
    with pytest.raises(driver):
        zero.kernel.max_dynamic_shared_size_bytes = 228 << 10
    with pytest.raises(TypeError):
        zero.kernel((1,), (256,), (zero.args.dtype,))
    with pytest.raises(TypeError):
        zero(grid=[1])


def test_modules_that_the_compiler_refuses(cp):
    code = sources.expanded("memory.cu")
    with pytest.raises(cp.cuda.driver.CUDADriverError, match="named symbol not found"):
        cp.RawModule(code=code).get_function("nnf_nothing")
    with pytest.raises(cp.cuda.compiler.CompileException):
        cp.RawModule(code=code.replace("= 0;", "= 1;")).get_function("nnf_zero")
    with pytest.raises(cp.cuda.compiler.CompileException):
        cp.RawModule(code=code, options=("std=c++17",)).get_function("nnf_zero")
    with pytest.raises(TypeError):
        cp.RawModule(code=code, options=["-std=c++17"])
    with pytest.raises(ValueError, match="backend"):
        cp.RawModule(code=code, backend="clang")


def test_pointers_to_anything_but_living_memory(cp, stream):
    host, a = np.zeros(4, np.float32), cp.zeros(4, np.float32)
    zero = Zero(cp, a)
    zero.args["words"] = host.ctypes.data
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="is not in device memory"):
        zero()
    stream.synchronize()
    zero.args["words"] = a.data.ptr
    del a
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="given back"):
        zero()


def test_writing_beyond_an_array(cp):
    a = cp.ones(96, np.float32)
    zero = Zero(cp, a)
    zero.args["n"] = 97
    zero()
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="wrote beyond the 384 bytes"):
        cp.cuda.Device().synchronize()


def test_the_device_says_what_it_is(cp):
    assert cp.cuda.runtime.getDeviceProperties(0)["name"] == b"simulated, no GPU code ran"
    assert cp.cuda.is_available()
    assert cp.cuda.runtime.getDeviceCount() == 1
    with cp.cuda.Device(0) as device:
        assert (device.id, device.compute_capability, device.attributes["MultiProcessorCount"]) == (0, "90", 132)
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="invalid device ordinal"):
        cp.cuda.Device(1).use()
