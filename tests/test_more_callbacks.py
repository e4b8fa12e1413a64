"""Callbacks beyond the base: rates from epoch to epoch, logs in files, stopping on NaN, the progress bar."""

from __future__ import annotations

import copy
import csv
import io
import math
import sys
import types

import numpy as np
import pytest
from small_models import TARGETS, X, Y, classifier, fit, regressor

import nnfast as nn
from nnfast.callbacks import (
    CSVLogger,
    EarlyStopping,
    LearningRateSchedule,
    ProgressBar,
    ReduceLROnPlateau,
    TensorBoard,
    TerminateOnNaN,
)
from nnfast.callbacks.checkpoint import ModelCheckpoint
from nnfast.errors import DTypeError, NonFiniteWarning, OptionError, UnknownNameError
from nnfast.history import History


class Rates(nn.Callback):
    """Notes the rate that each epoch had."""

    def on_begin(self, model, epochs, names):
        self.seen = [model.optimizer.learning_rate]

    def on_epoch(self, model, epoch, logs):
        self.seen.append(model.optimizer.learning_rate)


def rates_of(callback, epochs=6, **options):
    watch = Rates()
    model = classifier(nn.SGD(0.1))
    fit(model, epochs=epochs, callbacks=[callback, watch], **options)
    return watch.seen[:epochs]


def went_on(make, epochs, first, measured, model=None, killed=False):
    """A callback after `epochs` epochs of which the first `first` were in another process, and its model.

    The first training was planned to end there, or with `killed` to go on.
    """
    model = model or classifier(nn.SGD(0.1))
    names = tuple(measured[0])
    model.history = History(names)

    def play(callback, start, end):
        for epoch in range(start, end + 1):
            model.history.extend({name: np.array([value]) for name, value in measured[epoch - 1].items()})
            if epoch % callback.every == 0 or epoch in (first * (not killed), epochs):
                callback.on_epoch(model, epoch, dict(measured[epoch - 1]))

    before = make()
    before.on_begin(model, epochs if killed else first, names)
    play(before, 1, first)
    state = copy.deepcopy(before.state())
    before.on_end(model, History() if killed else model.history)
    after = make()
    after.on_begin(model, epochs, names)
    after.restore(state)
    play(after, first + 1, epochs)
    return after, model


# ---- every one of them ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda every: EarlyStopping(every=every),
        lambda every: LearningRateSchedule(lambda epoch: 0.1, every=every),
        lambda every: ReduceLROnPlateau(every=every),
        lambda every: CSVLogger("x.csv", every=every),
        lambda every: TerminateOnNaN(every=every),
        lambda every: ProgressBar(every=every),
        lambda every: TensorBoard("runs", every=every),
    ],
)
def test_each_says_how_often_it_is_called(make):
    assert make(7).every == 7
    for bad in (0, 1.5, "2"):
        with pytest.raises(OptionError, match="every"):
            make(bad)


# ---- LearningRateSchedule -------------------------------------------------------------------------------------------


def test_rates_follow_a_function_of_the_epoch(backend):
    assert rates_of(LearningRateSchedule(lambda epoch: 1 / (1 + epoch))) == [1 / (1 + e) for e in range(6)]
    assert rates_of(LearningRateSchedule(lambda epoch, rate: rate / 2)) == [0.1 / 2 ** (e + 1) for e in range(6)]
    schedule = nn.schedules.CosineDecay(0.2, 6, warmup=2)
    assert rates_of(LearningRateSchedule(schedule)) == schedule.rates(0, 6).tolist()
    stairs = rates_of(LearningRateSchedule(lambda epoch: 1 / (1 + epoch), every=4), epochs=10)
    assert stairs == [1.0] * 4 + [1 / 5] * 4 + [1 / 9] * 2


def test_a_rate_of_an_epoch_is_used_in_it(backend):
    ruled, by_hand = (classifier(nn.SGD(0.1), backend=backend) for _ in range(2))
    fit(ruled, epochs=4, callbacks=[LearningRateSchedule(lambda epoch: 0.1 / (1 + epoch))])
    for epoch in range(4):
        by_hand.optimizer.learning_rate = 0.1 / (1 + epoch)
        fit(by_hand, epochs=1)
    np.testing.assert_array_equal(ruled.parameters, by_hand.parameters)
    assert ruled.optimizer.learning_rate == 0.1 / 4


