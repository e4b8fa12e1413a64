"""Models from Keras. Where it is not installed, stand-ins say what its layers would."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest
from exchange_models import X

import nnfast as nn
from nnfast.errors import DTypeError, OptionError

W, B = np.random.default_rng(0).standard_normal((5, 3)).astype("f4"), np.arange(3, dtype="f4")


def layer(kind, weights=(), config=None, home="keras.layers", **attributes):
    members = {
        "__module__": home,
        "get_config": lambda self: dict(config or {}),
        "get_weights": lambda self: list(weights),
    }
    made = type(kind, (), members)()
    made.__dict__.update({"name": kind.lower()} | attributes)
    return made


def sequential(*layers):
    return type("Sequential", (), {"layers": list(layers)})()


def dense(*weights, activation="linear", **config):
    return layer("Dense", weights, {"activation": activation} | config)


def test_layers_and_weights():
    mean, variance = np.arange(5.0)[None], np.array([[4.0, 1, 9, 0, 16]])
    given = sequential(
        layer("InputLayer"),
        layer("Normalization", config={"axis": (-1,), "invert": False}, mean=mean, variance=variance),
        layer("Flatten"),
        dense(W, B, activation="relu", kernel_regularizer={"class_name": "L1L2", "config": {"l1": 0.1, "l2": 0.2}}),
        layer("Dropout", config={"rate": 0.3}),
        dense(np.eye(3, dtype="f4"), activation="softmax"),
    )
    model = nn.from_keras(given, backend="numpy")
    std = np.array([2, 1, 3, 1e-7, 4])
    rows = X.copy()
    rows[:, 3] = 3.0
    e = np.exp(np.maximum((rows - mean) / std @ W + B, 0))
    np.testing.assert_allclose(model.predict(rows), e / e.sum(1, keepdims=True), rtol=1e-4, atol=1e-6)
    first = model.layers[1]
    assert (first.weight_l1, first.weight_l2, first.bias_l1) == (0.1, 0.2, 0)
    assert (model.dtype, model.loss, model.optimizer) == (np.float32, None, None)
    trained = nn.from_keras(given, nn.SoftmaxCrossEntropy(), nn.SGD(0.01), ["accuracy"], backend="numpy")
    assert not isinstance(trained.layers[-1], nn.Softmax)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("relu", nn.ReLU),
        ("elu", nn.ELU),
        ("gelu", nn.GELU),
        ("swish", nn.SiLU),
        ("silu", nn.SiLU),
        ("leaky_relu", nn.LeakyReLU),
        ("softplus", nn.Softplus),
        ("sigmoid", nn.Sigmoid),
        ("tanh", nn.Tanh),
        ("softmax", nn.Softmax),
    ],
)
def test_activations_by_name(name, made):
    for given in (dense(W, B, activation=name), layer("Activation", config={"activation": name})):
        model = nn.from_keras(sequential(dense(np.eye(5, dtype="f4")), given), backend="numpy")
        assert type(model.layers[-1]) is made
    assert getattr(model.layers[-1], "alpha", 0.2 if made is nn.LeakyReLU else None) in (0.2, 1.0, None)


def test_activations_as_layers():
    given = sequential(
        dense(W, B),
        layer("ReLU", config={"max_value": None, "negative_slope": 0.0, "threshold": 0.0}),
        layer("ReLU", config={"max_value": None, "negative_slope": 0.2, "threshold": 0.0}),
        layer("LeakyReLU", config={"negative_slope": 0.1}),
        layer("ELU", config={"alpha": 0.5}),
        layer("Softmax", config={"axis": -1}),
    )
    text = repr(nn.from_keras(given, backend="numpy").layers)
    assert text == "(Dense(5, 3), ReLU(), LeakyReLU(alpha=0.2), LeakyReLU(alpha=0.1), ELU(alpha=0.5), Softmax())"


L2 = {"class_name": "L2", "config": {"l2": 0.01}}

REFUSED = {
    "a penalty on outputs": (dense(W, B, activity_regularizer=L2), "'dense', Dense, .* it has activity_regularizer={"),
    "one of an activation": (
        layer("Activation", config={"activation": "relu", "activity_regularizer": L2}),
        "'activation', Activation, .* it has activity_regularizer={",
    ),
    "a constraint": (dense(W, B, kernel_constraint={"class_name": "NonNeg"}), "it has kernel_constraint={"),
    "one of biases": (dense(W, B, bias_constraint={"class_name": "NonNeg"}), "it has bias_constraint={"),
    "whole rows dropped": (layer("Dropout", config={"rate": 0.1, "noise_shape": (None, 1)}), "it has noise_shape="),
    "somebody's own": (
        layer("Dense", (W, B), home="mine"),
        "layer 'dense', Dense, cannot be taken over: it is of mine",
    ),
    "LoRA": (dense(W, B, W[:, :2], W[:2], lora_rank=2), "it has lora_rank=2, which nnfast does not have"),
    "int8": (
        layer("Dense", (B, W.astype("i1"), B), {"activation": "linear"}, quantization_mode="int8"),
        "it is quantized to int8",
    ),
    "another layer": (layer("Conv2D"), "layer 'conv2d', Conv2D, cannot be taken over: it has no counterpart"),
    "another activation": (
        dense(W, B, activation="selu"),
        "layer 'dense', Dense, cannot be taken over: its activation is 'selu'",
    ),
    "an activation of one's own": (dense(W, B, activation={"class_name": "function"}), "its activation is {"),
    "no weights": (dense(), "has no weights yet"),
    "relu6": (layer("ReLU", config={"max_value": 6.0}), "has max_value or threshold"),
    "softmax of columns": (layer("Softmax", config={"axis": 0}), "is along axis 0"),
    "another regularizer": (dense(W, kernel_regularizer={"class_name": "Orthogonal"}), "its regularizer is"),
    "the inverse": (layer("Normalization", config={"axis": -1, "invert": True}), "invert=True"),
    "all dropped": (layer("Dropout", config={"rate": 1.0}), "layer 'dropout', Dropout, cannot be taken over: rate"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_named(name):
    given, words = REFUSED[name]
    with pytest.raises(OptionError, match=words):
        nn.from_keras(sequential(dense(np.eye(5, dtype="f4")), given))


def test_a_dense_that_is_there_twice_is_refused_and_an_activation_is_not():
    square, act = dense(np.eye(5, dtype="f4")), layer("ReLU")
    model = nn.from_keras(sequential(square, act, dense(W, B), act), backend="numpy")
    assert repr(model.layers) == "(Dense(5, 5), ReLU(), Dense(5, 3), ReLU())"
    with pytest.raises(OptionError, match="layer 'dense', Dense, cannot be taken over: it is there twice"):
        nn.from_keras(sequential(square, act, square))


def test_what_is_no_sequential():
    for given in (None, "net", dense(W), nn.Model([nn.Dense(2, 2)])):
        with pytest.raises(DTypeError, match="expected a keras"):
            nn.from_keras(given)
    with pytest.raises(DTypeError, match="float32 and float64"):
        nn.from_keras(sequential(dense(W), dense(np.eye(3))))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras' own get_weights
def test_keras_itself(monkeypatch):
    if importlib.util.find_spec("keras") is None or importlib.util.find_spec("jax") is None:
        pytest.skip("needs Keras, on JAX")
    monkeypatch.setitem(os.environ, "KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "jax"))
    import keras

    layers = keras.layers
    scaling = layers.Normalization()
    scaling.adapt(X.astype("f4"))
    for activation in ("relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "sigmoid", "tanh", "softmax"):
        given = keras.Sequential(
            [
                keras.Input((5,)),
                scaling,
                layers.Dense(4, activation=activation, bias_initializer="random_normal"),
                layers.Dropout(0.2),
                layers.Dense(3, use_bias=False, activation="softmax"),
            ]
        )
        model = nn.from_keras(given, backend="numpy")
        np.testing.assert_allclose(model.predict(X), np.asarray(given(X.astype("f4"))), rtol=1e-4, atol=1e-6)
    lora, quantized = layers.Dense(3), layers.Dense(3)
    refused = {
        "it has activity_regularizer": layers.ReLU(activity_regularizer="l2"),
        "it has kernel_constraint": layers.Dense(3, kernel_constraint="non_neg"),
        "it has lora_rank=2": lora,
        "it is quantized to int8": quantized,
    }
    for words, layer in refused.items():
        given = keras.Sequential([keras.Input((5,)), layer])
        if layer is lora:
            lora.enable_lora(2)
        if layer is quantized:
            quantized.quantize("int8")
        with pytest.raises(OptionError, match=words):
            nn.from_keras(given)
