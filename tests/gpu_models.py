"""Backends on the stand-in device, and models that train on them: for the tests of the GPU backend."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from simulator import build, fake_cupy

import nnfast as nn

cupy_gpu = importlib.import_module("nnfast.kernels.cupy_gpu")
tuning = importlib.import_module("nnfast.kernels.cupy_gpu.tuning")

why_not_simulated = build.unavailable()


def simulated(kind: str = "CupyBackend", **options: Any) -> Any:
    """A backend on a simulated device of its own: `backend.fake` is that device."""
    fake = fake_cupy.make()
    options = {"cublaslt": fake.cublaslt} | options
    backend = getattr(cupy_gpu, kind)(cupy=fake, **options)
    backend.fake = fake
    return backend


@contextlib.contextmanager
def joined(monkeypatch: Any) -> Iterator[None]:
    """Everything that can be left to an epilogue of cublasLt is."""

    def joins(self: Any, joined: Any, separate: Any) -> bool:
        products = [call for call in joined if hasattr(call, "epilogue")]
        return all(self._supports(product) for product in products if product.epilogue)

    with monkeypatch.context() as patch:
        patch.setattr(tuning.Tuner, "joins", joins)
        yield


def network(backend: Any, dtype: str = "float32", **options: Any) -> nn.Model:
    """Two hidden layers with ReLU, odd widths, Adam."""
    layers = options.pop("layers", None) or [nn.Dense(5, 17), nn.ReLU(), nn.Dense(17, 9), nn.ReLU(), nn.Dense(9, 3)]
    loss = options.pop("loss", None) or nn.SoftmaxCrossEntropy()
    optimizer = options.pop("optimizer", None) or nn.Adam(learning_rate=0.01, decay=1e-3)
    return nn.Model(layers, loss, optimizer, backend=backend, dtype=dtype, rng=0, **options)


def rows(n: int = 70, classes: int = 3, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 5)), rng.integers(0, classes, n)


def difference(a: nn.Model, b: nn.Model) -> float:
    """The largest difference between two models' parameters."""
    return max(float(np.abs(p - q).max()) for p, q in zip(a.get_weights(), b.get_weights(), strict=True))


def same(a: nn.Model, b: nn.Model) -> bool:
    return all(np.array_equal(p, q, equal_nan=True) for p, q in zip(a.get_weights(), b.get_weights(), strict=True))
