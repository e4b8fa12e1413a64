"""scikit-learn's predictions by `MLPRegressor.predict`; a classifier gives labels, or a softmax by `predict_proba`.

In its favour: `assume_finite`, which its documentation recommends where latency counts.
"""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import sklearn
from cases.ops import OpCase
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from peers.timing import Predictor, given

__all__ = ["subject"]


class Predict(Predictor):
    def __init__(self, widths: tuple[int, ...], batch: int) -> None:
        weights, x = given(widths, batch)
        sklearn.set_config(assume_finite=True)
        self.model = MLPRegressor(hidden_layer_sizes=widths[1:-1], max_iter=1, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            y = np.zeros((2, widths[-1]), np.float32)
            self.model.fit(np.zeros((2, widths[0]), np.float32), y)  # makes the attributes that the weights replace
        self.model.coefs_, self.model.intercepts_ = weights[::2], weights[1::2]
        self.call = partial(self.model.predict, x)


def subject(case: OpCase, batch: int = 1) -> Predict:
    assert case.kind == "predict_one"
    return Predict(case.sizes, batch)
