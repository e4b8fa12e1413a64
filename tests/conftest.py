"""Fixtures for all tests: who computes, seeded random numbers, and the dtype on trial."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest

from nnfast.errors import BackendUnavailable
from nnfast.protocol import Backend
from nnfast.registry import get_backend


@pytest.fixture(params=["numpy", "numba"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend that can work here; a test of one of them has a fixture of its own."""
    try:
        return get_backend(request.param)
    except BackendUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Seeded by the test's name: a new test changes no other's data."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Any:
    return np.dtype(request.param)
