"""Fixtures for all tests: who computes, seeded random numbers, and the dtype on trial."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest

from nnfast.protocol import Backend
from nnfast.registry import get_backend


@pytest.fixture
def backend() -> Backend:
    return get_backend("numpy")


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Seeded by the test's name: a new test changes no other's data."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Any:
    return np.dtype(request.param)
