"""The pytest plugin: `pytest --nnfast-backend NAME` adds the trials of `nnfast.testing` to a run, one test each.

pytest loads this in every run, also of projects that do not care; so it imports nothing before it is asked.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

__all__: list[str] = []


def pytest_addoption(parser: Any) -> None:
    group = parser.getgroup("nnfast", "nnfast: prove a backend")
    group.addoption("--nnfast-backend", metavar="NAME", help="add the tests that this backend must pass")
    group.addoption("--nnfast-cases", type=int, default=200, metavar="N", help="generated per op and dtype (200)")


def pytest_configure(config: Any) -> None:
    if config.option.nnfast_backend is not None:
        config.args.append(os.path.join(os.path.dirname(__file__), "testing", "suite.py"))


@pytest.fixture(scope="session")
def nnfast_backend(request: pytest.FixtureRequest) -> Any:
    """The backend that `--nnfast-backend` names, for tests of your own; they are skipped without it."""
    from nnfast.registry import get_backend

    name = request.config.option.nnfast_backend
    if name is None:
        pytest.skip("no --nnfast-backend was given")
    return get_backend(name)
