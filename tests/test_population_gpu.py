"""Populations on the GPU backend, on the stand-in device: one model after the other, each as it would be alone."""

from __future__ import annotations

import numpy as np
import pytest
from gpu_models import simulated, why_not_simulated
from population_models import SETTINGS, compare, model, rows, settings_of

import nnfast as nn

pytestmark = pytest.mark.skipif(bool(why_not_simulated), reason=str(why_not_simulated))

X, Y = rows(40)
FEW = {name: values[:2] for name, values in SETTINGS.items()}


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setenv("NNFAST_GPU_TUNING", "0")
    return simulated()


def test_each_model_has_the_bits_that_it_would_have_alone(gpu):
    population = nn.Population(lambda: model(gpu), 2, FEW)
    options = {"epochs": 2, "batch_size": 16, "verbose": 0, "validation_data": (X, Y)}
    stop = nn.EarlyStopping("loss", patience=1, min_delta=0.02, restore_best=True)
    compare(
        population,
        lambda k: model(gpu, **settings_of(k)),
        lambda m, k: m.fit(X, Y, callbacks=[stop], **options),
        X,
        Y,
    )


def test_files_and_answers(gpu, tmp_path):
    population = nn.Population(lambda: model(gpu), 2, rng=0)
    population.fit(X, Y, epochs=2, batch_size=16, verbose=0)
    population.save(tmp_path / "all.nnfast")
    twin = nn.Population.load(tmp_path / "all.nnfast", backend="numpy")
    assert np.array_equal(twin.parameters, population.parameters)
    mean = population.predict(X, how="mean")
    assert type(mean) is type(gpu.zeros(1, "f4"))
    assert np.allclose(gpu.to_numpy(mean), twin.predict(X, how="mean"), atol=1e-6)
    assert np.array_equal(population.predict(X, how="vote"), twin.predict(X, how="vote"))