@pytest.mark.parametrize("first", [1, 3, 4])
@pytest.mark.parametrize("every", [1, 2])
def test_rates_go_on_after_an_interruption(first, every):
    def make():
        return LearningRateSchedule(lambda epoch, rate: rate * 0.5, every=every)

    _, model = went_on(make, 8, first, [{"loss": 1.0}] * 8)
    whole = classifier(nn.SGD(0.1))
    fit(whole, epochs=8, callbacks=[make()])
    assert model.optimizer.learning_rate == whole.optimizer.learning_rate


def test_rules_of_other_arguments_are_refused():
    for bad in (0.1, None, nn.schedules.CosineDecay, lambda: 0.1, lambda a, b, c: 0.1, lambda *, epoch: 0.1):
        with pytest.raises(OptionError, match="schedule is"):
            LearningRateSchedule(bad)
    taken = LearningRateSchedule(lambda epoch, scale=3.0: scale * epoch)  # a default is not asked for the rate
    assert rates_of(taken, epochs=3) == [0, 3, 6]


@pytest.mark.parametrize("bad", [-1.0, math.nan, "fast", None])
def test_a_bad_rate_of_an_epoch_is_named(bad):
    model = classifier(nn.SGD(0.1))
    with pytest.raises(OptionError, match="after 2 epochs"):
        fit(model, callbacks=[LearningRateSchedule(lambda epoch: bad if epoch == 2 else 0.1)])
    assert len(model.history.history["loss"]) == 2


@pytest.mark.parametrize("make", [lambda: LearningRateSchedule(lambda epoch: 0.1), ReduceLROnPlateau])
def test_two_who_set_the_rate_are_refused(make):
    model = classifier(nn.SGD(nn.schedules.CosineDecay(0.1, 9)))
    before = model.parameters.copy()
    with pytest.raises(OptionError, match=r"CosineDecay.*give the optimizer a number"):
        fit(model, callbacks=[make()])
    np.testing.assert_array_equal(model.parameters, before)
    search = classifier(nn.RandomSearch())
    with pytest.raises(OptionError, match="has none"):
        fit(search, batch_size=None, callbacks=[make()])


# ---- ReduceLROnPlateau ----------------------------------------------------------------------------------------------


def reduced(values, name="loss", model=None, rate=0.1, **options):
    """The epochs in which the rate was reduced, and what it was in the end."""
    model = model or classifier(nn.SGD(rate))
    callback = ReduceLROnPlateau(**({"monitor": name} | options))
    callback.on_begin(model, len(values), ("loss", name))
    for epoch, value in enumerate(values, 1):
        assert callback.on_epoch(model, epoch, {} if value is None else {name: value}) is None
    assert [r for _, r in callback.reductions][-1:] in ([], [model.optimizer.learning_rate])
    return [epoch for epoch, _ in callback.reductions], model.optimizer.learning_rate


def test_the_rate_falls_when_nothing_gets_better():
    assert reduced([5, 4, 3, 2, 1], patience=1) == ([], 0.1)
    assert reduced([1, 1, 1, 1, 1, 1], patience=2, factor=0.5) == ([3, 5], 0.025)
    assert reduced([1, 2, 0.5, 2, 2, 0.4], patience=2, factor=0.5) == ([5], 0.05)
    assert reduced([1, 0.95, 0.9, 0.85, 0.8], patience=2, factor=0.5, min_delta=0.2) == ([3, 5], 0.025)
    assert reduced([1, math.nan, math.nan], patience=2, factor=0.5) == ([3], 0.05)
    assert reduced([1, None, None, 1, None, 1], patience=2, factor=0.5) == ([6], 0.05)


def test_after_a_reduction_it_rests():
    assert reduced([1] * 9, patience=2, factor=0.5, cooldown=3)[0] == [3, 8]
    assert reduced([1] * 9, patience=1, factor=0.5, cooldown=0)[0] == [2, 3, 4, 5, 6, 7, 8, 9]


def test_the_rate_stops_at_its_floor():
    assert reduced([1] * 9, patience=1, factor=0.5, min_rate=0.03) == ([2, 3], 0.03)
    assert reduced([1] * 9, patience=1, factor=0.5, min_rate=0.2) == ([], 0.1)


