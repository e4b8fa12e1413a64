"""Standardize: constants kept like frozen parameters, in every place where a layer can stand."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from damaged_files import content, forged, layout

import nnfast as nn
from nnfast.errors import CheckpointError, DataError, DTypeError, OptionError, ShapeError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 4)) * [1, 20, 1e-3, 5] + [0, 300, 0.5, -7]
Y = RNG.integers(0, 3, 60)
EVERY = (X - X.mean(0)) / X.std(0)


def model(optimizer=None, first=None, **settings):
    layers = [first or nn.Standardize.fit(X), nn.Dense(4, 8), nn.Tanh(), nn.Dense(8, 3)]
    return nn.Model(layers, nn.SoftmaxCrossEntropy(), optimizer or nn.Adam(0.02), rng=0, **settings)


def test_values(backend, dtype):
    layer = nn.Standardize.fit(X, backend=backend, dtype=dtype)
    np.testing.assert_allclose(layer.forward(X), EVERY, rtol=1e-4 if dtype == "float32" else 1e-12, atol=1e-5)
    dy = RNG.standard_normal((60, 4))
    np.testing.assert_allclose(layer.backward(dy), dy / X.std(0), rtol=1e-5)
    assert layer.forward(X[:0]).shape == (0, 4)


def test_one_number_for_all_inputs():
    layer = nn.Standardize(127.5, 127.5, n_inputs=3)
    np.testing.assert_allclose(layer.forward([[0, 127.5, 255]]), [[-1, 0, 1]])
    np.testing.assert_allclose(nn.Standardize([1, 2], 2).forward([[3, 3]]), [[1, 0.5]])


def test_a_constant_column_keeps_its_scale():
    layer = nn.Standardize.fit([[1, 5.1], [2, 5.1], [4, 5.1]])
    np.testing.assert_allclose(layer.std, [np.std([1, 2, 4]), 1])


def test_training_like_one_that_was_given_standardized_rows(backend):
    ours = model(backend=backend, dtype="float64")
    theirs = nn.Model(
        [nn.Dense(4, 8), nn.Tanh(), nn.Dense(8, 3)], nn.SoftmaxCrossEntropy(), nn.Adam(0.02), rng=0, dtype="float64"
    )
    want = theirs.fit(EVERY, Y, epochs=20, batch_size=16, verbose=0).history["loss"]
    np.testing.assert_allclose(ours.fit(X, Y, epochs=20, batch_size=16, verbose=0).history["loss"], want, rtol=1e-7)
    np.testing.assert_array_equal(ours.layers[0].mean, X.mean(0))


def test_between_layers_gradients_pass_through(backend):
    layers = [nn.Dense(4, 5), nn.Standardize([1, 2, 3, 4, 5], [2, 3, 4, 5, 6]), nn.Tanh(), nn.Dense(5, 3)]
    made = nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.SGD(0.1), backend=backend, dtype="float64", rng=0)
    X = EVERY
    _, gradient = made.loss_and_gradient(X, Y)
    flat, h = made.parameters.copy(), 1e-6
    block = made._layout["0.weights"]
    for i in (block.offset, block.offset + block.size - 1):
        values = []
        for sign in (1, -1):
            moved = flat.copy()
            moved[i] += sign * h
            made.parameters = moved
            values.append(made.evaluate(X, Y)["loss"])
        assert gradient[i] == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5)
    constants = made._layout["1.mean"]
    assert not gradient[constants.offset : constants.offset + 5].any()


def test_random_search_leaves_the_constants(backend):
    made = model(nn.RandomSearch(), backend=backend)
    before = made.layers[0].mean.copy()
    made.fit(X, Y, epochs=30, verbose=0)
    np.testing.assert_array_equal(made.layers[0].mean, before)


def test_weight_decay_leaves_the_constants(backend):
    made = model(nn.AdamW(0.1, weight_decay=0.5), backend=backend)
    made.fit(X, Y, epochs=5, verbose=0)
    np.testing.assert_array_equal(made.layers[0].std, X.std(0).astype(np.float32))


def test_files_and_copies(tmp_path, backend):
    made = model(backend=backend)
    made.fit(X, Y, epochs=3, verbose=0)
    made.save(tmp_path / "a.nnfast")
    made.save_weights(tmp_path / "a.npz")
    want = made.predict(X)
    other = model(first=nn.Standardize(0, 1, n_inputs=4), backend=backend)
    other.load_weights(tmp_path / "a.npz")
    loaded = nn.load(tmp_path / "a.nnfast", backend=backend)
    for twin in (other, loaded, made.to(), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        np.testing.assert_array_equal(twin.predict(X), want)
        assert twin.layers[0].trainable is False
    history = [m.fit(X, Y, epochs=2, verbose=0).history["loss"] for m in (made, loaded)]
    assert history[0] == history[1]


def test_words():
    text = model().summary()
    assert "Standardize(4 inputs)" in text
    assert "frozen" in text
    assert "standardize" in str(model().program)


def test_it_is_not_trained():
    layer = nn.Standardize(0, 1, n_inputs=2)
    layer.trainable = False
    with pytest.raises(OptionError, match="not trained"):
        layer.trainable = True
    assert not layer.trainable


def test_constants_can_be_assigned():
    made = model()
    made.layers[0].mean = np.zeros(4)
    made.layers[0].std = 2
    np.testing.assert_array_equal(made.layers[0].forward(np.ones((1, 4))), np.full((1, 4), 0.5))
    with pytest.raises(DataError, match=r"std\[1\] is 0.*above 0.*use 1"):
        made.layers[0].std = [1, 0, 1, 1]


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"mean": [1, 2], "std": [1, 2, 3]}, ShapeError, r"mean has shape \(2,\); expected \(3,\)"),
        ({"mean": [[1, 2]], "std": [1, 2]}, ShapeError, "mean has shape"),
        ({"mean": 0, "std": 1}, OptionError, "n_inputs="),
        ({"mean": [], "std": []}, OptionError, "n_inputs"),
        ({"mean": [0, np.nan], "std": 1}, DataError, r"mean\[1\] is nan"),
        ({"mean": 0, "std": [1, -1]}, DataError, r"std\[1\] is -1"),
        ({"mean": 0, "std": [1, 1e-50]}, DataError, "range of float32"),
        ({"mean": 0, "std": "one"}, DTypeError, "std"),
        ({"mean": None, "std": [1]}, DTypeError, "mean is None"),
    ],
)
def test_bad_constants(given, error, words):
    with pytest.raises(error, match=words):
        nn.Standardize(**given)


def test_data_that_cannot_be_standardized():
    with pytest.raises(DataError, match=r"X\[1, 0\] is nan"):
        nn.Standardize.fit([[1.0, 2], [np.nan, 3]])
    with pytest.raises(ShapeError, match="reshape"):
        nn.Standardize.fit([1.0, 2])
    with pytest.raises(ShapeError, match="takes 4 inputs"):
        nn.Model([nn.Dense(3, 5), nn.Standardize(0, 1, n_inputs=4)])


def test_no_file_makes_the_constants_trainable(tmp_path):
    path, made = tmp_path / "a.nnfast", model(backend="numpy")
    made.fit(X, Y, verbose=0, callbacks=[nn.ModelCheckpoint(path)])
    header, data = layout(path.read_bytes())
    said = json.loads(header["__metadata__"]["model"])
    said["layers"][0]["trainable"], said["layers"][1]["trainable"] = True, False
    said["optimizer"]["config"]["learning_rate"] = 0.5
    header["__metadata__"]["model"] = json.dumps(said)
    path.write_bytes(forged(header, data))
    before = content(made), made._buffers.gradients.tobytes(), made.layers[1].trainable
    for use in (
        lambda: nn.load(path, backend="numpy"),
        lambda: nn.checkpoint.restore(made, path),
        lambda: made.fit(X, Y, verbose=0, resume=path),
    ):
        with pytest.raises(CheckpointError, match=r"a\.nnfast: trainable of layer 0: the constants of Standardize"):
            use()
        assert (content(made), made._buffers.gradients.tobytes(), made.layers[1].trainable) == before
