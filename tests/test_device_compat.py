"""The book's classes with a GPU backend chosen: programs written for NumPy train there, and read NumPy's arrays."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from compat_models import built, figures, image_model, images
from device_backends import NAMES, made

import nnfast as nn
from nnfast import registry
from nnfast.compat import nnfs
from nnfast.errors import DTypeError


@pytest.fixture(scope="module", params=NAMES)
def gpu_here(request: pytest.FixtureRequest) -> Any:
    return made(request.param)


@pytest.fixture
def gpu(gpu_here: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(registry, "_instances", {**registry._instances, "cupy": gpu_here, gpu_here.name: gpu_here})
    return gpu_here


class Tanh:
    """A layer of a program's own, in NumPy."""

    def forward(self, inputs: Any, training: bool = True) -> None:
        assert type(inputs) is np.ndarray
        self.output = np.tanh(inputs)

    def backward(self, dvalues: Any) -> None:
        assert type(dvalues) is np.ndarray
        self.dinputs = dvalues * (1 - self.output**2)


class Scaled(nnfs.Layer_Dense):
    """One with parameters: what it reads in `forward` must be what the last step left."""

    def forward(self, inputs: Any, training: bool = True) -> None:
        assert type(inputs) is np.ndarray
        self.inputs = inputs
        self.output = 2 * (inputs @ self.weights) + self.biases

    def backward(self, dvalues: Any) -> None:
        self.dweights = 2 * self.inputs.T @ dvalues
        self.dbiases = dvalues.sum(axis=0, keepdims=True)
        self.dinputs = 2 * dvalues @ self.weights.T


class Quartic(nnfs.Loss):
    def forward(self, y_pred: Any, y_true: Any) -> Any:
        assert type(y_pred) is type(y_true) is np.ndarray
        return np.mean((y_true - y_pred) ** 4, axis=1)

    def backward(self, dvalues: Any, y_true: Any) -> None:
        self.dinputs = -4 * (y_true - dvalues) ** 3 / dvalues.size


class Within(nnfs.Accuracy):
    def compare(self, predictions: Any, y: Any) -> Any:
        return np.abs(predictions - y) < 0.5


class Descent(nnfs.Optimizer_SGD):
    def update_params(self, layer: Any) -> None:
        for name in ("weights", "biases"):
            p = getattr(layer, name)
            p -= self.current_learning_rate * getattr(layer, f"d{name}").reshape(p.shape)


def on(backend: Any, make: Any, x: Any, y: Any, capsys: pytest.CaptureFixture[str]) -> tuple[Any, Any, Any, Any]:
    """What a training prints, parameters, predictions, and the model."""
    nnfs.init()
    with nn.use_backend(backend):
        model = make()
        capsys.readouterr()
        model.train(x, y, epochs=2, batch_size=32, validation_data=(x[:40], y[:40]))
        model.train(x, y, epochs=1, batch_size=32)
        model.evaluate(x, y)
        return figures(capsys.readouterr().out), model.get_parameters(), model.predict(x, batch_size=50), model


def own_parts(optimizer: Any = nnfs.Optimizer_Adam) -> Any:
    parts = [nnfs.Layer_Dense(4, 8, 1e-3, 1e-3), Tanh(), Scaled(8, 3), nnfs.Activation_Linear()]
    return built(parts, Quartic(), optimizer(0.01), Within())


REGRESSION = np.random.default_rng(4).normal(size=(70, 4)).astype(np.float32)
MODELS = {
    "classes": (lambda: image_model(hidden=8), *images(100)),
    "own parts": (own_parts, REGRESSION, REGRESSION[:, :3] / 2),
    "own optimizer": (lambda: own_parts(Descent), REGRESSION, REGRESSION[:, :3] / 2),
    "dropout": (
        lambda: built(
            [nnfs.Layer_Dense(4, 8), nnfs.Activation_ReLU(), nnfs.Layer_Dropout(0.2), nnfs.Layer_Dense(8, 3)],
            nnfs.Loss_MeanSquaredError(),
            nnfs.Optimizer_Adagrad(0.01, epsilon=0),
            nnfs.Accuracy_Regression(),
        ),
        REGRESSION,
        REGRESSION[:, :3] / 2,
    ),
}


@pytest.mark.parametrize("kind", list(MODELS))
def test_models_train_as_on_numpy(gpu: Any, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    make, x, y = MODELS[kind]
    printed, parameters, predicted, model = on(gpu, make, x, y, capsys)
    printed_there, want, predictions, _ = on("numpy", make, x, y, capsys)
    assert [row[0] for row in printed] == [row[0] for row in printed_there]
    for row, other in zip(printed, printed_there, strict=True):
        np.testing.assert_allclose(row[1:], other[1:], atol=2.1e-3)
    for pair, other in zip(parameters, want, strict=True):
        for a, b in zip(pair, other, strict=True):
            assert type(a) is np.ndarray
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    assert type(predicted) is np.ndarray
    np.testing.assert_allclose(predicted, predictions, rtol=1e-3, atol=1e-4)
    with nn.use_backend(gpu):
        copy = pickle.loads(pickle.dumps(model)) if kind == "classes" else model
        np.testing.assert_allclose(copy.predict(x), predicted, rtol=1e-6)


def test_arrays_of_a_layer_stay_the_same_objects(gpu: Any, tmp_path: Any) -> None:
    nnfs.init()
    x, y = images(100)
    with nn.use_backend(gpu):
        model = image_model(hidden=8)
        weights = model.layers[0].weights
        before = weights.copy()
        model.train(x, y, epochs=1)
        assert model.layers[0].weights is weights
        assert (weights != before).any()
        weights *= 0  # changed by hand, and heeded
        assert not model.get_parameters()[0][0].any()
        np.testing.assert_allclose(model.predict(x)[0], model.predict(x)[1], rtol=1e-6)
        model.layers[0].weights = before
        model.predict(x)
        assert model.layers[0].weights is weights
        np.testing.assert_array_equal(weights, before)
        model.save(tmp_path / "book")
        loaded = nnfs.Model.load(tmp_path / "book")
        for one in (model, loaded):
            one.train(x, y, epochs=1)
        np.testing.assert_array_equal(loaded.layers[0].weights, model.layers[0].weights)


def test_data_may_lie_on_the_device(gpu: Any, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = images(100)
    there = gpu.cupy.asarray(x), gpu.cupy.asarray(y.astype(np.int64))
    results = []
    for data in (there, (x, y)):
        nnfs.init()
        with nn.use_backend(gpu):
            model = image_model(hidden=8)
            model.train(*data, epochs=1, batch_size=32, validation_data=data)
            model.evaluate(*data)
            results.append((capsys.readouterr().out, model.predict(data[0])))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_layers_by_hand_are_for_numpy(gpu: Any) -> None:
    x = np.ones((3, 2), np.float32)
    with nn.use_backend(gpu):
        layer = nnfs.Layer_Dense(2, 4)
        layer.forward(x)
        layer.backward(np.ones((3, 4)))
        assert type(layer.output) is type(layer.dweights) is np.ndarray
        nnfs.Optimizer_Adam().update_params(layer)
        loss = nnfs.Activation_Softmax_Loss_CategoricalCrossentropy()
        assert loss.forward(layer.output, np.array([0, 1, 3])) > 0
        with pytest.raises(DTypeError, match=r"on the host|on the CPU"):
            layer.forward(gpu.cupy.asarray(x))
