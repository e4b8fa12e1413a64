"""scikit-learn's MLPClassifier and MLPRegressor with solver "adam".

`fit` with warm_start, so that one call trains many epochs: `partial_fit` would check its data anew for each. Each `fit`
begins with fresh moments, which is no less work. Left as it is, this would be a slightly different training: it adds
epsilon before the bias correction, and its squared error has a factor 1/2. `Corrected` makes up for both.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from cases.networks import BETAS, EPSILON, RATE, Case
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor, _multilayer_perceptron
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer

from peers import Trainer

__all__ = ["ScikitLearn", "trainer"]


class Corrected(AdamOptimizer):
    """m̂/(√v̂ + ε) as everybody else has it: √(1 − β₂ᵗ)·ε before the correction is ε after it."""

    scale = 1.0  # of the gradients

    def _get_updates(self, grads: Any) -> Any:
        self.epsilon = self.scale * EPSILON * (1 - self.beta_2 ** (self.t + 1)) ** 0.5
        return super()._get_updates(grads)


_multilayer_perceptron.AdamOptimizer = Corrected  # it has no argument for that; this process has no other use for it


class Given(np.random.RandomState):
    """A random state that shuffles rows into the orders it was given."""

    orders: Any = None

    def begin(self, orders: Any) -> None:
        """scikit-learn shuffles the last epoch's order again, so each order is expressed through the one before."""
        before = np.arange(orders.shape[1])
        self.orders = []
        for order in orders:
            self.orders.append(np.argsort(before)[order])
            before = order

    def shuffle(self, x: Any) -> None:
        x[:] = self.orders.pop(0)


class ScikitLearn(Trainer):
    def __init__(self, case: Case) -> None:
        super().__init__(case)
        Corrected.scale = 1.0 if case.loss == "softmax" else 0.5
        self.random = Given(0)
        make = MLPClassifier if case.loss == "softmax" else MLPRegressor
        self.model = make(
            hidden_layer_sizes=case.widths[1:-1],
            solver="adam",
            alpha=0.0,
            batch_size=case.batch_size,
            learning_rate_init=RATE,
            max_iter=1,
            shuffle=False,
            random_state=self.random,
            tol=0.0,
            warm_start=True,
            beta_1=BETAS[0],
            beta_2=BETAS[1],
            n_iter_no_change=np.inf,
        )
        self.y = case.y if case.loss == "softmax" else case.y[:, 0]
        self._fit()  # makes the arrays that the weights are then copied into
        weights = case.weights()
        self.model.coefs_, self.model.intercepts_ = weights[::2], weights[1::2]
        self.model.shuffle = case.shuffle

    def prepare(self, epochs: int) -> None:
        super().prepare(epochs)
        if self.orders is not None:
            self.random.begin(self.orders)

    def run(self, epochs: int) -> None:
        self.model.max_iter = epochs
        self._fit()

    def _fit(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.model.fit(self.case.X, self.y)

    def results(self) -> list[Any]:
        return [a for pair in zip(self.model.coefs_, self.model.intercepts_, strict=True) for a in pair]


def trainer(case: Case) -> ScikitLearn:
    return ScikitLearn(case)
