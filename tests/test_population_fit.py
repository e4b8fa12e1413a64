"""Trainings of populations: early stopping of each model by itself, callbacks, interruptions, what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from population_models import compare, model, on_gpus_too, rows, threads

import nnfast as nn
from nnfast.errors import CheckpointError, DataError, DTypeError, NnfastError, OptionError, ShapeError, UnknownNameError

X, Y = rows()
X_TEST, Y_TEST = rows(60, seed=1)
RATES = [0.3, 0.1, 0.01, 0.2, 0.05, 0.003]
N = len(RATES)
VARY = {"rng": range(N), "learning_rate": RATES}
OPTIONS = {"batch_size": 32, "verbose": 0, "validation_data": (X_TEST, Y_TEST)}


def population_of(backend, **changes):
    return nn.Population(lambda: model(backend), N, VARY | changes)


def single(backend):
    return lambda k: model(backend, rng=k, learning_rate=RATES[k])


# ---- early stopping -------------------------------------------------------------------------------------------------


@on_gpus_too
@pytest.mark.parametrize(
    "settings",
    [
        {"patience": 2},
        {"patience": 3, "restore_best": True},
        {"patience": 2, "monitor": "val_accuracy", "min_delta": 0.01, "restore_best": True},
        {"patience": 2, "monitor": "loss", "every": 3, "min_delta": 0.05},
        {"patience": 1, "monitor": "val_loss", "every": 2, "mode": "max"},
    ],
    ids=["patience", "best", "accuracy", "every third", "upside down"],
)
@pytest.mark.parametrize("every", [1, 2])
def test_each_model_stops_where_it_would_alone(backend, settings, every):
    population = population_of(backend)

    def fit(one, k):
        callbacks = [nn.EarlyStopping(**settings)]
        history = one.fit(X, Y, epochs=16, callbacks=callbacks, validation_every=every, **OPTIONS)
        if k is None:
            assert len(set(history.epochs.tolist())) > 1
            assert history.epochs.min() < 16
        return history

    compare(population, single(backend), fit, X_TEST, Y_TEST)


def test_scores_are_of_the_weights_that_are_there(backend):
    population = population_of(backend)
    options = OPTIONS | {"callbacks": [nn.EarlyStopping(patience=3, restore_best=True)]}
    history = population.fit(X, Y, epochs=30, **options)
    losses = np.nanmin(history.history["val_loss"], axis=1)
    assert np.array_equal(population.scores(), losses)
    assert np.array_equal(population.evaluate(X_TEST, Y_TEST)["loss"], losses)
    assert (history.restored <= history.epochs).all()


def test_who_has_stopped_is_not_trained_any_more(backend):
    population = population_of(backend)
    stop = nn.EarlyStopping("loss", patience=1, min_delta=1e9)  # nothing is better than the first by so much
    history = population.fit(X, Y, epochs=20, callbacks=[stop], **OPTIONS)
    assert (history.epochs == 2).all()
    assert np.isnan(history.history["loss"][:, 2:]).all()
    assert (population._members.steps == 2 * 4).all()


# ---- callbacks ------------------------------------------------------------------------------------------------------


def test_functions_see_all_models_and_may_stop_them(backend):
    population, seen = population_of(backend), []

    def look(given, epoch, logs):
        assert given is population
        seen.append((epoch, logs["loss"].shape, sorted(logs)))
        return epoch == 3

    history = population.fit(X, Y, epochs=9, callbacks=[look], **OPTIONS)
    names = ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert seen == [(epoch, (N,), names) for epoch in (1, 2, 3)]
    assert (history.epochs == 3).all()


def test_progress_and_lines(backend, capsys):
    population_of(backend).fit(X, Y, epochs=2, batch_size=32, verbose=2)
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2
    assert re.fullmatch(r"epoch 2/2  median loss .* best loss .* median accuracy .* best accuracy .*  models 6", out[1])


# ---- interrupted ----------------------------------------------------------------------------------------------------


@on_gpus_too
@pytest.mark.parametrize("seconds", [0.1, 1e-9], ids=["epochs", "steps"])
def test_a_training_goes_on_where_it_was_interrupted(backend, tmp_path, monkeypatch, seconds):
    from nnfast.population import fit as module

    monkeypatch.setattr(module, "JOB_SECONDS", seconds)
    path, rates = tmp_path / "folder" / "run.nnfast", {"decay": [0, 1e-3] * 3}

    def options(*more):
        stop = nn.EarlyStopping(patience=3, restore_best=True)
        return OPTIONS | {"callbacks": [stop, nn.ModelCheckpoint(path, every=2), *more], "validation_every": 2}

    whole = population_of(backend, **rates)
    expected = whole.fit(X, Y, epochs=20, **(options() | {"callbacks": options()["callbacks"][:1]}))

    def interrupt(population, epoch, logs):
        if epoch == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        population_of(backend, **rates).fit(X, Y, epochs=20, **options(interrupt))
    other = population_of(backend, **rates)
    history = other.fit(X, Y, epochs=20, resume=path, **options())
    assert np.array_equal(other.parameters, whole.parameters)
    for name, columns in expected.history.items():
        assert np.array_equal(columns, history.history[name], equal_nan=True), name
    again = population_of(backend, **rates)
    again.fit(X, Y, epochs=20, resume=path, **options())  # it has ended: nothing is left to do
    assert np.array_equal(again.parameters, whole.parameters)
    for one in (other, whole):
        one.fit(X, Y, epochs=1, **OPTIONS)
    assert np.array_equal(other.parameters, whole.parameters)


def test_more_epochs_than_were_planned(backend, tmp_path):
    path = tmp_path / "run.nnfast"
    whole, first, second = (population_of(backend) for _ in range(3))
    expected = whole.fit(X, Y, epochs=6, **OPTIONS)
    first.fit(X, Y, epochs=3, callbacks=[nn.ModelCheckpoint(path)], **OPTIONS)
    history = second.fit(X, Y, epochs=6, resume=path, **OPTIONS)
    assert np.array_equal(second.parameters, whole.parameters)
    assert history[2].history == expected[2].history


def test_without_a_file_training_begins_anew(backend, tmp_path, capsys):
    population_of(backend).fit(X, Y, resume=tmp_path / "none.nnfast", **OPTIONS)
    assert "there is no checkpoint" in capsys.readouterr().err


def test_another_training_is_not_gone_on_with(backend, tmp_path):
    path = tmp_path / "run.nnfast"
    population_of(backend).fit(X, Y, callbacks=[nn.ModelCheckpoint(path)], **OPTIONS)
    for changed, said in (
        (OPTIONS | {"batch_size": 16}, "batch_size = 32; here it is 16"),
        (OPTIONS | {"callbacks": [nn.EarlyStopping()]}, "without EarlyStopping"),
    ):
        population = population_of(backend)
        before = population.parameters.copy()
        with pytest.raises(CheckpointError, match=said):
            population.fit(X, Y, resume=path, **changed)
        if "batch_size" in said:
            assert np.array_equal(population.parameters, before)
    for other, said in (
        (nn.Population(lambda: model(backend), 2), "holds 6 models; this population has 2"),
        (nn.Population(lambda: model(backend), N), r"what varies is \['learning_rate'\] in the file and \[\]"),
        (nn.Population(lambda: model(backend, dtype="float64"), N, VARY), "dtype is 'float32' in the file"),
    ):
        with pytest.raises(CheckpointError, match=said):
            other.fit(X, Y, resume=path, **OPTIONS)
    population.save(path)
    with pytest.raises(CheckpointError, match="no training to go on with"):
        population_of(backend).fit(X, Y, resume=path, **OPTIONS)


@on_gpus_too
def test_an_error_in_a_callback_leaves_a_population_that_trains_on(backend):
    population = population_of(backend)

    def fail(given, epoch, logs):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        population.fit(X, Y, epochs=4, callbacks=[fail], **OPTIONS)
    assert (population.history.epochs == 1).all()
    population.fit(X, Y, epochs=2, **OPTIONS)
    straight = population_of(backend)
    straight.fit(X, Y, epochs=3, **OPTIONS)
    assert np.array_equal(population.parameters, straight.parameters)


def test_no_fit_within_a_fit(backend):
    population = population_of(backend)
    with pytest.raises(nn.errors.StateError, match="being fitted already"):
        population.fit(X, Y, callbacks=[lambda p, e, logs: p.fit(X, Y)], **OPTIONS)


# ---- what is refused ------------------------------------------------------------------------------------------------


class Square(nn.PythonLayer):
    def compute(self, x, training):
        return x * x

    def gradient(self, dy):
        return dy


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ((None, 2), DTypeError, "expected a function that returns a new nn.Model"),
        ((lambda: 3, 2), DTypeError, r"build\(\) returned 3"),
        ((model, 0), OptionError, "n is 0"),
        ((model, 2, [1]), DTypeError, "expected a dictionary of names"),
        ((model, 2, {"learning_rate": 0.1}), DTypeError, "expected a list of 2 values"),
        ((model, 2, {"learning_rate": [0.1]}), OptionError, r"has shape \(1,\); expected \(2,\)"),
        ((model, 2, {"rng": [1, 2, 3]}), OptionError, r"vary\['rng'\] has shape \(3,\)"),
        ((model, 2, {"rng": [1, "two"]}), DTypeError, "rng is 'two'"),
        ((model, 2, {"learning_rate": [0.1, -1]}), OptionError, r"vary\['learning_rate'\]\[1\]: learning_rate"),
        ((model, 2, {"dropout": [0.1, 1]}), OptionError, r"vary\['dropout'\]\[1\]: rate"),
        ((model, 2, {"n_outputs": [1, 2]}), UnknownNameError, "unknown name in vary 'n_outputs'.*weight_l2"),
        ((model, 2, {"momentum": [0, 0.9]}), UnknownNameError, "unknown name in vary 'momentum'"),
    ],
)
def test_what_makes_no_population(arguments, kind, said):
    build, *rest = arguments
    with pytest.raises(kind, match=said):
        nn.Population((lambda: model("numpy")) if build is model else build, *rest)


def test_what_changes_the_structure_cannot_vary():
    def build():
        return nn.Model([nn.Dense(2, 2)], nn.MeanSquaredError(), nn.SGD(0.1), backend="numpy")

    with pytest.raises(OptionError, match=r"vary\['momentum'\]\[1\] = 0.9 makes another optimizer"):
        nn.Population(build, 2, {"momentum": [0, 0.9]})


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"epochs": -1}, OptionError, "epochs"),
        ({"batch_size": 0}, OptionError, "batch_size"),
        ({"shuffle": "yes"}, DTypeError, "shuffle"),
        ({"verbose": 7}, OptionError, "verbose"),
        ({"sample_weight": np.ones(3)}, ShapeError, "sample_weight has shape"),
        ({"sample_weight": np.ones((N, 3))}, ShapeError, r"sample_weight\[0\] has shape"),
        ({"validation_data": X}, DTypeError, "validation_data must be"),
        ({"validation_data": (X, Y[:3])}, ShapeError, "validation y has 3 labels"),
        ({"callbacks": nn.EarlyStopping()}, DTypeError, "callbacks is a list"),
        ({"callbacks": [nn.TerminateOnNaN()]}, DTypeError, "callbacks of a population are"),
        ({"callbacks": [nn.EarlyStopping(), nn.EarlyStopping()]}, OptionError, "two EarlyStopping"),
        ({"callbacks": [nn.ModelCheckpoint("a"), nn.ModelCheckpoint("b")]}, OptionError, "two ModelCheckpoint"),
        ({"callbacks": [nn.EarlyStopping("nothing")]}, UnknownNameError, "monitor of EarlyStopping 'nothing'"),
        ({"callbacks": [nn.ModelCheckpoint("x", keep_best=True)]}, OptionError, "takes path and every"),
    ],
)
def test_what_fit_refuses_changes_nothing(backend, options, kind, said):
    population = population_of(backend)
    before = population.parameters.copy()
    with pytest.raises(kind, match=said):
        population.fit(X, Y, **({"verbose": 0} | options))
    assert np.array_equal(population.parameters, before)
    assert not population.history.history


@pytest.mark.parametrize(
    ("data", "kind", "said"),
    [
        ((np.zeros((N + 1, 5, 4)), np.zeros(5, int)), ShapeError, f"rows for {N + 1} models; there are {N}"),
        ((np.zeros((N, 5, 3)), np.zeros(5, int)), ShapeError, r"X\[0\] has"),
        ((np.zeros((5, 4)), np.zeros((N - 1, 5), int)), ShapeError, "y has shape"),
        ((np.zeros((5, 4)), np.full((N, 5), 9)), DataError, r"y\[0\]\[0\] is 9"),
        ((np.zeros((5, 4)), None), NnfastError, "y"),
        ((np.zeros((0, 4)), np.zeros(0, int)), DataError, "X"),
    ],
)
def test_data_that_do_not_fit(backend, data, kind, said):
    with pytest.raises(kind, match=said):
        population_of(backend).fit(*data, verbose=0)


def test_parts_in_plain_python_and_searches_are_refused(backend):
    def search():
        return nn.Model([nn.Dense(4, 3)], nn.SoftmaxCrossEntropy(), nn.RandomSearch(), backend=backend)

    def plain():
        return nn.Model([nn.Dense(4, 3), Square()], nn.SoftmaxCrossEntropy(), nn.SGD(), backend=backend)

    with pytest.raises(OptionError, match="RandomSearch tries its candidates"):
        nn.Population(search, 2).fit(X, Y, verbose=0)
    for ask in (lambda p: p.fit(X, Y, verbose=0), lambda p: p.predict(X), lambda p: p.evaluate(X, Y)):
        with pytest.raises(OptionError, match="no layers, losses or metrics in plain Python"):
            ask(nn.Population(plain, 2))


def test_answers_that_cannot_be_given(backend):
    population = population_of(backend)
    population.fit(X, Y, verbose=0)
    with pytest.raises(UnknownNameError, match="unknown how"):
        population.predict(X, how="median")
    with pytest.raises(UnknownNameError, match="unknown name in the history 'val_loss'"):
        population.best("val_loss")
    with pytest.raises(UnknownNameError, match="unknown mode"):
        population.ranking("loss", "best")
    with pytest.raises(OptionError, match="models is 7; the population has 6"):
        population.ensemble(models=7)
    with pytest.raises(DTypeError, match="expected how many of the best"):
        population.ensemble(models="all")
    with pytest.raises(OptionError, match="models is empty"):
        population.subset([])
    for what in (3, "01", {0: 1}, np.array(0), dict, np.zeros((2, 2), int)):
        with pytest.raises(DTypeError, match="expected a list of numbers of models"):
            population.subset(what)
    with pytest.raises(OptionError, match="X holds rows of their own"):
        population.predict(np.stack([X] * 6), how="mean")
    with pytest.raises(DTypeError, match="named by its number"):
        population["best"]
    with pytest.raises(OptionError, match="make another one"):
        population.set("rng", [0] * N)
    with threads(1), pytest.raises(ShapeError, match="X has"):
        population.predict(X[:, :2])


@pytest.mark.parametrize("name", ["", 0, False, b"loss", ["loss"], np.array([1.0, 2.0])], ids=repr)
def test_a_name_that_is_none_is_not_taken_for_the_usual_one(backend, name):
    population = population_of(backend)
    population.fit(X, Y, verbose=0)
    for ask in (population.scores, population.ranking, population.best):
        with pytest.raises(UnknownNameError, match="unknown name in the history"):
            ask(name)
    with pytest.raises(UnknownNameError, match="unknown name in vary"):
        population.set(name, [0.1] * 6)


def test_a_set_has_no_order_to_vary_in(backend):
    with pytest.raises(DTypeError, match="expected a list of 6 values"):
        population_of(backend).set("learning_rate", {0.1, 0.2, 0.3, 0.4, 0.5, 0.6})
