"""The "neural networks from scratch" book's arithmetic in plain NumPy: dense, ReLU, its losses, gradient descent, Adam.

Step for step what the book's classes compute, in the same order and with the same temporaries, in float32 throughout
(as its set-up call makes NumPy behave). Left out are what costs it time and would help us: attribute look-ups for
regularizers that are off, the accumulated loss of later chapters, accuracy (a step here computes none), and printing.
Kept is what it wastes: the first layer's gradient with respect to the data, and arrays of Adam's for the corrected
moments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from cases.networks import BETAS, EPSILON, RATE, Case

from peers import Trainer

__all__ = [
    "SGD",
    "Adam",
    "Book",
    "CategoricalCrossEntropy",
    "MeanSquaredError",
    "Network",
    "SoftmaxCrossEntropy",
    "trainer",
]

Array = np.ndarray[Any, np.dtype[Any]]


class Dense:
    """A layer with the state that the book's Adam keeps on it."""

    def __init__(self, weights: Array, biases: Array) -> None:
        self.weights, self.biases = weights.copy(), biases.reshape(1, -1).copy()
        self.weight_momentums, self.weight_cache = np.zeros_like(self.weights), np.zeros_like(self.weights)
        self.bias_momentums, self.bias_cache = np.zeros_like(self.biases), np.zeros_like(self.biases)

    def forward(self, inputs: Array) -> Array:
        self.inputs = inputs
        self.output = np.dot(inputs, self.weights) + self.biases
        return self.output

    def backward(self, dvalues: Array) -> Array:
        self.dweights = np.dot(self.inputs.T, dvalues)
        self.dbiases = np.sum(dvalues, axis=0, keepdims=True)
        return np.dot(dvalues, self.weights.T)


class Penalized(Dense):
    """A layer whose weights cost weight_l2·ΣW²."""

    weight_l2 = 0.0

    def penalty(self) -> float:
        return float(self.weight_l2 * np.sum(self.weights * self.weights))

    def backward(self, dvalues: Array) -> Array:
        dinputs = super().backward(dvalues)
        self.dweights += 2 * self.weight_l2 * self.weights
        return dinputs


class ReLU:
    def forward(self, inputs: Array) -> Array:
        self.inputs = inputs
        return np.maximum(0, inputs)

    def backward(self, dvalues: Array) -> Array:
        dinputs = dvalues.copy()
        dinputs[self.inputs <= 0] = 0
        return dinputs


class SoftmaxCrossEntropy:
    """Softmax and loss fused in backward only, as in the book."""

    def forward(self, inputs: Array, y_true: Array) -> float:
        exp_values = np.exp(inputs - np.max(inputs, axis=1, keepdims=True))
        self.output = exp_values / np.sum(exp_values, axis=1, keepdims=True)
        clipped = np.clip(self.output, 1e-7, 1 - 1e-7)
        return float(np.mean(-np.log(clipped[range(len(inputs)), y_true])))

    def backward(self, y_true: Array) -> Array:
        samples = len(self.output)
        dinputs = self.output.copy()
        dinputs[range(samples), y_true] -= 1
        return dinputs / samples


class CategoricalCrossEntropy:
    """On probabilities, for class numbers or one-hot rows; only forward: no program here trains through it."""

    def forward(self, y_pred: Array, y_true: Array) -> float:
        return float(np.mean(self.each(y_pred, y_true)))

    def each(self, y_pred: Array, y_true: Array) -> Array:
        """The loss of every sample."""
        clipped = np.clip(y_pred, 1e-7, 1 - 1e-7)
        right = clipped[range(len(y_pred)), y_true] if y_true.ndim == 1 else np.sum(clipped * y_true, axis=1)
        losses: Array = -np.log(right)
        return losses


class MeanSquaredError:
    def forward(self, inputs: Array, y_true: Array) -> float:
        self.output = inputs
        return float(np.mean(np.mean((y_true - inputs) ** 2, axis=-1)))

    def backward(self, y_true: Array) -> Array:
        samples, outputs = self.output.shape
        return -2 * (y_true - self.output) / outputs / samples


