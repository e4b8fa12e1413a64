"""What importers have in common: layers with given parameters, and a model of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnfast import layers
from nnfast.exchange.chain import IDLE
from nnfast.layers.base import Layer
from nnfast.model import Model

__all__ = ["dense", "model_of"]

HEADS: dict[str, type[Layer]] = {"softmax": layers.Softmax, "sigmoid": layers.Sigmoid}


def dense(weights: Any, biases: Any = None, *, trainable: bool = True, **penalties: Any) -> layers.Dense:
    """A Dense with these weights (inputs, outputs) and biases; without any they are 0."""
    layer = layers.Dense(weights.shape[0], weights.shape[1], **penalties)
    biases = np.zeros(layer.n_outputs) if biases is None else biases
    layer._initial = {"weights": np.array(weights), "biases": np.array(biases)}  # so that none are drawn
    layer.trainable = trainable
    return layer


def model_of(made: Sequence[Layer], loss: Any, optimizer: Any, metrics: Any, backend: Any, dtype: Any) -> Model:
    """The model. A loss on logits takes the place of the softmax or sigmoid that the layers end with.

    What comes after that and does nothing in predictions goes with it.
    """
    head = HEADS.get(getattr(loss, "head", None) or "")
    last = max((i for i, layer in enumerate(made) if type(layer) not in IDLE), default=-1)
    if head is not None and last >= 0 and type(made[last]) is head:
        made = made[:last]
    return Model(made, loss, optimizer, metrics, backend=backend, dtype=dtype, rng=0)