def test_it_asks_the_metric_which_way_is_better():
    assert reduced([0.1, 0.2, 0.3], "accuracy", patience=1)[0] == []
    assert reduced([0.1, 0.2, 0.3], "accuracy", patience=1, mode="min", factor=0.5)[0] == [2, 3]
    assert reduced([0.3, 0.2, 0.1], "val_r2", regressor(optimizer=nn.SGD(0.1)), patience=1)[0] == [2, 3]
    with pytest.raises(UnknownNameError, match=r"monitor of ReduceLROnPlateau 'acuracy'; did you mean 'accuracy'"):
        fit(classifier(), callbacks=[ReduceLROnPlateau("acuracy")])
    with pytest.raises(UnknownNameError, match="mode"):
        ReduceLROnPlateau(mode="up")


def test_a_plateau_within_a_fit(backend):
    model = classifier(nn.SGD(0.5), backend=backend)
    callback = ReduceLROnPlateau(patience=2, factor=0.5, min_delta=1e9)
    fit(model, epochs=7, validation_data=(X, Y), callbacks=[callback])
    assert callback.watched == "val_loss"
    assert callback.reductions == [(3, 0.25), (5, 0.125), (7, 0.0625)]
    assert model.optimizer.learning_rate == 0.0625


@pytest.mark.parametrize("first", range(1, 9))
@pytest.mark.parametrize("values", [[1, 0.9, 0.9, 0.9, 0.95, 0.2, 0.3, 0.3, 0.3], [1] * 9])
def test_a_plateau_outlasts_an_interruption(values, first):
    def make():
        return ReduceLROnPlateau(patience=2, factor=0.5, cooldown=3)

    callback, model = went_on(make, 9, first, [{"loss": v} for v in values])
    epochs, rate = reduced(values, patience=2, factor=0.5, cooldown=3)
    assert epochs[0] in (3, 4)
    assert ([e for e, _ in callback.reductions], model.optimizer.learning_rate) == (epochs, rate)
    assert (callback.best, callback.best_epoch) == (min(values), values.index(min(values)) + 1)


@pytest.mark.parametrize("first", range(1, 7))
def test_early_stopping_outlasts_an_interruption(first):
    values = [3, 2, 2.5, 1, 1.5, 1.2, 1.1]
    model, weights = classifier(), []
    sizes = [w.shape for w in model.get_weights()]

    class Marking(EarlyStopping):
        def on_epoch(self, model, epoch, logs):
            model.set_weights([np.full(s, float(epoch)) for s in sizes])
            return super().on_epoch(model, epoch, logs)

    callback, model = went_on(
        lambda: Marking(patience=3, restore_best=True), 7, first, [{"loss": v} for v in values], model
    )
    assert (callback.best, callback.best_epoch, callback.stopped_epoch) == (1, 4, 7)
    callback.on_end(model, model.history)
    weights = model.get_weights()
    assert all((w == 4.0).all() for w in weights)


# ---- TerminateOnNaN -------------------------------------------------------------------------------------------------


def test_it_stops_when_a_loss_is_not_finite(backend):
    model = classifier(nn.SGD(1e20), backend=backend)
    callback = TerminateOnNaN()
    with pytest.warns(NonFiniteWarning):
        history = fit(model, epochs=50, callbacks=[callback])
    assert callback.stopped_epoch == len(history["loss"]) < 50
    assert not math.isfinite(history["loss"][-1])
    assert all(map(math.isfinite, history["loss"][:-1]))
    assert callback.reason == f"loss is {history['loss'][-1]}"


def test_a_bad_validation_stops_too_and_a_bad_metric_does_not():
    bad = X.copy()
    bad[0] = np.nan
    callback = TerminateOnNaN()
    history = fit(classifier(), epochs=9, validation_data=(bad, Y), validation_every=2, callbacks=[callback])
    assert len(history["loss"]) == callback.stopped_epoch == 2
    assert callback.reason == "val_loss is nan"
    for logs in ({"accuracy": math.nan, "loss": 1.0}, {"val_r2": -math.inf}):
        assert callback.on_epoch(None, 3, logs) is None
    for name in ("loss", "data_loss", "val_loss", "val_data_loss"):
        assert callback.on_epoch(None, 3, {name: math.inf}) is True


def test_it_sees_only_the_epochs_that_it_looks_at():
    with pytest.warns(NonFiniteWarning):
        history = fit(classifier(nn.SGD(1e20)), epochs=50, callbacks=[TerminateOnNaN(every=20)])
    assert len(history["loss"]) == 20


