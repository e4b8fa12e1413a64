"""Models that the tests of exporters share: one for each layer type, and how far another program may be off."""

from __future__ import annotations

import numpy as np

import nnfast as nn

RNG = np.random.default_rng(3)
X = RNG.standard_normal((40, 5)) * [1, 3, 0.2, 2, 1] + [0, 4, 1, -2, 0]

LAYERS = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.1),
    "elu": lambda: nn.ELU(0.7),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softmax": nn.Softmax,
    "linear": nn.Linear,
    "dropout": lambda: nn.Dropout(0.4),
    "standardize": lambda: nn.Standardize(np.arange(7) / 5 - 1, np.arange(7) / 3 + 0.5),
}


def network(middle, loss=None, dtype="float32", backend="numpy", scale=2.0):
    """Standardize, Dense, the layer, Dense; biases and weights that reach all of an activation's range."""
    first = nn.Standardize.fit(X)
    made = nn.Model([first, nn.Dense(5, 7), middle, nn.Dense(7, 3)], loss, dtype=dtype, backend=backend, rng=0)
    rng = np.random.default_rng(5)
    for layer in made.layers:
        if isinstance(layer, nn.Dense):
            layer.weights = scale * rng.standard_normal(layer.weights.shape)
            layer.biases = rng.standard_normal(layer.biases.shape)
    return made


class Cube(nn.PythonLayer):
    def compute(self, x, training):
        return x**3

    def gradient(self, dy):
        return dy
