"""The memory of CuPy's stand-in: when it is read and written, and what the driver refuses."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from simulator import build

if build.unavailable():
    pytest.skip(build.unavailable(), allow_module_level=True)

fake_cupy = importlib.import_module("simulator.fake_cupy")
H2D, D2H, D2D = 1, 2, 3


@pytest.fixture
def cp():
    return fake_cupy.make()


@pytest.fixture
def stream(cp):
    with cp.cuda.Stream(non_blocking=True) as stream:
        yield stream


def test_memory_is_counted_and_limited(cp):
    pool = cp.get_default_memory_pool()
    a = cp.empty(1000, np.uint8)
    assert pool.used_bytes() == pool.total_bytes() == 1024
    del a
    assert (pool.used_bytes(), pool.total_bytes()) == (0, 1024)
    pool.free_all_blocks()
    assert pool.total_bytes() == 0
    pool.set_limit(size=4096)
    with pytest.raises(cp.cuda.memory.OutOfMemoryError, match="limit set to"):
        cp.empty(5000, np.uint8)
    private = cp.cuda.MemoryPool()
    with cp.cuda.using_allocator(private.malloc):
        kept = cp.empty(5000, np.uint8)
    assert private.used_bytes() == 5120
    assert pool.used_bytes() == 0
    assert kept.size == 5000
    with pytest.raises(MemoryError):
        cp.empty(1 << 40, np.uint8)


def test_given_back_memory_is_overwritten_in_the_order_of_its_stream(cp, stream):
    a = cp.zeros(10, np.float32)
    b = a + 1  # still in the queue when `a` goes
    block = a.data.mem.block
    del a
    assert not block.dead
    assert b.get().tolist() == [1] * 10
    assert block.dead
    assert np.ctypeslib.as_array((np.ctypeslib.ctypes.c_uint8 * 40).from_address(block.start)).tolist() == [255] * 40


# copies


def test_pageable_memory_is_read_at_the_call_and_pinned_memory_later(cp, stream):
    a = cp.zeros(4, np.float32)
    pinned = cp.cuda.alloc_pinned_memory(16)
    late = np.frombuffer(pinned, np.float32, 4)
    soon = np.ones(4, np.float32)
    late[:] = 1
    for host in (soon, late):
        cp.cuda.runtime.memcpyAsync(a.data.ptr, host.ctypes.data, 16, H2D, stream.ptr)
        host[:] = 2
        assert a.get().tolist() == ([1] * 4 if host is soon else [2] * 4)
    assert pinned.size() == 512
    assert cp.counts.h2d_bytes == 32


def test_a_copy_back_is_there_after_waiting(cp, stream):
    a = cp.full(4, 3.0, np.float32)
    late = np.frombuffer(cp.cuda.alloc_pinned_memory(16), np.float32, 4)
    late[:] = 0
    cp.cuda.runtime.memcpyAsync(late.ctypes.data, a.data.ptr, 16, D2H, stream.ptr)
    assert late.tolist() == [0] * 4
    stream.synchronize()
    assert late.tolist() == [3] * 4
    soon = np.zeros(4, np.float32)
    cp.cuda.runtime.memcpyAsync(soon.ctypes.data, a.data.ptr, 16, D2H, stream.ptr)
    assert soon.tolist() == [3] * 4
    out = np.frombuffer(cp.cuda.alloc_pinned_memory(16), np.float32, 4)
    a[...] = 4
    a.get(out=out, blocking=False)
    assert np.isnan(out).all()
    stream.synchronize()
    assert out.tolist() == [4] * 4


def test_copies_within_the_device(cp):
    a, b = cp.arange(4, dtype=np.float32), cp.zeros(4, np.float32)
    cp.cuda.runtime.memcpyAsync(b.data.ptr, a.data.ptr, 8, D2D, 0)
    cp.cuda.runtime.memsetAsync(b.data.ptr + 8, 255, 4, 0)
    assert b.get()[[0, 1, 3]].tolist() == [0, 1, 0]
    assert np.isnan(b.get()[2])
    assert (cp.counts.d2d, cp.counts.memsets) == (1, 1)


@pytest.mark.parametrize("case", ["kind", "host as device", "too long", "target too long", "null", "given back"])
def test_copies_that_the_driver_refuses(cp, case):
    a, host = cp.zeros(4, np.float32), np.zeros(8, np.float32)
    target, source, size, kind = a.data.ptr, host.ctypes.data, 16, H2D
    if case == "kind":
        kind = D2H
    elif case == "host as device":
        target = host.ctypes.data
    elif case == "too long":
        target, source, size, kind = host.ctypes.data, a.data.ptr, 20, D2H
    elif case == "target too long":
        size = 20
    elif case == "null":
        target = 0
    else:
        del a
        cp.cuda.Device().synchronize()
    for copying in (lambda: cp.cuda.runtime.memcpyAsync(target, source, size, kind, 0),
                    lambda: cp.cuda.runtime.memcpy(target, source, size, kind)):  # fmt: skip
        with pytest.raises(cp.cuda.runtime.CUDARuntimeError):
            copying()
