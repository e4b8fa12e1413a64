"""Populations in files, and their pictures."""

from __future__ import annotations

import numpy as np
import pytest
from population_models import SETTINGS, N, model, rows

import nnfast as nn
from nnfast.errors import CheckpointError, DataError, DTypeError, OptionError, UnknownNameError
from nnfast.storage.file_format import read_header, read_tensors, write
from nnfast.storage.files import replacing

X, Y = rows()
OPTIONS = {"batch_size": 32, "verbose": 0, "validation_data": (X, Y)}


def trained(backend, **changes):
    population = nn.Population(lambda: model(backend), N, SETTINGS | changes)
    population.fit(X, Y, epochs=3, **OPTIONS)
    return population


def test_a_file_holds_all_that_the_training_depends_on(backend, tmp_path):
    population = trained(backend)
    population.save(tmp_path / "all.nnfast")
    twin = nn.Population.load(tmp_path / "all.nnfast", backend=backend)
    assert dict(twin.values) == dict(population.values)
    assert twin.ranking() == population.ranking()
    assert [h.history for h in map(twin.history.__getitem__, range(N))] == [
        h.history for h in map(population.history.__getitem__, range(N))
    ]
    for one in (twin, population):
        one.fit(X, Y, epochs=2, **OPTIONS)
    assert np.array_equal(twin.parameters, population.parameters)
    assert np.array_equal(twin[3].predict(X), population[3].predict(X))


def test_one_backend_reads_the_others_file(tmp_path):
    population = trained("numpy")
    population.save(tmp_path / "all.nnfast")
    for name in nn.available_backends():
        if nn.available_backends()[name] and name in ("numpy", "numba"):
            twin = nn.Population.load(tmp_path / "all.nnfast", backend=name)
            assert np.array_equal(twin.parameters, population.parameters)
            assert twin.backend.name == name


def test_schedules_are_kept_and_functions_handed_over(tmp_path):
    def falling(step):
        return 0.1 / (1 + step)

    rates = [nn.schedules.StepDecay(0.1, 2, 0.5), falling, 0.1, 0.2, 0.3]
    population = trained("numpy", learning_rate=rates)
    population.save(tmp_path / "all.nnfast")
    with pytest.raises(CheckpointError, match=r"'falling' is no part of nnfast"):
        nn.Population.load(tmp_path / "all.nnfast", backend="numpy")
    twin = nn.Population.load(tmp_path / "all.nnfast", backend="numpy", custom=[falling])
    assert twin.values["learning_rate"] == tuple(rates)
    for one in (twin, population):
        one.fit(X, Y, epochs=2, **OPTIONS)
    assert np.array_equal(twin.parameters, population.parameters)


def test_a_model_and_a_population_are_told_apart(tmp_path):
    population = nn.Population(lambda: model("numpy"), 2)
    population.save(tmp_path / "all.nnfast")
    population[0].save(tmp_path / "one.nnfast")
    with pytest.raises(CheckpointError, match=r"holds a population of models; nn.Population.load"):
        nn.load(tmp_path / "all.nnfast")
    with pytest.raises(CheckpointError, match="holds no population"):
        nn.Population.load(tmp_path / "one.nnfast")
    with pytest.raises(FileNotFoundError):
        nn.Population.load(tmp_path / "none.nnfast")
    text = nn.checkpoint.inspect(tmp_path / "all.nnfast")
    assert "nnfast population 1" in text
    assert "2 × 4 × 24" in text
    assert "models   2" in text


def forged(path, tensors=(), metadata=()):
    """The file with other arrays or metadata, its checksum made to fit."""
    with open(path, "rb") as file:
        header = read_header(file, str(path))
        arrays = read_tensors(file, header)
    kept = {k: v for k, v in header.metadata.items() if k not in ("producer", "nnfast_sha256")}
    with replacing(str(path)) as file:
        write(file, arrays | dict(tensors), kept | dict(metadata))


