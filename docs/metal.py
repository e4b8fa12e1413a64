"""One network trained four ways, from the book's loop to compiled code and a GPU: the same losses, and how long a step
takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from timing import best_of_rounds, duration, machine

import nnfast as nn
from nnfast.compat import nnfs
from nnfast.text import table

STEPS = 50  # of one call


class Task(NamedTuple):
    """A network with one hidden layer, and the rows it is trained on, all at once."""

    widths: tuple[int, int, int]
    X: np.ndarray
    y: np.ndarray

    def __str__(self) -> str:
        return f"{'-'.join(map(str, self.widths))}, batch {len(self.X)}"


def tasks() -> list[Task]:
    rng = np.random.default_rng(0)
    X, y = nn.datasets.spiral(100, 3, rng=0)
    pixels, digits = rng.random((128, 784), np.float32), rng.integers(0, 10, 128)
    return [Task((2, 64, 3), X.astype(np.float32), y), Task((784, 128, 10), pixels, digits)]


def weights(task: Task) -> list[np.ndarray]:
    """Where every way begins."""
    rng, (i, h, o) = np.random.default_rng(1), task.widths
    return [0.05 * rng.standard_normal((i, h)), np.zeros(h), 0.05 * rng.standard_normal((h, o)), np.zeros(o)]


def book(task: Task, backend: str) -> Callable[[], float]:
    """The book's loop, call by call."""
    with nn.use_backend(backend):
        i, h, o = task.widths
        dense1, activation1, dense2 = nnfs.Layer_Dense(i, h), nnfs.Activation_ReLU(), nnfs.Layer_Dense(h, o)
        w1, b1, w2, b2 = weights(task)
        dense1.weights, dense1.biases, dense2.weights, dense2.biases = w1, b1[None], w2, b2[None]
        loss_activation = nnfs.Activation_Softmax_Loss_CategoricalCrossentropy()
        optimizer = nnfs.Optimizer_Adam(learning_rate=0.01)

    def run() -> float:
        with nn.use_backend(backend):
            return [step() for _ in range(STEPS)][-1]

    def step() -> float:
        dense1.forward(task.X)
        activation1.forward(dense1.output)
        dense2.forward(activation1.output)
        loss = loss_activation.forward(dense2.output, task.y)
        loss_activation.backward(loss_activation.output, task.y)
        dense2.backward(loss_activation.dinputs)
        activation1.backward(dense2.dinputs)
        dense1.backward(activation1.dinputs)
        optimizer.pre_update_params()
        optimizer.update_params(dense1)
        optimizer.update_params(dense2)
        optimizer.post_update_params()
        return float(loss)

    return run


def model(task: Task, backend: str) -> Callable[[], float]:
    """The same as a model, whose steps the backend runs."""
    i, h, o = task.widths
    layers = [nn.Dense(i, h), nn.ReLU(), nn.Dense(h, o)]
    network = nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.Adam(0.01), backend=backend)
    network.set_weights(weights(task))
    return lambda: float(network.fit(task.X, task.y, epochs=STEPS, verbose=0).history["loss"][-1])


WAYS = {
    "the book's loop, numpy": (book, "numpy"),
    "the book's loop, numba": (book, "numba"),
    "nn.Model, numpy": (model, "numpy"),
    "nn.Model, numba": (model, "numba"),
    "nn.Model, cupy": (model, "cupy"),
}


def main() -> None:
    there = nn.available_backends()
    usable = {name: way for name, way in WAYS.items() if there[way[1]]}
    for task in tasks():
        losses = {name: way(task, backend)() for name, (way, backend) in usable.items()}
        np.testing.assert_allclose(list(losses.values()), next(iter(losses.values())), rtol=1e-3)  # before any timing
        calls = {name: way(task, backend) for name, (way, backend) in usable.items()}
        seconds = {name: best / STEPS for name, best in best_of_rounds(calls).items()}
        slowest = next(iter(seconds.values()))
        rows = [[name, duration(s), f"{slowest / s:.1f}", f"{losses[name]:.5f}"] for name, s in seconds.items()] + [
            [name, "skipped", "", ""] for name in WAYS if name not in usable
        ]
        print(table([str(task), "a step", "times as fast", f"loss of step {STEPS}"], rows, right=(1, 2, 3)))
        print()
    for backend, reason in there.items():
        if not reason and backend in {backend for _, backend in WAYS.values()}:
            print(f"{backend} skipped: {str(reason).partition(';')[0]}")
    print(f"Best of several rounds on {machine()}")


if __name__ == "__main__":
    main()
