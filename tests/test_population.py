"""Populations: each model has the bits it would have had alone, whatever differs between them; and what all answer."""

from __future__ import annotations

import copy
import functools
import pickle

import numpy as np
import pytest
from population_models import SETTINGS, N, compare, model, on_gpus_too, rows, settings_of, threads

import nnfast as nn
from nnfast.errors import OptionError, StateError
from nnfast.random import permutation, row_orders

X, Y = rows()
X_TEST, Y_TEST = rows(37, seed=1)


# ---- the same bits as alone -----------------------------------------------------------------------------------------


@on_gpus_too
@pytest.mark.parametrize("batch_size", [32, 25, None], ids=["short last batch", "equal batches", "whole set"])
def test_all_that_can_vary_varies(backend, dtype, batch_size):
    population = nn.Population(lambda: model(backend, dtype=dtype), N, SETTINGS)
    options = {"batch_size": batch_size, "verbose": 0, "validation_data": (X_TEST, Y_TEST), "validation_every": 2}

    def fit(one, k):
        one.fit(X, Y, epochs=2, **options)
        return one.fit(X, Y, epochs=5, **options)  # counters and optimizer go on

    compare(population, lambda k: model(backend, dtype=dtype, **settings_of(k)), fit, X_TEST, Y_TEST)


@on_gpus_too
@pytest.mark.parametrize("shuffle", [True, False])
def test_weighted_rows(backend, shuffle):
    weights = np.random.default_rng(2).random(len(X)).astype(np.float32)
    weights[:40] = 0  # whole batches of no weight
    population = nn.Population(lambda: model(backend), 3, {"rng": [0, 1, 2]})

    def fit(one, k):
        options = {"sample_weight": weights, "shuffle": shuffle, "verbose": 0}
        return one.fit(X, Y, epochs=4, batch_size=16, validation_data=(X, Y, weights), **options)

    compare(population, lambda k: model(backend, rng=k), fit, X_TEST, Y_TEST)


@on_gpus_too
def test_rows_of_their_own(backend):
    Xs = np.stack([rows(60, seed=k)[0] for k in range(3)])
    ys = np.stack([rows(60, seed=k)[1] for k in range(3)])
    ws = np.random.default_rng(0).random((3, 60))
    population = nn.Population(lambda: model(backend), 3, {"rng": [0, 1, 2]})

    def fit(one, k):
        data = (Xs, ys, ws) if k is None else (Xs[k], ys[k], ws[k])
        options = {"epochs": 4, "batch_size": 25, "verbose": 0, "validation_data": data}
        return one.fit(*data[:2], sample_weight=data[2], **options)

    compare(population, lambda k: model(backend, rng=k), fit, X_TEST, Y_TEST)
    each, shared = (backend.to_numpy(population.predict(data)) for data in (Xs, Xs[1]))
    assert np.array_equal(each[1], shared[1])


@on_gpus_too
def test_shared_rows_with_targets_of_their_own(backend):
    ys = np.stack([np.roll(Y, k) for k in range(3)])
    population = nn.Population(lambda: model(backend), 3, {"rng": [0, 1, 2]})

    def fit(one, k):
        return one.fit(X, ys if k is None else ys[k], epochs=3, batch_size=40, verbose=0)

    compare(population, lambda k: model(backend, rng=k), fit, X_TEST, Y_TEST)


PARTS = {
    "sgd": lambda: nn.SGD(0.1),
    "momentum": lambda: nn.SGD(0.05, momentum=0.9, nesterov=True),
    "adagrad": lambda: nn.Adagrad(0.1),
    "rmsprop": lambda: nn.RMSprop(0.01, clip_norm=0.5),
    "adamw": lambda: nn.AdamW(0.01, decay_biases=False),
    "schedule": lambda: nn.Adam(nn.schedules.CosineDecay(0.05, 20, warmup=3), decay=1e-2),
    "function": lambda: nn.Adam(lambda step: 0.01 / (1 + step)),
}


@on_gpus_too
@pytest.mark.parametrize("name", PARTS)
def test_every_optimizer_and_deeper_networks(backend, name):
    def build(rng=None):
        layers = [nn.Dense(4, 8, "he_normal"), nn.GELU(), nn.Dense(8, 8, weight_l1=1e-3), nn.LeakyReLU(0.1)]
        parts = {"loss": nn.Huber(0.5), "optimizer": PARTS[name](), "metrics": ["r2", "mean_absolute_error"]}
        return nn.Model([*layers, nn.Dense(8, 2)], backend=backend, rng=rng, **parts)

    targets = np.stack([X[:, 0], X[:, 1] * X[:, 2]], axis=1)
    population = nn.Population(build, 3, {"rng": [0, 1, 2]})
    compare(population, build, lambda m, k: m.fit(X, targets, epochs=3, batch_size=32, verbose=0), X, targets)


