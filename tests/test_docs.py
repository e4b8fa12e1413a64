"""The pages of docs/: pictures exist, transcripts are there, links lead somewhere, code runs as written."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
        assert body.count("\n") > 5, name
        assert "/" not in body or not re.search(r"(^|\s)/[a-z]+/", body), "a path of the machine that made it"


def blocks(page):
    """Its code in Python, without the blocks that need, or follow from, a library that is not installed."""
    missing = {name for name in ("torch", "onnxruntime", "onnx") if importlib.util.find_spec(name) is None}
    for text in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S):
        if not any(re.search(rf"\b{name}\b", text.replace('layout="torch"', "")) for name in missing):
            yield text


@pytest.mark.parametrize("page", [page for page in PAGES if list(blocks(page))], ids=lambda page: page.name)
def test_code_runs_as_written(page, tmp_path):
    code = "\n".join(blocks(page))
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout
