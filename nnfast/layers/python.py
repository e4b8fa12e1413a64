"""Layers in plain Python: two methods, at the price of a cut in the compiled program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.errors import DTypeError, ShapeError
from nnfast.layers.base import Layer

if TYPE_CHECKING:
    from nnfast.lowering import Builder

__all__ = ["PythonLayer"]


class PythonLayer(Layer):
    """A layer whose arithmetic you write yourself, on the backend's own arrays (NumPy's on a CPU, CuPy's on a GPU).

    Define `compute(x, training) -> y` and `gradient(dy) -> dx`, keeping on self what `gradient` needs (x stays as it
    is until then), and `n_outputs_for(n_inputs)` if the width changes. Parameters are declared with
    `parameter_shapes` and `initial_values`, read with `self.parameter(name)`, and their gradients written into
    `self.gradient_of(name)`, which begins at zero.

        class Cube(nn.PythonLayer):
            def compute(self, x, training):
                self.x = x
                return x**3

            def gradient(self, dy):
                return 3 * self.x**2 * dy

    The cost: the program is cut here, so a compiled backend returns to Python twice per step, and the two methods run
    as they are. `print(model.backend_report())` shows the cut. For full speed register an op: `nnfast.register_op`.
    """

    def compute(self, x: Any, training: bool) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define compute(x, training)")

    def gradient(self, dy: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define gradient(dy)")

    def parameter(self, name: str) -> Any:
        """The parameter array `name`, a view."""
        return self._view("parameters", name)

    def gradient_of(self, name: str) -> Any:
        """Where `gradient` writes the gradient of the parameter array `name`."""
        return self._view("gradients", name)

    def lower(self, b: Builder) -> None:
        y = b.output(self.n_outputs_for(b.x.width))
        b.python(self._train if b.training else self._infer, self._back, y)

    def _train(self, x: Any, y: Any) -> None:
        store(y, self.compute(read_only(x), True), self, "compute")

    def _infer(self, x: Any, y: Any) -> None:
        store(y, self.compute(read_only(x), False), self, "compute")

    def _back(self, x: Any, dy: Any, dx: Any) -> None:
        gradients = [self.gradient_of(name) for name in self._blocks]
        for g in gradients:
            g[...] = 0
        result = self.gradient(read_only(dy))
        for g in gradients if not self.trainable else ():
            g[...] = 0
        if dx is not None:
            store(dx, result, self, "gradient")


def read_only(a: Any) -> Any:
    """A view that cannot be written to, where arrays have such: what plain Python is given is not its own."""
    if isinstance(a, np.ndarray):
        a = a.view()
        a.flags.writeable = False
    return a


def store(out: Any, result: Any, part: Any, method: str) -> None:
    """Copy what a method of plain Python returned to where it belongs; nothing but the right shape will do."""
    where = f"{type(part).__name__}.{method}"
    if result is None:
        raise DTypeError(f"{where} returned None; is its `return` missing?")
    if not hasattr(result, "shape"):
        raise DTypeError(f"{where} returned a {type(result).__name__}; expected an array of shape {out.shape}")
    if isinstance(result, np.ndarray | np.generic) != isinstance(out, np.ndarray):
        kind = f"{type(out).__module__}.{type(out).__name__}"
        raise DTypeError(
            f"{where} returned a {type(result).__module__}.{type(result).__name__}; expected a {kind}, as this backend "
            "computes on"
        )
    if result.dtype.kind not in "fiub":
        raise DTypeError(f"{where} returned an array of {result.dtype}; expected {out.dtype}")
    if result.shape != out.shape:
        raise ShapeError(f"{where} returned an array of shape {result.shape}; expected {out.shape}")
    out[...] = result