# ---- CSVLogger ------------------------------------------------------------------------------------------------------


def read(path, separator=","):
    with open(path, encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file, delimiter=separator)
    return head, rows


def as_numbers(rows):
    return [[math.nan if cell == "" else float(cell) for cell in row] for row in rows]


@pytest.mark.parametrize("every", [1, 3, 100])
def test_a_row_per_epoch_whatever_every_is(every, tmp_path, backend):
    path = tmp_path / "log.csv"
    callback = CSVLogger(path, every=every)
    history = fit(
        classifier(backend=backend), epochs=7, validation_data=(X, Y), validation_every=3, callbacks=[callback]
    )
    head, rows = read(path)
    assert head == ["epoch", *history]
    assert [int(row[0]) for row in rows] == list(range(1, 8))
    for i, name in enumerate(head[1:], 1):
        cells = [row[i] for row in rows]
        wanted = history[name]
        if name.startswith("val_"):
            assert [e for e, cell in enumerate(cells, 1) if cell] == [3, 6, 7]
            cells = [cell for cell in cells if cell]
        assert [float(cell) for cell in cells] == wanted  # all digits are there


def test_rows_are_there_while_it_trains(tmp_path):
    path, lengths = tmp_path / "log.csv", []

    def look(model, epoch, logs):
        lengths.append(len(read(path)[1]))

    fit(classifier(), epochs=4, callbacks=[CSVLogger(path), look])
    assert lengths == [1, 2, 3, 4]


def test_rows_of_a_fit_that_fails_or_stops_are_all_there(tmp_path):
    path = tmp_path / "log.csv"

    def broken(model, epoch, logs):
        if epoch == 5:
            raise RuntimeError("callback")

    with pytest.raises(RuntimeError, match="callback"):
        fit(classifier(), callbacks=[CSVLogger(path, every=4), broken])
    assert [row[0] for row in read(path)[1]] == ["1", "2", "3", "4", "5"]
    fit(classifier(), callbacks=[CSVLogger(path, every=4), lambda model, epoch, logs: epoch == 3])
    assert [row[0] for row in read(path)[1]] == ["1", "2", "3"]


def test_a_new_training_overwrites_or_appends(tmp_path):
    path = tmp_path / "log.csv"
    for append, rows in [(False, "123"), (False, "123"), (True, "123123"), (True, "123123123")]:
        fit(classifier(), epochs=3, callbacks=[CSVLogger(path, append=append)])
        assert "".join(row[0] for row in read(path)[1]) == rows
    path.write_bytes(path.read_bytes() + b"4,0.1")  # cut off while it was written
    fit(classifier(), epochs=1, callbacks=[CSVLogger(path, append=True)])
    assert "".join(row[0] for row in read(path)[1]) == "1231231231"
    empty = tmp_path / "empty.csv"
    empty.touch()
    fit(classifier(), epochs=1, callbacks=[CSVLogger(empty, append=True)])
    assert read(empty)[0] == ["epoch", "loss", "data_loss", "accuracy"]


def test_the_separator_and_the_names(tmp_path):
    path = tmp_path / "log.tsv"
    for separator in ("\t", ";", " "):
        odd = nn.metrics.regression_accuracy(0.1, "within; 0,1 \t“σ”")
        model = regressor(metrics=[odd])
        history = fit(model, X, TARGETS, epochs=2, callbacks=[CSVLogger(str(path), separator)])
        head, rows = read(path, separator)
        assert head == ["epoch", "loss", odd.name]
        assert as_numbers(rows) == [[e + 1, history["loss"][e], history[odd.name][e]] for e in range(2)]
    for bad in ("", "ab", "1", ".", "e", "\n", '"', "-", None):
        with pytest.raises(OptionError, match="separator"):
            CSVLogger(path, bad)


def test_values_that_are_not_finite_are_written(tmp_path):
    path = tmp_path / "log.csv"
    with pytest.warns(NonFiniteWarning):
        history = fit(classifier(nn.SGD(1e20)), epochs=3, callbacks=[CSVLogger(path)])
    np.testing.assert_array_equal([float(row[1]) for row in read(path)[1]], history["loss"])
    assert not math.isfinite(history["loss"][-1])


