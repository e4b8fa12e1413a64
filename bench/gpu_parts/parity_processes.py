"""What must be the same from process to process: results, as long as the file of measurements is; and CUPY_TF32."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from gpu_parts.parity_training import BLUEPRINTS, digest, train
from gpu_parts.section import Section
from gpu_parts.stand import PRECISIONS, Stand

__all__ = ["bits", "processes"]

LIMIT = 60  # seconds of a process


def bits(stand: Stand) -> dict[str, str]:
    """What trainings end in; this is what a process is started for."""
    epochs = 1 if stand.simulated else 5
    return {
        f"{blueprint.name}, {precision}": digest(train(blueprint, stand.backend(precision), "float32", epochs))
        for blueprint in BLUEPRINTS[: 1 if stand.simulated else None]
        for precision in PRECISIONS
    }


def processes(section: Section, stand: Stand) -> None:
    with tempfile.TemporaryDirectory(prefix="nnfast-gpu-bits-") as folder:
        section.step("two processes, one file of measurements", _same, stand, folder, {})
        section.step("CUPY_TF32=1 changes nothing", _same, stand, folder, {"CUPY_TF32": "1"})
    with tempfile.TemporaryDirectory(prefix="nnfast-gpu-bits-") as folder:
        without = {"NNFAST_GPU_TUNING": "0", "NNFAST_CACHE": "0"}
        section.step("two processes, nothing measured", _same, stand, folder, without, without)


def _same(
    stand: Stand, folder: str, changed: dict[str, str], first: dict[str, str] | None = None
) -> dict[str, dict[str, str]]:
    found = {"first": _process(stand, folder, first or {}), "second": _process(stand, folder, changed)}
    if found["first"] != found["second"]:
        raise AssertionError(f"not the same: {found}")
    return found


def _process(stand: Stand, folder: str, environment: dict[str, str]) -> dict[str, str]:
    script = Path(__file__).parents[1] / "gpu.py"
    command = [sys.executable, str(script), "--bits", *(["--simulated"] if stand.simulated else [])]
    done = subprocess.run(
        command,
        env=os.environ | {"NNFAST_CACHE_DIR": folder} | environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"status {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found
