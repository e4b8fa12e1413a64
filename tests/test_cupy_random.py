"""Random networks, data and settings trained on the GPU backend and on the reference: the same to nine digits.

More of them: `NNFAST_RANDOM_NETWORKS=2000 pytest tests/test_cupy_random.py`.
"""

from __future__ import annotations

import itertools
import os
import warnings

import numpy as np
import pytest
from gpu_models import difference, simulated, why_not_simulated

import nnfast as nn

pytestmark = pytest.mark.skipif(bool(why_not_simulated), reason=str(why_not_simulated))

COUNT = int(os.environ.get("NNFAST_RANDOM_NETWORKS", "80"))
ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Sigmoid, nn.Tanh, nn.Softmax, nn.Linear)
OPTIMIZERS = (
    lambda: nn.Adam(0.01, decay=0.01),
    lambda: nn.AdamW(0.01),
    lambda: nn.SGD(0.05),
    lambda: nn.SGD(0.02, momentum=0.9, nesterov=True),
    lambda: nn.RMSprop(0.001),
)
LOSSES = (
    lambda: nn.SoftmaxCrossEntropy(0.1),
    nn.SoftmaxCrossEntropy,
    nn.SigmoidBinaryCrossEntropy,
    nn.MeanSquaredError,
    lambda: nn.Huber(0.7),
)


def pick(rng, options):
    return options[rng.integers(len(options))]


def layers(rng, widths):
    found = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        strengths = {name: 1e-3 for name in ("weight_l1", "weight_l2", "bias_l2") if rng.random() < 0.1}
        found.append(nn.Dense(inputs, outputs, **strengths))
        if i == len(widths) - 2:
            return found
        found.append(nn.ReLU() if rng.random() < 0.4 else pick(rng, ACTIVATIONS)())
        if rng.random() < 0.3:
            found.append(nn.Dropout(pick(rng, (0.1, 0.5))))
    return found


def network(rng):
    widths = [int(n) for n in rng.integers(1, 40, rng.integers(2, 5))]
    optimizer = pick(rng, OPTIMIZERS)()
    if rng.random() < 0.3:
        optimizer.clip_norm = pick(rng, (0.05, 1.0, 10.0))
    model = nn.Model(layers(rng, widths), pick(rng, LOSSES)(), optimizer, backend="numpy", dtype="float64", rng=rng)
    dense = [layer for layer in model.layers if isinstance(layer, nn.Dense)]
    if len(dense) > 1 and rng.random() < 0.2:
        pick(rng, dense).trainable = False
    return model


def data(rng, model):
    rows, classes = int(rng.integers(1, 90)), model.n_outputs
    X = rng.standard_normal((rows, model.n_inputs))
    if isinstance(model.loss, nn.SoftmaxCrossEntropy):
        y = rng.integers(0, classes, rows)
        return X, np.eye(classes)[y] if rng.random() < 0.3 else y
    return X, rng.uniform(0, 1, (rows, classes))


def settings(rng, X, y):
    rows = len(X)
    chosen = {"epochs": int(rng.integers(1, 4)), "shuffle": bool(rng.random() < 0.7), "verbose": 0}
    if rng.random() < 0.8:
        chosen["batch_size"] = int(rng.integers(max(rows // 4, 1), rows + 1))
    if rng.random() < 0.3:
        chosen["sample_weight"] = rng.uniform(0.1, 2, rows)
    if rng.random() < 0.15:
        chosen["accumulate"] = 2
    if rng.random() < 0.2:
        chosen["on_gradients"] = lambda flat: None
    if rng.random() < 0.2:
        chosen["validation_data"] = (X[:7], y[:7])
    return chosen


@pytest.mark.parametrize("seed", range(COUNT))
def test_a_random_network_trains_as_on_the_reference(seed, monkeypatch):
    monkeypatch.setenv("NNFAST_GPU_TUNING", "0")
    rng = np.random.default_rng(seed)
    reference = network(rng)
    model = reference.to(backend=simulated())
    for own, twin in zip(reference.layers, model.layers, strict=True):
        twin.trainable = own.trainable
    X, y = data(rng, reference)
    chosen = settings(rng, X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a rate may be too large for a network; then both say so
        a, b = reference.fit(X, y, **chosen), model.fit(X, y, **chosen)
    assert difference(reference, model) < 1e-9
    for name, values in a.history.items():
        assert b.history[name] == pytest.approx(values, rel=1e-8, abs=1e-10), name
    assert model.backend.to_numpy(model.predict(X)) == pytest.approx(reference.predict(X), rel=1e-8, abs=1e-10)
