"""History: which epoch a value is of, which is the best, and the table it makes."""

from __future__ import annotations

import csv
import math
import os

import numpy as np
import pytest
from small_models import X, Y, classifier

import nnfast as nn
from nnfast.errors import DataError, NnfastError, OptionError, UnknownNameError
from nnfast.history import History


def recorded(**columns):
    history = History()
    history.extend({name: np.array(column, np.float64) for name, column in columns.items()})
    return history


def trained(backend, epochs=7, **options):
    model = classifier(backend=backend)
    given = {"batch_size": 32, "verbose": 0, "validation_data": (X[::3], Y[::3])}
    return model.fit(X, Y, epochs=epochs, **(given | options))


def test_validation_is_known_by_its_epochs(backend):
    history = trained(backend, validation_every=3)
    assert list(history.epochs_of("val_loss")) == [3, 6, 7] == list(history.epochs_of("val_accuracy"))
    assert list(history.epochs_of("loss")) == [1, 2, 3, 4, 5, 6, 7]
    columns = history.to_dict()
    assert [e for e, value in zip(columns["epoch"], columns["val_loss"], strict=True) if value is not None] == [3, 6, 7]
    assert [v for v in columns["val_loss"] if v is not None] == history.history["val_loss"]
    assert columns["loss"] == history.history["loss"]
    assert {len(column) for column in columns.values()} == {7}


def test_the_best_epoch_is_counted_in_epochs_not_in_measurements(backend):
    history = trained(backend, epochs=12, validation_every=4)
    epoch, value = history.best()
    assert value == min(history.history["val_loss"])
    assert epoch == 4 * (int(np.argmin(history.history["val_loss"])) + 1)


def test_best_knows_which_way():
    history = recorded(loss=[3, 1, 2], accuracy=[0.1, 0.9, 0.9], mean_absolute_error=[2, 3, 1])
    assert history.best("loss") == (2, 1)
    assert history.best("accuracy") == (2, 0.9)  # the first of equals
    assert history.best("mean_absolute_error") == (3, 1)
    assert history.best("loss", "max") == (1, 3)
    assert history.best("accuracy", mode="min") == (1, 0.1)


def test_best_asks_the_metrics_of_the_training():
    """Which way a metric that takes a number is better, its name alone does not tell."""
    model = classifier(metrics=["accuracy", nn.metrics.top_k(2)])
    history = model.fit(X, Y, epochs=3, verbose=0)
    history.history["top_2"][:] = [0.2, 0.7, 0.4]
    assert history.best("top_2") == (2, 0.7)
    history.higher = ()
    assert history.best("top_2") == (1, 0.2)
    assert history.planned == 3


def test_best_passes_over_what_is_not_finite():
    history = recorded(loss=[math.nan, 3, -math.inf, 2, math.inf], r2=[math.inf, 1, 2, math.nan, 0])
    assert history.best("loss") == (4, 2)
    assert history.best("r2") == (3, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("val_los",), UnknownNameError, "unknown name in the history 'val_los'; did you mean 'val_loss'?"),
        (("loss", "least"), UnknownNameError, "unknown mode 'least'"),
        (("novelty",), OptionError, "which way 'novelty' is better is not known here; give mode='min' or mode='max'"),
        (("val_loss",), DataError, "'val_loss' has no finite value yet (1 measured)"),
        (("val_accuracy",), DataError, "'val_accuracy' has no finite value yet (0 measured)"),
    ],
)
def test_best_says_what_is_wrong(arguments, error, message):
    history = recorded(loss=[1.0], val_loss=[math.nan], novelty=[1.0], val_accuracy=[])
    with pytest.raises(error) as caught:
        history.best(*arguments)
    assert message in str(caught.value)


def test_a_column_filled_by_hand_is_of_the_first_epochs():
    history = recorded(loss=[3, 2, 1])
    history.extend({"val_loss": np.array([5.0])})
    history.history["learning_rate"] = [0.1, 0.2, 0.3]
    history.history["val_loss"].append(4.0)  # its epoch is nowhere written down
    assert list(history.epochs_of("learning_rate")) == [1, 2, 3]
    assert list(history.epochs_of("val_loss")) == [1, 2]
    assert history.to_dict()["val_loss"] == [5.0, 4.0, None]


def read(file):
    with open(file, encoding="utf-8", newline="") as rows:
        return list(csv.reader(rows))


def test_csv_has_a_line_per_epoch_and_every_digit(backend, tmp_path):
    file = tmp_path / "history.csv"
    history = trained(backend, validation_every=3)
    history.to_csv(file)
    head, *rows = read(file)
    assert head == ["epoch", *history.history]
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5", "6", "7"]
    for name, column in history.history.items():
        cells = [row[head.index(name)] for row in rows]
        assert [float(cell) for cell in cells if cell] == column  # to the bit
        assert [i + 1 for i, cell in enumerate(cells) if cell] == list(history.epochs_of(name))
    assert file.read_bytes().count(b"\n") == 8
    assert b"\r" not in file.read_bytes()


def test_csv_of_odd_names_and_values(tmp_path):
    history = recorded(loss=[math.nan, math.inf, 0.1 + 0.2])
    history.history['of, "all"'] = [1e-300, -0.0, 5e-324]
    history.to_csv(str(tmp_path / "odd.csv"))
    assert read(tmp_path / "odd.csv") == [
        ["epoch", "loss", 'of, "all"'],
        ["1", "nan", "1e-300"],
        ["2", "inf", "-0.0"],
        ["3", "0.30000000000000004", "5e-324"],
    ]
    History().to_csv(tmp_path / "empty.csv")
    assert read(tmp_path / "empty.csv") == [["epoch"]]


def test_csv_replaces_a_file_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "history.csv"
    recorded(loss=[1.0]).to_csv(file)
    before = file.read_bytes()

    def broken(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="No space left"):
        recorded(loss=[1.0, 2.0]).to_csv(file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
    monkeypatch.undo()
    recorded(loss=[1.0, 2.0]).to_csv(file)
    assert len(read(file)) == 3


def test_csv_into_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(NnfastError, match=r"no.history\.csv cannot be written: the folder .* does not exist"):
        recorded(loss=[1.0]).to_csv(tmp_path / "no" / "history.csv")
    assert list(tmp_path.iterdir()) == []
