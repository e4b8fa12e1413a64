"""The book's Model in files, and its last chapters' program from the first line to the last."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from compat_models import built, figures, image_model, images

import nnfast as nn
from nnfast import checkpoint
from nnfast.compat.nnfs import (
    Accuracy_Categorical,
    Accuracy_Regression,
    Activation_Linear,
    Activation_ReLU,
    Activation_Sigmoid,
    Activation_Softmax,
    Layer_Dense,
    Layer_Dropout,
    Loss_BinaryCrossentropy,
    Loss_CategoricalCrossentropy,
    Loss_MeanAbsoluteError,
    Loss_MeanSquaredError,
    Model,
    Optimizer_Adagrad,
    Optimizer_Adam,
    Optimizer_RMSprop,
    Optimizer_SGD,
    init,
)
from nnfast.errors import CheckpointError, StateError

pytestmark = pytest.mark.usefixtures("like_the_book")


def same_parameters(a, b):
    for mine, other in zip(a.get_parameters(), b.get_parameters(), strict=True):
        np.testing.assert_array_equal(mine[0], other[0])
        np.testing.assert_array_equal(mine[1], other[1])


MODELS = {
    "classes": (
        [Activation_Softmax],
        Loss_CategoricalCrossentropy,
        lambda: Optimizer_Adam(0.01, 1e-3),
        Accuracy_Categorical,
    ),
    "yes or no": (
        [Activation_Sigmoid],
        Loss_BinaryCrossentropy,
        lambda: Optimizer_RMSprop(0.01, 1e-3, rho=0.8),
        lambda: Accuracy_Categorical(binary=True),
    ),
    "regression": (
        [Activation_Linear],
        Loss_MeanSquaredError,
        lambda: Optimizer_SGD(0.01, 1e-3, 0.9),
        Accuracy_Regression,
    ),
    "absolute": ([], Loss_MeanAbsoluteError, lambda: Optimizer_Adagrad(0.01, epsilon=0), Accuracy_Regression),
    "plain": ([Activation_ReLU], Loss_MeanSquaredError, lambda: Optimizer_SGD(0.01), Accuracy_Regression),
}


def some_model(kind):
    last, loss, optimizer, accuracy = MODELS[kind]
    first = Layer_Dense(5, 8, 1e-3, 2e-3, 3e-3, 4e-3)
    first.weights *= 30
    parts = [first, Activation_ReLU(), Layer_Dropout(0.2), Layer_Dense(8, 3), *(a() for a in last)]
    return built(parts, loss(), optimizer(), accuracy())


def data(kind):
    rng = np.random.default_rng(8)
    x, z = rng.normal(size=(70, 5)), rng.normal(size=(70, 3))
    return x, {"classes": z.argmax(axis=1), "yes or no": (z > 0) * 1}.get(kind, z)


@pytest.mark.parametrize("kind", MODELS, ids=str)
def test_a_loaded_model_goes_on_as_the_saved_one(kind, dtype, tmp_path, capsys):
    init(default_dtype=dtype)
    model, (x, y) = some_model(kind), data(kind)
    model.train(x, y, epochs=2, batch_size=32)
    model.save(tmp_path / "a.model")
    state = np.random.get_state()[2]
    loaded = Model.load(tmp_path / "a.model")
    assert np.random.get_state()[2] == state  # nothing was drawn
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    assert loaded.layers[0].bias_regularizer_l2 == 4e-3
    assert loaded.layers[0].weights.dtype == dtype
    assert vars(loaded.optimizer).keys() == vars(model.optimizer).keys()
    for name in set(vars(model.optimizer)) - {"_memory"}:
        assert vars(loaded.optimizer)[name] == vars(model.optimizer)[name], name
    assert getattr(loaded.accuracy, "precision", None) == getattr(model.accuracy, "precision", None)
    same_parameters(model, loaded)
    np.testing.assert_array_equal(model.predict(x), loaded.predict(x))
    capsys.readouterr()
    texts = []
    for one in (model, loaded):
        one.train(x, y, epochs=2, batch_size=32, validation_data=(x, y))
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    same_parameters(model, loaded)


def test_a_file_holds_the_native_model_and_no_pickle(tmp_path, monkeypatch):
    model, (x, y) = some_model("classes"), data("classes")
    model.train(x, y)

    def refuse(*arguments, **options):
        raise AssertionError("pickle was used")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    model.save(tmp_path / "a.model")
    model.save_parameters(tmp_path / "a.parms")
    native = checkpoint.load(tmp_path / "a.model")
    np.testing.assert_array_equal(native.predict(x), model.predict(x))
    model.evaluate(x, y)
    assert native.evaluate(x, y)["accuracy"] == pytest.approx(model.accuracy.calculate_accumulated())
    Model.load(tmp_path / "a.model").load_parameters(tmp_path / "a.parms")


@pytest.mark.parametrize("name", ["a.parms", "a.npz", "a.safetensors", "b"])
def test_parameters_go_through_files_of_any_name(name, tmp_path):
    x, y = images(100)
    model = image_model()
    model.train(x, y)
    model.save_parameters(tmp_path / name)
    np.random.seed(5)
    other = image_model()
    view = other.layers[0].weights
    other.load_parameters(tmp_path / name)
    same_parameters(model, other)
    assert other.layers[0].weights is view
    np.testing.assert_array_equal(model.predict(x), other.predict(x))
    with pytest.raises(CheckpointError, match="shape"):
        image_model(hidden=16).load_parameters(tmp_path / name)


def test_parameters_as_lists_are_copies():
    model = image_model()
    kept = model.get_parameters()
    model.layers[0].weights += 1
    kept[2][0][...] = 7
    assert not np.array_equal(model.get_parameters()[0][0], kept[0][0])
    model.set_parameters(kept)
    kept[0][0][...] = 9
    np.testing.assert_array_equal(model.layers[4].weights, 7)
    assert not (model.layers[0].weights == 9).any()
    x, _ = images(10)
    twin = image_model()
    twin.set_parameters(model.get_parameters())
    np.testing.assert_array_equal(twin.predict(x), model.predict(x))


class Own(Activation_ReLU):
    def forward(self, inputs, training=True):
        super().forward(inputs, training)


def test_what_cannot_be_in_a_file_is_refused(tmp_path):
    model = built([Layer_Dense(2, 3), Own()], Loss_MeanSquaredError(), Optimizer_SGD(), Accuracy_Regression())
    with pytest.raises(StateError, match=r"Own is not one of the book's.*save_parameters"):
        model.save(tmp_path / "a.model")
    assert not list(tmp_path.iterdir())
    model.save_parameters(tmp_path / "a.parms")
    with pytest.raises(CheckpointError):
        Model.load(tmp_path / "a.parms")
    with pytest.raises(CheckpointError, match=r"[Nn]o such file"):
        Model.load(tmp_path / "none.model")
    native = nn.Model([nn.Dense(2, 3)], nn.MeanSquaredError(), nn.Adam(), rng=0)
    native.save(tmp_path / "native")
    with pytest.raises(CheckpointError, match=r"none of nnfast\.compat"):
        Model.load(tmp_path / "native")


BAD_BOOKS = [
    lambda book: book.update(layers=[]),
    lambda book: book.update(layers=book["layers"][::-1]),
    lambda book: book.pop("loss"),
    lambda book: book.update(loss=None),
    lambda book: book["layers"][0].update({"class": "Model"}),
    lambda book: book["layers"][0].update({"class": ["Layer_Dense"]}),
    lambda book: book["layers"][1].update({"class": "Optimizer_Adam"}),
    lambda book: book["layers"][0]["settings"].update(__class__=3),
    lambda book: book["layers"][0]["settings"].update(weight_regularizer_l1="much"),
    lambda book: book["layers"][2]["settings"].update(rate=7),
    lambda book: book["optimizer"]["settings"].update(beta_1=2.0),
    lambda book: book["optimizer"].update({"class": "Optimizer_SGD"}),
    lambda book: book.update(accuracy=5),
]


@pytest.mark.parametrize("spoil", BAD_BOOKS, ids=range(len(BAD_BOOKS)))
def test_a_file_that_tells_nonsense_is_refused(spoil, tmp_path):
    model = some_model("classes")
    model.save(tmp_path / "a.model")
    run = checkpoint.read_run(tmp_path / "a.model")
    spoil(run["book"])
    checkpoint.save(model._engine.native, tmp_path / "b.model", run=run)
    with pytest.raises(CheckpointError, match=r"b\.model"):
        Model.load(tmp_path / "b.model")


def test_a_damaged_file_is_refused(tmp_path):
    some_model("classes").save(tmp_path / "a.model")
    whole = (tmp_path / "a.model").read_bytes()
    for cut in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "b.model").write_bytes(whole[:cut])
        with pytest.raises(CheckpointError):
            Model.load(tmp_path / "b.model")
    flipped = bytearray(whole)
    flipped[-40] ^= 1
    (tmp_path / "b.model").write_bytes(flipped)
    with pytest.raises(CheckpointError):
        Model.load(tmp_path / "b.model")


# ---- the last chapters' program -------------------------------------------------------------------------------------


def pictures():
    """scikit-learn's digits where they are there, else drawn ones: shuffled, scaled to [−1, 1], one row each."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        return images(1800)
    digits = load_digits()
    return digits.images, digits.target.astype(np.uint8)


