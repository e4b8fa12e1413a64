"""Which native part stands for which of the book's inside a compiled model."""

from __future__ import annotations

from typing import Any

from nnfast import layers as native_layers
from nnfast import losses as native_losses
from nnfast import metrics as native_metrics
from nnfast import optimizers as native_optimizers
from nnfast.compat._accuracy import Accuracy_Categorical, Accuracy_Regression
from nnfast.compat._activations import Activation_Linear, Activation_ReLU, Activation_Sigmoid, Activation_Softmax
from nnfast.compat._layers import Layer_Dense, Layer_Dropout
from nnfast.compat._losses import (
    Loss_BinaryCrossentropy,
    Loss_CategoricalCrossentropy,
    Loss_MeanAbsoluteError,
    Loss_MeanSquaredError,
)
from nnfast.compat._optimizers import Optimizer_Adagrad, Optimizer_Adam, Optimizer_RMSprop, Optimizer_SGD
from nnfast.compat._own import OwnAccuracy, OwnLayer, OwnLoss
from nnfast.errors import StateError
from nnfast.layers.base import Layer
from nnfast.losses import Loss
from nnfast.metrics import Metric

__all__ = [
    "UPDATES",
    "ends_in_softmax_loss",
    "is_plain",
    "layers_for",
    "loss_for",
    "metric_for",
    "optimizer_for",
    "set_numbers",
]

ACTIVATIONS: dict[type, type[Layer]] = {
    Activation_Linear: native_layers.Linear,
    Activation_ReLU: native_layers.ReLU,
    Activation_Sigmoid: native_layers.Sigmoid,
    Activation_Softmax: native_layers.Softmax,
}
LOSSES: dict[type, type[Loss]] = {
    Loss_BinaryCrossentropy: native_losses.BinaryCrossEntropy,
    Loss_CategoricalCrossentropy: native_losses.CategoricalCrossEntropy,
    Loss_MeanAbsoluteError: native_losses.MeanAbsoluteError,
    Loss_MeanSquaredError: native_losses.MeanSquaredError,
}
# With the names of the arrays that an optimizer keeps, the book's and ours.
OPTIMIZERS: dict[type, tuple[Any, dict[str, str]]] = {
    Optimizer_SGD: (native_optimizers.SGD, {"momentum": "v"}),
    Optimizer_Adagrad: (native_optimizers.Adagrad, {"cache": "cache"}),
    Optimizer_RMSprop: (native_optimizers.RMSprop, {"cache": "cache"}),
    Optimizer_Adam: (native_optimizers.Adam, {"momentum": "m", "cache": "v"}),
}
LEAST = 1.1754943508222875e-38  # the smallest number that float32 has on a GPU, where smaller ones are 0
_PASSES = ("forward", "backward")
UPDATES = ("pre_update_params", "update_params", "post_update_params", "_step")
_STRENGTHS = {
    "weight_l1": "weight_regularizer_l1",
    "weight_l2": "weight_regularizer_l2",
    "bias_l1": "bias_regularizer_l1",
    "bias_l2": "bias_regularizer_l2",
}
_SETTINGS = ("learning_rate", "decay", "momentum", "rho", "beta_1", "beta_2")


def is_plain(part: Any, kind: type, methods: tuple[str, ...] = _PASSES) -> bool:
    """Whether `part` computes as the book's `kind` does; a subclass may begin with other values."""
    if not isinstance(part, kind):
        return False
    return all(getattr(type(part), m) is getattr(kind, m) and m not in vars(part) for m in methods)


def ends_in_softmax_loss(layers: list[Any], loss: Any) -> bool:
    """Whether softmax and categorical cross-entropy meet at the end, to be computed as one."""
    if not layers or not is_plain(layers[-1], Activation_Softmax):
        return False
    return is_plain(loss, Loss_CategoricalCrossentropy)


def layers_for(layers: list[Any], loss: Any) -> list[Layer]:
    """A native layer for each; without the last where the loss takes logits."""
    made: list[Layer] = []
    width: int | None = None
    for part in layers[:-1] if ends_in_softmax_loss(layers, loss) else layers:
        layer = _layer_for(part, width)
        width = layer.n_inputs_wanted if width is None else width
        width = None if width is None else layer.n_outputs_for(width)
        made.append(layer)
    return made


def _layer_for(part: Any, width: int | None) -> Layer:
    if is_plain(part, Layer_Dense):
        if not hasattr(part, "weights") or not hasattr(part, "biases"):
            raise StateError(f"{type(part).__name__} has no weights and biases: set both in its constructor")
        inputs, outputs = part._parameters()[0].shape
        return native_layers.Dense(inputs, outputs, "zeros")
    if is_plain(part, Layer_Dropout):
        return native_layers.Dropout(0)
    native = next((native for kind, native in ACTIVATIONS.items() if is_plain(part, kind)), None)
    return OwnLayer(part, width) if native is None else native()


def loss_for(layers: list[Any], loss: Any) -> Loss | None:
    if loss is None:
        return None
    if ends_in_softmax_loss(layers, loss):
        return native_losses.SoftmaxCrossEntropy()
    native = next((native for kind, native in LOSSES.items() if is_plain(loss, kind)), None)
    return OwnLoss(loss) if native is None else native()


def optimizer_for(optimizer: Any) -> tuple[Any, dict[str, str] | None]:
    """The native optimizer and the names of its arrays; for one of the program's, one that leaves all as it is."""
    if optimizer is None:
        return None, {}
    for kind, (native, arrays) in OPTIMIZERS.items():
        if is_plain(optimizer, kind, UPDATES):
            return native(), arrays
    return native_optimizers.SGD(0), None


def metric_for(layers: list[Any], accuracy: Any) -> Metric:
    """The op that counts what the book's accuracy counts of the predictions of the last activation, or plain Python."""
    last = layers[-1]

    def pair(activation: type, kind: type) -> bool:
        return is_plain(last, activation, ("predictions",)) and is_plain(accuracy, kind, ("compare",))

    if pair(Activation_Softmax, Accuracy_Categorical) and not accuracy.binary:
        return native_metrics.accuracy
    if pair(Activation_Sigmoid, Accuracy_Categorical) and accuracy.binary:
        return native_metrics.binary_accuracy
    if pair(Activation_Linear, Accuracy_Regression):
        return native_metrics.regression_accuracy(0, "accuracy")
    return OwnAccuracy(accuracy, last)


def set_numbers(part: Any, native: Any) -> None:
    """Carry the numbers of one of the book's parts over to the native one that stands for it."""
    if isinstance(native, native_layers.Dense | OwnLayer):
        for name, strength in _STRENGTHS.items():
            setattr(native, name, getattr(part, strength, 0))
    elif isinstance(native, native_layers.Dropout):
        native.rate = 1 - part.rate
    elif isinstance(native, native_optimizers.GradientOptimizer):
        for name in _SETTINGS:
            if hasattr(part, name) and hasattr(native, name):
                setattr(native, name, getattr(part, name))
        if hasattr(part, "epsilon") and hasattr(native, "epsilon"):
            native.epsilon = part.epsilon or LEAST  # the book's may be 0, but 0/0 must not make a NaN of padding
        native.steps = part.iterations
    elif isinstance(part, Accuracy_Regression) and hasattr(native, "precision"):
        native.precision = part.precision or 0
