"""What `fit` takes: arrays in files, batches one by one, weighted classes, rows set aside, several batches a step."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from small_models import TARGETS, Spy, X, Y, classifier, fit, regressor

import nnfast as nn
from nnfast.errors import DataError, DTypeError, OptionError, ShapeError
from nnfast.training import staged


def equal(one, two):
    np.testing.assert_array_equal(one.parameters, two.parameters)


# ---- gradient accumulation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_accumulated_batches_are_one_large_batch(backend, shuffle, weighted):
    """Dropout, penalties, clipping, metrics and a short last step included, up to rounding: hence float64."""
    weight = np.linspace(0, 2, len(X)) if weighted else None
    options = {"shuffle": shuffle, "epochs": 4, "sample_weight": weight}
    large = classifier(nn.Adam(0.02, clip_norm=0.5), dtype="float64", backend=backend)
    small = classifier(nn.Adam(0.02, clip_norm=0.5), dtype="float64", backend=backend)
    expected = fit(large, batch_size=28, **options)
    got = fit(small, batch_size=7, accumulate=4, **options)
    np.testing.assert_allclose(small.parameters, large.parameters, rtol=0, atol=1e-12)
    assert got.keys() == expected.keys()
    for name, column in expected.items():
        np.testing.assert_allclose(got[name], column, rtol=1e-12)
    assert small.optimizer.steps == large.optimizer.steps == 4 * 5


def test_accumulation_counts_updates_and_calls_the_hook_once_for_each(backend):
    model, seen = regressor(backend=backend), []
    spies = nn.Callback()
    spies.every_steps, steps = 2, []
    spies.on_step = lambda model, step: steps.append(step)
    fit(
        model, X, TARGETS, epochs=2, batch_size=10, accumulate=5, on_gradients=lambda g: seen.append(g.copy()),
        callbacks=[spies],
    )  # fmt: skip
    assert model.optimizer.steps == len(seen) == 2 * 3  # 12 batches: 5, 5 and 2
    assert steps == [2, 4, 6]
    whole = regressor(backend=backend)
    fit(whole, X, TARGETS, epochs=1, batch_size=50, on_gradients=lambda g: seen.append(g.copy()))
    np.testing.assert_allclose(seen[0], seen[6], rtol=1e-4, atol=1e-6)


def test_accumulating_one_batch_is_plain_training(backend):
    plain, one = (classifier(backend=backend) for _ in range(2))
    assert fit(plain) == fit(one, accumulate=1)
    equal(plain, one)


def test_a_hook_may_change_the_accumulated_gradient(backend):
    model = regressor(backend=backend)
    before = model.parameters.copy()

    def nothing(flat):
        flat[...] = 0

    fit(model, X, TARGETS, epochs=1, accumulate=2, on_gradients=nothing)
    np.testing.assert_array_equal(model.parameters, before)


# ---- batches one by one ---------------------------------------------------------------------------------------------


def cut(size, X=X, y=Y):
    return [(X[i : i + size], y[i : i + size]) for i in range(0, len(X), size)]


@pytest.mark.parametrize(
    "batches",
    [cut(32), lambda: iter(cut(32)), lambda: (batch for batch in cut(32)), [(x, y, None) for x, y in cut(32)]],
    ids=["list", "function", "generator function", "triples"],
)
def test_batches_train_as_arrays_do(backend, batches):
    arrays, stream = (classifier(backend=backend) for _ in range(2))
    expected = fit(arrays, shuffle=False, epochs=3)
    got = stream.fit(batches, epochs=3, verbose=0).history
    equal(stream, arrays)
    assert got == expected
    assert stream.evaluate(batches) == pytest.approx(stream.evaluate(X, Y), rel=1e-5)


def test_weights_come_with_the_batches(backend):
    weight = np.linspace(0.1, 2, len(X)).astype(np.float32)
    arrays, stream = (classifier(backend=backend) for _ in range(2))
    expected = fit(arrays, shuffle=False, epochs=2, sample_weight=weight)
    got = stream.fit(
        [(X[i : i + 32], Y[i : i + 32], weight[i : i + 32]) for i in range(0, 120, 32)], epochs=2, verbose=0
    )
    equal(stream, arrays)
    assert got.history == expected


def test_an_iterator_is_read_on(backend):
    endless, arrays = classifier(backend=backend), classifier(backend=backend)
    source = itertools.cycle(cut(32))
    endless.fit(source, epochs=3, steps_per_epoch=4, verbose=0)
    fit(arrays, epochs=3, shuffle=False)
    equal(endless, arrays)
    endless.fit(source, epochs=1, steps_per_epoch=2, verbose=0)
    assert endless.optimizer.steps == 14
    once = classifier(backend=backend)
    assert len(once.fit(iter(cut(32)), epochs=1, verbose=0).history["loss"]) == 1


def test_batches_can_be_accumulated(backend):
    arrays, stream = (regressor(backend=backend, dtype="float64") for _ in range(2))
    expected = fit(arrays, X, TARGETS, epochs=2, batch_size=30, shuffle=False)
    got = stream.fit(cut(10, X, TARGETS), epochs=2, accumulate=3, verbose=0).history
    np.testing.assert_allclose(stream.parameters, arrays.parameters, rtol=0, atol=1e-12)
    np.testing.assert_allclose(got["r2"], expected["r2"], rtol=1e-9)


def test_validation_may_come_in_batches(backend):
    arrays, stream = (classifier(backend=backend) for _ in range(2))
    expected = fit(arrays, epochs=3, validation_data=(X, Y))
    got = fit(stream, epochs=3, validation_data=iter_twice(cut(50)))
    assert got["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-5)
    assert got["val_accuracy"] == expected["val_accuracy"]


class iter_twice:  # as a loader: an object that can be begun again, and no list
    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def test_callbacks_and_progress_get_their_turn_with_batches(capsys):
    model, seen = classifier(), []
    model.fit(cut(32), epochs=3, verbose=2, callbacks=[lambda model, epoch, logs: seen.append((epoch, set(logs)))])
    assert seen == [(epoch, {"loss", "data_loss", "accuracy"}) for epoch in (1, 2, 3)]
    assert capsys.readouterr().out.count("epoch") == 3


@pytest.mark.parametrize(
    ("batches", "options", "kind", "words"),
    [
        ([], {}, DataError, "has no batches"),
        ([(X,)], {}, DTypeError, "batch 0 of X is 1 parts"),
        ([X], {}, DTypeError, "batch 0 of X is ndarray"),
        ([(X, Y), (X, Y[:5])], {}, ShapeError, "batch 1: y has 5 labels"),
        (iter(cut(32)), {"epochs": 2}, OptionError, "X is an iterator, which ends with its first epoch"),
        (iter(cut(32)), {"steps_per_epoch": 9}, DataError, "X ended after 4 batches of 9"),
        (cut(32), {"batch_size": 3}, OptionError, "batch_size is for arrays"),
        (cut(32), {"validation_split": 0.5}, OptionError, "validation_split is for arrays"),
        (cut(32), {"sample_weight": [1]}, OptionError, "sample_weight is for arrays"),
        (cut(32), {"class_weight": "balanced"}, OptionError, "counts all labels first"),
        (lambda: 3, {}, DTypeError, "X gives 3; expected an iterable"),
    ],
)
def test_what_is_wrong_with_batches(batches, options, kind, words):
    with pytest.raises(kind, match=words):
        classifier().fit(batches, verbose=0, **options)


def test_steps_per_epoch_is_for_batches():
    with pytest.raises(OptionError, match="steps_per_epoch is for batches"):
        fit(classifier(), steps_per_epoch=3)


def test_without_targets_an_array_is_no_stream():
    with pytest.raises(DTypeError, match="y is None"):
        classifier().fit(X, verbose=0)


# ---- files larger than memory ---------------------------------------------------------------------------------------


@pytest.fixture
def on_disk(tmp_path, monkeypatch):
    """Writes an array and maps it; jobs hold four rows at a time, so that many are needed."""
    monkeypatch.setattr(staged, "AT_ONCE", 4 * 3 * 4)

    def mapped(name, array):
        np.save(tmp_path / name, array)
        return np.load(tmp_path / name, mmap_mode="r")

    return lambda array: mapped(f"{len(list(tmp_path.iterdir()))}.npy", array)


@pytest.mark.parametrize("kind", [np.float64, np.float32, ">f4", np.int16])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [3, 32, None])
def test_a_mapped_array_trains_as_one_in_memory(backend, on_disk, kind, shuffle, batch_size):
    rows = (100 * X).astype(kind)
    arrays, files = (classifier(backend=backend) for _ in range(2))
    options = {"shuffle": shuffle, "batch_size": batch_size, "epochs": 2, "sample_weight": np.linspace(1, 2, len(X))}
    expected = fit(arrays, np.asarray(rows), **options)
    got = fit(files, on_disk(rows), validation_data=(on_disk(rows), Y), **options)
    equal(files, arrays)
    assert got["loss"] == expected["loss"]
    assert got["val_loss"][-1] == pytest.approx(arrays.evaluate(np.asarray(rows), Y)["loss"], rel=1e-5)
    np.testing.assert_allclose(files.predict(on_disk(rows)), arrays.predict(np.asarray(rows)), rtol=1e-6)


def test_targets_may_be_mapped_too(backend, on_disk):
    rows = X.astype(np.float64)
    arrays, files = (regressor(backend=backend) for _ in range(2))
    fit(arrays, rows, TARGETS)
    fit(files, on_disk(rows), on_disk(TARGETS.astype(np.float64)))
    equal(files, arrays)


def test_a_mapped_array_is_not_read_as_a_whole(tmp_path):
    """A sparse file of 4 GB, of which a model wants float32: 100 rows of it are all that a step needs."""
    rows = np.memmap(tmp_path / "big", np.float64, "w+", shape=(4_000_000, 128))
    y = np.zeros(len(rows), np.int64)
    model = nn.Model(
        [nn.Dense(128, 2)], nn.SoftmaxCrossEntropy(), nn.SGD(0.1), backend="numpy", rng=0
    )  # fmt: skip

    def enough(model, step):
        return True

    stop = nn.Callback()
    stop.every_steps, stop.on_step = 1, enough
    model.fit(rows, y, batch_size=100, shuffle=False, verbose=0, callbacks=[stop])
    assert model.optimizer.steps == 1


@pytest.mark.parametrize("where", [0, 100])
def test_bad_mapped_targets_are_found_before_anything_changes(on_disk, where):
    model, targets = regressor(), TARGETS.astype(np.float64)
    targets[where] = np.nan
    before = model.parameters.copy()
    with pytest.raises(DataError, match="must be finite"):
        fit(model, on_disk(X.astype(np.float64)), on_disk(targets))
    np.testing.assert_array_equal(model.parameters, before)
    with pytest.raises(ShapeError, match="rows"):
        fit(model, on_disk(X.astype(np.float64)), on_disk(TARGETS[:50].astype(np.float64)))
    with pytest.raises(ShapeError, match="columns"):
        fit(model, on_disk(np.zeros((120, 5))), TARGETS)


# ---- rows set aside -------------------------------------------------------------------------------------------------


def test_a_split_is_a_partition_and_the_same_every_time():
    spy = Spy()
    model = nn.Model([spy, nn.Dense(1, 1)], nn.MeanSquaredError(), nn.SGD(0.0), backend="numpy", rng=3)
    rows = np.arange(40, dtype=np.float32).reshape(-1, 1)
    seen = []
    for _ in range(2):
        spy.seen.clear()
        fit(model, rows, rows, epochs=1, batch_size=None, validation_split=0.25)
        train, validated = (batch[:, 0] for batch in spy.seen)
        assert len(validated) == 10
        np.testing.assert_array_equal(np.sort(np.concatenate([train, validated])), rows[:, 0])
        seen.append(validated)
    np.testing.assert_array_equal(*seen)
    assert not np.array_equal(seen[0], rows[30:, 0])  # drawn, not cut off


def test_a_split_is_training_on_one_part_and_validating_on_the_other(backend, on_disk):
    weight = np.linspace(0.5, 1, len(X))
    split, mapped, apart = (classifier(backend=backend) for _ in range(3))
    got = fit(split, validation_split=0.3, sample_weight=weight)
    from_file = fit(mapped, on_disk(X), validation_split=0.3, sample_weight=weight)
    from nnfast.training.fit import split_rows

    rest, held = split_rows(apart, X, 0.3)
    expected = fit(
        apart, X[rest], Y[rest], sample_weight=weight[rest], validation_data=(X[held], Y[held], weight[held])
    )  # fmt: skip
    assert got == expected == from_file
    equal(split, apart)
    equal(split, mapped)


def test_bad_splits():
    for share in (-0.1, 1.0, 1.5, "half"):
        with pytest.raises(OptionError, match="validation_split"):
            fit(classifier(), validation_split=share)
    with pytest.raises(OptionError, match="both parts need rows"):
        fit(classifier(), X[:3], Y[:3], validation_split=0.01)
    with pytest.raises(OptionError, match="not both"):
        fit(classifier(), validation_split=0.1, validation_data=(X, Y))


# ---- weights of classes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "table"),
    [({0: 2.0, 2: 0.5}, [2, 1, 0.5]), ([1, 0, 3], [1, 0, 3]), (np.array([1, 2, 3.5]), [1, 2, 3.5])],
)
def test_class_weights_are_sample_weights(backend, given, table):
    one_hot = np.eye(3)[Y]
    for y, own in ((Y, None), (one_hot, None), (Y, np.linspace(0.1, 1, len(Y)))):
        by_class, by_row = (classifier(backend=backend) for _ in range(2))
        weight = np.array(table)[Y] * (1 if own is None else own)
        expected = fit(by_row, X, Y, sample_weight=weight)
        got = fit(by_class, X, y, class_weight=given, sample_weight=own)
        np.testing.assert_allclose(got["loss"], expected["loss"], rtol=1e-5)
        np.testing.assert_allclose(by_class.parameters, by_row.parameters, rtol=1e-3, atol=1e-5)


def test_balanced_classes_weigh_the_same():
    from nnfast.training.class_weights import weights_by_class

    y = np.array([0] * 6 + [2] * 3)
    weights = weights_by_class("balanced", y, nn.SoftmaxCrossEntropy(), 3)
    np.testing.assert_allclose(weights, [9 / 12] * 6 + [9 / 6] * 3)
    soft = weights_by_class("balanced", np.eye(3)[y], nn.SoftmaxCrossEntropy(), 3)
    np.testing.assert_allclose(soft, weights)
    binary = weights_by_class("balanced", (y[:, None] > 0).astype(np.float32), nn.SigmoidBinaryCrossEntropy(), 1)
    np.testing.assert_allclose(binary, weights)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({3: 1.0}, "names the class 3; there are 3"),
        ({-1: 1.0}, "names the class -1"),
        ({"a": 1.0}, "names the class 'a'"),
        ({0: -1.0}, r"class_weight\[0\]"),
        ([1, 2], "has 2 weights; there are 3 classes"),
        ("even", "the only word that it knows is 'balanced'"),
        (7, "class_weight is 7"),
        ([0, 0, 0], "the weight 0"),
    ],
)
def test_bad_class_weights(given, words):
    model = classifier()
    before = model.parameters.copy()
    with pytest.raises((OptionError, DTypeError, DataError), match=words):
        fit(model, class_weight=given)
    np.testing.assert_array_equal(model.parameters, before)
    with pytest.raises(OptionError, match="needs classes"):
        fit(regressor(), X, TARGETS, class_weight=[1])


def test_random_search_takes_the_whole_set():
    for options in ({"accumulate": 2}, {"X": cut(30), "y": None}):
        with pytest.raises(OptionError, match="takes the whole set"):
            fit(classifier(nn.RandomSearch()), **({"batch_size": None} | options))
