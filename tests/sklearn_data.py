"""What the tests of the estimators share: a little data, small settings, and what an estimator answers."""

from __future__ import annotations

import numpy as np

from nnfast.sklearn import MLPClassifier, MLPRegressor

X = np.random.default_rng(0).standard_normal((120, 5))
SIGNAL = X[:, 0] * X[:, 1] + X[:, 2]
Y = np.digitize(SIGNAL, [-0.7, 0.7])
SMALL = {"hidden_layer_sizes": (8,), "max_iter": 15, "random_state": 0}
BOTH = [(MLPClassifier, Y), (MLPRegressor, SIGNAL)]


def answers(estimator, rows=X):
    return estimator.predict_proba(rows) if hasattr(estimator, "predict_proba") else estimator.predict(rows)
