"""A model as exporters see it: what is done to a row, step by step, in plain NumPy arrays on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnfast import layers
from nnfast.errors import DataError, DTypeError, OptionError
from nnfast.model import Model
from nnfast.validation import convert, flag, working_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ACTIVATIONS", "Activation", "Affine", "Scaling", "Step", "chain_of", "checked_model", "folded"]

Array = np.ndarray[Any, Any]


class Affine(NamedTuple):
    """y = x·weights + biases; weights (inputs, outputs)."""

    layer: int
    weights: Array
    biases: Array


class Scaling(NamedTuple):
    """y = (x − mean)/std."""

    layer: int
    mean: Array
    std: Array


class Activation(NamedTuple):
    """One of `ACTIVATIONS`, by the name of its op; alpha is 0 where it has none."""

    layer: int
    name: str
    alpha: float


Step = Affine | Scaling | Activation

ACTIVATIONS: dict[type[layers.Layer], str] = {
    layers.ReLU: "relu",
    layers.LeakyReLU: "leaky_relu",
    layers.ELU: "elu",
    layers.GELU: "gelu",
    layers.SiLU: "silu",
    layers.Softplus: "softplus",
    layers.Sigmoid: "sigmoid",
    layers.Tanh: "tanh",
    layers.Softmax: "softmax",
}
IDLE = (layers.Dropout, layers.Linear)  # what passes a row on when nothing is trained


def checked_model(model: Any) -> Model:
    if not isinstance(model, Model):
        raise DTypeError(f"model is {model!r}; expected an nnfast.Model")
    return model


def chain_of(model: Model, target: str, *, probabilities: bool, dtype: Any = None) -> list[Step]:
    """The steps of a prediction, arrays in `dtype` (the model's by default).

    With `probabilities` they end as `predict` does: with the softmax or sigmoid of a loss on logits. Raises
    OptionError for a layer that is not nnfast's own (`target` says who does not know it), DataError for parameters
    that are not finite or do not fit the dtype.
    """
    kind = model.dtype if dtype is None else working_dtype(dtype)
    steps: list[Step] = []
    for i, layer in enumerate(checked_model(model).layers):
        values = {name: _finite(f"{name} of layer {i}", v, kind) for name, v in layer.values().items()}
        if type(layer) is layers.Dense:
            steps.append(Affine(i, values["weights"], values["biases"]))
        elif type(layer) is layers.Standardize:
            steps.append(Scaling(i, values["mean"], values["std"]))
        elif type(layer) in ACTIVATIONS:
            alpha = float(getattr(layer, "alpha", 0.0))
            _finite(f"alpha of layer {i}", np.array(alpha), kind)
            steps.append(Activation(i, ACTIVATIONS[type(layer)], alpha))
        elif type(layer) not in IDLE:
            raise OptionError(
                f"layer {i}, {layer!r}, is none of nnfast's own, so it cannot be written as {target}; "
                "known are Dense, Standardize, Dropout, Linear and the activations"
            )
    head = model.loss.head if model.loss is not None else None
    if flag("probabilities", probabilities) and head is not None:
        steps.append(Activation(len(model.layers), head, 0.0))
    return steps


def _finite(name: str, values: Array, dtype: np.dtype[Any]) -> Array:
    if not np.isfinite(values).all():
        raise DataError(f"{name} are not all finite, so the model predicts nothing; was its training successful?")
    return convert(name, values, dtype)


def folded(steps: Sequence[Step]) -> list[Step]:
    """The same with every scaling that comes right before a product made a part of that, computed in float64.

    x·(W/std) + (b − (mean/std)·W) rounds differently from ((x − mean)/std)·W + b: about |mean|/std times as much.
    """
    out: list[Step] = []
    for step in steps:
        before = out[-1] if out else None
        if isinstance(step, Affine) and isinstance(before, Scaling):
            w = step.weights.astype(np.float64) / before.std.astype(np.float64)[:, None]
            b = step.biases.astype(np.float64) - before.mean.astype(np.float64) @ w
            where = f"layer {before.layer} folded into layer {step.layer}"
            out[-1] = Affine(step.layer, *(_finite(where, a, step.weights.dtype) for a in (w, b)))
        else:
            out.append(step)
    return out
