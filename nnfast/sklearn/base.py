"""What both estimators share: `fit` and `partial_fit` from checked data to fitted attributes, and plain outputs."""

from __future__ import annotations

import numbers
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from nnfast import validation
from nnfast.errors import DataError, OptionError
from nnfast.sklearn import lbfgs, options, stopping
from nnfast.sklearn.descent import Descent, RowOrders
from nnfast.sklearn.held_out import set_aside
from nnfast.sklearn.network import Architecture, Network
from nnfast.sklearn.optimizers import make
from nnfast.training.batches import Data

__all__ = ["BaseMLP"]

Array = np.ndarray[Any, Any]
DTYPES = (np.float64, np.float32)


class BaseMLP(BaseEstimator, ABC):
    """Base of `MLPClassifier` and `MLPRegressor`; not for use by itself."""

    coefs_: list[Array]
    intercepts_: list[Array]
    _network: Network

    # ---- what the subclasses say ------------------------------------------------------------------------------------

    @abstractmethod
    def _checked(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        """X and y as numbers, y with two dimensions; raises for what cannot be learned."""

    @abstractmethod
    def _output_activation(self) -> str: ...

    @abstractmethod
    def _targets(self, y: Array, network: Network) -> tuple[Array, Array | None]:
        """y as the loss takes it, and what scikit-learn adds to each row's loss, or None."""

    @abstractmethod
    def _held_out(self, y: Array) -> Array:
        """Targets of `_checked` as `_score_outputs` takes them."""

    @abstractmethod
    def _score_outputs(self, outputs: Array, y: Array, sample_weight: Any) -> float:
        """Accuracy or R²."""

    # ---- fitting ----------------------------------------------------------------------------------------------------

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, incremental: bool = False, classes: Any = None) -> Any:
        with self._unchanged_by_errors():
            train = self._prepared(X, y, sample_weight, incremental, classes)
        train()
        network = self._network
        network.refresh()
        self.coefs_, self.intercepts_ = network.coefs, network.intercepts
        if not all(np.isfinite(w).all() for w in (*self.coefs_, *self.intercepts_)):
            raise DataError(
                "the solver ended with weights that are not finite; scale X, for example with StandardScaler, "
                "or use a smaller learning_rate_init"
            )
        return self

    @contextmanager
    def _unchanged_by_errors(self) -> Iterator[None]:
        """Attributes are set inside; after an error all are as before."""
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _prepared(self, X: Any, y: Any, sample_weight: Any, incremental: bool, classes: Any) -> Callable[[], None]:
        """All that can be wrong is looked at here, and what was trained before is left alone; the rest is returned."""
        options.check(self)
        if incremental and self.early_stopping:
            raise OptionError("partial_fit does not support early_stopping=True: it has nothing to compare with")
        if incremental:
            self._note_classes(y, classes)
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, y = self._checked(X, y, incremental, first)
        if first:
            self.n_outputs_ = y.shape[1]
        weight = self._weights(sample_weight, X)
        given = self.validation_data
        held = None if given is None else self._checked_validation(given)
        self._random_state = options.random_of(self.random_state)
        if first:
            self._initialize(X, y)
        network = self._current_network(training=True)
        X = self._dense(X)
        if weight is not None:
            weight = network.in_dtype("sample_weight", weight)
            validation.weights("sample_weight", weight, len(X), weight.dtype)  # tiny ones may all be 0 by now
        if self.solver == "lbfgs":
            return self._prepared_lbfgs(network, X, y, weight)
        return self._prepared_descent(network, X, y, weight, held, incremental)

    def _note_classes(self, y: Any, classes: Any) -> None:
        """What `partial_fit` was told about the labels; of no interest where there are none."""

    def _weights(self, sample_weight: Any, X: Any) -> Array | None:
        if sample_weight is None:
            return None
        rows = X.shape[0]
        if isinstance(sample_weight, numbers.Number):
            sample_weight = np.full(rows, sample_weight)
        given = check_array(sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
        if not given.any():
            raise DataError("sample_weight is zero for every row, so there is nothing to average over")
        return validation.weights("sample_weight", given, rows, np.dtype(np.float64))

    def _initialize(self, X: Any, y: Array) -> None:
        """Draw weights and biases as scikit-learn does, uniform within √(6/(inputs + outputs)), √2 for "logistic"."""
        widths = (X.shape[1], *options.hidden_widths(self.hidden_layer_sizes), self.n_outputs_)
        self.n_layers_ = len(widths)
        self.n_iter_ = self.t_ = 0
        self.out_activation_ = self._output_activation()
        coefs, intercepts = [], []
        for n_inputs, n_outputs in pairwise(widths):
            bound = np.sqrt((2.0 if self.activation == "logistic" else 6.0) / (n_inputs + n_outputs))
            coefs.append(self._random_state.uniform(-bound, bound, (n_inputs, n_outputs)).astype(X.dtype, copy=False))
            intercepts.append(self._random_state.uniform(-bound, bound, n_outputs).astype(X.dtype, copy=False))
        self.coefs_, self.intercepts_ = coefs, intercepts
        self._network = self._new_network()
        if self.solver != "lbfgs":
            stopping.begin_record(self)

    def _new_network(self) -> Network:
        widths = (len(self.coefs_[0]), *(w.shape[1] for w in self.coefs_))
        dtype = np.dtype(self.coefs_[0].dtype).name
        return Network(Architecture(widths, self.activation, self.out_activation_, dtype, self.backend))

    def _current_network(self, *, training: bool = False) -> Network:
        """The network as the arguments now ask for it, with the weights of `coefs_` and `intercepts_`.

        Dropout makes a difference to `training` alone; its seed is drawn when it first does.
        """
        network: Network = self.__dict__.get("_network") or self._new_network()  # put together by hand, or converted
        made = network.architecture
        asked = made._replace(activation=self.activation, backend=self.backend)
        if training and self.dropout != made.dropout:
            key = made.key or int(self._random_state.randint(2**31 - 1))
            asked = asked._replace(dropout=float(self.dropout), key=key)
        if asked != made:
            network = network.remade(asked)
        if network.take(self.coefs_, self.intercepts_):
            self.coefs_, self.intercepts_ = network.coefs, network.intercepts
        self._network = network
        return network

    def _prepared_lbfgs(self, network: Network, X: Array, y: Array, weight: Array | None) -> Callable[[], None]:
        targets, constant = self._targets(y, network)
        data = Data(network.model, network.in_dtype("X", X), targets, weight, len(X))

        def train() -> None:
            self.loss_, self.n_iter_ = lbfgs.minimize(self, network, data, constant)

        return train

    def _prepared_descent(
        self, network: Network, X: Array, y: Array, weight: Array | None, held: Any, incremental: bool
    ) -> Callable[[], None]:
        if held is not None:
            held = (network.in_dtype("X", held[0]), *held[1:])
        elif self.early_stopping:
            X, y, weight, held = self._split(X, y, weight)
        targets, constant = self._targets(y, network)
        data = Data(network.model, network.in_dtype("X", X), targets, weight, self._rows_per_batch(len(X)))
        orders = RowOrders(self._random_state, len(X)) if self.shuffle else None
        fresh = make(self) if not incremental or network.optimizer is None else None

        def score() -> float:
            assert held is not None
            X_held, y_held, weight_held = held
            return self._score_outputs(network.predict(X_held), y_held, weight_held)

        def train() -> None:
            if fresh is not None:
                network.begin(fresh)
            stopping.continue_record(self)
            descent = Descent(network, data, self.alpha, orders, constant)
            stopping.descend(self, descent, None if held is None else score, incremental=incremental)

        return train

    def _split(self, X: Array, y: Array, weight: Array | None) -> tuple[Array, Array, Array | None, Any]:
        """Rows to train on, and rows set aside to take scores of, as scikit-learn does."""
        given = [X, y] if weight is None else [X, y, weight]
        labels = y if self._stratifies() else None
        train, held = set_aside(given, self.validation_fraction, self._random_state, labels)
        X, y, weight = (*train, None)[:3]
        X_held, y_held, weight_held = (*held, None)[:3]
        return X, y, weight, (self._network.in_dtype("X", X_held), self._held_out(y_held), weight_held)

    def _stratifies(self) -> bool:
        return False

    def _checked_validation(self, given: Any) -> tuple[Any, Array, Any]:
        X, y, weight = (*given, None)[:3]
        X, y = self._checked_held_out(X, y)
        return X, y, self._weights(weight, X)

    @abstractmethod
    def _checked_held_out(self, X: Any, y: Any) -> tuple[Any, Array]:
        """X and y of `validation_data`, checked against what was fitted."""

    def _rows_per_batch(self, rows: int) -> int:
        if self.batch_size == "auto":
            return min(200, rows)
        if self.batch_size > rows:
            warnings.warn(f"batch_size={self.batch_size} is more than there are rows; {rows} are taken", stacklevel=6)
        return min(int(self.batch_size), rows)

    def _dense(self, X: Any) -> Array:
        made: Array = X.toarray() if hasattr(X, "toarray") else X
        return made

    # ---- outputs ----------------------------------------------------------------------------------------------------

    def _outputs(self, X: Any) -> Array:
        """What the output activation gives for each row, (N, n_outputs)."""
        fitted = self.__dict__
        network: Network | None = fitted.get("_network")
        as_asked = network is not None and network.settings == (self.activation, self.backend)
        if network is not None and as_asked and "feature_names_in_" not in fitted:
            row = network.predict_plain_row(X, self.coefs_, self.intercepts_)
            if row is not None:
                return row
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        return self._current_network().predict(X)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coefs_")

    def _check_solver(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError("partial_fit needs solver='adam' or 'sgd'; lbfgs takes all data at once")
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
