"""The pages of docs/: they are in the navigation, links and pictures lead somewhere, code runs as written, generated
blocks are there and up to date, and the site can be built where mkdocs is installed."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import nnfast as nn

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", flags=re.M | re.S)


def name_of(page):
    return page.relative_to(DOCS).as_posix()


pages = pytest.mark.parametrize("page", PAGES, ids=name_of)


class Configuration(yaml.SafeLoader):
    """mkdocs.yml, whose own tags are of no interest here."""


Configuration.add_multi_constructor("!", lambda loader, tag, node: None)
MKDOCS = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Configuration)  # a SafeLoader


def navigation(entries):
    """The pages named in a nav, which is a list of pages, titled pages and titled lists."""
    for entry in entries:
        target = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from navigation(target) if isinstance(target, list) else [target]


def test_every_page_is_in_the_navigation_once():
    """A new page needs a line in `nav` of mkdocs.yml."""
    named = list(navigation(MKDOCS["nav"]))
    assert sorted(named) == sorted(["index.md", *map(name_of, PAGES)])  # index.md is the README


def test_the_site_takes_nothing_from_elsewhere():
    assert MKDOCS["strict"] is True
    assert MKDOCS["theme"]["font"] is False
    assert "analytics" not in MKDOCS["extra"]
    assert not any("//" in str(asset) for key in ("extra_css", "extra_javascript") for asset in MKDOCS.get(key, []))


@pages
def test_links_and_pictures_exist(page):
    text = TEXTS[page]
    for link in LINK.findall(FENCE.sub("", text)):
        target, _, anchor = link.partition("#")
        if target.startswith("https://"):
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path.read_text(encoding="utf-8")), link
    for named in re.findall(r"`(tests/[a-z_]+\.py)`", text):
        assert (ROOT / named).exists(), named


def anchors(text):
    """The ids of a page's headings, as Python-Markdown and GitHub make them of plain words."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), flags=re.M)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pages
def test_transcripts_are_filled_in(page):
    text = TEXTS[page]
    for name in re.findall(r"<!-- (\w+): begin -->", text):
        body = text.split(f"<!-- {name}: begin -->")[1].split(f"<!-- {name}: end -->")[0]
        assert body.count("\n") > 3, name
        assert "/" not in body or not re.search(r"(^|\s)/[a-z]+/", body), "a path of the machine that made it"


@pytest.fixture(scope="module")
def maker():
    return runpy.run_path(str(DOCS / "make.py"))


def test_every_mark_has_a_maker_and_every_maker_its_marks(maker):
    marks = {(name, name_of(page)) for page in PAGES for name in re.findall(r"<!-- (\w+): begin -->", TEXTS[page])}
    block = runpy.run_path(str(DOCS / "blocks.py"))["BLOCK"]
    pages = [made.page for made in maker["PAGES"].values()]
    of_pages = {(name, page) for page in pages for _, name in block.findall(TEXTS[DOCS / page]) if name}
    assert marks == {(name, made.page) for name, made in maker["MAKERS"].items()} | of_pages


@pytest.mark.parametrize("name", ["ops", "floor", "threads_backend", "c"])
def test_what_depends_on_the_code_alone_is_up_to_date(maker, name):
    """The limits have such a test in test_promises.py."""
    if name == "ops":
        pytest.importorskip("numba", reason="the table has what Numba compiles")
    page, arguments, language = maker["MAKERS"][name]
    text = TEXTS[DOCS / page]
    assert maker["filled"](text, name, maker["printed"](arguments), language) == text, f"python docs/make.py {name}"