def test_bad_files_are_refused_before_the_training(tmp_path):
    model = classifier()
    before = model.parameters.copy()
    for path, words in [(tmp_path / "no" / "log.csv", "does not exist"), (tmp_path, "is a folder")]:
        with pytest.raises(OptionError, match=words):
            fit(model, callbacks=[CSVLogger(path)])
    other = tmp_path / "other.csv"
    other.write_text("name,value\n")
    with pytest.raises(OptionError, match=r"columns 'name,value', this training 'epoch,loss,data_loss,accuracy'"):
        fit(model, callbacks=[CSVLogger(other, append=True)])
    assert other.read_text() == "name,value\n"
    with pytest.raises(DTypeError, match=r"path is 3\.5"):
        CSVLogger(3.5)
    np.testing.assert_array_equal(model.parameters, before)


MEASURED = [{"loss": 1 / e, "accuracy": e / 9} for e in range(1, 10)]


@pytest.mark.parametrize("append", [True, False])
@pytest.mark.parametrize("every", [1, 2, 5])
@pytest.mark.parametrize("first", [1, 4, 8])
@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("damage", ["none", "later rows", "torn row", "lost rows", "gone"])
def test_no_epoch_twice_and_none_missing_after_a_resume(append, every, first, damage, killed, tmp_path):
    """What the interrupted run wrote after the checkpoint goes; what the file lost comes again from the history."""
    path = tmp_path / "log.csv"
    if append:
        path.write_text("epoch,loss,accuracy\n1,7.0,7.0\n2,8.0,8.0\n")
    older = path.read_bytes() if append else b""

    class Interrupted(CSVLogger):
        def restore(self, state):
            text = path.read_bytes() if path.exists() else b"epoch,loss,accuracy\n"
            after = state["epoch"] + 1
            if damage == "later rows":
                path.write_bytes(text + b"".join(b"%d,9.0,9.0\n" % e for e in range(after, after + 3)))
            if damage == "torn row":
                path.write_bytes(text + b"%d,9." % after)
            if damage == "lost rows" and state["epoch"]:
                path.write_bytes(text[: text.rstrip().rfind(b"\n") + 3])
            if damage == "gone":
                path.unlink(missing_ok=True)
            super().restore(state)

    callback, model = went_on(lambda: Interrupted(path, append=append, every=every), 9, first, MEASURED, killed=killed)
    callback.on_end(model, model.history)
    head, rows = read(path)
    assert head == ["epoch", "loss", "accuracy"]
    if damage != "gone":
        assert path.read_bytes().startswith(older)
        rows = rows[2 if append else 0 :]
    assert as_numbers(rows) == [[e, *MEASURED[e - 1].values()] for e in range(1, 10)]


def test_rows_that_are_there_stay_as_they_are(tmp_path):
    path = tmp_path / "log.csv"

    class Annotated(CSVLogger):
        def restore(self, state):
            path.write_text(path.read_text().replace("2,0.5,", "2,0.50,"))
            super().restore(state)

    callback, model = went_on(lambda: Annotated(path), 9, 3, MEASURED)
    callback.on_end(model, model.history)
    assert "\n2,0.50,0.2" in path.read_text()
    assert as_numbers(read(path)[1]) == [[e, *MEASURED[e - 1].values()] for e in range(1, 10)]


def test_a_resumed_training_refuses_a_file_of_another(tmp_path):
    path = tmp_path / "log.csv"

    class Exchanged(CSVLogger):
        def restore(self, state):
            path.write_text("name,value\n")
            super().restore(state)

    with pytest.raises(OptionError, match="columns 'name,value'"):
        went_on(lambda: Exchanged(path), 9, 3, MEASURED)
    assert path.read_text() == "name,value\n"

    class Edited(CSVLogger):
        def restore(self, state):
            path.write_text(edited)
            super().restore(state)

    path.write_text("epoch,loss,accuracy\n1,2.0,3.0\n")
    edited = "epoch,loss,accuracy\n1,2.0000,3.0000\n1,1.0,0.1\n"
    with pytest.raises(OptionError, match="was changed"):
        went_on(lambda: Edited(path, append=True), 9, 3, MEASURED)
    assert path.read_text() == edited


# ---- TensorBoard ----------------------------------------------------------------------------------------------------