class SGD:
    """Gradient descent. The book computes the decayed rate and then updates with the initial one; not so here."""

    def __init__(self, learning_rate: float, decay: float = 0.0) -> None:
        self.learning_rate, self.decay = learning_rate, decay
        self.iterations = 0

    def update(self, layers: list[Dense]) -> None:
        rate = self.learning_rate * (1.0 / (1.0 + self.decay * self.iterations))
        for layer in layers:
            layer.weights += -rate * layer.dweights
            layer.biases += -rate * layer.dbiases
        self.iterations += 1


class Adam:
    def __init__(self, learning_rate: float, decay: float, epsilon: float, betas: tuple[float, float]) -> None:
        self.learning_rate, self.decay = learning_rate, decay
        self.epsilon, (self.beta_1, self.beta_2) = epsilon, betas
        self.iterations = 0

    def update(self, layers: list[Dense]) -> None:
        self.current_learning_rate = self.learning_rate * (1.0 / (1.0 + self.decay * self.iterations))
        for layer in layers:
            self.update_params(layer)
        self.iterations += 1

    def update_params(self, layer: Dense) -> None:
        b1, b2, step = self.beta_1, self.beta_2, self.iterations + 1
        layer.weight_momentums = b1 * layer.weight_momentums + (1 - b1) * layer.dweights
        layer.bias_momentums = b1 * layer.bias_momentums + (1 - b1) * layer.dbiases
        weight_momentums = layer.weight_momentums / (1 - b1**step)
        bias_momentums = layer.bias_momentums / (1 - b1**step)
        layer.weight_cache = b2 * layer.weight_cache + (1 - b2) * layer.dweights**2
        layer.bias_cache = b2 * layer.bias_cache + (1 - b2) * layer.dbiases**2
        weight_cache = layer.weight_cache / (1 - b2**step)
        bias_cache = layer.bias_cache / (1 - b2**step)
        rate = self.current_learning_rate
        layer.weights += -rate * weight_momentums / (np.sqrt(weight_cache) + self.epsilon)
        layer.biases += -rate * bias_momentums / (np.sqrt(bias_cache) + self.epsilon)


class Network:
    """Dense layers with ReLU between them, from given weights [W1, b1, W2, b2, …]."""

    def __init__(self, weights: list[Array], loss: Any, optimizer: Any, weight_l2: float = 0.0) -> None:
        kind = Penalized if weight_l2 else Dense
        self.dense = [kind(w, b) for w, b in zip(weights[::2], weights[1::2], strict=True)]
        for layer in self.dense:
            if isinstance(layer, Penalized):
                layer.weight_l2 = weight_l2
        self.relu = [ReLU() for _ in self.dense[1:]]
        self.loss, self.optimizer = loss, optimizer

    def forward(self, X: Array, y: Array) -> float:
        """The loss, without a penalty; what it was computed from is `loss.output` then."""
        values = self.dense[0].forward(X)
        for relu, dense in zip(self.relu, self.dense[1:], strict=True):
            values = dense.forward(relu.forward(values))
        loss: float = self.loss.forward(values, y)
        return loss

    def penalty(self) -> float:
        return sum(layer.penalty() for layer in self.dense if isinstance(layer, Penalized))

    def backward(self, y: Array) -> None:
        dvalues = self.dense[-1].backward(self.loss.backward(y))
        for relu, dense in zip(reversed(self.relu), reversed(self.dense[:-1]), strict=True):
            dvalues = dense.backward(relu.backward(dvalues))

    def step(self, X: Array, y: Array) -> float:
        """One training step; the loss from before it."""
        loss = self.forward(X, y)
        self.backward(y)
        self.optimizer.update(self.dense)
        return loss


class Book(Trainer):
    def __init__(self, case: Case) -> None:
        super().__init__(case)
        loss = SoftmaxCrossEntropy() if case.loss == "softmax" else MeanSquaredError()
        self.network = Network(case.weights(), loss, Adam(RATE, 0.0, EPSILON, BETAS))

    def run(self, epochs: int) -> None:
        X, y, size = self.case.X, self.case.y, self.case.batch_size
        for epoch in range(epochs):
            for start in range(0, len(X), size):
                rows = slice(start, start + size)
                if self.orders is not None:
                    rows = self.orders[epoch, rows]
                self.network.step(X[rows], y[rows])

    def results(self) -> list[Any]:
        return [a for layer in self.network.dense for a in (layer.weights, layer.biases[0])]


def trainer(case: Case) -> Book:
    return Book(case)
