"""BLAS under the Numba backend: matrix products from compiled code, and the guard over BLAS's own threads."""

from __future__ import annotations

import importlib
import itertools
import os
import random
import subprocess
import sys
import threading

import numpy as np
import pytest

numba = pytest.importorskip("numba")
pytest.importorskip("scipy")
threadpoolctl = pytest.importorskip("threadpoolctl")
blas = importlib.import_module("nnfast.kernels.numba_cpu.blas")
guards = importlib.import_module("nnfast.kernels.numba_cpu.blas_threads")
modes = importlib.import_module("nnfast.kernels.numba_cpu.modes")

SIZES = (0, 1, 2, 7, 33)
LIMIT = {"float32": 2e-5, "float64": 4e-14}
compiled = pytest.mark.skipif(modes.PLAIN, reason="nothing is compiled here")


# ---- products -------------------------------------------------------------------------------------------------------


def padded(rng, rows, columns, dtype, offset, ld):
    """An array of NaN with a random matrix in it at this offset and leading dimension, and a view of the matrix."""
    array = np.full(offset + rows * ld, np.nan, dtype)
    view = array[offset:].reshape(rows, ld)[:, :columns]
    view[...] = rng.standard_normal((rows, columns))
    return array, view


@pytest.mark.parametrize("transposes", list(itertools.product([False, True], repeat=2)), ids=str)
def test_products_of_all_shapes_within_larger_arrays(rng, dtype, transposes):
    address = blas.gemm_address(dtype)
    transpose_a, transpose_b = transposes
    for m, n, k in itertools.product(SIZES, repeat=3):
        for alpha, beta in ((1.0, 0.0), (1.0, 1.0), (-0.5, 0.25)):
            a, op_a = padded(rng, *((k, m) if transpose_a else (m, k)), dtype, 3, (m if transpose_a else k) + 2)
            b, op_b = padded(rng, *((n, k) if transpose_b else (k, n)), dtype, 1, (k if transpose_b else n) + 1)
            c, out = padded(rng, m, n, dtype, 2, n + 3)
            op_a = (op_a.T if transpose_a else op_a).astype(np.float64)
            op_b = (op_b.T if transpose_b else op_b).astype(np.float64)
            expected = alpha * (op_a @ op_b) + (beta * out if beta else 0)
            if beta == 0:
                out[...] = np.nan
            lds = [(m if transpose_a else k) + 2, (k if transpose_b else n) + 1, n + 3]
            blas.gemm(address, *transposes, m, n, k, alpha, a, 3, lds[0], b, 1, lds[1], beta, c, 2, lds[2])
            np.testing.assert_allclose(out, expected, rtol=0, atol=LIMIT[dtype.name] * (k + 1))
            assert np.isnan(c).sum() == c.size - m * n, "nothing else was written"


def test_arrays_of_any_rank_and_read_only_inputs(rng, dtype):
    a, b = rng.standard_normal((2, 3, 4)).astype(dtype), rng.standard_normal((4, 5)).astype(dtype)
    a.flags.writeable = b.flags.writeable = False
    c = np.zeros((2, 3, 5), dtype)
    blas.gemm(blas.gemm_address(dtype), False, False, 6, 5, 4, 1.0, a, 0, 4, b, 0, 5, 0.0, c, 0, 5)
    np.testing.assert_allclose(c, a @ b, rtol=0, atol=LIMIT[dtype.name] * 5)


@pytest.mark.parametrize("transpose_b", [False, True])
def test_a_product_over_nothing_is_zero(dtype, transpose_b, capfd):
    a, b, c = (
        np.empty((3, 0), dtype),
        np.empty((5, 0) if transpose_b else (0, 5), dtype),
        np.full((3, 5), np.nan, dtype),
    )
    address = blas.gemm_address(dtype)
    blas.gemm(address, False, transpose_b, 3, 5, 0, 1.0, a, 0, 0, b, 0, b.shape[1], 0.0, c, 0, 5)
    np.testing.assert_array_equal(c, np.zeros((3, 5)))
    assert capfd.readouterr() == ("", ""), "BLAS tells of bad arguments by printing"


def test_nan_and_inf_travel_as_in_numpy(rng, dtype):
    for bad in (np.nan, np.inf, -np.inf):
        a, b = rng.standard_normal((5, 6)).astype(dtype), rng.standard_normal((6, 4)).astype(dtype)
        a[2, 3] = bad
        b[3, 1] = 0
        c = np.empty((5, 4), dtype)
        blas.gemm(blas.gemm_address(dtype), False, False, 5, 4, 6, 1.0, a, 0, 6, b, 0, 4, 0.0, c, 0, 4)
        with np.errstate(all="ignore"):
            expected = a @ b
        np.testing.assert_array_equal(np.isnan(c), np.isnan(expected))
        np.testing.assert_array_equal(np.isinf(c), np.isinf(expected))