@pytest.mark.parametrize(
    ("tensors", "metadata", "said"),
    [
        ({"0.weights": np.zeros((2, 4, 24), np.float32)}, {}, "0.weights has shape"),
        ({"0.weights": np.zeros((N, 4, 3), np.float32)}, {}, "0.weights has shape"),
        ({"0.weights": np.zeros((N, 4, 24))}, {}, "is of float64"),
        ({"optimizer.m.0.biases": np.zeros((), np.float32)}, {}, "optimizer.m.0.biases has shape"),
        ({"9.weights": np.zeros((N, 1), np.float32)}, {}, "holds an array 9.weights"),
        ({}, {"population": "{}"}, "how many models there are"),
        ({}, {"population": '{"models": 5}'}, "its keys are no 5 numbers"),
        ({}, {"population": '{"models": 1000000000000}'}, "how many models there are"),
        ({}, {"population": "[1, 2]"}, "how many models there are"),
        ({}, {"population": "no JSON"}, "population"),
        ({"population.0": np.zeros(3, np.uint64)}, {}, "its keys are no"),
        ({"population.1": np.full(N, -1)}, {}, "its epochs are no"),
        ({"population.1": np.full(N, 2**62 + 1)}, {}, "its epochs are no"),
        ({"population.3": np.zeros(2, np.int64)}, {}, "its seeds"),
        ({"population.3": np.zeros((), np.int64)}, {}, "its seeds"),
        ({"population.3": np.zeros((N, 2), np.int64)}, {}, "its seeds"),
        ({}, {"version": "2"}, "update nnfast"),
    ],
)
def test_damaged_and_forged_files_are_refused(tmp_path, tensors, metadata, said):
    path = tmp_path / "all.nnfast"
    trained("numpy").save(path)
    forged(path)
    nn.Population.load(path, backend="numpy")  # forging alone does no harm
    forged(path, tensors, metadata)
    with pytest.raises(CheckpointError, match=said):
        nn.Population.load(path, backend="numpy")


def test_a_history_that_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "all.nnfast"
    population = trained("numpy")
    for name, value in (
        ("epochs", np.full(N, 99)),
        ("validated", [0]),
        ("validated", [2, 1]),
        ("restored", np.full(N, -1)),
        ("planned", 2.0),
        ("higher", [3]),
        ("penalized", np.zeros(N + 1, bool)),
        ("history", {}),
    ):
        twin = population.subset(range(N))
        setattr(twin.history, name, value)
        twin.save(path)
        with pytest.raises(CheckpointError, match=rf"history\.{'planned' if name == 'history' else name}"):
            nn.Population.load(path, backend="numpy")
    twin = population.subset(range(N))
    twin.history.history["loss"] = np.zeros((N, 1))
    twin.save(path)
    with pytest.raises(CheckpointError, match=r"history\.history\.loss is an array .* \(5, 1\); expected .* \(5, 3\)"):
        nn.Population.load(path, backend="numpy")


def test_every_byte_is_under_the_checksum(tmp_path):
    path = tmp_path / "all.nnfast"
    trained("numpy").save(path)
    raw = bytearray(path.read_bytes())
    for at in range(8, len(raw), 997):
        damaged = raw.copy()
        damaged[at] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            nn.Population.load(path, backend="numpy")


# ---- pictures -------------------------------------------------------------------------------------------------------


@pytest.fixture
def matplotlib():
    return pytest.importorskip("matplotlib")


def test_a_dot_per_model(matplotlib, tmp_path):
    n = 40
    rates = np.geomspace(1e-4, 1, n)
    population = nn.Population(lambda: model("numpy"), n, {"learning_rate": rates}, rng=0)
    population.fit(X, Y, epochs=1, **OPTIONS)
    figure = population.plot("learning_rate", file=tmp_path / "rates.png")
    assert (tmp_path / "rates.png").stat().st_size > 5_000
    (ax,) = figure.axes
    dots, best = ax.collections
    scores = population.scores()
    assert np.allclose(dots.get_offsets(), np.stack([rates, scores], axis=1))
    assert np.allclose(best.get_offsets(), [[rates[np.argmin(scores)], scores.min()]])
    assert (ax.get_xscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "learning rate", "val loss")
    assert len(ax.lines) == 1
    assert population.plot("learning_rate", score="accuracy", log=False).axes[0].get_xscale() == "linear"


def test_models_without_a_finite_score_are_crosses(matplotlib):
    population = nn.Population(lambda: model("numpy"), 3, {"learning_rate": [0.1, 0.2, 1e30], "rng": [0, 1, 2]})
    with pytest.warns(nn.errors.NonFiniteWarning):
        population.fit(X, Y, epochs=5, batch_size=32, verbose=0)
    texts = [t.get_text() for t in population.plot("learning_rate").axes[0].get_legend().get_texts()]
    assert "not finite: 1" in texts


def test_what_cannot_be_drawn(matplotlib):
    from nnfast import plots

    population = nn.Population(lambda: model("numpy"), 2, {"clip_norm": [None, 1], "weight_l2": [0, 1e-3]}, rng=0)
    with pytest.raises(DataError, match="no model is trained yet"):
        population.plot("weight_l2")
    population.fit(X, Y, verbose=0)
    with pytest.raises(UnknownNameError, match="name of what varies"):
        population.plot("learning_rate")
    with pytest.raises(DTypeError, match="not all numbers"):
        population.plot("clip_norm")
    with pytest.raises(OptionError, match="log=True needs values above 0"):
        population.plot("weight_l2", log=True)
    with pytest.raises(UnknownNameError, match="log"):
        population.plot("weight_l2", log="maybe")
    with pytest.raises(DTypeError, match=r"expected an nnfast.Population"):
        plots.population(3, "rng")