@pytest.fixture
def writers(monkeypatch):
    """A stand-in for tensorboardX that keeps what it is given."""
    made = []

    class SummaryWriter:
        def __init__(self, logdir, purge_step=None, filename_suffix=""):
            self.logdir, self.purge_step, self.suffix = logdir, purge_step, filename_suffix
            self.scalars, self.flushed, self.closed = [], 0, False
            made.append(self)

        def add_scalar(self, tag, value, step):
            self.scalars.append((tag, value, step))

        def flush(self):
            self.flushed = len(self.scalars)

        def close(self):
            self.closed = True

    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    return made


def test_tensorboard_gets_all_that_is_measured_and_the_rate(writers, tmp_path, backend):
    model = classifier(nn.SGD(0.1, decay=0.01), backend=backend)
    validation = {"validation_data": (X, Y), "validation_every": 3}
    history = fit(model, epochs=5, callbacks=[TensorBoard(tmp_path / "run", every=2)], **validation)
    (writer,) = writers
    assert writer.logdir == str(tmp_path / "run")
    assert writer.closed
    assert writer.flushed == len(writer.scalars)
    for name, column in history.items():
        steps = [3, 5] if name.startswith("val_") else [1, 2, 3, 4, 5]
        assert [s for s in writer.scalars if s[0] == name] == [(name, v, e) for v, e in zip(column, steps, strict=True)]
    rates = [s[1:] for s in writer.scalars if s[0] == "learning_rate"]
    assert rates == [(0.1 / (1 + 0.01 * 4 * e), e) for e in (2, 4, 5)]


def test_tensorboard_goes_on_after_an_interruption(writers, tmp_path):
    callback, model = went_on(lambda: TensorBoard(tmp_path), 6, 3, MEASURED)
    callback.on_end(model, model.history)
    before, after = writers
    assert (before.purge_step, after.purge_step) == (None, 4)
    assert before.suffix != after.suffix
    assert [s[2] for w in writers for s in w.scalars if s[0] == "loss"] == [1, 2, 3, 4, 5, 6]
    assert before.closed
    assert after.closed


def test_tensorboard_without_its_package_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    model = classifier()
    before = model.parameters.copy()
    with pytest.raises(ImportError, match=r"pip install 'nnfast\[tensorboard\]'"):
        fit(model, callbacks=[TensorBoard(tmp_path)])
    np.testing.assert_array_equal(model.parameters, before)


def test_tensorboard_refuses_a_file_as_folder(writers, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match="which is a file"):
        fit(classifier(), callbacks=[TensorBoard(tmp_path / "file")])
    search = classifier(nn.RandomSearch())
    fit(search, epochs=2, batch_size=None, callbacks=[TensorBoard(tmp_path)])
    assert {tag for tag, *_ in writers[0].scalars} == {"loss", "data_loss", "accuracy"}


