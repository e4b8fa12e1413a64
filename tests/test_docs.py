"""The pages of docs/: pictures exist, transcripts are there, links lead somewhere, code runs as written."""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nnfast as nn

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def test_there_are_pages():
    assert PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist(page):
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    assert targets
    for target in targets:
        assert target.startswith("https://") or (page.parent / target).exists(), target
    for named in re.findall(r"`(tests/[a-z_]+\.py)`", text):
        assert (DOCS.parent / named).exists(), named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_transcripts_are_filled_in(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"<!-- (\w+): begin -->", text):
        body = text.split(f"<!-- {name}: begin -->")[1].split(f"<!-- {name}: end -->")[0]
        assert body.count("\n") > 3, name
        assert "/" not in body or not re.search(r"(^|\s)/[a-z]+/", body), "a path of the machine that made it"


def blocks(page):
    """Its code in Python, without the blocks that need, or follow from, a library that is not installed."""
    missing = {name for name in ("torch", "onnxruntime", "onnx") if importlib.util.find_spec(name) is None}
    for text in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S):
        if not any(re.search(rf"\b{name}\b", text.replace('layout="torch"', "")) for name in missing):
            yield text


@pytest.mark.parametrize("page", [page for page in PAGES if "runs as it stands" in page.read_text(encoding="utf-8")])
def test_code_runs_as_written(page, tmp_path):
    code = "\n".join(blocks(page))
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
@pytest.mark.skipif(not nn.available_backends()["numba"], reason="without Numba a thousand networks take minutes")
def test_the_tutorial_on_populations_runs(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(DOCS))
    blocks, threads = importlib.import_module("blocks"), nn.get_num_threads()
    try:
        said = blocks.outputs(DOCS / "population.md")
    finally:
        nn.set_num_threads(threads)
    assert set(said) == {"population", "trained", "looked", "used", "alone", "kept"}
    assert said["alone"] == "the same bits: True"
    assert said["kept"] == "the same ranking: True"
    accuracies = [float(line.split()[-1]) for line in said["used"].splitlines()]
    assert min(accuracies) > 0.6
    assert (tmp_path / "population.png").exists()
