"""The nnfast model behind an estimator, and where scikit-learn's conventions for losses differ from nnfast's.

An estimator's truth is in `coefs_` and `intercepts_`. On a CPU those are views of the model's own parameters; whoever
assigns others, or unpickles an estimator, has them copied in before the next use.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise
from operator import is_
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from nnfast import layers, losses, optimizers
from nnfast.buffers import realigned
from nnfast.errors import DataError
from nnfast.model import Model
from nnfast.predictor import Predictor
from nnfast.program import Program
from nnfast.validation import choice, convert

__all__ = ["Architecture", "Network", "scales"]

Array = np.ndarray[Any, Any]

ACTIVATIONS = {"logistic": layers.Sigmoid, "tanh": layers.Tanh, "relu": layers.ReLU}
LOSSES = {
    "softmax": losses.SoftmaxCrossEntropy,
    "logistic": losses.SigmoidBinaryCrossEntropy,
    "identity": losses.MeanSquaredError,
    "exp": losses.Poisson,
}


class PerWeightDense(layers.Dense):
    """A layer whose penalty is scikit-learn's, divided by the sum of the batch's weights."""

    _by_batch = True


class Architecture(NamedTuple):
    """All that a network is made of but its weights."""

    widths: tuple[int, ...]
    activation: str
    out_activation: str
    dtype: str
    backend: Any = None
    dropout: float = 0.0
    key: int = 0  # the seed of dropout

    def model(self) -> Model:
        choice("activation", self.activation, (*ACTIVATIONS, "identity"))
        made: list[layers.Layer] = []
        for i, (n_inputs, n_outputs) in enumerate(pairwise(self.widths)):
            if i and self.activation in ACTIVATIONS:
                made.append(ACTIVATIONS[self.activation]())
            if i and self.dropout:
                made.append(layers.Dropout(self.dropout))
            made.append(PerWeightDense(n_inputs, n_outputs, initializer="zeros"))
        loss = LOSSES[self.out_activation]()
        model = Model(made, loss=loss, backend=self.backend, dtype=self.dtype, rng=self.key)
        model._programs.alike = _programs_of(self._replace(backend=None, key=0))
        return model


@functools.lru_cache(16)
def _programs_of(architecture: Architecture) -> dict[Any, Program]:
    """Programs of such networks: a search, or a cross-validation, trains many that are alike."""
    return {}


def scales(out_activation: str, outputs: int) -> tuple[float, float]:
    """How scikit-learn's losses and their gradients differ from nnfast's, by a factor each.

    Binary cross-entropy and Poisson deviance: it adds up outputs, where nnfast averages. Squared error: its loss is
    half the average over outputs, its gradient that of half the sum.
    """
    if out_activation == "softmax":
        return 1.0, 1.0
    if out_activation == "identity":
        return 0.5, outputs / 2
    return float(outputs), float(outputs)


class Network:
    """A model made when it is needed, with `coefs` and `intercepts` as scikit-learn has them."""

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.settings = architecture.activation, architecture.backend  # arguments that predictions depend on
        self.coefs: list[Array] = []
        self.intercepts: list[Array] = []
        self._views: tuple[Array, ...] = ()  # what those lists held when they were made
        self._model: Model | None = None
        self._predictor: Predictor | None = None
        self._row = np.zeros((1, 0))  # as the predictor takes it
        self._kept: tuple[Any, int, dict[str, Array]] | None = None  # an optimizer that waits for the model
        self._lock = Lock()

    @property
    def model(self) -> Model:
        if self._model is None:
            self._build()
        assert self._model is not None
        return self._model

    @property
    def optimizer(self) -> Any:
        return self.model.optimizer

    def remade(self, architecture: Architecture) -> Network:
        """Another network, of these widths, that goes on with a copy of this one's optimizer; weights are to follow."""
        made = Network(architecture)
        made._kept = self._optimizer_to_keep()
        return made

    def begin(self, optimizer: optimizers.GradientOptimizer) -> None:
        """From now on this optimizer, with fresh moments."""
        self.model.optimizer = optimizer

    def penalize(self, alpha: float) -> None:
        """From now on the penalty alpha/2·ΣW²/Σweight, for normalisers that are Σweight/(what scales the gradient)."""
        _, of_gradient = scales(self.architecture.out_activation, self.architecture.widths[-1])
        for layer in self.model.layers:
            if isinstance(layer, PerWeightDense):
                layer.weight_l2 = alpha / 2 / of_gradient

    def take(self, coefs: Sequence[Any], intercepts: Sequence[Any]) -> bool:
        """Copy these weights in, unless they are the network's own; whether its views should now take their place.

        On a device there are no views, so weights are copied each time.
        """
        if self._owns(coefs, intercepts):
            return False
        with self._lock:
            widths = (len(coefs[0]), *(np.shape(w)[1] for w in coefs))
            if widths != self.architecture.widths:
                self.architecture = self.architecture._replace(widths=widths)
                self._model = self._kept = None
            self.model.set_weights([a for pair in zip(coefs, intercepts, strict=True) for a in pair])
            if self.model.backend.device != "cpu":
                return False
            self._show()
        return True

    def refresh(self) -> None:
        """After training: what `coefs` and `intercepts` show is what the model holds."""
        if self.model.backend.device != "cpu":
            self._show()

    def predict(self, X: Any) -> Array:
        """The outputs as the output activation makes them, for checked X, dense or sparse."""
        model = self.model
        if hasattr(X, "toarray"):
            rows = 4096
            parts = [self.predict(X[lo : lo + rows].toarray()) for lo in range(0, X.shape[0], rows)]
            return np.concatenate(parts)
        try:
            output = np.asarray(model.backend.to_numpy(model.predict(X)))
        except DataError:
            raise self._out_of_range("X") from None
        return np.exp(output, out=output) if self.architecture.out_activation == "exp" else output

    def in_dtype(self, name: str, a: Any) -> Any:
        """`a` as the model computes with it; what is sparse stays as it is, and is only looked at."""
        sparse = hasattr(a, "toarray")
        try:
            made = convert(name, a.data if sparse else a, self.model.dtype)
        except DataError:
            raise self._out_of_range(name) from None
        return a if sparse else made

    def _out_of_range(self, name: str) -> DataError:
        dtype = self.model.dtype
        return DataError(
            f"{name} holds values beyond the range of {dtype}, ±{np.finfo(dtype).max:.4g}; the network computes in "
            f"{dtype}, as the X that it was made for: scale {name}, or give X in float64 to the first fit"
        )

    def predict_plain_row(self, X: Any, coefs: Sequence[Any], intercepts: Sequence[Any]) -> Array | None:
        """The outputs of one row, where it is a finite plain array of the network's dtype; else None: check it."""
        predictor = self._predictor
        if type(X) is not np.ndarray or X.ndim != 2 or len(X) != 1 or not self._owns(coefs, intercepts):
            return None
        if predictor is None:
            self._ready()
            return None
        if X.dtype != self._row.dtype or X.shape != self._row.shape or np.count_nonzero(np.isfinite(X)) != X.size:
            return None
        with self._lock:
            output: Array = predictor(X)
        return np.exp(output, out=output) if self.architecture.out_activation == "exp" else output

    def _owns(self, coefs: Sequence[Any], intercepts: Sequence[Any]) -> bool:
        """Whether these are the views of the model's parameters; none are, on a device."""
        if coefs is not self.coefs or intercepts is not self.intercepts:
            return False
        return len(self._views) == len(coefs) + len(intercepts) and all(map(is_, (*coefs, *intercepts), self._views))

    def _ready(self) -> None:
        """A predictor of single rows for next time; only where weights are views, and a call costs microseconds."""
        with self._lock:
            self._predictor = self.model.predictor()
            self._row = np.zeros((1, self.model.n_inputs), self.model.dtype)

    def _build(self) -> None:
        model = self.architecture.model()
        if self._kept is not None:
            optimizer, steps, slots = self._kept
            model.optimizer = optimizer = optimizer._clone()  # others may keep the same one
            optimizer.steps = steps
            model._buffers.slots = {name: realigned(slot, model.backend) for name, slot in slots.items()}
        self._model, self._kept, self._predictor = model, None, None
        self._show()

    def _show(self) -> None:
        model = self.model
        dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
        to_numpy = model.backend.to_numpy
        self.coefs = [np.asarray(to_numpy(layer.weights)) for layer in dense]
        self.intercepts = [np.asarray(to_numpy(layer.biases)) for layer in dense]
        self._views = (*self.coefs, *self.intercepts) if model.backend.device == "cpu" else ()

    def _optimizer_to_keep(self) -> tuple[Any, int, dict[str, Array]] | None:
        """The optimizer, its steps and moments, for another model."""
        if self._model is None or self._model.optimizer is None:
            return self._kept
        buffers, optimizer, to_numpy = self._model._buffers, self._model.optimizer, self._model.backend.to_numpy
        return optimizer._clone(), optimizer.steps, {n: np.array(to_numpy(s)) for n, s in buffers.slots.items()}

    def __getstate__(self) -> dict[str, Any]:
        """The architecture and the optimizer with its moments; weights are kept by the estimator."""
        return {"architecture": self.architecture, "kept": self._optimizer_to_keep()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["architecture"])  # type: ignore[misc]  # the same start as that of a new network
        self._kept = state["kept"]