def test_the_op_table_has_every_op_and_no_gap():
    from nnfast.protocol import OPS

    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", TEXTS[DOCS / "backends.md"], flags=re.M)
    assert [name for name, _ in rows] == list(OPS)
    cells = {name: [cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for name, row in rows}
    assert all(len(found) == 4 for found in cells.values())
    assert [name for name, found in cells.items() if "–" in found] == []


def blocks(page, language="python"):
    """Its code, without the blocks in Python that need, or follow from, a library that is not installed."""
    libraries = ("torch", "onnxruntime", "onnx", "matplotlib", "sklearn", "numba")
    missing = {name for name in libraries if importlib.util.find_spec(name) is None}
    for text in re.findall(rf"^```{language}\n(.*?)^```", TEXTS[page], flags=re.M | re.S):
        if not any(re.search(rf"\b{name}\b", text.replace('layout="torch"', "")) for name in missing):
            yield text


POPULATION = DOCS / "population.md"  # takes longer: below


@pytest.mark.parametrize("page", [page for page in PAGES if page != POPULATION and list(blocks(page))], ids=name_of)
def test_code_runs_as_written(page, tmp_path):
    code = "\n".join(blocks(page))
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout


@pytest.mark.slow
@pytest.mark.skipif(not nn.available_backends()["numba"], reason="without Numba a thousand networks take minutes")
def test_the_tutorial_on_populations_runs(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(DOCS))
    threads = nn.get_num_threads()
    try:
        said = importlib.import_module("blocks").outputs(POPULATION)
    finally:
        nn.set_num_threads(threads)
    assert set(said) == {"population", "trained", "looked", "used", "alone", "kept"}
    assert said["alone"] == "the same bits: True"
    assert said["kept"] == "the same ranking: True"
    accuracies = [float(line.split()[-1]) for line in said["used"].splitlines()]
    assert min(accuracies) > 0.6
    assert (tmp_path / "population.png").exists()


def test_commands_exist():
    """In every page: modules can be found, and subcommands and options of nnfast are known to it."""
    from nnfast.cli import main

    for page in PAGES:
        for line in "".join(blocks(page, "console")).splitlines():
            words = line.partition("#")[0].split()
            if words[:2] == ["python", "-m"]:
                assert importlib.util.find_spec(words[2]), line
            elif words[0] == "nnfast":
                with pytest.raises(SystemExit) as left:
                    main([words[1], "--help"])
                assert left.value.code == 0, line
            else:
                assert words[0] in ("pip", "make", "pytest"), line


# ---- the tutorial about backends ------------------------------------------------------------------------------------

OWN_BACKEND = DOCS / "own-backend.md"
TRY_IT = """
import sys
import nnfast as nn
from nnfast.testing import check_backend

print(type(nn.get_backend("threads")).__module__, nn.available_backends()["threads"])
report = check_backend("threads", cases=2, ops=["relu"], dtypes=["float32"], kinds=["ops"])
sys.exit(not report.passed)
"""


def test_the_backend_of_the_tutorial_has_80_lines():
    (code,) = (text for text in blocks(OWN_BACKEND) if "class ThreadsBackend" in text)
    assert len(code.splitlines()) <= 80


def test_the_entry_point_of_the_tutorial_makes_it_known(tmp_path):
    """As if its distribution were installed: the module and its metadata lie in a folder that Python looks into."""
    (text,) = blocks(OWN_BACKEND, "toml")
    project = tomllib.loads(text)["project"]
    (code,) = (text for text in blocks(OWN_BACKEND) if "class ThreadsBackend" in text)
    (group,) = project["entry-points"]
    ((name, target),) = project["entry-points"][group].items()
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    (tmp_path / f"{target.partition(':')[0]}.py").write_text(code, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", TRY_IT], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr + run.stdout
    assert run.stdout.startswith("threads_backend available")


@pytest.fixture
def threads_backend(monkeypatch):
    """The module of the tutorial."""
    monkeypatch.syspath_prepend(str(DOCS))
    yield importlib.import_module("threads_backend")
    sys.modules.pop("threads_backend")


def test_the_backend_of_the_tutorial_cuts_and_agrees(threads_backend):
    """On each kind of op that is cut: by rows, with a total, with a place of its own, by parameters."""
    from nnfast.testing import check_backend

    ops = ["softmax", "dropout_backward", "huber", "penalty", "random_search_propose"]
    assert all(threads_backend.cut_along(op) for op in ops)
    backend = threads_backend.ThreadsBackend(least=256)
    report = check_backend(backend, ops=ops, cases=2, dtypes=["float32"], kinds=["ops"])
    assert report.passed, str(report)


# ---- the site -------------------------------------------------------------------------------------------------------


def test_the_site_can_be_built_and_refers_to_no_other_host(tmp_path):
    for module in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(module, reason='the site needs pip install "nnfast[docs]"')
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    for page in PAGES:
        made = tmp_path / "site" / page.relative_to(DOCS).with_suffix(".html")
        text = made.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"?(?:https?:)?//[^>]*>", text), made
        assert ": begin -->" not in text, made
    for script in (tmp_path / "site" / "assets").rglob("*.js"):
        assert "unpkg.com" not in script.read_text(encoding="utf-8"), script
    listed = "<li><code>layers</code>: at least one Dense"
    assert listed in (tmp_path / "site" / "api" / "models.html").read_text(encoding="utf-8")
    assert "<table>" in (tmp_path / "site" / "backends.html").read_text(encoding="utf-8")
