"""Whole models for the checks of training: four fixed ones, and as many random ones as one likes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

import nnfast as nn
from nnfast.protocol import Array

__all__ = ["MODELS", "Task", "random_task", "smooth_task"]

ROWS = 70


class Task(NamedTuple):
    """A model to be made anew on any backend, and its data. `batch_size` leaves a short batch over."""

    name: str
    make: Callable[..., nn.Model]  # with backend= and dtype=
    X: Array
    y: Array
    batch_size: int


def _task(name: str, layers: Any, loss: Any, optimizer: Any, kind: str, outputs: int, metrics: Any = ()) -> Task:
    def make(**where: Any) -> nn.Model:
        return nn.Model(layers(), loss(), optimizer(), metrics, rng=3, **where)

    rng = np.random.default_rng(5)
    X = rng.standard_normal((ROWS, 7))
    return Task(name, make, X, _targets(rng, kind, ROWS, outputs), 32)


def _targets(rng: np.random.Generator, kind: str, rows: int, outputs: int) -> Array:
    if kind == "labels":
        return rng.integers(0, outputs, rows)
    if kind == "soft":
        return rng.dirichlet(np.ones(outputs), rows)
    if kind == "bits":
        return rng.integers(0, 2, (rows, outputs)).astype(np.float64)
    if kind == "positive":
        return rng.uniform(0, 3, (rows, outputs))
    return rng.standard_normal((rows, outputs))


def _fixed() -> list[Task]:
    def classifier() -> list[Any]:
        return [nn.Dense(7, 19, weight_l2=1e-3), nn.ReLU(), nn.Dropout(0.2), nn.Dense(19, 5, bias_l1=1e-3)]

    def regressor() -> list[Any]:
        return [nn.Dense(7, 16), nn.Tanh(), nn.Dense(16, 9), nn.ELU(0.7), nn.Dense(9, 2)]

    def bits() -> list[Any]:
        return [nn.Dense(7, 33), nn.LeakyReLU(0.1), nn.Dense(33, 3)]

    def wide() -> list[Any]:
        return [nn.Dense(7, 130), nn.ReLU(), nn.Dense(130, 67), nn.Softplus(), nn.Dense(67, 10)]

    def smoothed() -> nn.Loss:
        return nn.SoftmaxCrossEntropy(label_smoothing=0.1)

    def clipped() -> nn.SGD:
        return nn.SGD(0.05, momentum=0.9, nesterov=True, clip_norm=1.0)

    def adam() -> nn.Adam:
        return nn.Adam(0.01, decay=1e-3)

    return [
        _task("classifier", classifier, nn.SoftmaxCrossEntropy, adam, "labels", 5, ["accuracy"]),
        _task("regressor", regressor, nn.MeanSquaredError, clipped, "numbers", 2, ["r2"]),
        _task("bits", bits, nn.SigmoidBinaryCrossEntropy, lambda: nn.RMSprop(0.003), "bits", 3, ["binary_accuracy"]),
        _task("wide", wide, smoothed, lambda: nn.AdamW(0.003, weight_decay=0.05), "soft", 10),
    ]


MODELS: Mapping[str, Task] = {task.name: task for task in _fixed()}

SMOOTH: list[Callable[[], Any]] = [nn.Tanh, nn.Sigmoid, nn.Softplus, nn.GELU, nn.SiLU, lambda: nn.ELU(1.0), nn.Softmax]
KINKED: list[Callable[[], Any]] = [nn.ReLU, lambda: nn.LeakyReLU(0.2), lambda: nn.ELU(0.3), lambda: nn.Dropout(0.3)]
LOSSES: list[tuple[Callable[[], Any], str]] = [
    (nn.SoftmaxCrossEntropy, "labels"),
    (nn.SoftmaxCrossEntropy, "soft"),
    (lambda: nn.SoftmaxCrossEntropy(label_smoothing=0.2), "labels"),
    (nn.SigmoidBinaryCrossEntropy, "bits"),
    (nn.MeanSquaredError, "numbers"),
    (nn.Poisson, "positive"),
]
KINKED_LOSSES: list[tuple[Callable[[], Any], str]] = [(nn.MeanAbsoluteError, "numbers"), (nn.Huber, "numbers")]
OPTIMIZERS: list[Callable[[], Any]] = [
    lambda: nn.SGD(0.05, momentum=0.9),
    lambda: nn.SGD(0.1, decay=1e-2, clip_norm=0.5),
    lambda: nn.Adagrad(0.05),
    lambda: nn.RMSprop(0.003),
    lambda: nn.Adam(0.01),
    lambda: nn.AdamW(0.01, decay_biases=False),
]


def random_task(number: int, *, smooth: bool = False) -> Task:
    """One to four dense layers with any activations, loss, optimizer, penalties and batch size."""
    rng = np.random.default_rng(number)
    widths = [int(n) for n in np.ceil(150 ** rng.uniform(0.1, 1, rng.integers(2, 6)))]
    activations = SMOOTH if smooth else SMOOTH + KINKED
    chosen = [activations[i] for i in rng.integers(len(activations), size=len(widths))]
    strengths = [{"weight_l2": float(s)} if s > 0 else {} for s in rng.uniform(-1e-3, 1e-3, len(widths))]
    losses = LOSSES if smooth else LOSSES + KINKED_LOSSES
    loss, kind = losses[rng.integers(len(losses))]
    optimizer = OPTIMIZERS[rng.integers(len(OPTIMIZERS))]

    def make(**where: Any) -> nn.Model:
        layers: list[Any] = []
        for i in range(len(widths) - 1):
            layers += [nn.Dense(widths[i], widths[i + 1], "glorot_uniform", **strengths[i]), chosen[i]()]
        return nn.Model(layers[:-1], loss(), optimizer(), rng=number, **where)

    rows = int(rng.integers(1, 120))
    X, y = rng.standard_normal((rows, widths[0])), _targets(rng, kind, rows, widths[-1])
    return Task(f"random {number}", make, X, y, int(rng.integers(1, rows + 1)))


def smooth_task(number: int) -> Task:
    """A random one without kinks, whose gradient differences can tell."""
    return random_task(number, smooth=True)
