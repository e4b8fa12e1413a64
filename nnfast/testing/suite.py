"""The trials of a backend as tests: `pytest --nnfast-backend NAME` collects this file, see nnfast/pytest_plugin.py."""

from __future__ import annotations

from typing import Any

from nnfast.registry import get_backend
from nnfast.testing.case import DTYPES
from nnfast.testing.report import KINDS
from nnfast.testing.trials import trials_of
from nnfast.validation import integer


def pytest_generate_tests(metafunc: Any) -> None:
    """One test for each trial of the backend that was asked for; none where nobody asked."""
    options = metafunc.config.option
    trials: list[Any] = []
    if options.nnfast_backend is not None:
        backend, judge, cases = (
            get_backend(options.nnfast_backend),
            get_backend("numpy"),
            integer("--nnfast-cases", options.nnfast_cases, 0),
        )
        trials = [*trials_of(backend, judge, cases=cases, thorough=False, ops=None, kinds=KINDS, dtypes=DTYPES)]
    metafunc.parametrize("trial", trials, ids=str)


def test_backend(trial: Any) -> None:
    for _ in trial.run():
        pass
