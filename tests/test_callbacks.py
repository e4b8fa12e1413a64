"""Callbacks: when they are called, what they may do, and early stopping."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import X, Y, classifier, fit, regressor

import nnfast as nn
from nnfast.errors import CheckpointError, DTypeError, NonFiniteWarning, OptionError, UnknownNameError

# ---- callbacks ------------------------------------------------------------------------------------------------------


def test_callbacks_are_called_when_due_and_can_stop():
    calls = []

    class Watch(nn.Callback):
        every = 3

        def on_begin(self, model, epochs, names):
            calls.append(("begin", epochs, names))

        def on_epoch(self, model, epoch, logs):
            calls.append((epoch, sorted(logs)))

        def on_end(self, model, history):
            calls.append(("end", history.epochs))

    fit(classifier(), epochs=7, callbacks=[Watch()])
    names = ["accuracy", "data_loss", "loss"]
    assert calls == [("begin", 7, ("loss", "data_loss", "accuracy")), (3, names), (6, names), (7, names), ("end", 7)]
    assert len(fit(classifier(), epochs=50, callbacks=[lambda model, epoch, logs: epoch == 4])["loss"]) == 4


def test_early_stopping_restores_the_best():
    model = classifier(nn.SGD(3.0, decay=0))
    stop = nn.EarlyStopping(patience=5, restore_best=True)
    half = (X[::2], Y[::2])
    history = fit(model, *half, epochs=400, validation_data=(X[1::2], Y[1::2]), callbacks=[stop], batch_size=None)
    assert stop.stopped_epoch == len(history["val_loss"]) < 400
    assert stop.best == min(history["val_loss"]) < history["val_loss"][-1]
    assert stop.best_epoch == np.argmin(history["val_loss"]) + 1
    assert model.evaluate(X[1::2], Y[1::2])["loss"] == stop.best


@pytest.mark.parametrize(
    ("metric", "higher"),
    [("accuracy", True), (nn.metrics.top_k(2), True), ("r2", True), ("mean_absolute_error", False)],
)
def test_early_stopping_asks_the_metric_which_way_is_better(metric, higher):
    y = np.eye(3)[Y]
    model = nn.Model([nn.Dense(2, 3)], nn.MeanSquaredError(), nn.SGD(0.0), [metric], backend="numpy", rng=0)
    name = nn.metrics.resolve(metric).name
    for monitor in (name, f"val_{name}"):
        stop = nn.EarlyStopping(monitor, patience=1)
        stop.on_begin(model, 5, (name, f"val_{name}"))
        answers = [stop.on_epoch(model, e, {monitor: v}) for e, v in enumerate([0.5, 0.6 if higher else 0.4], 1)]
        assert answers == [None, None]
    assert len(fit(model, X, y, epochs=9, callbacks=[nn.EarlyStopping(name, patience=2)])["loss"]) == 3


def test_early_stopping_stops_on_nan():
    bad = X.copy()
    bad[0] = np.nan
    with pytest.warns(NonFiniteWarning):
        history = fit(classifier(), bad, epochs=50, callbacks=[nn.EarlyStopping("loss", patience=3)])
    assert len(history["loss"]) == 3


def test_one_failing_end_does_not_keep_others_from_theirs():
    class Bad(nn.Callback):
        def on_end(self, model, history):
            raise RuntimeError("end")

    model = classifier(nn.SGD(3.0, decay=0))
    stop = nn.EarlyStopping(patience=5, restore_best=True)
    with pytest.raises(RuntimeError, match="end"):
        fit(model, epochs=60, validation_data=(X, Y), callbacks=[Bad(), stop], batch_size=None)
    assert model.evaluate(X, Y)["loss"] == stop.best


def test_early_stopping_names_what_it_can_watch():
    model = classifier()
    before = model.parameters.copy()
    with pytest.raises(nn.errors.UnknownNameError, match=r"val_los.*did you mean 'val_loss'"):
        fit(model, callbacks=[nn.EarlyStopping("val_los")], validation_data=(X, Y))
    with pytest.raises(nn.errors.UnknownNameError, match="val_loss"):
        fit(model, callbacks=[nn.EarlyStopping("val_loss")])
    np.testing.assert_array_equal(model.parameters, before)


def test_gradient_hook_sees_and_may_change_the_flat_gradient():
    norms = []

    def halve(flat):
        norms.append(float(np.linalg.norm(flat)))
        flat *= 0.5

    halved = classifier(nn.SGD(0.2))
    plain = classifier(nn.SGD(0.1))
    fit(halved, epochs=1, batch_size=None, on_gradients=halve)
    fit(plain, epochs=1, batch_size=None)
    assert len(norms) == 1
    np.testing.assert_allclose(halved.parameters, plain.parameters, rtol=1e-6, atol=1e-7)


# ---- what callbacks may do ------------------------------------------------------------------------------------------


def test_freezing_and_another_optimizer_within_a_fit_take_effect():
    def freeze(model, epoch, logs):
        if epoch == 2:
            model.layers[0].trainable = False
            frozen.append(model.layers[0].weights.copy())

    frozen = []
    model = classifier()
    fit(model, callbacks=[freeze])
    np.testing.assert_array_equal(model.layers[0].weights, frozen[0])

    def switch(model, epoch, logs):
        if epoch == 3:
            model.optimizer = nn.Adagrad(0.1)

    switched, pieces = classifier(), classifier()
    fit(switched, callbacks=[switch])
    fit(pieces, epochs=3)
    pieces.optimizer = nn.Adagrad(0.1)
    fit(pieces, epochs=3)
    np.testing.assert_array_equal(switched.parameters, pieces.parameters)


def test_what_would_spoil_a_running_step_is_refused():
    model = classifier()
    with pytest.raises(nn.errors.StateError, match="middle of a step"):
        fit(model, on_gradients=lambda flat: model.loss_and_gradient(X, Y))
    with pytest.raises(nn.errors.StateError, match="fitted already"):
        fit(model, callbacks=[lambda model, epoch, logs: fit(model)])

    def search(model, epoch, logs):
        model.optimizer = nn.RandomSearch()

    with pytest.raises(nn.errors.StateError, match="within one fit"):
        fit(model, callbacks=[search])
    model.optimizer = nn.Adam(0.01)
    assert len(fit(model)["loss"]) == 6


def test_evaluating_within_a_callback_changes_nothing():
    plain, watched = classifier(), classifier()
    fit(plain)
    fit(watched, callbacks=[lambda model, epoch, logs: model.evaluate(X, Y)["loss"] and None])
    np.testing.assert_array_equal(watched.parameters, plain.parameters)


def test_only_true_stops():
    answers = {"number": lambda m, e, logs: logs["loss"], "array": lambda m, e, logs: np.ones(3)}
    for answer in answers.values():
        assert len(fit(classifier(), callbacks=[answer])["loss"]) == 6
    assert len(fit(classifier(), callbacks=[lambda m, e, logs: np.bool_(e == 2)])["loss"]) == 2


def test_an_error_in_a_callback_keeps_the_history_and_ends_the_others():
    ended = []

    class Watch(nn.Callback):
        def on_end(self, model, history):
            ended.append(history.epochs)

    def broken(model, epoch, logs):
        if epoch == 3:
            raise RuntimeError("callback")

    model = classifier()
    with pytest.raises(RuntimeError, match="callback"):
        fit(model, callbacks=[Watch(), broken])
    assert ended == [3]
    assert len(model.history.history["loss"]) == 3


def test_early_stopping_counts_measurements_and_survives_nan():
    stop = nn.EarlyStopping(patience=2, min_delta=1e9)
    history = fit(classifier(), epochs=60, validation_data=(X, Y), validation_every=5, callbacks=[stop])
    assert stop.watched == "val_loss"
    assert (stop.best_epoch, stop.stopped_epoch) == (5, 15)
    assert len(history["val_loss"]) == 3

    up = nn.EarlyStopping("accuracy", patience=3)
    up.on_begin(classifier(), 9, ("loss", "accuracy"))
    values = [float("nan"), 0.5, 0.6, 0.55, 0.6, float("nan")]
    answers = [up.on_epoch(None, e, {"accuracy": v}) for e, v in enumerate(values, 1)]
    assert answers == [None] * 5 + [True]
    assert (up.best, up.best_epoch) == (0.6, 3)
    down = nn.EarlyStopping("accuracy", patience=1, mode="min")
    down.on_begin(classifier(), 9, ("accuracy",))
    assert [down.on_epoch(None, e, {"accuracy": v}) for e, v in enumerate([0.5, 0.4, 0.6], 1)] == [None, None, True]


def test_every_callback_gets_its_turn():
    calls = []

    class Every(nn.Callback):
        def __init__(self, every):
            self.every = every

        def on_epoch(self, model, epoch, logs):
            calls.append((self.every, epoch))

    fit(classifier(), epochs=7, callbacks=[Every(2), Every(3)])
    assert calls == [(2, 2), (3, 3), (2, 4), (2, 6), (3, 6), (2, 7), (3, 7)]
    calls.clear()
    fit(classifier(), callbacks=[lambda model, epoch, logs: epoch == 2, Every(1)])
    assert calls == [(1, 1), (1, 2)]


def test_all_gradient_hooks_act_in_order():
    calls = []

    class Halve(nn.Callback):
        def on_gradients(self, flat):
            calls.append("callback")
            flat *= 0.5

    def halve(flat):
        calls.append("argument")
        flat *= 0.5

    quartered, plain = classifier(nn.SGD(0.4)), classifier(nn.SGD(0.1))
    fit(quartered, epochs=1, batch_size=None, on_gradients=halve, callbacks=[Halve()])
    fit(plain, epochs=1, batch_size=None)
    assert calls == ["argument", "callback"]
    np.testing.assert_allclose(quartered.parameters, plain.parameters, rtol=1e-6, atol=1e-7)


def _stopped(stop, name, values, model=None):
    """The epoch in which this EarlyStopping stops, or None."""
    stop.on_begin(model or classifier(), len(values), ("loss", name))
    return next((e for e, value in enumerate(values, 1) if stop.on_epoch(None, e, {name: value})), None)


def test_early_stopping_waits_anew_after_each_improvement():
    stop = nn.EarlyStopping("loss", patience=2)
    assert _stopped(stop, "loss", [1.0, 1.1, 0.9, 1.0, 1.1]) == 5
    assert _stopped(stop, "loss", [5.0, 4.0, 6.0]) is None  # and forgets the run before
    assert (stop.best, stop.best_epoch) == (4.0, 2)


@pytest.mark.parametrize("prefix", ["", "val_"])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("accuracy", classifier),
        ("r2", regressor),
        ("top_2", lambda: classifier(metrics=[nn.metrics.top_k(2)])),
    ],
)
def test_early_stopping_knows_what_should_rise(name, make, prefix):
    name = prefix + name
    assert _stopped(nn.EarlyStopping(name, patience=1), name, [0.1, 0.2, 0.3], make()) is None
    assert _stopped(nn.EarlyStopping(name, patience=1, min_delta=0.1), name, [0.5, 0.55], make()) == 2


def test_freezing_and_swapping_within_a_random_search_spare_the_frozen():
    def model():
        layers = [nn.Dense(2, 3), nn.ReLU(), nn.Dense(3, 3)]
        return nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.RandomSearch(0.3), backend="numpy", rng=0)

    def freeze(model, epoch, logs):
        if epoch == 5:
            model.layers[0].trainable = False
            model.layers[0].weights = np.full((2, 3), 0.5)

    def swap(model, epoch, logs):
        if epoch == 5:
            model.optimizer = nn.RandomSearch(0.3)

    frozen = model()
    fit(frozen, epochs=60, batch_size=None, callbacks=[freeze])
    assert (frozen.layers[0].weights == 0.5).all()

    swapped = model()
    swapped.layers[0].trainable = False
    before = swapped.layers[0].weights.copy()
    history = fit(swapped, epochs=60, batch_size=None, callbacks=[swap])
    np.testing.assert_array_equal(swapped.layers[0].weights, before)
    assert (np.diff(history["loss"]) <= 0).all()


def test_where_one_callback_refuses_those_that_had_begun_are_ended():
    told = []

    class Noted(nn.Callback):
        def on_begin(self, model, epochs, names):
            told.append("begin")

        def on_end(self, model, history):
            told.append("end")

    model = classifier()
    with pytest.raises(UnknownNameError):
        fit(model, callbacks=[Noted(), nn.EarlyStopping("speed"), Noted()])
    assert told == ["begin", "end"]
    fit(model, epochs=1)


# ---- what is refused, before anything changes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("callback", "error", "words"),
    [
        (lambda path: nn.EarlyStopping("nope"), UnknownNameError, "nope"),
        (
            lambda path: nn.ModelCheckpoint(path / "file" / "run.nnfast", every=1000),
            CheckpointError,
            "cannot be written",
        ),
        (lambda path: nn.ModelCheckpoint(path, every=1000), CheckpointError, "is a folder"),
        (lambda path: nn.ModelCheckpoint(path / "x.nnfast", 1000, True, monitor="nope"), UnknownNameError, "nope"),
        (lambda path: nn.LearningRateSchedule(lambda epoch: -1.0), OptionError, "-1"),
        (lambda path: lambda model, epoch: None, DTypeError, r"f\(model, epoch, logs\)"),
    ],
)
def test_a_callback_that_refuses_leaves_model_and_history_alone(tmp_path, callback, error, words):
    tmp_path.joinpath("file").write_bytes(b"")
    model = classifier()
    fit(model, epochs=3)
    history, parameters, steps = model.history, model.parameters.copy(), model.optimizer.steps
    with pytest.raises(error, match=words):
        fit(model, epochs=2, callbacks=[callback(tmp_path)])
    assert model.history is history
    assert model.history.epochs == 3
    np.testing.assert_array_equal(model.parameters, parameters)
    assert model.optimizer.steps == steps
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    population = nn.Population(classifier, 2, rng=0)
    if isinstance(callback(tmp_path), nn.ModelCheckpoint) and error is CheckpointError:
        with pytest.raises(error, match=words):
            population.fit(X, Y, epochs=1, verbose=0, callbacks=[callback(tmp_path)])
        assert population.history.epochs.sum() == 0


def test_a_checkpoint_makes_its_folder_and_functions_may_take_what_they_like(tmp_path):
    seen = []
    callbacks = [nn.ModelCheckpoint(tmp_path / "a" / "b" / "run.nnfast"), lambda *given: seen.append(given)]
    callbacks.append(lambda model, epoch=0, logs=None, more=1: None)
    fit(classifier(), epochs=2, callbacks=callbacks)
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["run.nnfast"]
    assert len(seen) == 2