@on_gpus_too
def test_schedules_and_layers_numbers_vary(backend):
    rates = [0.01, nn.schedules.StepDecay(0.05, 4, 0.5), lambda step: 0.02, 0.03]
    slopes = [0.1, 0.2, 0, 0.01]

    def build(k=None):
        layers = [nn.Dense(4, 8), nn.LeakyReLU(0.3 if k is None else slopes[k]), nn.Dense(8, 1)]
        adam = nn.Adam(0.1 if k is None else rates[k])
        return nn.Model(layers, nn.SigmoidBinaryCrossEntropy(), adam, ["binary_accuracy"], backend=backend, rng=k)

    y = Y[:, None] > 0
    population = nn.Population(build, 4, {"rng": range(4), "learning_rate": rates, "alpha": slopes})
    compare(population, build, lambda m, k: m.fit(X, y, epochs=3, batch_size=32, verbose=0), X, y)


@on_gpus_too
def test_frozen_and_given_layers(backend):
    W = np.random.default_rng(0).normal(size=(4, 6))

    def build(rng=None):
        given, own = nn.Dense(4, 6), nn.Dense(6, 6, rng=8)
        given.weights = W
        given.trainable = False
        parts = nn.SoftmaxCrossEntropy(), nn.SGD(0.1)
        return nn.Model([given, nn.Tanh(), own, nn.Tanh(), nn.Dense(6, 3)], *parts, backend=backend, rng=rng)

    population = nn.Population(build, 2, {"rng": [0, 1]})
    compare(population, build, lambda m, k: m.fit(X, Y, epochs=2, batch_size=32, verbose=0), X, Y)
    assert np.array_equal(backend.to_numpy(population[1].layers[0].weights), W.astype(np.float32))


def test_a_registered_op_without_a_kernel_here_is_run_model_by_model(backend, monkeypatch):
    from nnfast.kernels.numba_cpu.runner import NumbaRunner  # noqa: TID251

    def build(rng=None):
        return model(backend, rng=rng)

    monkeypatch.setattr(NumbaRunner, "run_population", lambda self, job: None)
    population = nn.Population(build, 3, {"rng": [0, 1, 2]})
    options = {"epochs": 3, "batch_size": 32, "verbose": 0, "validation_data": (X, Y)}
    with threads(1):
        compare(population, build, lambda m, k: m.fit(X, Y, **options), X, Y)


def test_threads_and_the_cut_into_jobs_change_no_bit(backend, monkeypatch):
    from nnfast.population import fit as module

    def trained(n, rows_at_once, seconds):
        monkeypatch.setattr(module, "ORDER_ROWS", rows_at_once)
        monkeypatch.setattr(module, "JOB_SECONDS", seconds)
        population = nn.Population(lambda: model(backend), N, SETTINGS)
        with threads(n):
            history = population.fit(X, Y, epochs=4, batch_size=30, verbose=0, validation_data=(X, Y))
        return population.parameters, history.history

    first, columns = trained(1, 4_000_000, 0.1)
    for other in (trained(2, 4_000_000, 0.1), trained(2, 210, 0.1), trained(3, 4_000_000, 1e-9)):
        assert np.array_equal(first, other[0])
        for name, values in columns.items():
            assert np.array_equal(values, other[1][name], equal_nan=True), name


def test_seeds_are_drawn_from_rng_and_shown(backend):
    a, b, c = (nn.Population(lambda: model(backend), 4, rng=rng) for rng in (0, 0, 1))
    assert a.values["rng"] == b.values["rng"] != c.values["rng"]
    assert np.array_equal(a.parameters, b.parameters)
    assert len(set(a.values["rng"])) == 4
    assert np.array_equal(model(backend, rng=a.values["rng"][2]).parameters, a.parameters[2])


def test_generators_are_used_as_they_are(backend):
    population = nn.Population(lambda: model(backend), 2, {"rng": [np.random.RandomState(5)] * 2})
    source = np.random.RandomState(5)
    for k in range(2):
        assert np.array_equal(population.parameters[k], model(backend, rng=source).parameters)


