"""Copies of a model, on another backend or in another dtype."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.buffers import realigned, repack

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = ["twin_of"]


def twin_of(model: Model, backend: Any, dtype: Any) -> Model:
    """A new model with the same parameters, optimizer state and seeds; None keeps what the model has."""
    optimizer = None
    if model.optimizer is not None:
        optimizer = model.optimizer._clone()
    twin = type(model)(
        [layer._clone() for layer in model.layers],
        copy.copy(model.loss),
        optimizer,
        model.metrics,
        backend=model.backend if backend is None else backend,
        dtype=model.dtype if dtype is None else dtype,
    )
    to_numpy, layouts = model.backend.to_numpy, (model._layout, twin._layout)
    twin.parameters = repack(to_numpy(model._buffers.parameters), *layouts, twin.dtype)
    for name, slot in model._buffers.slots.items():
        moved = repack(to_numpy(slot), *layouts, twin.dtype)
        twin._buffers.slots[name] = realigned(moved, twin.backend)
    twin._buffers.state = twin.backend.asarray(np.array(to_numpy(model._buffers.state)))
    twin._take_key(model._key)
    twin._epochs = model._epochs
    if optimizer is not None and model.optimizer is not None:
        optimizer.steps = model.optimizer.steps
    return twin
