"""The book's names: classes and functions of "Neural Networks from Scratch", all of them, computed by nnfast.

A program written with the book's classes runs after changing only where they come from:

    from nnfast.compat.nnfs import Activation_ReLU, Layer_Dense, init, spiral_data

    init()
    X, y = spiral_data(samples=100, classes=3)
    dense1, activation1 = Layer_Dense(2, 3), Activation_ReLU()
    dense1.forward(X)
    activation1.forward(dense1.output)

`NNFAST_BACKEND`, or `nnfast.use_backend`, chooses who computes. Attributes, arguments and defaults are the book's. What
differs, because there the book's code is wrong or in the way:

- An optimizer keeps its arrays itself, so one can be exchanged for another; layers have no `*_momentums`, no `*_cache`.
- The learning rate that an update uses is `current_learning_rate` everywhere, and setting `learning_rate` changes it.
- The gradients of the mean absolute error, of L1 at 0, and of soft labels are the true ones.
- Wrong shapes, labels out of range and the like raise the errors of `nnfast.errors`, before anything changes.
- `init()` seeds NumPy's global generator, from which weights, data and dropout are drawn, and patches nothing.

And of `Model`, whose `train`, `evaluate` and `predict` run in compiled steps, many at a time:

- Dropout in `train` is that of `nnfast.Dropout`. Its 64-bit seed is drawn from NumPy's global generator by `finalize`,
  once and only where there is dropout; `train` draws nothing. By hand, `Layer_Dropout.forward` draws as the book does.
- The lines of a step are printed up to 0.1 s after it, together with those of its neighbours. They say the same.
- `train`, `evaluate` and `predict` leave no `inputs`, `output` or `dinputs` on the layers; `Model.forward` does.
- All layers compute in one dtype: float64 where any weights are float64 at `finalize`, else float32.
- Softmax and categorical cross-entropy at the end are one, on logits, and do not saturate at 16.118.
- Accuracy over several outputs is never above 1, and 1 for a constant target that is met exactly.
- Files hold no pickle (`nnfast.checkpoint`): `Model.load` brings back the book's own parts, `nnfast.load` the native
  model of the same file. Parts of your own work in a `Model`, but only `save_parameters` can keep them.

The classes stand in `_layers`, `_activations`, `_losses`, `_optimizers`, `_accuracy` and `_model`, the data and `init`
in `_data`; `_engine` and what it imports join `Model` to the native one.
"""

from __future__ import annotations

from nnfast.compat._accuracy import Accuracy, Accuracy_Categorical, Accuracy_Regression
from nnfast.compat._activations import Activation_Linear, Activation_ReLU, Activation_Sigmoid, Activation_Softmax
from nnfast.compat._data import init, sine_data, spiral_data, vertical_data
from nnfast.compat._layers import Layer_Dense, Layer_Dropout
from nnfast.compat._losses import (
    Activation_Softmax_Loss_CategoricalCrossentropy,
    Loss,
    Loss_BinaryCrossentropy,
    Loss_CategoricalCrossentropy,
    Loss_MeanAbsoluteError,
    Loss_MeanSquaredError,
)
from nnfast.compat._model import Layer_Input, Model
from nnfast.compat._optimizers import Optimizer_Adagrad, Optimizer_Adam, Optimizer_RMSprop, Optimizer_SGD

__all__ = [
    "Accuracy",
    "Accuracy_Categorical",
    "Accuracy_Regression",
    "Activation_Linear",
    "Activation_ReLU",
    "Activation_Sigmoid",
    "Activation_Softmax",
    "Activation_Softmax_Loss_CategoricalCrossentropy",
    "Layer_Dense",
    "Layer_Dropout",
    "Layer_Input",
    "Loss",
    "Loss_BinaryCrossentropy",
    "Loss_CategoricalCrossentropy",
    "Loss_MeanAbsoluteError",
    "Loss_MeanSquaredError",
    "Model",
    "Optimizer_Adagrad",
    "Optimizer_Adam",
    "Optimizer_RMSprop",
    "Optimizer_SGD",
    "init",
    "sine_data",
    "spiral_data",
    "vertical_data",
]
