"""What the tests of training share: a little data, three models, a short `fit`, and a spy."""

from __future__ import annotations

import numpy as np

import nnfast as nn

X, Y = nn.datasets.spiral(40, 3, 0)
TARGETS = (X[:, :1] * X[:, 1:]).astype(np.float32)
WIDE_X = np.random.default_rng(0).standard_normal((150, 64)).astype(np.float32)
WIDE_Y = np.random.default_rng(1).integers(0, 10, 150)


class Ridge(nn.Dense):
    """A dense layer with a penalty beside the loss of all rows together, so that each batch has a share of it."""

    scalars = (*nn.Dense.scalars, "lasso", "ridge")
    lasso, ridge = 0.01, 0.5

    def lower(self, b):
        super().lower(b)
        b.penalize("weights", "lasso", "ridge", by_batch=True)


def classifier(optimizer=None, **changes):
    layers = [nn.Dense(2, 16, weight_l2=1e-4), nn.ReLU(), nn.Dropout(0.1), nn.Dense(16, 3)]
    settings = {"loss": nn.SoftmaxCrossEntropy(), "optimizer": optimizer or nn.Adam(0.02), "metrics": ["accuracy"]}
    return nn.Model(layers, **(settings | {"backend": "numpy", "rng": 0} | changes))


def regressor(**changes):
    layers = [nn.Dense(2, 16), nn.Tanh(), nn.Dense(16, 1)]
    settings = {"loss": nn.MeanSquaredError(), "optimizer": nn.Adam(0.02), "metrics": ["r2"]}
    return nn.Model(layers, **(settings | {"backend": "numpy", "rng": 0} | changes))


def wide(backend="numba", optimizer=None, dtype="float32", hidden=256, rng=0, **settings):
    """Large enough that all ways of splitting the work are taken: parts, and weight gradients cut by inputs."""
    layers = [
        nn.Dense(64, hidden, "he_normal", weight_l2=1e-4, bias_l1=1e-4),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Dense(hidden, 40, "he_normal"),
        nn.Tanh(),
        nn.Dense(40, 10),
    ]
    optimizer = optimizer or nn.Adam(0.003, decay=1e-3)
    loss = settings.pop("loss", None) or nn.SoftmaxCrossEntropy()
    return nn.Model(layers, loss, optimizer, ["accuracy"], backend=backend, dtype=dtype, rng=rng, **settings)


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
