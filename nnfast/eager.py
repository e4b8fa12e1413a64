"""Layers by hand: the ops of one layer, run one at a time as they are called for.

The ops are those that the layer's `lower` gives to a Program, and so are the kernels; only the order of calls is here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.errors import ShapeError, StateError
from nnfast.lowering import Builder
from nnfast.protocol import Buffer, Op
from nnfast.validation import any_array, convert, features

if TYPE_CHECKING:
    from nnfast.layers.base import Layer

__all__ = ["Eager", "call_op"]


class Eager:
    """One layer's forward and backward, with what the last forward left for the backward."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._lowered: dict[tuple[bool, int], tuple[list[Op], list[Op], Buffer]] = {}
        self._arrays: dict[str, Any] = {}
        self._last: tuple[bool, int] | None = None

    def forward(self, x: Any, training: bool) -> Any:
        layer = self._layer
        backend = layer.backend
        rows = features("x", x, layer.n_inputs_wanted, layer.dtype, allow_empty=True, backend=backend)
        x = backend.asarray(rows)
        layer._materialise()  # only now: what is refused draws no weights
        self._layer._training_forwards += training
        self._last = (training, x.shape[1])
        ops, _, y = self._lower(*self._last)
        self._arrays = {"x": x}
        self._run(ops, len(x))
        return self._arrays[y.name] if ops else x.copy()

    def backward(self, dy: Any) -> Any:
        if self._last is None:
            raise StateError(f"{type(self._layer).__name__}.backward() was called before forward()")
        layer = self._layer
        _, ops, y = self._lower(*self._last)
        dy = any_array("dy", dy, layer.backend)
        expected = self._arrays[y.name].shape  # "x" itself where the layer passes it on
        if dy.shape != expected:
            raise ShapeError(f"dy has shape {dy.shape}; the last forward gave an output of shape {expected}")
        gradient = convert("dy", dy, layer.dtype)
        if not ops:
            return layer.backend.asarray(gradient).copy()
        prefix = str(layer._index)
        self._arrays[f"{prefix}.dy"] = layer.backend.asarray(gradient)
        self._run(ops, len(dy))
        return self._arrays.pop(f"{prefix}.dx")

    def _lower(self, training: bool, width: int) -> tuple[list[Op], list[Op], Buffer]:
        if (training, width) not in self._lowered:
            layer = self._layer
            b = Builder("gradient", layer.dtype.name, layer._layout, width, training=training)
            with b.layer(layer._index, layer.scalars, layer.trainable):
                layer.lower(b)
            self._lowered[training, width] = b.lone()
        return self._lowered[training, width]

    def _run(self, ops: list[Op], rows: int) -> None:
        layer = self._layer
        random = any(("key", "key") in op.scalars for op in ops)
        scalars: dict[str, Any] = {"key": layer.key if random else 0, "step": layer._training_forwards, "first_row": 0}
        scalars.update({f"{layer._index}.{name}": getattr(layer, name) for name in layer.scalars})
        for op in ops:
            arrays = [None if b is None else self._array(b, rows) for b in op.args]
            call_op(layer.backend, op, arrays, scalars)

    def _array(self, b: Buffer, rows: int) -> Any:
        layer = self._layer
        if b.space in ("parameters", "gradients"):
            assert layer._buffers is not None
            flat = layer._buffers.parameters if b.space == "parameters" else layer._buffers.gradients
            return flat[b.offset : b.offset + b.width].reshape(b.shape)
        if b.space == "sums":
            return layer.backend.zeros((), np.float64)
        if b.name not in self._arrays:
            self._arrays[b.name] = layer.backend.empty((rows, b.width), layer.dtype)
        return self._arrays[b.name]


def call_op(backend: Any, op: Op, arrays: list[Any], scalars: dict[str, Any]) -> None:
    """Run one op on these arrays; `scalars` holds the values by name, as in a Program."""
    attributes = dict(op.attributes)
    kernel = attributes.pop("call") if op.name == "python" else backend.kernel(op.name)
    kernel(*arrays, **{k: scalars[n] if isinstance(n, str) else n for k, n in op.scalars}, **attributes)
