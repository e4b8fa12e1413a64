"""The bodies of the Numba backend with bounds checks, as plain Python, and on other vector widths.

Both switches of Numba are read when it is loaded, so each mode is a process of its own, which tries some ops.
`NUMBA_BOUNDSCHECK=1 pytest` and `NUMBA_DISABLE_JIT=1 pytest` run all tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

HERE = Path(__file__).parent
# Ops of every family, few enough to take seconds.
OPS = ("dense", "adam_step", "penalty", "relu", "relu_backward", "huber", "top_k_accuracy", "clip_by_global_norm")


def tried(**environment: str) -> str:
    """What `nnfast parity` says of these ops in a process with these settings."""
    chosen = [word for op in OPS for word in ("--op", op)]
    command = [
        sys.executable,
        "-m",
        "nnfast",
        "parity",
        "--backend",
        "numba",
        "--only",
        "ops",
        "--cases",
        "10",
        *chosen,
    ]
    settings = os.environ | environment
    done = subprocess.run(command, cwd=HERE.parent, env=settings, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("switch", ["NUMBA_DISABLE_JIT", pytest.param("NUMBA_BOUNDSCHECK", marks=pytest.mark.slow)])
def test_kernels_keep_the_contract(switch):
    assert "all agree" in tried(**{switch: "1"})


def test_training_walks_the_bodies_in_plain_python():
    """No table, no cache: what cannot be compiled can still be stepped through."""
    code = (
        "import sys; sys.path.insert(0, 'tests'); import numpy as np; import nnfast as nn;"
        "from small_models import classifier, fit;"
        "a, b = (classifier(backend=who, dtype='float64') for who in ('numpy', 'numba'));"
        "ha, hb = fit(a), fit(b); assert np.allclose(ha['loss'], hb['loss'], rtol=1e-9);"
        "print(b.backend_report())"
    )
    settings = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "numba_cpu.dense" in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("width", ["16", "32"])
def test_narrower_vectors_keep_the_contract(width):
    assert "all agree" in tried(NNFAST_VECTOR_BYTES=width)
