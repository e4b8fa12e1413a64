"""Programs of the batteries that need a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from nnfast.registry import available_backends


def answer_of(module, *arguments, seconds=300, **environment):
    """What `python -m module arguments` prints, read as JSON. Raises where it fails or takes too long."""
    path = os.pathsep.join(filter(None, (str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH"))))
    call = [sys.executable, "-m", module, *map(str, arguments)]
    settings = os.environ | {"PYTHONPATH": path} | environment
    done = subprocess.run(call, capture_output=True, text=True, timeout=seconds, check=False, env=settings)
    if done.returncode:
        raise AssertionError(f"{module} ended with {done.returncode}: {done.stderr[-4000:]}")
    return json.loads(done.stdout)


def usable_backends():
    """Those of numpy and numba that work here."""
    found = available_backends()
    return [name for name in ("numpy", "numba") if found[name] == "available"]
