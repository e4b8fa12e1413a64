"""Fixtures for all tests: who computes, seeded random numbers, and the dtype on trial."""

from __future__ import annotations

import importlib
import itertools
import shutil
import signal
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnfast.errors import BackendUnavailable
from nnfast.protocol import Backend
from nnfast.registry import get_backend, use_backend


@pytest.fixture(params=["numpy", "numba"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Every backend that can work here; a test of one of them has a fixture of its own.

    Where a test asks for "cupy" as well, that is the GPU backend on its stand-in.
    """
    if request.param == "cupy":
        from gpu_models import simulated, why_not_simulated

        if why_not_simulated:
            pytest.skip(why_not_simulated)
        monkeypatch.setenv("NNFAST_GPU_TUNING", "0")
        return simulated()
    try:
        return get_backend(request.param)
    except BackendUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def stand_in() -> Any:
    """The stand-in for cublasLt, opened as the library is."""
    build = pytest.importorskip("simulator.fake_build", reason="the stand-in for cublasLt is not here")
    if shutil.which("g++") is None:
        pytest.skip("the stand-in for cublasLt is compiled with g++")
    lt = importlib.import_module("nnfast.kernels.cupy_gpu.cublaslt")
    return lt.CublasLt(lt.open_library(build.cublaslt()))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Seeded by the test's name: a new test changes no other's data."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(autouse=True)
def _chance(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever draws its own seed, or from NumPy's global stream, draws the same in every run of a test."""
    fresh, seeds, before = np.random.default_rng, itertools.count(), np.random.get_state()
    name = zlib.crc32(request.node.name.encode())

    def default_rng(seed: Any = None) -> np.random.Generator:
        return fresh([name, next(seeds)] if seed is None else seed)

    with pytest.MonkeyPatch.context() as patch:  # of its own: a test may undo what it has changed itself
        patch.setattr(np.random, "default_rng", default_rng)
        np.random.seed(name)
        yield
    np.random.set_state(before)


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Any:
    return np.dtype(request.param)


@pytest.fixture
def usual_ctrl_c() -> Iterator[None]:
    """Whatever pytest was started by: a shell in the background ignores Ctrl-C, and so would its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def like_the_book(backend: Backend) -> Iterator[None]:
    """The test starts as a program after `init()`, on each backend; the global stream is put back."""
    from nnfast.compat.nnfs import init

    before = np.random.get_state()
    init()
    with use_backend(backend):
        yield
    init(random_seed=None)
    np.random.set_state(before)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports modules of bench/, which is no package, and forgets them again."""
    folder = Path(__file__).parent.parent / "bench"
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(folder):
            del sys.modules[name]
