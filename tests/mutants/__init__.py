"""Wrong backends on purpose: what the parity kit must find.

`faults/` has single lines of the example backend with a fault, one file for each of its modules; `wrappers` spoils what
any kernel writes; `runners` walks a step wrongly; `arrays` makes wrong arrays.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from nnfast.testing import check_backend

__all__ = ["FAULTS", "SOURCE", "Fault", "first_failure", "loaded", "with_fault"]

SOURCE = Path(__file__).parents[1] / "array_api_backend" / "nnfast_array_api"


class Fault(NamedTuple):
    """`right` stands in one place of a module, `wrong` is there instead."""

    module: str
    op: str
    what: str
    right: str
    wrong: str

    def __str__(self):
        return f"{self.op}: {self.what}"


def _read(path):
    """The faults of a file: `op: what is wrong`, then lines with - and lines with +, as in a patch; a blank line."""
    for block in path.read_text(encoding="utf-8").strip().split("\n\n"):
        head, *lines = block.splitlines()
        op, _, what = head.partition(": ")
        right, wrong = ("\n".join(line[2:] for line in lines if line[0] == sign) for sign in "-+")
        yield Fault(path.stem, op, what, right, wrong)


FAULTS = [fault for path in sorted(Path(__file__).with_name("faults").glob("*.txt")) for fault in _read(path)]


def loaded(name="nnfast_array_api", folder=SOURCE):
    """The package in this folder, imported under this name."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def with_fault(fault, folder):
    """The example backend with one fault; its copy lies in `folder`."""
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / f"{fault.module}.py"
    text = path.read_text(encoding="utf-8")
    places = text.count(fault.right)
    assert places == 1, f"{fault}: {path.name} has {fault.right!r} in {places} places, a fault needs one"
    path.write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")
    name = "nnfast_array_api_with_a_fault"
    try:
        return loaded(name, folder).ArrayAPIBackend()
    finally:
        for module in [module for module in sys.modules if module.partition(".")[0] == name]:
            del sys.modules[module]


class _Found(Exception):
    """Ends a check at the first row that failed."""


def first_failure(backend, **options):
    """The first row of `check_backend`'s report that failed, or None. Nothing is tried after it."""
    found = []

    def on_row(row):
        if not row.passed:
            found.append(row)
            raise _Found

    try:
        report = check_backend(backend, on_row=on_row, **options)
    except _Found:
        return found[0]
    assert report.rows, "nothing was tried"
    return None
