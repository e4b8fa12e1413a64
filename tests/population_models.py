"""A population and the same models trained alone: what the tests of populations compare."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import nnfast as nn

on_gpus_too = pytest.mark.parametrize("backend", ["numpy", "numba", "cupy"], indirect=True)

N = 5
# Whether a penalty or a limit is there differs from model to model: then their steps have different ops.
SETTINGS: dict[str, list[Any]] = {
    "rng": [3, 4, 5, 6, 7],
    "learning_rate": [0.05, 0.02, 0.01, 0.1, 0.03],
    "decay": [0, 1e-2, 0, 1e-3, 0],
    "clip_norm": [None, 0.5, None, 0.1, None],
    "weight_l2": [0, 1e-3, 1e-2, 0, 0],
    "bias_l1": [0, 0, 1e-3, 1e-2, 0],
    "dropout": [0, 0.1, 0.3, 0.5, 0.2],
    "beta_1": [0.9, 0.8, 0.9, 0.95, 0.5],
    "label_smoothing": [0, 0.1, 0, 0.2, 0.05],
}


@contextmanager
def threads(n: int) -> Any:
    before = nn.get_num_threads()
    nn.set_num_threads(n)
    try:
        yield
    finally:
        nn.set_num_threads(before)


def model(backend: Any, rng: Any = None, dtype: str = "float32", **s: Any) -> nn.Model:
    """One model with these settings; those of `SETTINGS` at their defaults."""
    penalties = {name: s.pop(name, 0) for name in ("weight_l2", "bias_l1")}
    rate, smoothing = s.pop("dropout", 0.1), s.pop("label_smoothing", 0)
    return nn.Model(
        [nn.Dense(4, 24, **penalties), nn.ReLU(), nn.Dropout(rate), nn.Dense(24, 3, **penalties)],
        loss=nn.SoftmaxCrossEntropy(label_smoothing=smoothing),
        optimizer=nn.Adam(s.pop("learning_rate", 0.01), **s),
        metrics=["accuracy"],
        backend=backend,
        rng=rng,
        dtype=dtype,
    )


def rows(count: int = 100, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(count, 4)).astype(np.float32)
    return X, (X[:, 0] + rng.normal(size=count) * 0.5 > 0).astype(int) + (X[:, 1] > 1)


def settings_of(k: int, settings: dict[str, list[Any]] = SETTINGS) -> dict[str, Any]:
    return {name: values[k] for name, values in settings.items()}


def compare(
    population: nn.Population, alone: Callable[[int], nn.Model], fit: Callable[[Any, int | None], Any], X: Any, y: Any
) -> None:
    """Train the population with all threads and each model with one, and expect the same bits of everything.

    `fit(model or population, k)` trains; k is None for the population. X and y are rows to be asked about.
    """
    history = fit(population, None)
    answers, measured = population.predict(X), population.evaluate(X, y)
    for k in range(population.n):
        with threads(1):
            single = alone(k)
            one = fit(single, k)
            assert one.history == history[k].history, k
            assert one.validated == history[k].validated
            mine = population[k]
            for name in ("parameters", *single._buffers.slots):
                a, b = (m._buffers.slots.get(name, m._buffers.parameters) for m in (single, mine))
                assert np.array_equal(single.backend.to_numpy(a), mine.backend.to_numpy(b)), (k, name)
            to_numpy = single.backend.to_numpy
            assert np.array_equal(to_numpy(single.predict(X)), to_numpy(answers)[k])
            assert single.evaluate(X, y) == {n: measured[n][k] for n in single.evaluate(X, y)}
        assert (single._key, single._epochs, single.optimizer.steps) == (mine._key, mine._epochs, mine.optimizer.steps)
