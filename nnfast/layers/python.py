"""Layers in plain Python: two methods, at the price of a cut in the compiled program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnfast.layers.base import Layer

if TYPE_CHECKING:
    from nnfast.lowering import Builder

__all__ = ["PythonLayer"]


class PythonLayer(Layer):
    """A layer whose arithmetic you write yourself, on the backend's own arrays (NumPy's on a CPU).

    Define `compute(x, training) -> y` and `gradient(dy) -> dx`, keeping on self what `gradient` needs (x stays as it
    is until then), and `n_outputs_for(n_inputs)` if the width changes. Parameters are declared with
    `parameter_shapes` and `initial_values`, read with `self.parameter(name)`, and their gradients written into
    `self.gradient_of(name)`.

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
        y[...] = self.compute(x, True)

    def _infer(self, x: Any, y: Any) -> None:
        y[...] = self.compute(x, False)

    def _back(self, x: Any, dy: Any, dx: Any) -> None:
        result = self.gradient(dy)
        if not self.trainable:
            for name in self._blocks:
                self.gradient_of(name)[...] = 0
        if dx is not None:
            dx[...] = result
