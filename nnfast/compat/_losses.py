"""The book's losses: N rows, O outputs. `forward` gives the loss of each row, `calculate` their mean."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from nnfast import functional
from nnfast.compat._activations import Activation_Softmax
from nnfast.compat._glue import floats
from nnfast.compat._layers import penalties
from nnfast.errors import DataError, StateError
from nnfast.validation import Array, features, labels

__all__ = [
    "Activation_Softmax_Loss_CategoricalCrossentropy",
    "Loss",
    "Loss_BinaryCrossentropy",
    "Loss_CategoricalCrossentropy",
    "Loss_MeanAbsoluteError",
    "Loss_MeanSquaredError",
]


class Loss:
    """Base of all losses; one of your own defines `forward(y_pred, y_true)` and `backward(dvalues, y_true)`.

    `forward` returns the loss of each row, (N,). `backward` leaves in `dinputs` the gradient of their mean with respect
    to dvalues, which is what `forward` calls y_pred; it needs no `forward` before it.
    """

    dinputs: Any
    # On the class, so that a subclass need not call super().__init__().
    trainable_layers: tuple[Any, ...] | None = None
    accumulated_sum: float = 0.0
    accumulated_count: int = 0

    def forward(self, y_pred: Any, y_true: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define forward(y_pred, y_true)")

    def backward(self, dvalues: Any, y_true: Any) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define backward(dvalues, y_true)")

    def calculate(self, output: Any, y: Any, *, include_regularization: bool = False) -> Any:
        """The mean loss of these rows, or (that, regularization_loss()); counts towards `calculate_accumulated`."""
        data_loss = self._mean(self.forward(output, y))
        return (data_loss, self.regularization_loss()) if include_regularization else data_loss

    def calculate_accumulated(self, *, include_regularization: bool = False) -> Any:
        """The mean loss of all rows since `new_pass()`, or (that, regularization_loss())."""
        if self.accumulated_count == 0:
            raise StateError("calculate_accumulated() was called before calculate(): there are no losses to average")
        data_loss = self.accumulated_sum / self.accumulated_count
        return (data_loss, self.regularization_loss()) if include_regularization else data_loss

    def new_pass(self) -> None:
        """Start counting for `calculate_accumulated` anew."""
        self.accumulated_sum = 0.0
        self.accumulated_count = 0

    def remember_trainable_layers(self, trainable_layers: Iterable[Any]) -> None:
        """The layers that `regularization_loss()` without argument sums over."""
        self.trainable_layers = tuple(trainable_layers)

    def regularization_loss(self, layer: Any = None) -> float:
        """l1·Σ|p| + l2·Σp² over weights and biases of this layer, or of all layers remembered."""
        layers = self.trainable_layers if layer is None else (layer,)
        if layers is None:
            raise StateError("no layers to regularize: give one, or call remember_trainable_layers(layers) first")
        return float(sum(functional.penalty(p, l1=l1, l2=l2)[0] for one in layers for _, p, l1, l2 in penalties(one)))

    def _mean(self, sample_losses: Any) -> Any:
        """The mean in the dtype of the losses, summed in float64, and added to the pass."""
        losses = floats("losses", sample_losses).reshape(-1)
        if losses.size == 0:
            raise DataError(f"{type(self).__name__}.forward() gave no losses; at least one sample is needed")
        total = float(losses.sum(dtype=np.float64))
        self.accumulated_sum += total
        self.accumulated_count += losses.size
        return losses.dtype.type(total / losses.size)


class Loss_CategoricalCrossentropy(Loss):
    """−Σ y·log p, p clipped to [1e-7, 1 − 1e-7]; y_true (N,) class numbers, or (N, O) one-hot or soft rows."""

    def forward(self, y_pred: Any, y_true: Any) -> Any:
        return functional.categorical_cross_entropy(y_pred, y_true, per_sample=True)[0]

    def backward(self, dvalues: Any, y_true: Any) -> None:
        """dinputs = −y/p/N, with the clipped p."""
        self.dinputs = functional.categorical_cross_entropy(dvalues, y_true)[1]


class Loss_BinaryCrossentropy(Loss):
    """Mean over outputs of −y·log p − (1 − y)·log(1 − p), p clipped; y_true (N, O) in [0, 1]."""

    def forward(self, y_pred: Any, y_true: Any) -> Any:
        return functional.binary_cross_entropy(y_pred, y_true, per_sample=True)[0]

    def backward(self, dvalues: Any, y_true: Any) -> None:
        """dinputs = ((1 − y)/(1 − p) − y/p)/O/N, with the clipped p."""
        self.dinputs = functional.binary_cross_entropy(dvalues, y_true)[1]


class Loss_MeanSquaredError(Loss):
    """Mean over outputs of (y_true − y_pred)², both (N, O)."""

    def forward(self, y_pred: Any, y_true: Any) -> Any:
        return functional.mean_squared_error(y_pred, y_true, per_sample=True)[0]

    def backward(self, dvalues: Any, y_true: Any) -> None:
        """dinputs = 2·(dvalues − y_true)/O/N."""
        self.dinputs = functional.mean_squared_error(dvalues, y_true)[1]


class Loss_MeanAbsoluteError(Loss):
    """Mean over outputs of |y_true − y_pred|, both (N, O)."""

    def forward(self, y_pred: Any, y_true: Any) -> Any:
        return functional.mean_absolute_error(y_pred, y_true, per_sample=True)[0]

    def backward(self, dvalues: Any, y_true: Any) -> None:
        """dinputs = sign(dvalues − y_true)/O/N."""
        self.dinputs = functional.mean_absolute_error(dvalues, y_true)[1]


class Activation_Softmax_Loss_CategoricalCrossentropy:
    """Softmax and categorical cross-entropy in one: `forward` takes logits, and the loss does not saturate.

    The parts are there too: `activation` holds the probabilities, `loss` counts the pass and knows the penalties.
    """

    output: Array
    dinputs: Array

    def __init__(self) -> None:
        self.activation = Activation_Softmax()
        self.loss = Loss_CategoricalCrossentropy()

    def forward(self, inputs: Any, y_true: Any) -> Any:
        """The mean loss of the logits `inputs` (N, O); leaves softmax(inputs) in `output`."""
        losses = functional.softmax_cross_entropy(inputs, y_true, per_sample=True)[0]
        self.activation.forward(inputs)
        self.output = self.activation.output
        return self.loss._mean(losses)

    def backward(self, dvalues: Any, y_true: Any) -> None:
        """dinputs = (p − y)/N, the gradient with respect to the logits; dvalues are the probabilities p (N, O)."""
        p = floats("dvalues", dvalues)
        p = features("dvalues", p, None, p.dtype)
        y = labels("y_true", y_true, len(p), p.shape[1], p.dtype)
        dinputs = p.copy()
        if y.ndim == 1:
            dinputs[np.arange(len(y)), y] -= 1
        else:
            dinputs -= y
        self.dinputs = dinputs / len(p)