def test_real_event_files_hold_the_scalars(tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    from tensorboardX.proto.event_pb2 import Event

    folder = tmp_path / "run"
    history = fit(classifier(), epochs=3, callbacks=[TensorBoard(folder)])
    fit(classifier(), epochs=1, callbacks=[TensorBoard(folder)])
    files = sorted(folder.iterdir(), key=lambda f: f.stat().st_size)
    assert len(files) == 2
    data, scalars = files[1].read_bytes(), []
    while data:  # records: length, its checksum, an event, its checksum
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        scalars += [(v.tag, v.simple_value, event.step) for v in event.summary.value]
        data = data[16 + length :]
    losses = [(value, step) for tag, value, step in scalars if tag == "loss"]
    np.testing.assert_allclose(losses, [(v, e) for e, v in enumerate(history["loss"], 1)], rtol=1e-6)


# ---- ProgressBar ----------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """Every look at the clock is ten seconds later, so that lines are shown."""
    now = iter(range(0, 10**7, 10))
    monkeypatch.setattr("nnfast.progress.time.monotonic", lambda: float(next(now)))


def test_plain_lines_are_those_of_verbose_1(clock, capsys):
    model = classifier()
    fit(model, epochs=30, callbacks=[ProgressBar()])
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert [line.split()[1] for line in lines] == [f"{e}/30" for e in range(3, 31, 3)]
    history = model.history.history
    for line, epoch in zip(lines, range(3, 31, 3), strict=True):
        assert f"loss {history['loss'][epoch - 1]:.4g}" in line
        assert f"accuracy {history['accuracy'][epoch - 1]:.4g}" in line
    fit(classifier(), epochs=30, verbose=1, callbacks=[lambda model, epoch, logs: None])
    assert capsys.readouterr().err.splitlines() == lines


def test_it_looks_a_hundred_times(capsys):
    for epochs, every in [(5, 1), (199, 1), (1000, 10), (12345, 123)]:
        bar = ProgressBar()
        bar.on_begin(None, epochs, ())
        assert bar.every == every
    assert ProgressBar(every=4).every == 4
    fit(classifier(), epochs=0, callbacks=[ProgressBar()])
    assert capsys.readouterr().err == ""


def test_on_a_terminal_it_is_a_bar(monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setattr("nnfast.progress.BAR_AFTER", 0)

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    bar = ProgressBar()
    fit(classifier(), epochs=8, callbacks=[bar])
    assert "8/8" in screen.getvalue()
    assert "loss" in screen.getvalue()
    assert "\x1b[?25h" in screen.getvalue()  # the cursor is back
    shown = len(screen.getvalue())
    with pytest.raises(UnknownNameError):
        fit(classifier(), callbacks=[ProgressBar(), EarlyStopping("los")])
    assert len(screen.getvalue()) == shown  # a fit that is refused leaves nothing behind
    fit(classifier(), epochs=2, callbacks=[bar])
    assert "2/2" in screen.getvalue()


# ---- all of them, in a training that is interrupted ------------------------------------------------------------------


@pytest.mark.parametrize("stop", [3, 4, 9])
@pytest.mark.parametrize("first", ["checkpoint", "others"])
def test_an_interrupted_training_goes_on_as_if_nothing_had_been(first, stop, tmp_path, backend, writers):
    """Interrupted in epoch `stop`, with checkpoints every third epoch, against one without interruption."""

    def train(folder, epochs, resume=None, extra=()):
        callbacks = [
            LearningRateSchedule(lambda epoch, rate: rate * 0.9, every=2),
            ReduceLROnPlateau("loss", 0.5, 1, min_delta=0.05, cooldown=1),
            EarlyStopping(patience=20, restore_best=True),
            CSVLogger(folder / "log.csv"),
            TensorBoard(folder),
            TerminateOnNaN(),
        ]
        keep = ModelCheckpoint(folder / "run.nnfast", every=3)
        model = classifier(nn.SGD(0.5, momentum=0.5), backend=backend)
        options = {"validation_data": (X[::3], Y[::3]), "validation_every": 2, "resume": resume}
        order = [keep, *callbacks] if first == "checkpoint" else [*callbacks, keep]
        fit(model, epochs=epochs, callbacks=[*order, *extra], **options)
        return model, callbacks

    def broken(model, epoch, logs):
        if epoch == stop:
            raise RuntimeError("power")

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    model, wanted = train(whole, 9)
    with pytest.raises(RuntimeError, match="power"):
        train(parts, 9, extra=[broken])
    resumed, got = train(parts, 9, resume=parts / "run.nnfast")
    np.testing.assert_array_equal(resumed.parameters, model.parameters)
    assert resumed.history.history == model.history.history
    assert resumed.optimizer.learning_rate == model.optimizer.learning_rate
    assert (parts / "log.csv").read_text() == (whole / "log.csv").read_text()
    assert got[1].reductions == wanted[1].reductions != []
    assert (got[2].best, got[2].best_epoch) == (wanted[2].best, wanted[2].best_epoch)
    seen = {(tag, step): value for w in writers[1:] for tag, value, step in w.scalars}
    assert seen == {(tag, step): value for tag, value, step in writers[0].scalars}


def test_a_finished_training_goes_on_with_the_next_rate(tmp_path):
    def train(folder, epochs, resume=None):
        model = classifier(nn.SGD(0.5))
        rule = LearningRateSchedule(lambda epoch, rate: rate * 0.7)
        fit(model, epochs=epochs, callbacks=[rule, ModelCheckpoint(folder / "run.nnfast")], resume=resume)
        return model

    whole = train(tmp_path / "whole", 6)
    train(tmp_path / "parts", 3)
    parts = train(tmp_path / "parts", 6, resume=tmp_path / "parts" / "run.nnfast")
    assert parts.optimizer.learning_rate == whole.optimizer.learning_rate
    np.testing.assert_array_equal(parts.parameters, whole.parameters)
