"""Parts that a program brings along itself, inside the compiled step: each cuts it, and runs as it is written.

A layer is anything with `forward(inputs, training)`, `backward(dvalues)`, `output` and `dinputs`, with `weights` and
`biases` where it trains; a loss anything with `forward(y_pred, y_true)` and `backward(dvalues, y_true)`; an accuracy
anything with `compare(predictions, y)`.

They are written for NumPy's arrays, and get those on a GPU backend too: copied to the host and back, at every call.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.compat._accuracy import Accuracy
from nnfast.compat._glue import to_device, to_host
from nnfast.errors import DTypeError, ShapeError
from nnfast.layers.python import PythonLayer
from nnfast.losses import PythonLoss
from nnfast.metrics import Metric
from nnfast.registry import get_backend
from nnfast.validation import host_array, labels, targets

if TYPE_CHECKING:
    from nnfast.lowering import Builder

__all__ = ["PARAMETERS", "OwnAccuracy", "OwnLayer", "OwnLoss"]

PARAMETERS = ("weights", "biases")


class OwnLayer(PythonLayer):
    """A layer of the program's. Its `backward` sees to penalties itself; here they only join the loss."""

    scalars = ("weight_l1", "weight_l2", "bias_l1", "bias_l2")

    def __init__(self, part: Any, n_inputs: int | None) -> None:
        super().__init__()
        self._part = part
        self._shapes = {name: np.shape(getattr(part, name)) for name in PARAMETERS if hasattr(part, name)}
        matrix = self._shapes.get("weights", ())
        self._n_inputs = matrix[0] if n_inputs is None and len(matrix) == 2 else n_inputs
        self._n_outputs: int | None = None
        self.weight_l1 = self.weight_l2 = self.bias_l1 = self.bias_l2 = 0.0

    @property
    def n_inputs_wanted(self) -> int | None:
        return self._n_inputs

    def n_outputs_for(self, n_inputs: int) -> int:
        if self._n_outputs is None:  # only the layer itself knows: ask it, with one row
            y = host_array("output", self._output_for(np.zeros((1, n_inputs), self.dtype), training=False))
            if y.ndim != 2 or y.shape[0] != 1:
                raise ShapeError(f"{self!r} made output of shape {y.shape} from one row of {n_inputs}; expected (1, O)")
            self._n_outputs = y.shape[1]
        return self._n_outputs

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return self._shapes

    def lower(self, b: Builder) -> None:
        super().lower(b)
        for name, kind in zip(PARAMETERS, ("weight", "bias"), strict=True):
            if name in self._shapes:
                b.penalize(name, f"{kind}_l1", f"{kind}_l2", gradient=False)

    def compute(self, x: Any, training: bool) -> Any:
        if self.backend.device != "cpu":  # what the part holds are copies then
            for name in self._shapes:
                getattr(self._part, name)[...] = self.backend.to_numpy(self.parameter(name))
        return to_device(self.backend, "output", self._output_for(to_host(self.backend, x), training))

    def _output_for(self, x: Any, training: bool) -> Any:
        self._part.forward(x, training)
        return self._part.output

    def gradient(self, dy: Any) -> Any:
        self._part.backward(to_host(self.backend, dy))
        for name, shape in self._shapes.items():
            slope = host_array(f"d{name}", getattr(self._part, f"d{name}"))
            if slope.size != np.prod(shape, dtype=int):
                raise ShapeError(f"d{name} of {self!r} has shape {slope.shape}; expected {shape}, that of {name}")
            self.gradient_of(name)[...] = self.backend.asarray(slope.reshape(shape))
        return to_device(self.backend, "dinputs", self._part.dinputs)

    def __repr__(self) -> str:
        return f"{type(self._part).__name__}(…)"


class OwnLoss(PythonLoss):
    """A loss of the program's. Targets of one dimension are class numbers, others are rows like the output."""

    def __init__(self, part: Any) -> None:
        super().__init__()
        self._part, self._at = part, get_backend()

    def structure(self) -> Hashable:
        return (type(self), id(self._part))

    def check(self, name: str, y: Any, rows: int, width: int, dtype: Any) -> Any:
        given = host_array(name, y)
        return (labels if given.ndim == 1 else targets)(name, given, rows, width, dtype)

    def compute(self, output: Any, y: Any) -> Any:
        losses = host_array("losses", self._part.forward(to_host(self._at, output), to_host(self._at, y)))
        if losses.ndim != 1:
            raise ShapeError(f"{self!r}.forward() gave losses of shape {losses.shape}; expected one per row, (N,)")
        return to_device(self._at, "losses", losses)

    def gradient(self, output: Any, y: Any) -> Any:
        self._part.backward(to_host(self._at, output), to_host(self._at, y))
        # The book's is that of the mean over rows.
        return to_device(self._at, "dinputs", self._part.dinputs * len(output))

    def __repr__(self) -> str:
        return f"{type(self._part).__name__}()"


class OwnAccuracy(Metric):
    """An accuracy that no op measures, or for the predictions of an activation that none knows."""

    targets = "label"  # it takes what the loss takes

    def __init__(self, accuracy: Any, activation: Any) -> None:
        super().__init__("accuracy", "python")
        self._accuracy, self._at = accuracy, get_backend()
        self._predictions = getattr(activation, "predictions", None)

    def lower(self, b: Builder) -> None:
        b.python_metric(self._measure, b.sum(self.name), weighted=False)

    def _measure(self, outputs: Any, y: Any, total: Any) -> None:
        outputs, y = to_host(self._at, outputs), to_host(self._at, y)
        predictions = outputs if self._predictions is None else self._predictions(outputs)
        if predictions is None:
            raise DTypeError(f"{self._predictions!r} returned None; is its `return` missing?")
        total += Accuracy._count(self._accuracy, predictions, y)[0]
