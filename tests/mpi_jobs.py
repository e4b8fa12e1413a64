"""Starting programs on several ranks of this machine, and skipping where that cannot be."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SECONDS = 240  # as long as it may take to compile everything on a slow machine


def launcher():
    """mpiexec, of this environment or of the system; the test is skipped where something is missing."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install 'nnfast[mpi]'")
    own = Path(sysconfig.get_path("scripts")) / "mpiexec"
    found = str(own) if own.exists() else shutil.which("mpiexec")
    if found is None:
        pytest.skip("there is no mpiexec: pip install mpich")
    if said := _wrong_with(found):
        pytest.skip(f"mpiexec starts no two ranks here, whatever they do: {said}")
    return found


@functools.cache
def _wrong_with(mpiexec):
    """What MPI itself says where it does not work on this machine, as in a sandbox without sockets; else ""."""
    code = "from mpi4py import MPI; assert MPI.COMM_WORLD.allreduce(1) == 2"
    call = [mpiexec, "-n", "2", sys.executable, "-c", code]
    try:
        tried = subprocess.run(call, capture_output=True, text=True, check=False, timeout=60)
    except subprocess.TimeoutExpired:
        return "it did not end within 60 s"
    return (tried.stderr or tried.stdout or f"status {tried.returncode}").strip() if tried.returncode else ""


def start(ranks, *arguments, **options):
    """A job, in a process group of its own."""
    call = [launcher(), "-n", str(ranks), sys.executable, "-W", "ignore", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(HERE), "NNFAST_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(call, env=environment, start_new_session=True, **pipes | options)


def finish(job, seconds=SECONDS):
    """Exit status, stdout and stderr; a job that hangs is killed with all of its ranks, and fails the test."""
    try:
        out, err = job.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        out, err = job.communicate()
        pytest.fail(f"the job did not end within {seconds} s\n{out}\n{err}")
    return job.returncode, out, err


def run_cases(ranks, folder, names):
    code, out, err = finish(start(ranks, HERE / "mpi_cases.py", folder, *names))
    assert code == 0, out + err
