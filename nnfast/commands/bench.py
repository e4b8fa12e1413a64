"""`nnfast bench`: hands over to `bench/run.py`, which is in the checkout and not in the package."""

from __future__ import annotations

import argparse
import functools
import os
from typing import Any

from nnfast.commands.parsing import NotHere, Parser

__all__ = ["parser", "run"]


def parser() -> Parser:
    made: Parser = _benchmarks().parser()
    return made


def run(options: argparse.Namespace) -> int:
    status: int = _benchmarks().run(options)
    return status


@functools.cache
def _benchmarks() -> Any:
    """The module bench/run.py. Raises NotHere without the checkout."""
    import importlib.util

    folder = _checkout()
    if folder is None:
        raise NotHere(
            "the benchmarks are not installed with the package. Get the checkout, then in its folder:\n"
            "    pip install -e '.[bench]' && nnfast bench"
        )
    spec = importlib.util.spec_from_file_location("nnfast_bench_run", f"{folder}/bench/run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _checkout() -> str | None:
    """The folder with bench/ in it: the one that this package lies in, else the current one; None where neither has."""
    import nnfast

    for folder in (os.path.dirname(os.path.dirname(os.path.abspath(nnfast.__file__))), os.getcwd()):
        if all(os.path.isfile(os.path.join(folder, *parts)) for parts in (("bench", "run.py"), ("nnfast", "cli.py"))):
            return folder
    return None
