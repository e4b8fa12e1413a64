"""Keras 3 on its JAX backend as its users write it: Sequential, compile, and one `fit` over all epochs.

In its favour: `steps_per_execution` is a whole epoch, which its documentation recommends for small models and which
halved the time of small steps; labels are int32 beforehand, which JAX would otherwise make of them batch by batch. Of
the other ways to feed it, generators and PyDatasets gave the same figures within a tenth or two, and `train_on_batch`
took twice as long or more. What `fit` does around every epoch is in the figures, so where an epoch is a single batch
they are mostly that. Reshuffled rows are laid in order outside and given to one `fit` an epoch, because `fit` shuffles
in an order of its own only.

Left as it is, this would be a slightly different training: it adds epsilon before the bias correction. `Corrected`
makes up for that at the cost of a few scalars.
"""

from __future__ import annotations

import os
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np
from cases.networks import BETAS, EPSILON, RATE, Case
from keras import ops

from peers import Trainer

__all__ = ["Keras", "trainer"]


class Corrected(keras.optimizers.Adam):
    """m̂/(√v̂ + ε) as everybody else has it: √(1 − β₂ᵗ)·ε before the correction is ε after it."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        step = ops.cast(self.iterations + 1, variable.dtype)
        self.epsilon = EPSILON * ops.sqrt(1 - ops.power(ops.cast(self.beta_2, variable.dtype), step))
        super().update_step(gradient, variable, learning_rate)
        self.epsilon = EPSILON  # what was there is a name in a graph, not a number


class Keras(Trainer):
    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.X, self.y = case.X, case.y.astype(np.int32 if case.loss == "softmax" else np.float32)
        *hidden, outputs = case.widths[1:]
        layers = [keras.layers.Dense(width, activation="relu") for width in hidden]
        self.model = keras.Sequential([keras.Input((case.widths[0],)), *layers, keras.layers.Dense(outputs)])
        self.model.set_weights(case.weights())
        softmax = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(
            Corrected(RATE, *BETAS, EPSILON),
            softmax if case.loss == "softmax" else keras.losses.MeanSquaredError(),
            jit_compile=True,
            steps_per_execution=case.steps_per_epoch,
        )

    def run(self, epochs: int) -> None:
        if self.orders is None:
            self._fit(self.X, self.y, epochs)
        else:
            for rows in self.orders:
                self._fit(self.X[rows], self.y[rows], 1)

    def _fit(self, X: Any, y: Any, epochs: int) -> None:
        self.model.fit(X, y, batch_size=self.case.batch_size, epochs=epochs, verbose=0, shuffle=False)

    def again(self) -> None:
        self._epochs = 0
        self.model.set_weights(self.case.weights())
        optimizer = self.model.optimizer
        for variable in optimizer.variables:  # moments and the count of steps
            if variable is not optimizer._learning_rate:
                variable.assign(np.zeros(variable.shape, variable.dtype))

    def results(self) -> list[Any]:
        weights: list[Any] = self.model.get_weights()
        return weights


def trainer(case: Case) -> Keras:
    return Keras(case)
