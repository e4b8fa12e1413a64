"""Which class was taken for which: the counts, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from small_models import X, Y, classifier

import nnfast as nn
from nnfast.errors import DataError, DTypeError, OptionError, ShapeError, UnknownNameError
from nnfast.metrics import confusion_matrix


def counted(truth, predicted, classes):
    table = np.zeros((classes, classes), int)
    for t, p in zip(truth, predicted, strict=True):
        table[t, p] += 1
    return table


def test_confusion_matrix_counts_rows_of_truth(backend):
    model = classifier(backend=backend)
    model.fit(X, Y, epochs=5, verbose=0)
    output = model.predict(X)
    expected = counted(Y, np.asarray(output).argmax(axis=1), 3)
    assert not (expected == expected.T).all()
    for y in (Y, np.eye(3)[Y]):
        found = confusion_matrix(output, y)
        assert found.dtype == np.int64
        assert (found == expected).all()
    assert (confusion_matrix(np.asarray(output).argmax(axis=1), Y) == expected).all()
    assert np.trace(expected) / len(X) == pytest.approx(nn.metrics.accuracy(output, Y))


def test_confusion_matrix_as_scikit_learn_has_it(rng):
    sklearn = pytest.importorskip("sklearn.metrics")
    truth, predicted = rng.integers(0, 5, (2, 300))
    for normalize in (None, "true", "pred", "all"):
        expected = sklearn.confusion_matrix(truth, predicted, normalize=normalize)
        np.testing.assert_allclose(confusion_matrix(predicted, truth, normalize=normalize), expected, rtol=1e-15)


def test_confusion_matrix_of_one_output_and_of_more_classes():
    output, y = np.array([[0.2], [0.5], [0.7], [0.9]]), np.array([0, 1, 1, 0])
    assert confusion_matrix(output, y).tolist() == [[1, 1], [1, 1]]
    assert confusion_matrix(output, y[:, None].astype(np.float32), threshold=0.4).tolist() == [[1, 1], [0, 2]]
    assert confusion_matrix(output - 0.6, y, threshold=0).tolist() == [[1, 1], [1, 1]]
    assert confusion_matrix([0, 1], [0, 1], 3).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    shares = confusion_matrix([0, 1], [0, 1], 3, "true")
    assert shares.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]  # no 0/0 of the class that is not there
    assert confusion_matrix([[0.5, 0.5]], [1]).tolist() == [[0, 0], [1, 0]]  # of equals the first


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0, 1], [0]), ShapeError, "y has 1 labels for 2 rows"),
        (([0.2, 0.8], [0, 1]), DTypeError, "output.reshape(-1, 1)"),
        (([0, 1], [0.0, 1.0]), DTypeError, "y has dtype float64; class numbers must be integers"),
        (([0, -1], [0, 1]), DataError, "output[1] is -1; class numbers count from 0"),
        (([0, 1], [0, 3], 3), OptionError, "n_classes is 3, but there are 4 classes"),
        (([[0.1, 0.9]], [1], 1), OptionError, "n_classes is 1, but there are 2 classes"),
        (([[0.1, 0.9]], [2]), DataError, "y[0] is 2, which is no class"),
        (([[0.1, math.nan]], [1]), DataError, "output[0] holds NaN"),
        (([[0.1]], [[0.5]]), DataError, "y holds 0.5; of one output the classes are 0 and 1"),
        (([0, 1], [0, 1], None, "rows"), UnknownNameError, "unknown normalize 'rows'"),
        (([], []), ShapeError, "output has shape (0,)"),
        ((np.ones((2, 2, 2)), [0, 1]), ShapeError, "output has shape (2, 2, 2)"),
        (([0, 10**12], [0, 1]), OptionError, "1,000,000,000,001 classes does not fit"),
    ],
)
def test_a_wrong_confusion_matrix(arguments, error, message):
    with pytest.raises(error) as caught:
        confusion_matrix(*arguments)
    assert message in str(caught.value)
