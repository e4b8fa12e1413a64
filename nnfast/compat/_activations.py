"""The book's activations: N rows, O outputs. `backward` reads `inputs` or `output`, which a program may set itself."""

from __future__ import annotations

from typing import Any

from nnfast import functional
from nnfast.compat._glue import backward_arrays, floats
from nnfast.validation import host_array

__all__ = ["Activation_Linear", "Activation_ReLU", "Activation_Sigmoid", "Activation_Softmax"]


class _Activation:
    """What all of them have: inputs and output of the last forward pass, dinputs of the last backward pass."""

    inputs: Any
    output: Any
    dinputs: Any


class Activation_ReLU(_Activation):
    """output = max(inputs, 0)."""

    def forward(self, inputs: Any, training: bool = True) -> None:
        self.output = functional.relu(inputs)
        self.inputs = inputs

    def backward(self, dvalues: Any) -> None:
        """dinputs = dvalues where inputs > 0, else 0."""
        self.dinputs = functional.relu_backward(*backward_arrays(self, "inputs", dvalues))

    def predictions(self, outputs: Any) -> Any:
        """The outputs themselves."""
        return outputs


class Activation_Softmax(_Activation):
    """output = eˣ/Σ eˣ along each row."""

    def forward(self, inputs: Any, training: bool = True) -> None:
        self.output = functional.softmax(inputs)
        self.inputs = inputs

    def backward(self, dvalues: Any) -> None:
        """dinputs = output·(dvalues − Σ dvalues·output), all rows at once and without a Jacobian."""
        self.dinputs = functional.softmax_backward(*backward_arrays(self, "output", dvalues))

    def predictions(self, outputs: Any) -> Any:
        """The class of each row: (N,)."""
        return host_array("outputs", outputs).argmax(axis=1)


class Activation_Sigmoid(_Activation):
    """output = 1/(1 + e⁻ˣ)."""

    def forward(self, inputs: Any, training: bool = True) -> None:
        self.output = functional.sigmoid(inputs)
        self.inputs = inputs

    def backward(self, dvalues: Any) -> None:
        """dinputs = dvalues·output·(1 − output)."""
        self.dinputs = functional.sigmoid_backward(*backward_arrays(self, "output", dvalues))

    def predictions(self, outputs: Any) -> Any:
        """1 where the output is above one half, else 0."""
        return (host_array("outputs", outputs) > 0.5) * 1


class Activation_Linear(_Activation):
    """output = inputs."""

    def forward(self, inputs: Any, training: bool = True) -> None:
        self.output = floats("inputs", inputs)
        self.inputs = inputs

    def backward(self, dvalues: Any) -> None:
        """dinputs = dvalues."""
        self.dinputs = floats("dvalues", dvalues).copy()

    def predictions(self, outputs: Any) -> Any:
        """The outputs themselves."""
        return outputs
