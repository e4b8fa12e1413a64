"""The README is a program: its code runs from top to bottom, and its commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from small_models import classifier

import nnfast as nn

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, flags=re.M | re.S)


def test_code_runs_as_written(tmp_path):
    code = "\n".join(text for language, text in BLOCKS if language == "python")
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "'accuracy'" in run.stdout
    assert "softmax_cross_entropy" in run.stdout


def test_first_program_is_short_and_learns(tmp_path):
    first = next(text for language, text in BLOCKS if language == "python")
    assert len([line for line in first.splitlines() if line.strip()]) <= 15
    run = subprocess.run([sys.executable, "-c", first], cwd=tmp_path, capture_output=True, text=True, check=True)
    accuracy = re.search(r"'accuracy': ([0-9.]+)", run.stdout)
    assert accuracy is not None
    assert float(accuracy[1]) > 0.8


COMMANDS = [
    line.partition("#")[0].strip() for language, text in BLOCKS if language == "console" for line in text.splitlines()
]


def test_there_are_commands():
    assert {"make demo", "make test"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_exist(command, tmp_path):
    words = command.split()
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), flags=re.M)
    elif words[0] == "python":
        module = ROOT.joinpath(*words[2].split("."))
        assert module.with_suffix(".py").exists()
    elif words[0] == "nnfast":
        if words[1] == "bench":
            return  # run whole, and looked at, in test_bench.py
        if words[1] == "inspect":
            classifier().save(tmp_path / words[2])
        command = [sys.executable, "-m", *words]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        who = next((name for name in ("cupy", "numba") if name in words), "numba" if words[1] == "warmup" else "numpy")
        if run.returncode and not nn.available_backends()[who]:  # without a GPU, or without Numba, it says so
            assert run.stderr.startswith(f"nnfast {words[1]}: backend {who!r}: ")
            return
        assert run.returncode == 0, run.stderr
        said = {"info": "numpy", "warmup": "kernels ready", "inspect": "0.weights", "parity": "all agree"}
        assert (said | {"completion": "complete"})[words[1]] in run.stdout
    else:
        assert words[:2] == ["pip", "install"]


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
