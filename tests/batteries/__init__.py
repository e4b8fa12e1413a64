"""Batteries: what tries to break everything, each a command of its own that prints how often it tried.

    python tests/batteries                  all of them, in their short form, as the tests run them
    python tests/batteries threads resume   some
    python tests/batteries --thorough       to their full size; some take many minutes

A battery is a module here with one function `battery(thorough)`, which yields a `Figure` for each thing it tried.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["NAMES", "Figure", "figures_of"]

NAMES = ("inputs", "optimizers", "programs", "cache", "threads", "checkpoints", "resume", "endurance")


class Figure(NamedTuple):
    """One thing that was tried: how often, what went wrong, and a number worth knowing, with its unit."""

    what: str
    tried: int
    failures: tuple[str, ...] = ()
    said: str = ""
    skipped: str = ""  # why nothing was tried, where something optional is missing


def figures_of(name: str, *, thorough: bool) -> Iterator[Figure]:
    """Run a battery."""
    yield from importlib.import_module(f"batteries.{name}").battery(thorough)
