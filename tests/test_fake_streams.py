"""The streams, events and graphs of CuPy's stand-in: late, and as strict as CUDA about what may be captured."""

from __future__ import annotations

import importlib
import threading

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
def error(cp):
    return cp.cuda.runtime.CUDARuntimeError


@pytest.fixture
def stream(cp):
    with cp.cuda.Stream(non_blocking=True) as stream:
        yield stream


def now(a):
    """What lies in the array's memory at this moment."""
    return a._host().copy()


def launch_zero(cp, a):
    module = cp.RawModule(code=sources.expanded("memory.cu"), options=sources.options("f4"))
    args = np.zeros((), sources.struct_dtype("memory.cu", "Zero", "float32"))
    args["words"], args["n"] = a.data.ptr, a.size
    module.get_function("nnf_zero")((1,), (256,), (args[()],))


# order between streams


def test_streams_that_do_not_wait_read_what_was_there(cp):
    a = cp.full(3, 1.0, np.float32)
    cp.cuda.Device().synchronize()
    one, two = cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True)
    with one:
        a.fill(2)
    with two:
        b = a + 10
        assert b.get().tolist() == [11] * 3
    two.wait_event(one.record())
    with two:
        assert (a + 10).get().tolist() == [12] * 3


def test_only_blocking_streams_know_the_null_stream(cp):
    for non_blocking in (True, False):
        a = cp.full(3, 1.0, np.float32)
        cp.cuda.Device().synchronize()
        a.fill(2)  # on the null stream
        with cp.cuda.Stream(non_blocking=non_blocking) as other:
            assert (a + 10).get().tolist() == [11 if non_blocking else 12] * 3
            a.fill(3)
        assert a.get().tolist() == [2 if non_blocking else 3] * 3
        other.synchronize()


def test_an_event_waits_for_what_was_given_before_it(cp, stream):
    a = cp.full(3, 1.0, np.float32)
    event = cp.cuda.Event()
    assert event.done
    stream.record(event)
    a.fill(2)
    event.synchronize()
    assert now(a).tolist() == [1] * 3
    assert event.done
    later = stream.record()
    assert not later.done
    while not later.done:
        pass
    assert now(a).tolist() == [2] * 3


def test_elapsed_time(cp, stream, error):
    ticks = iter(range(100))
    cp.device.clock = lambda: float(next(ticks))
    first, last = stream.record(), stream.record()
    with pytest.raises(error, match="not ready"):
        cp.cuda.get_elapsed_time(first, last)
    last.synchronize()
    assert cp.cuda.get_elapsed_time(first, last) == 1000.0
    with pytest.raises(error, match="invalid resource handle"):
        cp.cuda.get_elapsed_time(first, cp.cuda.Event())
    untimed = stream.record(cp.cuda.Event(disable_timing=True))
    untimed.synchronize()
    with pytest.raises(error, match="invalid resource handle"):
        cp.cuda.get_elapsed_time(first, untimed)


def test_the_current_stream_is_the_threads_own(cp, error):
    null = cp.cuda.Stream.null
    seen = []
    with cp.cuda.Stream() as stream:
        assert cp.cuda.get_current_stream() == stream
        with null:
            assert cp.cuda.get_current_stream().ptr == 0
        thread = threading.Thread(target=lambda: seen.append(cp.cuda.get_current_stream()))
        thread.start()
        thread.join()
    assert seen == [null]
    assert cp.cuda.get_current_stream() == null
    assert stream.use() is stream
    assert cp.cuda.get_current_stream() is stream
    assert cp.cuda.Stream(null=True) == null
    cp.cuda.runtime.streamSynchronize(stream.ptr)
    with pytest.raises(error, match="invalid resource handle"):
        cp.cuda.runtime.streamSynchronize(12345)


def test_work_of_a_destroyed_stream_still_happens(cp):
    a = cp.zeros(3, np.float32)
    stream = cp.cuda.Stream()
    with stream:
        a.fill(5)
    del stream
    assert a.get().tolist() == [5] * 3


# capture


def test_a_graph_repeats_what_was_captured(cp, stream):
    a, b = cp.full(3, 1.0, np.float32), cp.zeros(3, np.float32)
    stream.begin_capture()
    assert stream.is_capturing()
    b[...] = a
    launch_zero(cp, a)
    graph = stream.end_capture()
    assert not stream.is_capturing()
    assert (a.get() + b.get()).tolist() == [1] * 3
    before = cp.counts.snapshot()
    graph.launch()
    assert now(a).tolist() == [1] * 3
    assert (a.get().tolist(), b.get().tolist()) == ([0] * 3, [1] * 3)
    graph.launch(stream)
    graph.upload()
    assert b.get().tolist() == [0] * 3
    after = cp.counts.snapshot()
    assert before.captured == 2
    assert (after.graph_launches, after.launches, after.kernels_run, after.allocations - before.allocations) == (
        2,
        0,
        2,
        0,
    )
    assert graph.debug_dot_str().count("label=") == 2
    with pytest.raises(NotImplementedError):
        cp.cuda.Graph()


@pytest.mark.parametrize("what", ["synchronize", "done", "device", "get", "item", "float", "set", "asarray", "empty",
                                  "arithmetic", "pinned", "memcpy", "pageable", "pool"])  # fmt: skip
