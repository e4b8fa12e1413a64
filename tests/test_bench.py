"""The benchmark itself works: it checks answers, measures all, and writes its table where it should."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_step_benchmark_runs_and_writes_its_table(tmp_path):
    markdown, results = tmp_path / "README.md", tmp_path / "step.json"
    shutil.copy(ROOT / "bench" / "README.md", markdown)
    before = markdown.read_text(encoding="utf-8").partition("<!-- bench_step: begin -->")[0]
    command = [sys.executable, "bench/bench_step.py", "--quick", "--markdown", str(markdown), "--json", str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    steps = json.loads(results.read_text(encoding="utf-8"))["steps"]
    assert {s["contender"] for s in steps} >= {"book", "numpy"}
    assert all(s["microseconds_per_step"]["median"] > 0 for s in steps)
    text = markdown.read_text(encoding="utf-8")
    assert text.startswith(before)
    assert text.count("bench_step: end") == 1
    assert text.count("nnfast, numpy |") == text.count("the book's NumPy |") == len(steps) // 2
