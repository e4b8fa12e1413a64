"""`MLPRegressor`: scikit-learn's estimator of this name, computed by nnfast."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.special import xlogy
from sklearn.base import RegressorMixin
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import column_or_1d, validate_data

from nnfast import validation
from nnfast.errors import DataError
from nnfast.sklearn.base import DTYPES, Array, BaseMLP
from nnfast.sklearn.network import Network

__all__ = ["MLPRegressor"]


class MLPRegressor(RegressorMixin, BaseMLP):
    """A drop-in for `sklearn.neural_network.MLPRegressor` (as of scikit-learn 1.7 and newer), computed by nnfast.

    Conventions, and the arguments that scikit-learn does not have, are those of `nnfast.sklearn.MLPClassifier`. Losses:

    - "squared_error"  half the squared error, averaged over outputs. As in scikit-learn the gradient that training
                       follows is that of the sum over outputs; with several outputs the two differ by their number
    - "poisson"        half the Poisson deviance, Σ y·log(y/ŷ) − y + ŷ over outputs, for y ≥ 0; the network gives log ŷ
    """

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: int = 15000,
        backend: Any = None,
        dropout: float = 0.0,
        validation_data: Any = None,
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.backend = backend
        self.dropout = dropout
        self.validation_data = validation_data

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train on X (N, features) and y (N,) or (N, outputs)."""
        fitted: MLPRegressor = self._fit(X, y, sample_weight)
        return fitted

    @available_if(BaseMLP._check_solver)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """One epoch more on these rows."""
        fitted: MLPRegressor = self._fit(X, y, sample_weight, incremental=True)
        return fitted

    def predict(self, X: Any) -> Array:
        """Predictions (N,), or (N, outputs) for several outputs."""
        outputs = self._outputs(X)
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    # ---- for BaseMLP ------------------------------------------------------------------------------------------------

    def _checked(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        X, y = self._numbers(X, y, reset)
        if not reset and y.shape[1] != self.n_outputs_:
            raise DataError(f"y has {y.shape[1]} outputs; the network was made for {self.n_outputs_}")
        return X, y

    def _numbers(self, X: Any, y: Any, reset: bool) -> tuple[Any, Array]:
        X, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc"], multi_output=True, y_numeric=True, dtype=DTYPES, reset=reset
        )  # fmt: skip
        y = validation.host_array("y", self._dense(y))
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if self.loss == "poisson" and (y < 0).any():
            raise DataError(f"y holds {y.min()}; loss='poisson' takes counts and rates, 0 or more")
        return X, y.reshape(len(y), -1)

    def _output_activation(self) -> str:
        return "exp" if self.loss == "poisson" else "identity"

    def _targets(self, y: Array, network: Network) -> tuple[Array, Array | None]:
        made = network.in_dtype("y", y)
        return made, (xlogy(y, y) - y).sum(axis=1, dtype=np.float64) if self.out_activation_ == "exp" else None

    def _held_out(self, y: Array) -> Array:
        return y

    def _checked_held_out(self, X: Any, y: Any) -> tuple[Any, Array]:
        X, y = self._checked(X, y, False, False)
        if len(y) < 2:
            if self.early_stopping:
                raise DataError("validation_data has 1 row, for which there is no R²; early stopping needs at least 2")
            warnings.warn(
                "R² of 1 row is not defined: validation_scores_ are NaN", UndefinedMetricWarning, stacklevel=6
            )
        return X, y

    def _score_outputs(self, outputs: Array, y: Array, sample_weight: Any) -> float:
        if len(y) < 2 or not np.isfinite(outputs).all():
            return float("nan")
        left = np.average((y - outputs) ** 2, axis=0, weights=sample_weight)
        spread = np.average((y - np.average(y, axis=0, weights=sample_weight)) ** 2, axis=0, weights=sample_weight)
        each = np.where(spread > 0, 1 - left / np.where(spread > 0, spread, 1), np.where(left > 0, 0.0, 1.0))
        return float(each.mean())
