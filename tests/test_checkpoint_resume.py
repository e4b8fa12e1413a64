"""Trainings in files that nobody should trust: gone on with, or refused, and then all is as it was before."""

from __future__ import annotations

import numpy as np
import pytest
from forged_trainings import Forger, of_model, of_population, wrong
from population_models import SETTINGS, N, model, rows
from resuming import same
from small_models import X, Y, classifier
from small_models import fit as fit_once

import nnfast as nn
from nnfast.errors import CheckpointError, OptionError
from nnfast.population import fit as training
from nnfast.training.interrupts import Interrupts

BATCHES = [(X[i : i + 20], Y[i : i + 20]) for i in range(0, 120, 20)]
KINDS = {
    "arrays": ((X, Y), {"batch_size": 32, "validation_data": (X, Y), "validation_every": 2}),
    "accumulated": ((X, Y), {"batch_size": 20, "accumulate": 2}),
    "batches": ((BATCHES,), {"accumulate": 4}),
    "as many as named": ((BATCHES,), {"steps_per_epoch": 5}),
}


class Cut(nn.Callback):
    """Ends a training in the middle of its third epoch, as a power cut would."""

    every_steps = 1

    def __init__(self):
        self._steps = 0

    def on_step(self, model, step):
        self._steps += model.history.epochs == 2
        if self._steps == 2:
            raise InterruptedError


def rate(epoch, before):
    return 0.9 * before


def watchers(log):
    stopping = nn.EarlyStopping(patience=3, restore_best=True), nn.TerminateOnNaN()
    rates = nn.ReduceLROnPlateau(patience=1, min_delta=0.5), nn.LearningRateSchedule(rate)
    return [*stopping, *rates, nn.CSVLogger(log)]


@pytest.mark.filterwarnings("ignore")  # of numbers that are not finite
@pytest.mark.parametrize("kind", KINDS)
def test_a_forged_training_is_gone_on_with_or_refused_with_nothing_changed(kind, tmp_path):
    args, options = KINDS[kind]
    path, log = tmp_path / "run.nnfast", tmp_path / "log.csv"
    log.touch()

    def make(saved=tmp_path / "again.nnfast"):
        fit_once(trained := classifier(rng=3), epochs=1)
        if kind != "arrays":
            return trained, [nn.ModelCheckpoint(saved, 9)]
        return trained, [*watchers(log), nn.ModelCheckpoint(saved, 9, keep_best=True)]

    def fit(trained, callbacks):
        trained.fit(*args, epochs=4, verbose=0, resume=path, callbacks=callbacks, **options)

    trained, callbacks = make(path)
    with pytest.raises(InterruptedError):
        trained.fit(*args, epochs=4, verbose=0, callbacks=[*callbacks, Cut()], **options)
    read = Forger(path)
    assert len(read.said["run"]["weights"]) > 0
    failures, tried, refused = wrong(path, read, make, of_model, fit, beside=[log])
    assert not failures, "\n".join(failures)
    assert tried > refused > tried // 2 > 300


class Stopped(Interrupts):
    """Hears Ctrl-C after so many jobs."""

    def __init__(self, jobs):
        super().__init__()
        self._left = jobs

    def heed(self):
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("within_an_epoch", [False, True])
def test_a_forged_training_of_a_population(within_an_epoch, tmp_path, monkeypatch):
    path = tmp_path / "run.nnfast"
    some_x, some_y = rows(60)
    options = {"batch_size": 16, "verbose": 0, "validation_data": (some_x, some_y), "validation_every": 2}

    def make():
        population = nn.Population(lambda: model("numpy"), N, SETTINGS)
        population.fit(some_x, some_y, **options)
        return population, [nn.EarlyStopping(patience=1, min_delta=0.02, restore_best=True)]

    def fit(population, callbacks):
        population.fit(some_x, some_y, epochs=6, resume=path, callbacks=callbacks, **options)

    population, callbacks = make()
    saving, stopping = [*callbacks, nn.ModelCheckpoint(path, every=2)], Stopped(9 if within_an_epoch else 12)
    with monkeypatch.context() as patch:
        patch.setattr(training, "JOB_SECONDS", 1e-9)
        patch.setattr(training, "Interrupts", lambda: stopping)
        with pytest.raises(KeyboardInterrupt):
            population.fit(some_x, some_y, epochs=6, callbacks=saving, **options)
    read = Forger(path)
    assert (len(read.said["run"]["weights"]) > 0) == within_an_epoch
    assert len(read.said["run"]["models"]) > 0
    failures, tried, refused = wrong(path, read, make, of_population, fit)
    assert not failures, "\n".join(failures)
    assert tried > refused > tried // 2 > 200
    if not within_an_epoch:
        return
    read.write(read.said)
    failures, tried, refused = wrong(path, Forger(path, "population"), make, of_population, fit)
    assert not failures, "\n".join(failures)
    assert tried > refused > tried // 2 > 200


