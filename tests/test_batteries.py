"""The batteries in their short form: nothing that they try breaks anything, and they did try."""

from __future__ import annotations

import pytest
from batteries import NAMES, figures_of


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_nothing_breaks(name):
    figures = list(figures_of(name, thorough=False))
    assert figures
    for figure in figures:
        assert bool(figure.tried) is not bool(figure.skipped), figure.what
        assert not figure.failures, f"{figure.what}: {len(figure.failures)} of {figure.tried}, {figure.failures[0]}"
