"""A sweep, in a module that the processes of joblib and Dask can import."""

from __future__ import annotations

import os

from small_models import X, Y, classifier

import nnfast as nn

RATES = [0.01, 0.02, 0.05, 0.1]


def train(rate):
    """The final loss, the weights, and how many threads there were."""
    return trained(classifier(nn.Adam(rate), backend="numba"))


def trained(model):
    model.fit(X, Y, epochs=20, batch_size=32, verbose=0)
    return model.history.history["loss"][-1], model.parameters, nn.get_num_threads()


def fitted(model):
    trained(model)
    return model


def threads_of_a_fit(estimator):
    """How many threads an estimator's fit may use, and in which process."""
    estimator.fit(X, Y)
    return nn.get_num_threads(), os.getpid()
