"""The NVIDIA GPUs of the machine: from CuPy where the backend works, from the driver's own program elsewhere."""

from __future__ import annotations

import csv
import shutil
import subprocess
from typing import Any

__all__ = ["gpu_facts"]

QUERY = ("name", "memory.total", "compute_cap", "driver_version")
SECONDS = 20.0  # a driver that has just been loaded takes some


def gpu_facts(backend: Any) -> dict[str, Any]:
    """devices (name, memory_bytes, compute_capability), driver, cuda_driver, cuda_runtime; `reason` where no GPU is.

    `backend` is the CuPy backend, or None where it cannot be used.
    """
    facts: dict[str, Any] = dict.fromkeys(("devices", "current", "driver", "cuda_driver", "cuda_runtime", "reason"))
    facts["devices"] = []
    rows, reason = _asked()
    if rows:
        facts["driver"] = rows[0][3]
    if backend is not None:
        facts |= backend.gpu_state()
        return facts
    if not rows:
        return facts | {"reason": reason}
    return facts | {"devices": [_device(*row[:3]) for row in rows]}


def _device(name: str, memory: str, capability: str) -> dict[str, Any]:
    number, _, unit = memory.partition(" ")
    known = unit == "MiB" and number.isdigit()
    return {
        "name": name,
        "memory_bytes": int(number) << 20 if known else None,
        "compute_capability": capability if capability[:1].isdigit() else None,
    }


def _asked() -> tuple[list[list[str]], str]:
    """What nvidia-smi says of QUERY, a row per GPU; or why it says nothing."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return [], "no NVIDIA driver is installed: there is no nvidia-smi"
    command = [program, f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return [], f"nvidia-smi gave no answer in {SECONDS:.0f} s"
    except OSError as error:
        return [], f"nvidia-smi cannot be run: {error}"
    rows = [row for row in csv.reader(done.stdout.splitlines(), skipinitialspace=True) if len(row) == len(QUERY)]
    if done.returncode == 0 and rows:
        return rows, ""
    words = " ".join((done.stdout + done.stderr).split())
    return [], f"nvidia-smi finds none: {words or f'exit code {done.returncode}'}"
