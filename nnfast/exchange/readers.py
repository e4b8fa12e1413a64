"""The ways in from elsewhere: `from_torch`, `from_keras`, `from_onnx`. What reads a format is loaded by its use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = ["from_keras", "from_onnx", "from_torch"]


def from_torch(
    module: Any, loss: Any = None, optimizer: Any = None, metrics: Any = (), *, backend: Any = None, dtype: Any = None
) -> Model:
    """The model of a `torch.nn.Sequential` (or a single Linear): weights copied, one layer for each module.

    Known are Linear, ReLU, LeakyReLU, ELU, GELU (exact), SiLU, Softplus, Sigmoid, Tanh, Softmax, Dropout, Identity and
    Flatten (of rows, which changes nothing), in nested Sequentials too. Without a bias it is 0; a Linear without
    `requires_grad` is frozen. One activation used several times becomes as many layers. loss, optimizer and metrics
    are as for `Model`, which without them only predicts; a loss on logits takes the place of a last Softmax or
    Sigmoid, with a Dropout or Identity after it. dtype: the module's unless given.

    Raises OptionError naming the module that nnfast does not have, that shares its weights with another (layers of
    nnfast are trained each by itself) or that hooks may have changed; DTypeError for what is no module.
    """
    from nnfast.exchange.building import model_of
    from nnfast.exchange.torch_models import layers_of

    made, kind = layers_of(module)
    return model_of(made, loss, optimizer, metrics, backend, kind if dtype is None else dtype)


def from_keras(
    model: Any, loss: Any = None, optimizer: Any = None, metrics: Any = (), *, backend: Any = None, dtype: Any = None
) -> Model:
    """The nnfast model of a built `keras.Sequential`: weights copied, activations as layers of their own.

    Known are Dense (activation by name), Activation, ReLU, LeakyReLU, ELU, Softmax, Dropout, Normalization, Flatten
    (of rows, which changes nothing) and InputLayer. L1 and L2 regularizers become the penalties of `Dense`; without a
    bias it is 0. loss, optimizer and metrics are as for `Model`, which without them only predicts; a loss on logits
    takes the place of a last softmax or sigmoid, with a Dropout after it. dtype: that of the weights unless given.

    Raises OptionError naming the layer that nnfast does not have or that has settings unknown here (constraints,
    penalties on outputs, LoRA, quantized weights), DTypeError for what is no Sequential.
    """
    from nnfast.exchange.building import model_of
    from nnfast.exchange.keras_models import layers_of

    made, kind = layers_of(model, mixed=dtype is not None)
    return model_of(made, loss, optimizer, metrics, backend, kind if dtype is None else dtype)


def from_onnx(
    path: Any,
    loss: Any = None,
    optimizer: Any = None,
    metrics: Any = (),
    *,
    output: str | None = None,
    backend: Any = None,
    dtype: Any = None,
) -> Model:
    """The model of an ONNX file (or `onnx.ModelProto`) that holds a dense network.

    Read are Gemm, MatMul, Add, Sub, Mul and Div with constants, the activations that nnfast has (GELU and SiLU also as
    PyTorch writes them out), Identity, Dropout, Cast, and Flatten or Reshape to rows; a difference and a quotient
    before a product become `Standardize`. `output` names the output to follow, by default the only one. loss,
    optimizer and metrics are as for `Model`; a loss on logits takes the place of a last softmax or sigmoid. dtype: as
    in the file unless given. Needs the package onnx.

    Raises OptionError naming a node that is not understood or does not fit what comes to it, or for inputs, outputs
    and opsets that are not read; DTypeError for constants of two dtypes without `dtype`, CheckpointError for a file
    that is no ONNX.
    """
    from nnfast.exchange.building import model_of
    from nnfast.exchange.onnx_reader import layers_of

    made, kind = layers_of(path, output, mixed=dtype is not None)
    return model_of(made, loss, optimizer, metrics, backend, kind if dtype is None else dtype)