def test_a_population_goes_on_with_other_callbacks_and_data(tmp_path):
    some_x, some_y = rows(60)
    options = {"epochs": 3, "batch_size": 16, "verbose": 0}
    for first, second, said in (
        (False, True, r"patience\.weights is an array of float64 of shape \(2, 0\); expected an array of float32"),
        (True, False, None),
    ):
        path = tmp_path / f"{first}"
        one, two = (nn.Population(lambda: model("numpy"), 2, rng=0) for _ in range(2))
        one.fit(some_x, some_y, callbacks=[nn.EarlyStopping(restore_best=first), nn.ModelCheckpoint(path)], **options)
        before, kept = of_population(two), nn.EarlyStopping(restore_best=second)
        if said is not None:
            with pytest.raises(CheckpointError, match=said):
                two.fit(some_x, some_y, resume=path, callbacks=[kept], **options)
            assert of_population(two) == before
            continue
        history = two.fit(
            some_x, some_y, resume=path, callbacks=[kept], validation_data=(some_x, some_y), **options | {"epochs": 5}
        )
        assert np.isnan(history.history["val_loss"]).tolist() == [[True] * 3 + [False] * 2] * 2
        assert history[0].epochs_of("val_loss") == [4, 5]


# ---- what callbacks refuse ------------------------------------------------------------------------------------------


def interrupted(path, *callbacks, **changes):
    """A file from the middle of a training."""
    with pytest.raises(InterruptedError):
        fit_once(classifier(**changes), callbacks=[*callbacks, Cut(), nn.ModelCheckpoint(path)])
    return path.read_bytes()


class Own(nn.Callback):
    """Remembers a number, and may refuse it."""

    def __init__(self, refuses="nothing"):
        self.calls, self.refuses = [], refuses

    def on_begin(self, model, epochs, names):
        self.calls.append("begin")
        if self.refuses == "begin":
            raise nn.errors.OptionError("not now")

    def on_end(self, model, history):
        self.calls.append("end")

    def state(self):
        return {"number": 7}

    def check_state(self, model, state):
        self.calls.append("check")
        assert state.count("number") == 7
        if self.refuses == "check":
            raise KeyError("seven")

    def restore(self, state):
        self.calls.append("restore")
        assert type(state) is dict
        if self.refuses == "restore":
            raise ZeroDivisionError("by seven")


@pytest.mark.parametrize(
    ("refuses", "error", "said", "calls"),
    [
        ("check", CheckpointError, "Own cannot go on from what it remembers: 'seven'", ["check"]),
        ("begin", OptionError, "not now", ["check", "begin"]),
        ("restore", CheckpointError, "Own cannot go on from what it remembers: by seven", None),
    ],
)
def test_where_a_callback_refuses_all_is_as_before(refuses, error, said, calls, tmp_path):
    path = tmp_path / "run.nnfast"
    raw = interrupted(path, Own(), optimizer=nn.SGD(0.1, momentum=0.9))
    trained = classifier(nn.SGD(0.3), rng=4)
    fit_once(trained, epochs=1)
    trained.layers[0].trainable = False
    before, own = of_model(trained), Own(refuses)
    stopping = nn.EarlyStopping(restore_best=True)
    with pytest.raises(error, match=said) as caught:
        fit_once(
            trained, resume=path, callbacks=[nn.LearningRateSchedule(rate), stopping, own, nn.ModelCheckpoint(path)]
        )
    assert str(path) in str(caught.value) or error is OptionError
    assert of_model(trained) == before
    assert own.calls == (calls or ["check", "begin", "restore", "end"])
    assert path.read_bytes() == raw
    fit_once(trained, epochs=1)
    gone_on = classifier(nn.SGD(0.3), rng=4)
    fit_once(gone_on, resume=path, callbacks=[Own()])


def test_a_rate_that_a_callback_cannot_set_is_found_out_in_time(tmp_path):
    interrupted(tmp_path / "run", optimizer=nn.Adam(nn.schedules.StepDecay(0.1, 5, 0.5)))
    trained = classifier()
    before = of_model(trained)
    with pytest.raises(OptionError, match="is the schedule"):
        fit_once(trained, resume=tmp_path / "run", callbacks=[nn.ReduceLROnPlateau()])
    assert of_model(trained) == before


def test_an_error_within_a_job_leaves_the_last_whole_file(tmp_path):
    """What the steps of that job have measured is lost, so a file from there would go on with another history."""
    path, whole, broken, resumed = tmp_path / "run", classifier(), classifier(), classifier()
    fit_once(whole)
    steps = []

    def hook(gradients):
        steps.append(1)
        if len(steps) == 11:
            raise ZeroDivisionError

    class Saving(nn.Callback):
        def on_end(self, model, history):
            model.save(tmp_path / "at the end")

    with pytest.raises(ZeroDivisionError):
        fit_once(broken, on_gradients=hook, callbacks=[Saving(), nn.ModelCheckpoint(path, every=2)])
    fit_once(resumed, resume=path)
    same(whole, resumed)
    assert broken.optimizer.steps == 10
    assert nn.load(tmp_path / "at the end").optimizer.steps == 10
    with pytest.raises(CheckpointError, match="no training to go on with"):
        fit_once(classifier(), resume=tmp_path / "at the end")
