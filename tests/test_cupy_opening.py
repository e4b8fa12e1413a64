"""Where the GPU backend cannot work it says why and what mends it, whatever it is that is missing."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import pytest

from nnfast.errors import BackendUnavailable

CupyBackend = importlib.import_module("nnfast.kernels.cupy_gpu").CupyBackend
open_cupy = importlib.import_module("nnfast.kernels.cupy_gpu.opening").open_cupy

real_cupy = pytest.mark.skipif(find_spec("cupy") is None, reason="CuPy is not installed (extra cuda-test)")


class CUDARuntimeError(RuntimeError):
    """As CuPy names it."""


def stub(*, version="14.2.0", devices=1, error=None, compiler=(13, 5)):
    """CuPy as far as opening it goes: modules by name."""

    def count():
        if error is not None:
            raise CUDARuntimeError(error)
        return devices

    def compiler_version():
        if compiler is None:
            raise RuntimeError("libnvrtc.so.13: cannot open shared object file")
        return compiler

    cupy = types.ModuleType("cupy")
    cupy.__version__ = version
    runtime = types.SimpleNamespace(getDeviceCount=count, CUDARuntimeError=CUDARuntimeError)
    cupy.cuda = types.SimpleNamespace(runtime=runtime, Device=lambda: types.SimpleNamespace(id=0))
    nvrtc = types.ModuleType("cupy_backends.cuda.libs.nvrtc")
    nvrtc.getVersion = compiler_version
    return {"cupy": cupy, "cupy_backends.cuda.libs.nvrtc": nvrtc}


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Makes CuPy what the test wants it to be."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CUPY_CACHE_DIR", raising=False)

    def install(**how):
        for name, module in stub(**how).items():
            for parent in (name.rpartition(".")[0], *[".".join(name.split(".")[:n]) for n in (1, 2, 3)]):
                if parent and parent != name and parent not in sys.modules:
                    monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
            monkeypatch.setitem(sys.modules, name, module)

    return install


def test_with_all_in_place_it_opens(installed):
    installed()
    cupy, reason = open_cupy()
    assert reason is None
    assert cupy is sys.modules["cupy"]
    assert CupyBackend().unavailable() is None


@pytest.mark.parametrize(
    ("how", "why", "remedy"),
    [
        ({"version": "13.6.0"}, "13.6.0 is too old", 'pip install "nnfast[cuda13]"'),
        ({"error": "cudaErrorInsufficientDriver: insufficient"}, "no usable NVIDIA driver", "nvidia-smi"),
        ({"devices": 0}, "no NVIDIA GPU that this process may see", "CUDA_VISIBLE_DEVICES"),
        ({"compiler": None}, "NVRTC cannot be loaded", 'pip install "nnfast[cuda13]"'),
    ],
    ids=["old", "no driver", "no device", "no compiler"],
)
def test_what_is_missing_is_named_with_its_remedy(installed, how, why, remedy):
    installed(**how)
    said = CupyBackend().unavailable()
    assert why in said
    assert remedy in said
    assert "\n" not in said


def test_without_cupy_the_package_to_install_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    said = CupyBackend().unavailable()
    assert said.startswith("CuPy is not installed")
    assert "nnfast[cuda13]" in said
    assert "nnfast[cuda12]" in said


@pytest.mark.parametrize("error", [ImportError("libcuda.so.1: no such file"), RuntimeError("two CuPys"), OSError("no")])
def test_an_import_that_fails_in_any_way_is_a_reason_and_no_crash(monkeypatch, tmp_path, error):
    (tmp_path / "cupy.py").write_text(f"raise {type(error).__name__}({str(error)!r})")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    said = CupyBackend().unavailable()
    assert str(error) in said
    assert "pip install" in said


def test_where_the_home_is_writable_cupy_keeps_its_cache_there(installed):
    installed()
    open_cupy()
    assert "CUPY_CACHE_DIR" not in os.environ


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="folders without rights are made as POSIX has them")
def test_where_it_is_not_a_folder_is_found_for_it(installed, monkeypatch, tmp_path):
    installed()
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(tmp_path)))
    open_cupy()
    place = Path(os.environ["CUPY_CACHE_DIR"])
    assert place.is_dir()
    assert tmp_path not in place.parents
    place.rmdir()


def test_a_folder_that_is_named_is_left_alone(installed, monkeypatch, tmp_path):
    installed()
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "named"))
    monkeypatch.setenv("HOME", "/proc/nowhere")
    open_cupy()
    assert os.environ["CUPY_CACHE_DIR"] == str(tmp_path / "named")


def elsewhere(code, **environment):
    """What a process of its own prints, with the real CuPy."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


ASK = "import nnfast as nn; print(nn.available_backends()['cupy']); print(nn.get_backend('auto').name)"


@real_cupy
@pytest.mark.parametrize("home", ["usual", "unwritable"])
def test_the_real_cupy_is_asked_without_a_crash(home, tmp_path):
    said, auto = elsewhere(ASK, **({} if home == "usual" else {"HOME": "/proc/nowhere"})).splitlines()
    assert said == "available" or "nvidia-smi" in said or "nnfast[cuda13]" in said
    assert auto in ("numba", "numpy")  # a GPU is never taken unasked


def test_asked_for_by_name_it_works_or_raises():
    code = """
import nnfast as nn
try:
    nn.Model([nn.Dense(2, 3)], backend="cupy")
    print("works")
except nn.errors.BackendUnavailable as error:
    print(error)
"""
    said = elsewhere(code)
    assert said == "works\n" or said.startswith("backend 'cupy': ")


def test_the_error_is_the_documented_one(monkeypatch):
    from nnfast import registry

    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(registry, "_instances", {})
    with pytest.raises(BackendUnavailable, match=r"backend 'cupy': CuPy is not installed: pip install"):
        registry.get_backend("cupy")
