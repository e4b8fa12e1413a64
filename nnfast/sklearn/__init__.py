"""scikit-learn's MLPClassifier and MLPRegressor, computed by nnfast. The only part of nnfast that loads scikit-learn.

classifier, regressor  the two classes; `base` holds what they share, `options` checks their arguments
network                the nnfast model behind an estimator
optimizers             Adam and SGD with scikit-learn's conventions
descent                epochs in scikit-learn's row order; `stopping` ends them, `lbfgs` is the solver of that name
held_out               the rows that early stopping sets aside
converting             `from_sklearn` and `to_sklearn`
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("sklearn") is None:
    raise ImportError('nnfast.sklearn needs scikit-learn: pip install "nnfast[sklearn]"')

from nnfast.sklearn.classifier import MLPClassifier
from nnfast.sklearn.converting import from_sklearn, to_sklearn
from nnfast.sklearn.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "from_sklearn", "to_sklearn"]
