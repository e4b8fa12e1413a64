"""Tests that need a process of their own."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
pinning = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs a way to pin a process to one CPU")


def output_of(code: str, *arguments: object) -> str:
    """The output of a new process; the time limit is there to end what hangs."""
    call = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def copy_sources(folder: Path) -> Path:
    """The library as it is now, in folder/nnfast, for processes that an edit meanwhile must not disturb."""
    copy, ignore = folder / "nnfast", shutil.ignore_patterns("__pycache__")
    for name, place in (("nnfast", copy), ("nnfast.kernels", copy / "kernels")):
        found = importlib.import_module(name).__file__
        shutil.copytree(Path(found).parent, place, ignore=ignore, dirs_exist_ok=True)
    return copy
