"""The library cublasLt of CUDA 12 or 13: found and opened, its functions declared, its statuses turned into errors."""

from __future__ import annotations

import ctypes
import importlib
import os
import threading
import weakref
from typing import Any

from . import lt_constants as lt

__all__ = ["CublasLt", "CublasLtError", "Descriptors", "LibraryMissing", "check", "open_library"]

_NAMES = (
    *("libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"),
    *("cublasLt64_13.dll", "cublasLt64_12.dll"),
)
_REMEDY = 'pip install "nnfast[cuda13]" or "nnfast[cuda12]", whichever the driver is for'
_NO_DEVICE = "no usable GPU, or a driver too old for this library"


class LibraryMissing(RuntimeError):
    """There is no cublasLt that can be used; the message says why and what mends it."""


class CublasLtError(RuntimeError):
    """A function of cublasLt gave back a status other than success."""

    def __init__(self, function: str, status: int, remark: str = "") -> None:
        self.function = function
        self.status = lt.STATUSES.get(status, f"status {status}")
        super().__init__(f"{function}: {self.status}{remark and f' ({remark})'}")


def open_library(library: Any = None) -> Any:
    """The library with its functions declared: found, or at a path, or one that is open already (as ctypes has it)."""
    if library is None:
        library = _found()
    elif isinstance(library, str | os.PathLike):
        try:
            library = ctypes.CDLL(os.fspath(library))
        except OSError as error:
            raise LibraryMissing(f"cublasLt cannot be loaded: {error}; {_REMEDY}") from error
    try:
        for name, arguments in lt.SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes = arguments
            function.restype = lt.RESULTS.get(name, ctypes.c_int)
    except AttributeError as error:
        raise LibraryMissing(f"this is no cublasLt that nnfast knows: {error}; {_REMEDY}") from error
    return library


def _found() -> Any:
    """The library where NVIDIA's own finder sees one (a wheel, conda, the CUDA toolkit), else by its usual names."""
    reasons = []
    names: tuple[str, ...] = _NAMES
    try:
        path = importlib.import_module("cuda.pathfinder").load_nvidia_dynamic_lib("cublasLt").abs_path
        names = (path, *names) if path else names
    except Exception as error:  # it has errors of its own, and there may be no such package
        reasons.append(f"{type(error).__name__}: {error}".strip().partition("\n")[0])
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            reasons.append(str(error))
    raise LibraryMissing(f"cublasLt is not there ({'; '.join(reasons[:2])}); {_REMEDY}")


class CublasLt:
    """The library, and a handle of it for the device that is current when the first product needs one."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self._handle = ctypes.c_void_p()
        self._lock = threading.Lock()

    @property
    def version(self) -> int:
        """131000 for 13.10.0"""
        return int(self.library.cublasLtGetVersion())

    @property
    def handle(self) -> ctypes.c_void_p:
        with self._lock:
            if not self._handle.value:
                status = self.library.cublasLtCreate(ctypes.byref(self._handle))
                if status:
                    raise CublasLtError("cublasLtCreate", status, _NO_DEVICE if status == 1 else "")
                end = weakref.finalize(self, _close, self.library.cublasLtDestroy, self._handle)
                end.atexit = False  # the process gives all back anyway, and the driver may be gone by then
        return self._handle

    def close(self) -> None:
        """Give the handle back. Products that hold it then fail, with a status."""
        _close(self.library.cublasLtDestroy, self._handle)


def _close(destroy: Any, handle: ctypes.c_void_p) -> None:
    if handle.value:
        destroy(handle)
        handle.value = None


class Descriptors:
    """What the library makes for us, and gets back when this object goes."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._made: list[tuple[Any, ctypes.c_void_p]] = []
        self._end = weakref.finalize(self, _destroy, self._made)
        self._end.atexit = False

    def create(self, kind: str, *arguments: int) -> ctypes.c_void_p:
        """A new descriptor of this kind, `cublasLtMatrixLayout` say."""
        made = ctypes.c_void_p()
        check(f"{kind}Create", getattr(self._library, f"{kind}Create")(ctypes.byref(made), *arguments))
        self._made.append((getattr(self._library, f"{kind}Destroy"), made))
        return made

    def set(self, kind: str, descriptor: ctypes.c_void_p, attribute: int, value: Any) -> None:
        """Set an attribute to a value of ctypes, whose size the library checks."""
        name = f"{kind}SetAttribute"
        check(name, getattr(self._library, name)(descriptor, attribute, ctypes.byref(value), ctypes.sizeof(value)))

    def destroy(self) -> None:
        self._end()


def _destroy(made: list[tuple[Any, ctypes.c_void_p]]) -> None:
    while made:
        destroy, pointer = made.pop()
        destroy(pointer)


def check(function: str, status: int) -> None:
    if status:
        raise CublasLtError(function, status)
