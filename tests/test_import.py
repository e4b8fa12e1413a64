"""What `import nnfast` loads and does, each seen from a fresh process."""

from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nnfast

# Loaded by a fresh `import nnfast` beyond what `import numpy` loads anyway.
LOADED = """
import json, sys
import numpy
before = set(sys.modules)
import nnfast{extra}
print(json.dumps(sorted(set(sys.modules) - before)))
"""

HEAVY = {
    *("cupy", "jax", "llvmlite", "matplotlib", "numba", "pandas", "rich", "scipy", "sklearn", "torch", "threadpoolctl"),
    *("argparse", "concurrent", "difflib", "email", "importlib.metadata", "json", "logging", "multiprocessing"),
    *("subprocess", "tempfile", "zipfile", "numpy.random", "nnfast.cli", "nnfast.commands", "nnfast.compat"),
    *("nnfast.examples", "nnfast.kernels", "nnfast.testing", "kernels"),
}

EFFECTS = """
import os, random, signal, sys, threading, warnings
import numpy

def state():
    return (
        threading.active_count(), dict(os.environ), list(sys.path), list(warnings.filters), numpy.geterr(),
        numpy.get_printoptions(), random.getstate(), signal.getsignal(signal.SIGINT), sys.gettrace(), os.getcwd(),
        str(numpy.random.get_state()), numpy.zeros, numpy.random.randn,
    )

before = state()
import nnfast
assert state() == before
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Runs code in a new process whose bytecode is kept, as in an ordinary installation, but not in the tree."""
    environ = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("bytecode"))}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return functools.partial(run, environ)


def run(environ: dict[str, str], code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


EVERY_NAME = "; [getattr(nnfast, name) for name in nnfast.__all__]"


@pytest.mark.parametrize("extra", ["", EVERY_NAME])
def test_importing_loads_nothing_heavy(extra, python):
    """What it costs in seconds is the benchmark's to say; beyond NumPy it is one module; names load theirs."""
    loaded = set(json.loads(python(LOADED.format(extra=extra))))
    assert "nnfast" in loaded
    assert extra or loaded == {"nnfast"}
    assert {name for name in loaded if any(name == heavy or name.startswith(f"{heavy}.") for heavy in HEAVY)} == set()


def test_lazy_names_are_those_that_type_checkers_see():
    source = Path(nnfast.__file__).read_text(encoding="utf-8")
    block = next(node for node in ast.parse(source).body if isinstance(node, ast.If))
    imported = {alias.name for node in block.body for alias in node.names}
    assert imported == {*nnfast._HOME, *nnfast._MODULES}
    assert sorted(nnfast.__all__) == sorted([*imported, "__version__"])
    for name in nnfast.__all__:
        assert getattr(nnfast, name) is not None
    assert dir(nnfast) == sorted(nnfast.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Mode'"):
        _ = nnfast.Mode


def test_importing_the_command_line_stays_light(python):
    loaded = set(json.loads(python(LOADED.format(extra=".cli"))))
    assert "nnfast.cli" in loaded
    assert loaded.isdisjoint(
        {"importlib.metadata", "json", "platform", "threadpoolctl", "nnfast.examples", "nnfast.registry"}
    )


def test_importing_prints_nothing_and_changes_nothing(python):
    assert python(EFFECTS) == ""
