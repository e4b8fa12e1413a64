"""Validation in the midst of jobs: the values are those of stopping to look, and the jobs stay long."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from small_models import TARGETS, X, Y, classifier, fit, regressor

import nnfast as nn
from nnfast.progress import Progress


def looked_at(model, every, epochs, X, y, **options):
    """Loss and metrics as a callback finds them that measures between jobs."""
    found = {}

    def look(model, epoch, logs):
        if epoch % every == 0 or epoch == epochs:
            for name, value in model.evaluate(X, y).items():
                found.setdefault(f"val_{name}", []).append(value)

    fit(model, X, y, epochs=epochs, callbacks=[look], **options)
    return found


@pytest.mark.parametrize("batch_size", [None, 32])
@pytest.mark.parametrize("every", [1, 3, 10, 100])
def test_values_are_those_of_stopping_to_look(backend, every, batch_size):
    one, two = (classifier(backend=backend) for _ in range(2))
    expected = looked_at(one, every, 50, X, Y, batch_size=batch_size)
    got = fit(two, epochs=50, batch_size=batch_size, validation_data=(X, Y), validation_every=every)
    assert {name: column for name, column in got.items() if name.startswith("val_")} == expected
    np.testing.assert_array_equal(one.parameters, two.parameters)
    epochs = [e for e in range(1, 51) if e % every == 0 or e == 50]
    assert list(two.history.epochs_of("val_loss")) == epochs


def test_several_batches_of_validation_rows(backend):
    """Wide outputs and more rows than one batch takes; r2 is no plain mean over batches."""
    rows = np.tile(X, (50, 1))
    y = np.tile(TARGETS, (50, 1))
    one, two = (regressor(backend=backend) for _ in range(2))
    expected = looked_at(one, 2, 4, rows, y, batch_size=1000)
    got = fit(two, rows, y, epochs=4, batch_size=1000, validation_data=(rows, y), validation_every=2)
    assert got["val_r2"] == expected["val_r2"]
    assert got["val_loss"] == expected["val_loss"]


def test_validation_does_not_cut_jobs(backend, monkeypatch):
    runs = []
    model = classifier(backend=backend)
    real = model._programs.run

    def counted(runner, job):
        runs.append(job.steps)
        return real(runner, job)

    monkeypatch.setattr(model._programs, "run", counted)
    monkeypatch.setattr("nnfast.training.run.JOB_SECONDS", 1e9)
    fit(model, epochs=400, batch_size=None, validation_data=(X, Y), validation_every=2)
    assert runs == [1, 399]
    assert len(model.history.history["val_loss"]) == 200


def test_who_looks_now_and_then_sees_the_latest_validation(backend, monkeypatch):
    seen = []

    class Looking(Progress):
        def __enter__(self):
            return self

        def update(self, epoch, logs, values):
            seen.append((epoch, logs.get("val_loss")))

    monkeypatch.setattr(Progress, "of", staticmethod(lambda verbose, epochs: Looking()))
    monkeypatch.setattr("nnfast.training.run.JOB_SECONDS", 0.0)  # one step per job
    model = classifier(backend=backend)
    fit(model, epochs=7, batch_size=None, validation_data=(X, Y), validation_every=3)
    three, six, seven = model.history.history["val_loss"]
    assert seen == [(1, None), (2, None), (3, three), (4, three), (5, three), (6, six), (7, seven)]


def test_a_backend_without_pauses_validates_all_the_same(monkeypatch):
    one, two = classifier(), classifier()
    expected = fit(one, validation_data=(X, Y), validation_every=2)
    monkeypatch.setattr(type(two._programs.runner("train")[1]), "takes_pauses", False)
    assert fit(two, validation_data=(X, Y), validation_every=2) == expected


def test_a_plain_python_layer_is_no_obstacle(backend):
    class Twice(nn.PythonLayer):
        def compute(self, x, training):
            return 2 * x

        def gradient(self, dy):
            return 2 * dy

    def made():
        layers = [nn.Dense(2, 8, rng=0), Twice(), nn.ReLU(), nn.Dense(8, 3, rng=1)]
        return nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.Adam(0.02), backend=backend, rng=0)

    one, two = made(), made()
    expected = looked_at(one, 3, 9, X, Y, batch_size=32)
    got = fit(two, epochs=9, validation_data=(X, Y), validation_every=3)
    assert got["val_loss"] == expected["val_loss"]


@pytest.mark.parametrize("mode", ["perturb", "sample"])
def test_a_random_search_is_validated_too(backend, mode):
    one, two = (classifier(nn.RandomSearch(mode=mode), backend=backend) for _ in range(2))
    expected = looked_at(one, 7, 200, X, Y, batch_size=None)
    got = fit(two, epochs=200, batch_size=None, validation_data=(X, Y), validation_every=7)
    assert got["val_loss"] == expected["val_loss"]


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("batch_size", [32, None])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_see_the_same_weights(threads, batch_size, alone, monkeypatch):
    """By features (batches of 32) shares keep weights in memory of their own; validation must see them all the same."""
    pytest.importorskip("numba")
    pace = importlib.import_module("nnfast.kernels.numba_cpu.pace")

    def halves(self, steps):
        return [(n, alone) for n in (steps // 2, steps - steps // 2) if n]

    monkeypatch.setattr(pace.Pace, "pieces", halves)
    rng = np.random.default_rng(0)
    rows, y = rng.standard_normal((320, 64)).astype(np.float32), rng.integers(0, 10, 320)

    def made():
        layers = [nn.Dense(64, 128), nn.ReLU(), nn.Dense(128, 64), nn.ReLU(), nn.Dense(64, 10)]
        return nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.Adam(0.001), backend="numba", rng=0)

    before = nn.get_num_threads()
    nn.set_num_threads(threads)
    try:
        one, two = made(), made()
        expected = looked_at(one, 5, 30, rows, y, batch_size=batch_size)
        got = fit(two, rows, y, epochs=30, batch_size=batch_size, validation_data=(rows, y), validation_every=5)
    finally:
        nn.set_num_threads(before)
    assert got["val_loss"] == expected["val_loss"]
    np.testing.assert_array_equal(one.parameters, two.parameters)


def test_a_job_may_be_run_again(backend):
    """Its count of steps done begins anew, as do its sums."""
    model = classifier(backend=backend)
    program, runner = model._programs.runner("evaluate")
    from nnfast.training.batches import make_job, prepare

    data = prepare(model, X, Y, None, 50)
    job = make_job(model, data, model._programs.scalars(program), steps=3, normalisers=np.ones(3))
    first = runner.run(job).sums.copy()
    np.testing.assert_array_equal(runner.run(job).sums, first)
    assert job.done == 3
