"""The fully connected layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast import initializers
from nnfast.layers.base import Layer
from nnfast.settings import Number
from nnfast.validation import integer

if TYPE_CHECKING:
    from nnfast.lowering import Builder

__all__ = ["Dense"]


class Dense(Layer):
    """y = x·W + b, with W (n_inputs, n_outputs) and b (n_outputs,).

    The penalty is the book's: weight_l1·Σ|W| + weight_l2·ΣW² + bias_l1·Σ|b| + bias_l2·Σb², its gradient
    l1·sign(W) + 2·l2·W (zero at W = 0). `initializer` is a name ("glorot_uniform", "he_normal", …), one of
    `nnfast.initializers`, or any function of (shape, rng). Biases begin at 0.

    Raises OptionError for sizes below 1 or negative penalties, UnknownNameError for an unknown initializer.
    """

    scalars = ("weight_l1", "weight_l2", "bias_l1", "bias_l2")
    weight_l1 = Number(0)
    weight_l2 = Number(0)
    bias_l1 = Number(0)
    bias_l2 = Number(0)
    _by_batch = False  # whether penalties are divided as the loss is: see `Builder.penalize`

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        initializer: Any = "glorot_uniform",
        weight_l1: float = 0,
        weight_l2: float = 0,
        bias_l1: float = 0,
        bias_l2: float = 0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.n_inputs = integer("n_inputs", n_inputs, 1)
        self.n_outputs = integer("n_outputs", n_outputs, 1)
        self.initializer = initializers.resolve(initializer)
        self.weight_l1 = weight_l1
        self.weight_l2 = weight_l2
        self.bias_l1 = bias_l1
        self.bias_l2 = bias_l2
        if self._rng is not None:
            self._initial = self._in_dtype(self.drawn(self._rng))

    @property
    def n_inputs_wanted(self) -> int:
        return self.n_inputs

    def n_outputs_for(self, n_inputs: int) -> int:
        return self.n_outputs

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weights": (self.n_inputs, self.n_outputs), "biases": (self.n_outputs,)}

    def initial_values(self, rng: Any) -> dict[str, np.ndarray[Any, Any]]:
        shapes = self.parameter_shapes()
        return {"weights": self.initializer(shapes["weights"], rng), "biases": np.zeros(shapes["biases"])}

    def lower(self, b: Builder) -> None:
        x, w, bias, y = b.x, b.parameter("weights"), b.parameter("biases"), b.output(self.n_outputs)
        zero = {"alpha": 0}
        b.forward("dense", x, w, bias, y, scalars=zero, activation="linear")
        dw, db = b.gradient("weights"), b.gradient("biases")
        b.backward("dense_backward", x, w, None, b.dy, None, b.dx, dw, db, scalars=zero, activation="linear")
        b.penalize("weights", "weight_l1", "weight_l2", by_batch=self._by_batch)
        b.penalize("biases", "bias_l1", "bias_l2", by_batch=self._by_batch)

    def penalty(self) -> float:
        backend = self.backend
        total = backend.zeros((), np.float64)
        kernel = backend.kernel("penalty")
        assert kernel is not None
        for p, l1, l2 in ((self.weights, self.weight_l1, self.weight_l2), (self.biases, self.bias_l1, self.bias_l2)):
            kernel(p.reshape(-1), None, total, l1=l1, l2=l2)
        return float(backend.to_numpy(total))

    @property
    def weights(self) -> Any:
        """(n_inputs, n_outputs), a view of the flat parameters; assigning checks the shape and copies into it."""
        return self._view("parameters", "weights")

    @weights.setter
    def weights(self, value: Any) -> None:
        self._assign("weights", value)

    @property
    def biases(self) -> Any:
        """(n_outputs,), a view of the flat parameters; assigning checks the shape and copies into it."""
        return self._view("parameters", "biases")

    @biases.setter
    def biases(self, value: Any) -> None:
        self._assign("biases", value)

    @property
    def dweights(self) -> Any:
        """Gradient of the last backward pass, penalties included."""
        return self._view("gradients", "weights")

    @property
    def dbiases(self) -> Any:
        """Gradient of the last backward pass, penalties included."""
        return self._view("gradients", "biases")

    def __repr__(self) -> str:
        extra = [f"{name}={getattr(self, name):g}" for name in self.scalars if getattr(self, name)]
        return f"Dense({', '.join([str(self.n_inputs), str(self.n_outputs), *extra])})"