def test_row_orders_are_those_of_numpy(monkeypatch):
    orders = pytest.importorskip("nnfast.kernels.numba_cpu.orders")
    keys = np.random.default_rng(0).integers(0, 2**64, 40, dtype=np.uint64)
    epochs = np.array([*range(38), 2**62, 2**63 - 1], np.int64)
    monkeypatch.setattr(orders, "WORTH_LOADING", 0)
    for count in (1, 2, 3, 8, 9, 1000):
        drawn = [permutation(int(k), int(e), count) for k, e in zip(keys, epochs, strict=True)]
        found = orders.row_orders(keys, epochs, count)
        assert found is None or np.array_equal(found, drawn), count
    assert found is not None or not orders.COMPILED
    monkeypatch.setattr(orders, "_is_numpys", lambda: False)  # a NumPy that draws otherwise
    assert orders.row_orders(keys, epochs, 3) is None
    assert np.array_equal(row_orders(nn.get_backend("numba"), keys, epochs, 1000), drawn)


def test_few_row_orders_are_left_to_numpy_until_they_add_up(monkeypatch):
    orders = pytest.importorskip("nnfast.kernels.numba_cpu.orders")
    monkeypatch.setattr(orders, "_asked", 0)
    monkeypatch.setattr(orders, "WORTH_LOADING", 3 * (orders.PER_ORDER + 10))
    compiled = functools.cache(orders._compiled.__wrapped__)  # as in a process that has not loaded it
    monkeypatch.setattr(orders, "_compiled", compiled)
    key, epoch = np.array([7], np.uint64), np.array([0])
    drawn = [orders.row_orders(key, epoch, 10) is not None for _ in range(3)]
    assert drawn == [False, False, orders.COMPILED]
    assert compiled.cache_info().currsize == orders.COMPILED
    monkeypatch.setattr(orders, "_asked", 0)  # once loaded, it draws the fewest too
    assert (orders.row_orders(key, epoch, 10) is not None) == orders.COMPILED


# ---- single models --------------------------------------------------------------------------------------------------


def test_a_model_taken_out_trains_on_as_the_one_inside(backend):
    population = nn.Population(lambda: model(backend), 3, {"rng": [0, 1, 2], "learning_rate": [0.01, 0.02, 0.03]})
    population.fit(X, Y, epochs=2, batch_size=32, verbose=0)
    single = population[1]
    assert single.optimizer.learning_rate == 0.02
    assert single.history.history == population.history[1].history
    before = population.parameters
    with threads(1):
        single.fit(X, Y, epochs=2, batch_size=32, verbose=0)
    assert np.array_equal(population.parameters, before), "it is a copy"
    population.fit(X, Y, epochs=2, batch_size=32, verbose=0)
    assert np.array_equal(single.parameters, population[1].parameters)


def test_indexing(backend):
    population = nn.Population(lambda: model(backend), 3)
    assert len(population) == population.n == len(population.models) == len(list(population)) == 3
    assert np.array_equal(population[-1].parameters, population.parameters[2])
    with pytest.raises(IndexError, match="there are 3 models"):
        population[3]


def test_settings_change_between_two_fits(backend):
    population = nn.Population(lambda: model(backend), 2, {"rng": [0, 1]})

    def fit(one, k):
        one.fit(X, Y, epochs=1, batch_size=32, verbose=0)
        if k is None:
            one.set("learning_rate", [0.1, 0.2])
            one.set("weight_l2", [0, 0.01])
        else:
            one.optimizer.learning_rate = [0.1, 0.2][k]
            for i in (0, 3):
                one.layers[i].weight_l2 = [0, 0.01][k]
        return one.fit(X, Y, epochs=2, batch_size=32, verbose=0)

    compare(population, lambda k: model(backend, rng=k), fit, X, Y)
    assert population.values["weight_l2"] == (0, 0.01)


def test_a_subset_is_a_population_of_its_own(backend):
    population = nn.Population(lambda: model(backend), N, SETTINGS)
    population.fit(X, Y, epochs=2, batch_size=32, verbose=0)
    some = population.subset([4, 1])
    assert some.values["decay"] == (0, 1e-2)
    assert some.history[1].history == population.history[1].history
    for one in (some, population):
        one.fit(X, Y, epochs=2, batch_size=32, verbose=0)
    assert np.array_equal(some.parameters, population.parameters[[4, 1]])


def test_models_that_cannot_train_answer(backend):
    population = nn.Population(lambda: nn.Model([nn.Dense(4, 3)], backend=backend), 2, rng=0)
    assert np.array_equal(population.predict(X)[1], population[1].predict(X))
    with pytest.raises(StateError, match="fit needs a loss"):
        population.fit(X, Y)