def test_the_program_of_the_last_chapters(tmp_path, capsys):
    x, y = pictures()
    keys = np.array(range(x.shape[0]))
    np.random.shuffle(keys)
    x, y = x[keys], y[keys]
    if x.ndim == 3:
        x = (x.reshape(x.shape[0], -1).astype(np.float32) - 8) / 8
    x, x_test, y, y_test = x[:1400], x[1400:], y[:1400], y[1400:]

    model = Model()
    model.add(Layer_Dense(x.shape[1], 128))
    model.add(Activation_ReLU())
    model.add(Layer_Dense(128, 128))
    model.add(Activation_ReLU())
    model.add(Layer_Dense(128, 10))
    model.add(Activation_Softmax())
    model.set(
        loss=Loss_CategoricalCrossentropy(),
        optimizer=Optimizer_Adam(learning_rate=0.005, decay=1e-3),
        accuracy=Accuracy_Categorical(),
    )
    model.finalize()
    model.train(x, y, validation_data=(x_test, y_test), epochs=6, batch_size=128, print_every=100)
    model.evaluate(x_test, y_test)
    *_, validation, again = figures(capsys.readouterr().out)
    assert validation == again
    assert again[1] > 0.9

    parameters = model.get_parameters()
    fresh = Model()
    for layer in (Layer_Dense(x.shape[1], 128), Activation_ReLU(), Layer_Dense(128, 128), Activation_ReLU()):
        fresh.add(layer)
    fresh.add(Layer_Dense(128, 10))
    fresh.add(Activation_Softmax())
    fresh.set(loss=Loss_CategoricalCrossentropy(), accuracy=Accuracy_Categorical())
    fresh.finalize()
    fresh.set_parameters(parameters)
    fresh.evaluate(x_test, y_test)
    model.save_parameters(tmp_path / "fashion_mnist.parms")
    fresh.load_parameters(tmp_path / "fashion_mnist.parms")
    fresh.evaluate(x_test, y_test)
    model.save(tmp_path / "fashion_mnist.model")
    loaded = Model.load(tmp_path / "fashion_mnist.model")
    loaded.evaluate(x_test, y_test)
    assert figures(capsys.readouterr().out) == [again] * 3
    confidences = loaded.predict(x_test[:5])
    predictions = loaded.output_layer_activation.predictions(confidences)
    assert confidences.shape == (5, 10)
    np.testing.assert_allclose(confidences.sum(axis=1), 1, rtol=1e-5)
    assert (predictions == y_test[:5]).sum() >= 3
