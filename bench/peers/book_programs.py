"""The five reference programs in the book's own arithmetic, each whole: what nnfast's examples are timed against.

    python bench/peers/book_programs.py NAME [--epochs N]

The same data, initial weights, epochs and figures per epoch as `python -m nnfast.examples.NAME` without options, and
`--epochs` means the same. It prints one line of JSON: for each run the figures of the last epoch, and under "course"
those of some epochs on the way, as {epoch: [accuracy, loss]}, counted as the examples print them.

Only NumPy is loaded. Of the book's faults two concern these programs, and neither is here: it updates with a rate that
does not decay, and its perturbing search never undoes a bad step.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from cases.networks import BETAS, EPSILON

from peers.book import SGD, Adam, CategoricalCrossEntropy, MeanSquaredError, Network, SoftmaxCrossEntropy

__all__ = ["PROGRAMS"]

Array = np.ndarray[Any, np.dtype[Any]]
Right = Callable[[Array, Array], float]  # the accuracy of answers

SAMPLES, CLASSES = 100, 3
KEPT = (0, 10, 50, 100, 150, 199, 200, 500, *range(1_000, 10_000, 1_000), 9_900, 9_999, 10_000)  # epochs in the course
NOISE = 0.05  # of the random search's candidates
LAMBDA = 1e-3  # of the case study: its penalty is λ/2·ΣW²


# ---- data and weights, in the order in which the book draws them ----------------------------------------------------


def spiral(rng: np.random.RandomState, turns: float = 2.5) -> tuple[Array, Array]:
    X = np.zeros((SAMPLES * CLASSES, 2))
    for c in range(CLASSES):
        r = np.linspace(0.0, 1, SAMPLES)
        t = np.linspace(c * 4, (c + 1) * 4, SAMPLES) + rng.randn(SAMPLES) * 0.2
        X[c * SAMPLES : (c + 1) * SAMPLES] = np.c_[r * np.sin(t * turns), r * np.cos(t * turns)]
    return X.astype(np.float32), labels()


def vertical(rng: np.random.RandomState) -> tuple[Array, Array]:
    X = np.zeros((SAMPLES * CLASSES, 2))
    for c in range(CLASSES):
        rows = slice(c * SAMPLES, (c + 1) * SAMPLES)
        X[rows] = np.c_[rng.randn(SAMPLES) * 0.1 + c / 3, rng.randn(SAMPLES) * 0.1 + 0.5]
    return X.astype(np.float32), labels()


def labels() -> Array:
    return np.repeat(np.arange(CLASSES, dtype=np.uint8), SAMPLES)


def sine() -> tuple[Array, Array]:
    X = np.arange(1000).reshape(-1, 1) / 1000
    return X.astype(np.float32), np.sin(2 * np.pi * X).astype(np.float32)


def weights(rng: np.random.RandomState, scale: float, *widths: int) -> list[Array]:
    """[W1, b1, W2, b2, …]"""
    arrays: list[Array] = []
    for i, o in pairwise(widths):
        arrays += [(scale * rng.randn(i, o)).astype(np.float32), np.zeros(o, np.float32)]
    return arrays


# ---- what the programs share ----------------------------------------------------------------------------------------


def share_right(output: Array, y: Array) -> float:
    """Of samples whose largest output is that of their class."""
    return float(np.mean(np.argmax(output, axis=1) == y))


def train(network: Network, X: Array, y: Array, epochs: int, right: Right = share_right) -> dict[str, Any]:
    """Full batches; loss and accuracy of every epoch, from before its update."""
    figures = []
    for _ in range(epochs):
        loss = network.forward(X, y) + network.penalty()
        figures.append((right(network.loss.output, y), loss))
        network.backward(y)
        network.optimizer.update(network.dense)
    kept = sorted({e for e in KEPT if e < epochs} | {epochs - 1})
    accuracy, loss = figures[-1]
    return {"loss": loss, "accuracy": accuracy, "course": {e: figures[e] for e in kept}}


# ---- the programs ---------------------------------------------------------------------------------------------------


def losses(epochs: int | None) -> dict[str, Any]:
    """Losses and accuracy by hand, then those of a network that has learned nothing; trains nothing."""
    softmax = np.array([[0.7, 0.1, 0.2], [0.1, 0.5, 0.4], [0.02, 0.9, 0.08]])
    guesses = np.array([[0.7, 0.2, 0.1], [0.5, 0.1, 0.4], [0.02, 0.9, 0.08]])
    y, one_hot, first = np.array([0, 1, 1]), np.eye(3)[[0, 1, 1]], np.array([0])
    loss = CategoricalCrossEntropy()
    by_hand = {f"loss of sample {i}": float(each) for i, each in enumerate(loss.each(softmax, y))}
    by_hand |= {
        "mean loss, class numbers": loss.forward(softmax, y),
        "mean loss, one-hot rows": loss.forward(softmax, one_hot),
        "loss at probability 0 (clipped to 1e-7)": loss.forward(np.array([[0.0, 1.0]]), first),
        "loss at probability 1 (clipped to 1 - 1e-7)": loss.forward(np.array([[1.0, 0.0]]), first),
        "accuracy, class numbers": share_right(guesses, y),
        "accuracy, one-hot rows": share_right(guesses, np.argmax(one_hot, axis=1)),
    }
    rng = np.random.RandomState(0)
    X, y = spiral(rng)
    network = Network(weights(rng, 0.01, 2, 3, 3), SoftmaxCrossEntropy(), None)
    network.forward(X[:5], y[:5])
    third = network.loss.output[2].tolist()
    whole = network.forward(X, y)
    return by_hand | {
        "third row of the output": third,
        "loss": whole,
        "accuracy": share_right(network.loss.output, y),
    }


def random_search(epochs: int | None) -> dict[str, Any]:
    return {mode: searched(mode, epochs or 10_000) for mode in ("sample", "perturb")}


def searched(mode: str, candidates: int) -> dict[str, Any]:
    """Candidates drawn anew, or as steps from the best so far, which go back where they do not help."""
    rng = np.random.RandomState(0)
    X, y = vertical(rng)
    network = Network(weights(rng, 0.01, 2, 3, 3), SoftmaxCrossEntropy(), None)
    best = [(layer.weights.copy(), layer.biases.copy()) for layer in network.dense]
    lowest, reached = 9999999.0, 0.0
    for _ in range(candidates):
        for layer, (w, b) in zip(network.dense, best, strict=True):
            new_w = (NOISE * rng.randn(*w.shape)).astype(np.float32)
            new_b = (NOISE * rng.randn(*b.shape)).astype(np.float32)
            if mode == "perturb":
                layer.weights += new_w
                layer.biases += new_b
            else:
                layer.weights, layer.biases = new_w, new_b
        loss = network.forward(X, y)
        accuracy = share_right(network.loss.output, y)
        if loss < lowest:
            best = [(layer.weights.copy(), layer.biases.copy()) for layer in network.dense]
            lowest, reached = loss, accuracy
        elif mode == "perturb":
            for layer, (w, b) in zip(network.dense, best, strict=True):
                layer.weights, layer.biases = w.copy(), b.copy()
    return {"loss": lowest, "accuracy": reached, "course": {candidates: (reached, lowest)}}


def optimizers(epochs: int | None) -> dict[str, Any]:
    """The first run: gradient descent at rate 1."""
    rng = np.random.RandomState(0)
    X, y = spiral(rng)
    network = Network(weights(rng, 0.01, 2, 64, 3), SoftmaxCrossEntropy(), SGD(1.0))
    return {"SGD": train(network, X, y, epochs or 10_001)}


def regression(epochs: int | None) -> dict[str, Any]:
    """The last row of its table."""
    X, y = sine()
    start = weights(np.random.RandomState(0), 0.1, 1, 64, 64, 1)
    network = Network(start, MeanSquaredError(), Adam(0.005, 1e-3, EPSILON, BETAS))
    precision = np.std(y) / 250

    def right(output: Array, y: Array) -> float:
        return float(np.mean(np.absolute(output - y) < precision))

    return {"Adam": train(network, X, y, epochs or 10_001, right)}


def case_study(epochs: int | None) -> dict[str, Any]:
    found = {}
    for name, widths, usual in [("linear", (2, 3), 200), ("network", (2, 100, 3), 10_000)]:
        rng = np.random.RandomState(0)
        X, y = spiral(rng, turns=1.0)
        network = Network(weights(rng, 0.01, *widths), SoftmaxCrossEntropy(), SGD(1.0), LAMBDA / 2)
        run = train(network, X, y, epochs or usual)
        network.forward(X, y)
        found[name] = run | {"afterwards": share_right(network.loss.output, y)}
    return found


PROGRAMS: dict[str, Callable[[int | None], dict[str, Any]]] = {
    "losses": losses,
    "random_search": random_search,
    "optimizers": optimizers,
    "regression": regression,
    "case_study": case_study,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="A reference program in the book's NumPy arithmetic.")
    parser.add_argument("name", choices=PROGRAMS)
    parser.add_argument("--epochs", type=int, metavar="N", help="train for N epochs, whatever the program says")
    options = parser.parse_args()
    if options.epochs is not None and options.epochs < 1:
        parser.error(f"--epochs {options.epochs}: at least 1")
    print(json.dumps(PROGRAMS[options.name](options.epochs)))


if __name__ == "__main__":
    main()