# ---- all as one -----------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(backend):
    population = nn.Population(lambda: model(backend), 7, rng=1)
    population.fit(X, Y, epochs=5, batch_size=32, verbose=0, validation_data=(X_TEST, Y_TEST))
    return population


def test_mean_vote_and_best(trained):
    every = np.stack([m.predict(X_TEST) for m in trained])
    assert np.array_equal(trained.predict(X_TEST), every)
    assert np.array_equal(trained.predict(X_TEST, how="mean"), every.mean(axis=0))
    votes = trained.predict(X_TEST, how="vote")
    for row in range(len(X_TEST)):
        assert votes[row] == np.bincount(every[:, row].argmax(axis=1), minlength=3).argmax()
    losses = trained.history.history["val_loss"][:, -1]
    assert trained.ranking() == np.argsort(losses).tolist()
    assert np.array_equal(trained.predict(X_TEST, how="best"), every[np.argmin(losses)])
    assert np.array_equal(trained.best().parameters, trained.parameters[np.argmin(losses)])
    accuracies = trained.scores("val_accuracy")
    assert trained.ranking("val_accuracy")[0] == np.argmax(accuracies)
    assert trained.ranking("val_accuracy", "min")[0] == np.argmin(accuracies)


def test_an_ensemble_keeps_its_weights(trained):
    three, chosen = trained.ensemble(models=3), trained.ensemble("vote", [0, 5])
    before = three(X_TEST), chosen.predict(X_TEST)
    best = [trained.predict(X_TEST)[k] for k in trained.ranking()[:3]]
    assert np.array_equal(before[0], np.mean(best, axis=0, dtype=np.float32))
    assert (len(three), len(chosen), len(trained.ensemble())) == (3, 2, 7)
    trained.fit(X, Y, epochs=1, verbose=0)
    assert np.array_equal(three(X_TEST), before[0])
    assert np.array_equal(chosen(X_TEST), before[1])


def test_two_classes_in_one_output_are_voted_on(backend):
    def build():
        return nn.Model([nn.Dense(4, 1)], nn.SigmoidBinaryCrossEntropy(), nn.SGD(), backend=backend)

    population = nn.Population(build, 3, rng=0)
    shares = population.predict(X)[..., 0] > 0.5
    assert np.array_equal(population.predict(X, how="vote"), (shares.sum(axis=0) >= 2).astype(int))


def test_there_is_no_vote_on_numbers_and_no_best_before_the_training(backend):
    parts = nn.MeanSquaredError(), nn.SGD()
    population = nn.Population(lambda: nn.Model([nn.Dense(4, 2)], *parts[:1], backend=backend), 2)
    with pytest.raises(OptionError, match="names none; use how='mean'"):
        population.predict(X, how="vote")
    with pytest.raises(OptionError, match="names none"):
        population.ensemble("vote")
    with pytest.raises(StateError, match="nothing is measured yet"):
        population.best()
    with pytest.raises(OptionError, match="rows of their own"):
        population.predict(np.stack([X, X]), how="mean")


def test_a_model_that_diverged_is_never_the_best(backend):
    population = nn.Population(lambda: model(backend), 3, {"rng": [0, 1, 2], "learning_rate": [0.01, 0.01, 1e30]})
    with pytest.warns(nn.errors.NonFiniteWarning, match=r"not finite in 1 of 3 models \(2\) since epoch") as seen:
        population.fit(X, Y, epochs=8, batch_size=32, verbose=0)
    assert [w.filename for w in seen] == [__file__]
    assert population.ranking()[-1] == 2
    assert np.isfinite(population.parameters[:2]).all()


def test_words(backend, trained):
    assert repr(trained) == f"<Population of 7 models on {backend.name}; varies: the seed alone>"
    assert repr(trained.history) == "<PopulationHistory of 7 models, 35 epochs in all>"
    assert repr(trained.ensemble(models=2)) == "<Ensemble of 2 models: mean>"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))], ids=["copy", "pickle"])
def test_copies_train_on_by_themselves(trained, copied):
    twin = copied(trained)
    assert twin._members.buffers.parameters.ctypes.data % 256 == 0
    twin.fit(X, Y, epochs=1, batch_size=32, verbose=0)
    assert not np.array_equal(twin.parameters, trained.parameters)
    trained.fit(X, Y, epochs=1, batch_size=32, verbose=0)
    assert np.array_equal(twin.parameters, trained.parameters)
