"""Compiles the stand-in for libcublasLt with g++, once per content."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
import tempfile
from pathlib import Path

from .build import cache

__all__ = ["cublaslt"]

HERE = Path(__file__).parent
FILES = ("fake_cublaslt.cpp", "fake_cublaslt_compute.h", "fake_cublaslt_objects.h")
OPTIONS = (
    "-std=c++17",
    "-O3",
    "-g",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
)
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")


@functools.cache
def cublaslt(sanitize: bool = False) -> str:
    """The path of the library."""
    options = [*OPTIONS, *(SANITIZED if sanitize else ()), "-Wno-unused-parameter"]
    text = b"".join((HERE / name).read_bytes() for name in FILES)
    key = hashlib.sha256(b"\0".join([*(o.encode() for o in options), platform.machine().encode(), text])).hexdigest()
    target = cache() / f"fake-cublaslt-{key[:24]}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=cache()) as folder:
            built = Path(folder) / "library.so"
            subprocess.run(["g++", *options, str(HERE / FILES[0]), "-o", str(built)], check=True)
            os.replace(built, target)
    return str(target)
