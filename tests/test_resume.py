"""A training that was interrupted and goes on: the same bits as if nothing had happened."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from resuming import OPTIMIZERS, interrupted, same, trained_in_spite_of
from small_models import TARGETS, X, Y, classifier, fit, regressor

import nnfast as nn
from nnfast.errors import CheckpointError, DTypeError

KINDS = {
    "shuffled batches": ((X, Y), {"batch_size": 32}),
    "whole set": ((X, Y), {}),
    "accumulated": ((X, Y), {"batch_size": 16, "accumulate": 3}),
    "validated": ((X, Y), {"batch_size": 50, "validation_split": 0.2, "validation_every": 2}),
    "weighted": ((X, Y), {"batch_size": 32, "class_weight": "balanced", "sample_weight": np.linspace(1, 2, len(X))}),
    "list of batches": (([(X[i : i + 32], Y[i : i + 32]) for i in range(0, 120, 32)],), {}),
    "accumulated list": (([(X[i : i + 20], Y[i : i + 20]) for i in range(0, 120, 20)],), {"accumulate": 4}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1, 2, 3, 5, 6])
def test_going_on_gives_the_bits_of_an_uninterrupted_training(backend, tmp_path, kind, step):
    args, options = KINDS[kind]
    options = {"epochs": 6, "verbose": 0, **options}
    whole, broken, resumed = (classifier(backend=backend) for _ in range(3))
    whole.fit(*args, **options)
    path = tmp_path / "run.nnfast"
    interrupted(broken, path, step, *args, **{k: v for k, v in options.items() if k != "verbose"})
    resumed.fit(*args, resume=path, **options)
    same(whole, resumed)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_on(backend, tmp_path, name):
    whole, broken, resumed = (classifier(OPTIMIZERS[name](), backend=backend) for _ in range(3))
    fit(whole)
    interrupted(broken, tmp_path / "run", 13, X, Y, epochs=6, batch_size=32)
    fit(resumed, resume=tmp_path / "run")
    same(whole, resumed)


def test_a_model_from_the_file_goes_on_too(backend, tmp_path):
    whole = classifier(backend=backend)
    fit(whole)
    interrupted(classifier(backend=backend), tmp_path / "run", 13, X, Y, epochs=6, batch_size=32)
    loaded = nn.load(tmp_path / "run", backend=backend)
    fit(loaded, resume=tmp_path / "run")
    same(whole, loaded)


@pytest.mark.parametrize("mode", ["perturb", "sample"])
def test_a_random_search_goes_on(backend, tmp_path, mode):
    whole, broken, resumed = (classifier(nn.RandomSearch(mode=mode), backend=backend) for _ in range(3))
    fit(whole, epochs=40, batch_size=None)
    interrupted(broken, tmp_path / "run", 17, X, Y, epochs=40)
    fit(resumed, epochs=40, batch_size=None, resume=tmp_path / "run")
    same(whole, resumed)


def watchers():
    return [
        nn.EarlyStopping(patience=3, min_delta=0.02, restore_best=True),
        nn.ReduceLROnPlateau(patience=1, min_delta=0.05, factor=0.5),
    ]


@pytest.mark.parametrize("epoch", range(1, 12))
def test_callbacks_remember(tmp_path, epoch):
    """Whatever epoch is the last before the cut, the one in which early stopping ends the training included."""
    path = tmp_path / "run"
    options = {"epochs": 30, "validation_split": 0.3}
    whole = classifier(nn.Adam(0.1))
    expected = watchers()
    fit(whole, callbacks=expected, **options)
    stopped = expected[0].stopped_epoch
    assert stopped is not None
    assert stopped < 12

    class Cut(nn.ModelCheckpoint):
        def on_epoch(self, model, done, logs):
            super().on_epoch(model, done, logs)
            if done == min(epoch, stopped):
                raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(classifier(nn.Adam(0.1)), callbacks=[*watchers(), Cut(path)], **options)
    resumed, got = classifier(nn.Adam(0.1)), watchers()
    fit(resumed, callbacks=got, resume=path, **options)
    same(whole, resumed)
    assert got[0].stopped_epoch == stopped
    assert got[0].best_epoch == expected[0].best_epoch
    assert resumed.optimizer.learning_rate == whole.optimizer.learning_rate


def test_a_finished_training_returns_at_once(tmp_path):
    path, model = tmp_path / "run", classifier()
    expected = fit(model, callbacks=[nn.ModelCheckpoint(path)])
    again, calls = classifier(), []
    assert fit(again, resume=path, callbacks=[lambda *_: calls.append(1)]) == expected
    assert calls == []
    same(model, again)
    fit(again, resume=path, epochs=9)
    assert again.history.epochs == 9


def test_without_a_file_training_begins_and_says_so(tmp_path, capsys):
    one, two = classifier(), classifier()
    path = tmp_path / "not yet"
    assert fit(one, resume=path, callbacks=[nn.ModelCheckpoint(path)]) == fit(two)
    assert f"no checkpoint at {path} yet" in capsys.readouterr().err
    assert fit(one, resume=path) == two.history.history


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 31}, "batch_size = 32; here it is 31"),
        ({"X": X[:90], "y": Y[:90]}, "rows = 120; here it is 90"),
        ({"shuffle": False}, "shuffle = True; here it is False"),
        ({"accumulate": 2}, "accumulate"),
        ({"X": [(X, Y)], "y": None, "batch_size": None}, "steps_per_epoch|accumulate|kind"),
    ],
)
def test_a_training_of_another_kind_is_refused_before_anything_changes(tmp_path, options, words):
    path = tmp_path / "run"
    interrupted(classifier(), path, 5, X, Y, epochs=6, batch_size=32)
    model = classifier(rng=9)
    before = model.parameters.copy()
    with pytest.raises(CheckpointError, match=words):
        fit(model, resume=path, **options)
    np.testing.assert_array_equal(model.parameters, before)
    assert model.optimizer.steps == 0


def test_another_model_is_refused_before_anything_changes(tmp_path):
    path = tmp_path / "run"
    interrupted(regressor(), path, 5, X, TARGETS, epochs=6, batch_size=32)
    model = classifier()
    before = model.parameters.copy()
    with pytest.raises(CheckpointError):
        fit(model, resume=path)
    np.testing.assert_array_equal(model.parameters, before)


def test_a_file_without_a_training_is_refused(tmp_path):
    model = classifier()
    model.save(tmp_path / "model")
    with pytest.raises(CheckpointError, match="no training to go on with"):
        fit(model, resume=tmp_path / "model")


def test_a_function_may_save_too(backend, tmp_path):
    path = tmp_path / "run"

    def save(model, epoch, logs):
        model.save(path)
        if epoch == 3:
            raise InterruptedError

    whole, broken, resumed = (classifier(backend=backend) for _ in range(3))
    fit(whole)
    with pytest.raises(InterruptedError):
        fit(broken, callbacks=[save])
    fit(resumed, resume=path)
    same(whole, resumed)


# ---- what ModelCheckpoint writes, and when --------------------------------------------------------------------------


def test_a_missing_folder_is_made(tmp_path):
    path = tmp_path / "runs" / "today" / "run.nnfast"
    fit(classifier(), epochs=1, callbacks=[nn.ModelCheckpoint(path, keep_best=True)])
    assert sorted(p.name for p in path.parent.iterdir()) == ["run.best.nnfast", "run.nnfast"]


def test_checkpoints_are_written_when_due_and_at_the_end(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(nn.Model, "save", lambda self, path: written.append((self.optimizer.steps, Path(path).name)))
    fit(classifier(), epochs=5, batch_size=None, callbacks=[nn.ModelCheckpoint(tmp_path / "a", every=2)])
    assert written == [(2, "a"), (4, "a"), (5, "a")]
    written.clear()
    fit(classifier(), epochs=2, batch_size=32, callbacks=[nn.ModelCheckpoint(tmp_path / "a", every=9, every_steps=3)])
    assert written == [(3, "a"), (6, "a"), (8, "a")]


def test_an_interrupted_training_is_written_down(tmp_path):
    path = tmp_path / "deep" / "run"

    def press(model, epoch, logs):
        if epoch == 3:
            raise KeyboardInterrupt

    whole, resumed = classifier(), classifier()
    fit(whole)
    with pytest.raises(KeyboardInterrupt):
        fit(classifier(), callbacks=[press, nn.ModelCheckpoint(path, every=100)])
    fit(resumed, resume=path)
    same(whole, resumed)


def test_the_best_is_kept_beside(tmp_path):
    path, model, losses = tmp_path / "run.nnfast", classifier(nn.Adam(0.3)), []
    saver = nn.ModelCheckpoint(path, keep_best=True, mode="max")  # the worst, which is not the last
    assert saver.best_path == tmp_path / "run.best.nnfast"
    kept = {}

    def note(model, epoch, logs):
        kept[epoch] = model.get_weights()
        losses.append(logs["val_loss"])

    fit(model, epochs=8, validation_data=(X, Y), callbacks=[note, saver])
    best = int(np.argmax(losses)) + 1
    assert best != 8
    for got, expected in zip(nn.load(saver.best_path).get_weights(), kept[best], strict=True):
        np.testing.assert_array_equal(got, expected)
    for got, expected in zip(nn.load(path).get_weights(), kept[8], strict=True):
        np.testing.assert_array_equal(got, expected)


def test_the_best_before_an_interruption_counts(tmp_path):
    path = tmp_path / "run.nnfast"
    fit(classifier(), epochs=3, callbacks=[nn.ModelCheckpoint(path, keep_best=True)])
    first = nn.ModelCheckpoint(path, keep_best=True)
    fit(classifier(), epochs=3, resume=path, callbacks=[first])
    assert first.best_epoch > 0
    assert np.isfinite(first.best)


def test_bad_settings():
    with pytest.raises(DTypeError, match="path is 3"):
        nn.ModelCheckpoint(3)
    for options in ({"every": 0}, {"every_steps": 0}, {"mode": "up"}, {"keep_best": 1}):
        with pytest.raises((ValueError, TypeError)):
            nn.ModelCheckpoint("run", **options)


# ---- kill -9 --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_again_and_again_it_ends_with_the_same_bits(backend, tmp_path):
    kills = 4
    killed, model, whole = trained_in_spite_of(kills, tmp_path / "run.nnfast", backend.name)
    assert killed > kills // 2
    same(whole, model)
