"""`MLPClassifier`: scikit-learn's estimator of this name, computed by nnfast."""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target, unique_labels
from sklearn.utils.validation import column_or_1d, validate_data

from nnfast.errors import DataError, OptionError, ShapeError
from nnfast.sklearn.base import DTYPES, Array, BaseMLP
from nnfast.sklearn.network import Network

__all__ = ["MLPClassifier"]


class MLPClassifier(ClassifierMixin, BaseMLP):
    """A drop-in for `sklearn.neural_network.MLPClassifier` (as of scikit-learn 1.7 and newer), computed by nnfast.

    Arguments, defaults, attributes and conventions are scikit-learn's; where nnfast's own differ, these hold here:

    - alpha        adds alpha/2·ΣW²/Σweight to a batch's loss, the sum being over the batch's rows (weight 1 without
                   sample weights); biases are free
    - loss         log-loss, added up over the labels of multilabel targets. Computed from logits, so it is not clipped:
                   a row whose probability is below the resolution of the dtype costs more here
    - epsilon      of Adam, is added to √v before the bias correction
    - rates        momentum keeps v ← μv − lr·g
    - draws        `random_state` gives scikit-learn's weights, biases, validation rows and order of the rows

    In float64, loss curve and weights follow scikit-learn's up to rounding. Weights have the dtype of X, float32 or
    float64. Sparse X is made dense for `fit`, and a few thousand rows at a time for predictions.

    Not in scikit-learn:

    backend          who computes: None ("auto"), "numba", "numpy", "cupy", … or a Backend object
    dropout          the rate of dropout behind each hidden layer (adam and sgd)
    validation_data  (X, y) or (X, y, sample_weight), scored after each epoch into `validation_scores_`; with
                     `early_stopping` these rows are watched, and none of the training's are set aside (adam and sgd)

    Raises errors of `nnfast.errors` (each of them also a ValueError or TypeError) for arguments out of range.
    """

    def __init__(
        self,
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

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPClassifier:
        """Train on X (N, features) and y: labels (N,), or a matrix of zeros and ones (N, labels)."""
        fitted: MLPClassifier = self._fit(X, y, sample_weight)
        return fitted

    @available_if(BaseMLP._check_solver)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """One epoch more on these rows. The first call needs `classes`, all labels that will ever come."""
        fitted: MLPClassifier = self._fit(X, y, sample_weight, incremental=True, classes=classes)
        return fitted

    def predict(self, X: Any) -> Array:
        """Labels (N,), or a matrix of zeros and ones for multilabel targets."""
        return self._labels(self._outputs(X))

    def predict_proba(self, X: Any) -> Array:
        """Probabilities (N, classes), in the order of `classes_`; of each label by itself for multilabel targets."""
        p = self._outputs(X)
        return np.concatenate([1 - p, p], axis=1) if self.n_outputs_ == 1 else p

    def predict_log_proba(self, X: Any) -> Array:
        """log(predict_proba(X))."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.predict_proba(X)))

    # ---- for BaseMLP ------------------------------------------------------------------------------------------------

    def _note_classes(self, y: Any, classes: Any) -> None:
        """`classes` of a first `partial_fit`, or the same again later."""
        if not hasattr(self, "classes_"):
            if classes is None:
                raise OptionError("classes must be passed on the first call to partial_fit.")
            self._label_binarizer = LabelBinarizer()
            self.classes_ = unique_labels(classes)
            self._label_binarizer.fit(y if type_of_target(y).startswith("multilabel") else self.classes_)
        elif classes is not None and not np.array_equal(self.classes_, unique_labels(classes)):
            raise DataError(f"classes is {classes!r}; earlier calls had {self.classes_!r}")

    def _checked(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        X, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc"], multi_output=True, dtype=DTYPES, reset=reset
        )  # fmt: skip
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = _fitted_binarizer(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            self._check_classes(unique_labels(y))
        if self._label_binarizer.y_type_ == "multiclass":
            return X, y[:, None] == self.classes_  # what `transform` gives, which takes milliseconds
        return X, self._label_binarizer.transform(y).astype(bool)

    def _check_classes(self, classes: Array) -> None:
        known, given = set(self.classes_.tolist()), set(classes.tolist())
        if self.warm_start and known != given:
            raise DataError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {self.classes_}, `y` has {classes}"
            )
        if not given <= known:
            raise DataError(f"`y` has classes not in `self.classes_`, {self.classes_}: {sorted(given - known)}")

    def _output_activation(self) -> str:
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _targets(self, y: Array, network: Network) -> tuple[Array, Array | None]:
        if self.out_activation_ == "softmax":
            return np.argmax(y, axis=1), None
        return np.ascontiguousarray(y, network.model.dtype), None

    def _stratifies(self) -> bool:
        return bool(self.n_outputs_ == 1)

    def _held_out(self, y: Array) -> Array:
        return self._dense(self._label_binarizer.inverse_transform(y))

    def _checked_held_out(self, X: Any, y: Any) -> tuple[Any, Array]:
        X, y = validate_data(self, X, y, accept_sparse=["csr", "csc"], multi_output=True, dtype=DTYPES, reset=False)
        y, single = self._dense(y), self._label_binarizer.y_type_ in ("binary", "multiclass")
        if single and y.ndim == 2 and y.shape[1] == 1:
            y = y.ravel()
        if y.shape[1:] != (() if single else (self.n_outputs_,)):
            wanted = "one label" if single else f"{self.n_outputs_} labels"
            raise ShapeError(f"y of validation_data has shape {y.shape}; expected {wanted} a row")
        known = set(self.classes_.tolist()) if single else {0, 1}
        unknown = [label for label in y.ravel().tolist() if label not in known]
        if unknown:
            raise DataError(f"y of validation_data holds {unknown[0]!r}; the labels are {reprlib.repr(sorted(known))}")
        return X, y

    def _labels(self, outputs: Array) -> Array:
        labels: Array = self._label_binarizer.inverse_transform(outputs.ravel() if self.n_outputs_ == 1 else outputs)
        return labels

    def _score_outputs(self, outputs: Array, y: Array, sample_weight: Any) -> float:
        hits = self._dense(self._labels(outputs)) == y
        return float(np.average(hits.all(axis=1) if hits.ndim == 2 else hits, weights=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _fitted_binarizer(y: Array) -> LabelBinarizer:
    """`LabelBinarizer().fit(y)`, which takes a millisecond to find out what plain labels are.

    Many classes for few rows are left to it: it warns that they may be no classes at all.
    """
    made = LabelBinarizer()
    if isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype.kind in "biuU" and len(y):
        classes = np.unique(y)
        if 2 * len(classes) <= len(y):
            made.classes_, made.sparse_input_ = classes, False
            made.y_type_ = "binary" if len(classes) <= 2 else "multiclass"
            return made
    return made.fit(y)
