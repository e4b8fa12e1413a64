"""The book's layers: dense, with its penalties, and dropout. N rows, I inputs, O neurons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nnfast import functional
from nnfast.compat._data import default_dtype, legacy_stream
from nnfast.compat._glue import floats, gradient, saved
from nnfast.errors import ShapeError
from nnfast.initializers import normal
from nnfast.settings import Number
from nnfast.validation import Array, convert, features, host_array, integer, number

__all__ = ["Layer_Dense", "Layer_Dropout", "penalties"]


class Layer_Dense:
    """output = inputs·weights + biases, with weights (I, O) = 0.01·randn and biases (1, O) = 0.

    All arrays are plain attributes: `weights` and `biases` may be assigned at any time, also in a subclass that never
    calls `super().__init__`. The layer computes in the dtype of its weights. `backward` leaves `dinputs`, `dweights`
    and `dbiases`, penalties included: l1·Σ|w| + l2·Σw² of the weights, and of the biases.
    """

    weight_regularizer_l1: float = 0
    weight_regularizer_l2: float = 0
    bias_regularizer_l1: float = 0
    bias_regularizer_l2: float = 0

    weights: Any
    biases: Any
    inputs: Any
    output: Any
    dinputs: Any
    dweights: Any
    dbiases: Any

    def __init__(
        self,
        n_inputs: int,
        n_neurons: int,
        weight_regularizer_l1: float = 0,
        weight_regularizer_l2: float = 0,
        bias_regularizer_l1: float = 0,
        bias_regularizer_l2: float = 0,
    ) -> None:
        shape = integer("n_inputs", n_inputs, 1), integer("n_neurons", n_neurons, 1)
        self.weight_regularizer_l1 = number("weight_regularizer_l1", weight_regularizer_l1, 0)
        self.weight_regularizer_l2 = number("weight_regularizer_l2", weight_regularizer_l2, 0)
        self.bias_regularizer_l1 = number("bias_regularizer_l1", bias_regularizer_l1, 0)
        self.bias_regularizer_l2 = number("bias_regularizer_l2", bias_regularizer_l2, 0)
        self.weights = normal(0.01)(shape, legacy_stream()).astype(default_dtype())
        self.biases = np.zeros((1, shape[1]), default_dtype())

    def forward(self, inputs: Any, training: bool = True) -> None:
        """inputs (N, I) → self.output (N, O)."""
        weights, biases = self._parameters()
        self.inputs = features("inputs", inputs, weights.shape[0], weights.dtype, allow_empty=True)
        self.output = functional.dense(self.inputs, weights, biases)

    def backward(self, dvalues: Any) -> None:
        """dvalues (N, O) → self.dinputs (N, I), self.dweights (I, O), self.dbiases, shaped like biases."""
        weights, _ = self._parameters()
        inputs = features("inputs", saved(self, "inputs"), weights.shape[0], weights.dtype, allow_empty=True)
        dy = gradient("dvalues", dvalues, (len(inputs), weights.shape[1]), weights.dtype, "the output")
        self.dinputs, self.dweights, dbiases = functional.dense_backward(inputs, weights, dy)
        self.dbiases = dbiases.reshape(np.shape(self.biases))
        for name, p, l1, l2 in penalties(self):
            slope = getattr(self, f"d{name}")
            slope += functional.penalty(p, l1=l1, l2=l2)[1]

    def get_parameters(self) -> tuple[Array, Array]:
        """Copies of weights and biases."""
        return np.array(self.weights), np.array(self.biases)

    def set_parameters(self, weights: Any, biases: Any) -> None:
        """Copies of these arrays become weights and biases; both shapes are checked before either changes."""
        old = {"weights": floats("weights", self.weights), "biases": floats("biases", self.biases)}
        new = {"weights": host_array("weights", weights), "biases": host_array("biases", biases)}
        for name, a in new.items():
            if a.shape != old[name].shape:
                raise ShapeError(f"{name} has shape {a.shape}; this layer's {name} have shape {old[name].shape}")
        made = {name: np.array(convert(name, a, old[name].dtype)) for name, a in new.items()}
        self.weights, self.biases = made["weights"], made["biases"]

    def _parameters(self) -> tuple[Array, Array]:
        """weights (I, O) and biases (O,) in the dtype of the weights."""
        weights, biases = floats("weights", self.weights), host_array("biases", self.biases)
        if weights.ndim != 2:
            raise ShapeError(f"weights has shape {weights.shape}; expected (n_inputs, n_neurons)")
        if biases.shape not in ((1, weights.shape[1]), (weights.shape[1],)):
            raise ShapeError(f"biases has shape {biases.shape}; expected (1, {weights.shape[1]}), as weights says")
        return weights, convert("biases", biases.reshape(-1), weights.dtype)


class Layer_Dropout:
    """In training each input is 0 with probability `rate`, the others are divided by 1 − rate; else output = inputs.

    As in the book, the attribute `rate` is the share that is *kept*, 1 − rate. The mask is drawn from NumPy's global
    stream, so it is the same on every backend; the dtype of the inputs stays. Raises OptionError unless 0 ≤ rate < 1.
    """

    rate = Number(0, 1, low_open=True)

    inputs: Any
    output: Any
    dinputs: Any
    binary_mask: Any  # of the last forward pass, already divided by self.rate; None when that was not a training pass

    def __init__(self, rate: float) -> None:
        self.rate = 1 - number("rate", rate, 0, 1, high_open=True)

    def forward(self, inputs: Any, training: bool = True) -> None:
        """inputs → self.output, of the same shape and dtype."""
        self.inputs = floats("inputs", inputs)
        if training:
            kept = legacy_stream().binomial(1, self.rate, size=self.inputs.shape)
            self.binary_mask = (kept / self.rate).astype(self.inputs.dtype)
            self.output = self.inputs * self.binary_mask
        else:
            self.binary_mask = None
            self.output = self.inputs.copy()

    def backward(self, dvalues: Any) -> None:
        """dvalues → self.dinputs, through the mask of the last forward pass if that was a training pass."""
        mask, inputs = saved(self, "binary_mask"), floats("inputs", saved(self, "inputs"))
        dy = gradient("dvalues", dvalues, inputs.shape, inputs.dtype, "the output")
        self.dinputs = dy.copy() if mask is None else dy * mask


def penalties(layer: Any) -> Iterator[tuple[str, Array, float, float]]:
    """(name, array, l1, l2) of those arrays of a layer that have a penalty; an object without regularizers has none."""
    for name, setting in (("weights", "weight_regularizer"), ("biases", "bias_regularizer")):
        l1, l2 = getattr(layer, f"{setting}_l1", 0), getattr(layer, f"{setting}_l2", 0)
        if l1 != 0 or l2 != 0:
            yield name, floats(name, getattr(layer, name)), l1, l2