def test_what_may_not_happen_during_a_capture(cp, stream, error, what):
    a, host = cp.ones(1), np.zeros(1)
    copy_async = cp.cuda.runtime.memcpyAsync
    does = {
        "synchronize": stream.synchronize,
        "done": lambda: stream.done,
        "device": cp.cuda.Device().synchronize,
        "get": a.get,
        "item": a.item,
        "float": lambda: float(a),
        "set": lambda: a.set(host),
        "asarray": lambda: cp.asarray(host),
        "empty": lambda: cp.empty(3),
        "arithmetic": lambda: a + 1,
        "pinned": lambda: cp.cuda.alloc_pinned_memory(8),
        "memcpy": lambda: cp.cuda.runtime.memcpy(a.data.ptr, host.ctypes.data, 8, 1),
        "pageable": lambda: copy_async(a.data.ptr, host.ctypes.data, 8, 1, stream.ptr),
        "pool": cp.get_default_memory_pool().free_all_blocks,
    }
    stream.begin_capture()
    with pytest.raises(error, match="not permitted when stream is capturing"):
        does[what]()
    with pytest.raises(RuntimeError, match="invalidated"):
        stream.is_capturing()
    with pytest.raises(error, match="Invalidated"):
        a.fill(3)
    with pytest.raises(error, match="cudaErrorStreamCaptureInvalidated"):
        stream.end_capture()
    assert not stream.is_capturing()
    a.fill(2)  # the stream is as good as before
    assert a.item() == 2
    stream.begin_capture()
    a.fill(4)
    stream.end_capture().launch()
    assert a.item() == 4


def test_views_and_copies_of_pinned_memory_may_be_captured(cp, stream):
    a = cp.zeros((2, 4), np.float32)
    late = np.frombuffer(cp.cuda.alloc_pinned_memory(16), np.float32, 4)
    late[:] = 1
    stream.begin_capture()
    cp.cuda.runtime.memcpyAsync(a[1].data.ptr, late.ctypes.data, 16, 1, stream.ptr)
    cp.cuda.runtime.memsetAsync(a[0].data.ptr, 0, 16, stream.ptr)
    graph = stream.end_capture()
    for value in (5, 6):
        late[:] = value
        graph.launch()
        assert a.get().tolist() == [[0] * 4, [value] * 4]


def test_cublas_and_the_null_stream_cannot_be_captured(cp, stream, error):
    a, out = cp.ones((2, 2)), cp.zeros((2, 2))
    with pytest.raises(RuntimeError, match="cannot capture on the default"):
        cp.cuda.Stream.null.begin_capture()
    stream.begin_capture()
    with pytest.raises(NotImplementedError, match="cuBLAS API during stream capture"):
        cp.matmul(a, a, out=out)
    with pytest.raises(error, match="cudaErrorIllegalState"):
        stream.begin_capture()
    with pytest.raises(error):
        stream.end_capture()
    with pytest.raises(error, match="cudaErrorIllegalState"):
        stream.end_capture()
    blocking = cp.cuda.Stream()
    blocking.begin_capture()
    with cp.cuda.Stream.null, pytest.raises(error, match="cudaErrorStreamCaptureImplicit"):
        out.fill(1)
    with pytest.raises(error, match="cudaErrorStreamCaptureInvalidated"):
        blocking.end_capture()


def test_a_capture_may_fork_and_join(cp, stream, error):
    a, b, side = cp.zeros(1), cp.zeros(1), cp.cuda.Stream(non_blocking=True)
    stream.begin_capture()
    a.fill(1)
    side.wait_event(stream.record())
    assert side.is_capturing()
    with side:
        b[...] = a
    a.fill(2)
    stream.wait_event(side.record())
    graph = stream.end_capture()
    assert not side.is_capturing()
    graph.launch()
    assert b.item() == 2  # nothing made the second filling wait for the copy
    assert graph.debug_dot_str().count("->") == 2
    stream.begin_capture()
    side.wait_event(stream.record())
    with pytest.raises(error, match="cudaErrorStreamCaptureUnmatched"):
        side.end_capture()
    with pytest.raises(error, match="cudaErrorStreamCaptureInvalidated"):
        stream.end_capture()
    assert not side.is_capturing()


def test_unjoined_work(cp, stream, error):
    a, side = cp.zeros(1), cp.cuda.Stream(non_blocking=True)
    stream.begin_capture()
    side.wait_event(stream.record())
    with side:
        a.fill(1)
    with pytest.raises(error, match="unjoined work"):
        stream.end_capture()
    assert not side.is_capturing()


def test_events_do_not_cross_the_border_of_a_capture(cp, stream, error):
    outside = cp.cuda.Stream(non_blocking=True)
    event = outside.record()
    stream.begin_capture()
    with pytest.raises(error, match="cudaErrorStreamCaptureIsolation"):
        stream.wait_event(event)
    with pytest.raises(error):
        stream.end_capture()
    stream.begin_capture()
    inside = stream.record()
    with pytest.raises(error, match="cudaErrorCapturedEvent"):
        inside.synchronize()
    with pytest.raises(error):
        stream.end_capture()
    with pytest.raises(error, match="cudaErrorCapturedEvent"):
        outside.wait_event(inside)


def test_a_graph_on_memory_that_was_given_back(cp, stream, error):
    for kernel in (True, False):
        a = cp.zeros(3, np.float32)
        stream.synchronize()
        stream.begin_capture()
        launch_zero(cp, a) if kernel else a.fill(1)
        del a
        graph = stream.end_capture()
        graph.launch()
        with pytest.raises(error, match="given back"):
            stream.synchronize()
