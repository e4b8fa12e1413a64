"""The pages of promises: each promise names what holds it, and what is named exists."""

from __future__ import annotations

import ast
import re
import runpy
from functools import cache
from pathlib import Path

import pytest
from batteries import NAMES

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "SECURITY.md", ROOT / "docs" / "promises.md"]

TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
BATTERY = re.compile(r"`python tests/batteries ([\w-]+)`")
EXAMPLES = {"NAME"}  # in the text that explains the command

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@cache
def names_in(path):
    """Names of the tests in a file, without the parameters of each."""
    if not path.exists():
        return frozenset()
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    functions = (node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(name for name in functions if name.startswith("test_"))


def promises(text):
    """The items of the lists above "What is not promised", each with the lines that belong to it."""
    text = text.partition("## What is not promised")[0]
    return re.findall(r"^- .+(?:\n  .+)*", text, flags=re.M)


def faults(text):
    """What is wrong with a page of promises."""
    for file, name in TEST.findall(text):
        if name not in names_in(ROOT / file):
            yield f"there is no {file}::{name}"
    for name in set(BATTERY.findall(text)) - EXAMPLES:
        if name not in NAMES or not (ROOT / "tests" / "batteries" / f"{name}.py").exists():
            yield f"there is no battery {name}"
    for promise in promises(text):
        if not TEST.search(promise) and not BATTERY.search(promise):
            yield f"nothing holds {promise!r}"


@each_page
def test_what_is_named_exists_and_each_promise_names_something(page):
    text = page.read_text(encoding="utf-8")
    assert len(promises(text)) > 10
    assert len(TEST.findall(text)) > 10
    assert list(faults(text)) == []


@each_page
def test_every_reference_is_understood(page):
    """What looks like a test or a battery is written in the form that is checked."""
    text = page.read_text(encoding="utf-8")
    assert text.count("::") == len(TEST.findall(text))
    assert text.count("tests/batteries") == len(BATTERY.findall(text))
    assert not re.search(r"\btest_\w+", re.sub(r"`tests/\w+\.py(::\w+)?`", "", text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("`tests/test_promises.py::test_nothing_like_it`", "there is no tests/test_promises.py::test_nothing_like_it"),
        ("`tests/test_nowhere.py::test_it`", "there is no tests/test_nowhere.py::test_it"),
        ("`tests/test_promises.py::faults`", "there is no tests/test_promises.py::faults"),
        ("`python tests/batteries courage`", "there is no battery courage"),
        ("- **Trust me.** It\n  works.\n", "nothing holds '- **Trust me.** It\\n  works.'"),
    ],
)
def test_what_is_wrong_is_found(text, said):
    good = "- **True.** `tests/test_promises.py::test_what_is_wrong_is_found`, `python tests/batteries cache`\n"
    assert list(faults(good)) == []
    assert list(faults(good + text)) == [said]


def test_the_limits_on_the_page_are_those_of_the_case_table():
    maker = runpy.run_path(str(ROOT / "docs" / "make.py"))
    page, command, _ = maker["MAKERS"]["limits"]
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert maker["filled"](text, "limits", maker["printed"](command)) == text, "python docs/make.py limits"
