"""What the tests of training share: a little data, a classifier and a regressor, a short `fit`, and a spy."""

from __future__ import annotations

import numpy as np

import nnfast as nn

X, Y = nn.datasets.spiral(40, 3, 0)
TARGETS = (X[:, :1] * X[:, 1:]).astype(np.float32)


def classifier(optimizer=None, **changes):
    layers = [nn.Dense(2, 16, weight_l2=1e-4), nn.ReLU(), nn.Dropout(0.1), nn.Dense(16, 3)]
    settings = {"loss": nn.SoftmaxCrossEntropy(), "optimizer": optimizer or nn.Adam(0.02), "metrics": ["accuracy"]}
    return nn.Model(layers, **(settings | {"backend": "numpy", "rng": 0} | changes))


def regressor(**changes):
    layers = [nn.Dense(2, 16), nn.Tanh(), nn.Dense(16, 1)]
    settings = {"loss": nn.MeanSquaredError(), "optimizer": nn.Adam(0.02), "metrics": ["r2"]}
    return nn.Model(layers, **(settings | {"backend": "numpy", "rng": 0} | changes))


def fit(model, X=X, y=Y, **options):
    return model.fit(X, y, **({"epochs": 6, "batch_size": 32, "verbose": 0} | options)).history


class Spy(nn.PythonLayer):
    """Passes its input on, and keeps a copy of each batch in `seen`."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def compute(self, x, training):
        self.seen.append(x.copy())
        return x

    def gradient(self, dy):
        return dy