@compiled
def test_products_inside_compiled_code_and_functions_called_from_c(rng):
    address = blas.gemm_address("float32")
    gemm = blas.gemm

    @modes.jit
    def loop(address, a, b, c, times):
        for _ in range(times):
            gemm(address, True, False, 3, 5, 4, 1, a, 0, 3, b, 0, 5, 1, c, 0, 5)

    pointer = numba.types.CPointer(numba.types.float32)

    @numba.cfunc(numba.types.void(numba.types.intp, pointer, pointer, pointer))
    def from_c(address, a, b, c):
        loop(address, numba.carray(a, 12), numba.carray(b, 20), numba.carray(c, 15), 10)

    a, b = rng.standard_normal((4, 3)).astype(np.float32), rng.standard_normal((4, 5)).astype(np.float32)
    c = np.zeros((3, 5), np.float32)
    loop(address, a, b, c, 10)
    from_c.ctypes(address, *(x.ctypes.data_as(from_c.ctypes.argtypes[1]) for x in (a, b, c)))
    np.testing.assert_allclose(c, 20 * (a.T @ b), rtol=0, atol=1e-4)


@compiled
def test_arrays_that_blas_cannot_take_do_not_compile():
    f4, f8, i8 = (np.zeros((4, 4), dtype) for dtype in ("f4", "f8", "i8"))
    for a, b, c in ((f4, f4, f8), (i8, i8, i8), (f4.T, f4, f4), (f4, f4[::2], f4)):
        with pytest.raises(numba.errors.TypingError, match="gemm takes"):
            blas.gemm(0, False, False, 2, 2, 2, 1.0, a, 0, 4, b, 0, 4, 0.0, c, 0, 4)


