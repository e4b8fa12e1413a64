"""Getting hold of CuPy: imported on demand, and where that fails, why and what mends it.

`import cupy` alone proves nothing: without a driver it succeeds, and without a writable home it fails. So each thing
that a GPU needs is asked for in turn, and the answer names the first that is missing.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["open_cupy"]

OLDEST = 14  # CuPy's first version that finds CUDA in pip's packages and captures graphs as we need it
INSTALL = 'pip install "nnfast[cuda13]", or "nnfast[cuda12]" where `nvidia-smi` reports CUDA 12'


def open_cupy() -> tuple[Any, str | None]:
    """(CuPy's module, None), or (None, the reason and the remedy). Never raises."""
    try:
        return _open()
    except Exception as error:  # a broken installation may raise anything, anywhere
        return None, f"CuPy does not work here ({_text(error)}); install it anew: {INSTALL}"


def _open() -> tuple[Any, str | None]:
    _keep_cache_writable()
    try:
        cupy = importlib.import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise
        return None, f"CuPy is not installed: {INSTALL}"
    if int(cupy.__version__.partition(".")[0]) < OLDEST:
        return None, f"CuPy {cupy.__version__} is too old, {OLDEST} or newer is needed: {INSTALL}"
    reason = _no_device(cupy) or _no_compiler(cupy)
    return (None, reason) if reason else (cupy, None)


def _keep_cache_writable() -> None:
    """CuPy makes its folder of kernels when it is imported, and cannot be imported where it may not."""
    if os.environ.get("CUPY_CACHE_DIR"):
        return
    home = Path(os.path.expanduser("~"))
    folder = next((p for p in (home / ".cupy" / "kernel_cache", home / ".cupy", home) if p.exists()), None)
    if folder is None or not os.access(folder, os.W_OK | os.X_OK):
        os.environ["CUPY_CACHE_DIR"] = tempfile.mkdtemp(prefix="nnfast-cupy-")


def _no_device(cupy: Any) -> str | None:
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return (
            f"CuPy finds no usable NVIDIA driver ({_text(error)}); `nvidia-smi` should list a GPU: install or update "
            "its driver, and in a container pass the GPU on (--gpus all)"
        )
    return None if count else "there is no NVIDIA GPU that this process may see; look at CUDA_VISIBLE_DEVICES"


def _no_compiler(cupy: Any) -> str | None:
    """Kernels are compiled on the machine they run on, by NVRTC, which CuPy's plain wheels do not bring along."""
    try:
        importlib.import_module("cupy_backends.cuda.libs.nvrtc").getVersion()
    except Exception as error:
        return f"the CUDA compiler NVRTC cannot be loaded ({_text(error)}): {INSTALL}"
    return None


def _text(error: Exception) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:200]}" if words else type(error).__name__
