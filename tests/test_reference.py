"""The reference backend as an object: its members, its memory, and how others build on it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from nnfast.protocol import API_VERSION, CUSTOM, Backend
from nnfast.registry import get_backend
from nnfast.testing import assert_parity


@pytest.fixture
def backend() -> Any:
    """The reference alone."""
    return get_backend("numpy")


def forward(backend: Any, op: str, x: Any, **keywords: Any) -> Any:
    y = np.full_like(x, np.nan)
    backend.kernel(op)(x, y, **keywords)
    return y


# The backend.


def test_backend_members(backend: Any) -> None:
    assert (backend.name, backend.device, backend.api_version) == ("numpy", "cpu", API_VERSION)
    assert backend.unavailable() is None
    assert backend.synchronize() is None
    assert backend.kernel("no such op") is None
    methods = [name for name, member in vars(Backend).items() if inspect.isfunction(member) and name[0] != "_"]
    for name in methods:
        assert inspect.signature(getattr(type(backend), name)).parameters.keys() == (
            inspect.signature(getattr(Backend, name)).parameters.keys()
        ), name


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5), (0, 7), 9])
def test_allocations_are_aligned_and_contiguous(backend: Any, shape: Any) -> None:
    for dtype in ("float32", "float64", "int64"):
        for a in (backend.empty(shape, dtype), backend.zeros(shape, dtype)):
            assert a.size == 0 or a.ctypes.data % 256 == 0  # an empty array has no place
            assert a.flags.c_contiguous
            assert a.flags.writeable
            assert (a.dtype, a.shape) == (np.dtype(dtype), np.empty(shape).shape)
        assert_parity(a, np.zeros(shape, dtype))


def test_asarray_copies_only_what_kernels_cannot_take(backend: Any) -> None:
    good = np.arange(6.0).reshape(2, 3)
    assert backend.asarray(good) is good
    assert backend.asarray(good, np.float64) is good
    unaligned = np.frombuffer(b"\0" + good.tobytes(), np.uint8)[1:].view(np.float64).reshape(2, 3)
    for other in (np.asfortranarray(good), good[:, ::-1][:, ::-1].astype(">f8"), unaligned, good.tolist()):
        a = backend.asarray(other)
        assert a.flags.c_contiguous
        assert a.flags.aligned
        assert a.dtype.isnative
        assert_parity(a, good)
    assert backend.asarray(good[:, ::2]).flags.c_contiguous
    assert backend.asarray(good, "float32").dtype == np.float32
    assert backend.asarray(3.0).shape == ()
    assert backend.to_numpy(good) is good


def test_a_backend_inherits_what_it_does_not_speed_up(backend: Any, rng: Any) -> None:
    def doubled(x: Any, y: Any) -> None:
        y[...] = 2 * x

    class Mine(type(backend)):  # type: ignore[misc]
        name = "mine"
        kernels = {**type(backend).kernels, "relu": doubled}  # noqa: RUF012

    x = rng.standard_normal((3, 2))
    assert_parity(forward(Mine(), "relu", x), 2 * x)
    assert_parity(forward(Mine(), "tanh", x), np.tanh(x))
    assert backend.kernel("relu") is not doubled


def test_registered_ops_are_found(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(x: Any, y: Any) -> None: ...

    monkeypatch.setitem(CUSTOM, "an_op_of_mine", {"reference": kernel})
    assert backend.kernel("an_op_of_mine") is kernel
    assert get_backend("numpy").kernel("relu") is not None


def test_kernels_never_warn_whatever_numpy_is_told(backend: Any) -> None:
    with np.errstate(all="raise"):
        assert_parity(forward(backend, "softmax", np.array([[np.inf, 1.0]])), np.full((1, 2), np.nan))
        assert_parity(forward(backend, "silu", np.array([[-np.inf]])), np.array([[np.nan]]))


def test_kernels_load_numpy_alone_and_under_one_name() -> None:
    code = (
        "import sys, importlib, nnfast; m = importlib.import_module('nnfast.kernels.reference'); "
        "print(sorted({'scipy', 'numba', 'cupy', 'kernels'} & set(sys.modules)), nnfast.kernels.__file__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, _, path = done.stdout.strip().partition(" ")
    assert found == "[]"
    guard = f"import runpy; runpy.run_path({path!r}, run_name='kernels')"
    refused = subprocess.run([sys.executable, "-c", guard], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "import nnfast.kernels" in refused.stderr