@pytest.mark.parametrize("mode", ["NUMBA_BOUNDSCHECK", "NUMBA_DISABLE_JIT"])
def test_checking_modes_refuse_a_matrix_beyond_its_array(mode):
    code = """
import importlib, numpy as np
blas = importlib.import_module("nnfast.kernels.numba_cpu.blas")
a, b, c, address = np.ones((3, 4)), np.ones((4, 5)), np.zeros((3, 5)), blas.gemm_address("float64")
good = [address, False, False, 3, 5, 4, 1.0, a, 0, 4, b, 0, 5, 0.0, c, 0, 5]
blas.gemm(*good)
assert (c == 4).all()
wrong = [(1, True), (3, 4), (4, 6), (5, 5), (8, 1), (8, -1), (9, 3), (9, 5), (11, 1), (12, 6), (15, 1), (16, 6)]
for place, bad in wrong:
    try:
        blas.gemm(*good[:place], bad, *good[place + 1:])
    except IndexError as error:
        assert "beyond its array" in str(error)
    else:
        raise AssertionError(place, bad)
assert (c == 4).all()
"""
    environ = {**os.environ, "NUMBA_BOUNDSCHECK": "0", "NUMBA_DISABLE_JIT": "0", mode: "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_an_address_is_given_only_for_the_signature_that_is_called(monkeypatch):
    assert blas.gemm_address("float32") != blas.gemm_address(np.float64) != 0
    for name in ("void (char *, char *, int64_t *)", "void (char *, char *" + ", int64_t *" * 6 + ", s *" * 5 + ")"):
        monkeypatch.setattr(blas, "_capsule", lambda *_, name=name: lambda *_: name.encode())
        with pytest.raises(ImportError, match="another signature"):
            blas.gemm_address("float32")
    monkeypatch.setitem(sys.modules, "scipy.linalg", None)
    with pytest.raises(ImportError, match=r"scipy\.linalg"):
        blas.gemm_address("float32")


# ---- the guard: against libraries of our own ------------------------------------------------------------------------


class Library:
    """A BLAS as the guard sees it: with one setting for the process, or one for each thread."""

    def __init__(self, threads: int, own: bool = False) -> None:
        self.own = own
        self.start = threads
        self.held: dict[object, int] = {}

    def _key(self) -> object:
        return threading.get_ident() if self.own else None

    def get(self) -> int:
        return self.held.get(self._key(), self.start)

    def set(self, threads: int) -> None:
        self.held[self._key()] = threads


@pytest.fixture
def libraries(monkeypatch):
    """Two libraries of each kind, and a fresh guard over them."""
    process, own = [Library(3), Library(5)], [Library(7, own=True), Library(4, own=True)]
    guard = guards._Guard()
    guard.found = guards.Settings(process, own, None)
    monkeypatch.setattr(guards, "_GUARD", guard)
    return [*process, *own]


def counts(libraries):
    return [library.get() for library in libraries]


def test_inside_there_is_one_thread_and_afterwards_what_there_was(libraries):
    for _ in range(2):
        with blas.single_threaded_blas():
            assert counts(libraries) == [1, 1, 1, 1]
            with pytest.raises(KeyError), blas.single_threaded_blas():
                raise KeyError
            assert counts(libraries) == [1, 1, 1, 1]
        assert counts(libraries) == [3, 5, 7, 4]
    libraries[0].set(2)
    with blas.single_threaded_blas():
        pass
    assert counts(libraries) == [2, 5, 7, 4]


def test_the_last_to_leave_restores_whoever_came_first(libraries):
    entered, leave, seen = threading.Event(), threading.Event(), []

    def first():
        with blas.single_threaded_blas():
            seen.append(counts(libraries))
            entered.set()
            leave.wait(20)
        seen.append(counts(libraries))

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(20)
    assert counts(libraries) == [1, 1, 7, 4], "settings of a thread are its own"
    with blas.single_threaded_blas():
        assert counts(libraries) == [1, 1, 1, 1]
        leave.set()
        thread.join(20)
        assert counts(libraries) == [1, 1, 1, 1]
    assert counts(libraries) == [3, 5, 7, 4]
    assert seen == [[1, 1, 1, 1], [1, 1, 7, 4]]


def test_many_threads_come_and_go(libraries):
    wrong = []

    def client(seed):
        draw = random.Random(seed)
        for _ in range(300):
            with blas.single_threaded_blas():
                if draw.random() < 0.3:
                    with blas.single_threaded_blas():
                        pass
                if counts(libraries) != [1, 1, 1, 1]:
                    wrong.append(counts(libraries))

    clients = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join(60)
    assert wrong == []
    assert counts(libraries) == [3, 5, 7, 4]


def test_a_thread_of_the_team_limits_itself_for_good(libraries):
    guards.limit_this_thread()
    assert counts(libraries) == [3, 5, 1, 1]


def test_a_thread_of_the_team_imports_nothing(monkeypatch):
    monkeypatch.setattr(guards, "_GUARD", guards._Guard())
    monkeypatch.setattr(guards, "_find", lambda: pytest.fail("looks for libraries"))
    guards.limit_this_thread()


def test_without_threadpoolctl_nothing_is_set_and_the_reason_known(monkeypatch):
    monkeypatch.setattr(guards, "_GUARD", guards._Guard())
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with blas.single_threaded_blas():
        pass
    assert "install threadpoolctl" in str(guards.guard_reason())


def test_a_blas_that_threadpoolctl_does_not_know_is_a_reason(monkeypatch):
    monkeypatch.setattr(guards, "_GUARD", guards._Guard())
    monkeypatch.setattr(threadpoolctl.ThreadpoolController, "lib_controllers", [], raising=False)
    monkeypatch.setattr(threadpoolctl.ThreadpoolController, "__init__", lambda self: None)
    assert "finds none" in str(guards.guard_reason())


# ---- the guard: against the BLAS that is there ----------------------------------------------------------------------

REAL = """
import os, sys, threading, importlib
import scipy.linalg, threadpoolctl
guards = importlib.import_module("nnfast.kernels.numba_cpu.blas_threads")
single = guards.single_threaded_blas
controller = threadpoolctl.ThreadpoolController()
def counts(): return {library.num_threads for library in controller.lib_controllers if library.user_api == "blas"}
controller.limit(limits=2, user_api="blas")  # for good: it is never left
if counts() != {2}:
    print("cannot be set here")
    sys.exit()
inside, leave = threading.Event(), threading.Event()
def elsewhere():
    with single():
        inside.set()
        leave.wait(20)
def in_child(check):
    child = os.fork()
    if child == 0:
        threading.Timer(30, os._exit, [9]).start()
        code = 1
        try:
            check()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def real(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", REAL + code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    if done.stdout.strip() == "cannot be set here":
        pytest.skip("this BLAS has no setting that threadpoolctl could change")
    return done.stdout.strip()


def test_the_real_blas_is_set_and_restored_by_whichever_thread():
    code = """
assert guards.guard_reason() is None
thread = threading.Thread(target=elsewhere)
thread.start()
inside.wait(20)
seen = [counts()]
with single():
    seen.append(counts())
    leave.set()
    thread.join(20)
    seen.append(counts())
print(*seen, counts())
"""
    assert real(code) == "{1} {1} {1} {2}"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_forgets_other_threads_but_not_the_one_that_forked():
    code = """
def free():
    assert counts() == {2}
    with single():
        assert counts() == {1}
    assert counts() == {2}
def held():
    assert counts() == {1}
    with single():
        pass
    assert counts() == {1}
    guard.__exit__(None, None, None)
    assert counts() == {2}
    free()
thread = threading.Thread(target=elsewhere)
thread.start()
inside.wait(20)
others = in_child(free)
guard = single()
guard.__enter__()
own = in_child(held)
leave.set()
thread.join(20)
assert counts() == {1}
guard.__exit__(None, None, None)
print(others, own, counts(), in_child(free))
"""
    assert real(code) == "0 0 {2} 0"
