"""A model as an ONNX graph: a chain of standard operators, for any number of rows.

Opset 17 with IR version 8, which runtimes since 2022 read. GELU, which has no operator there, is made of Div, Erf, Add
and Mul, and SiLU of Sigmoid and Mul, as PyTorch writes them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import nnfast
from nnfast.exchange.chain import Activation, Affine, Array, Scaling, chain_of, folded
from nnfast.model import Model
from nnfast.storage.files import as_path, replacing
from nnfast.validation import flag, working_dtype

__all__ = ["IR_VERSION", "OPSET", "graph_of", "imported", "write"]

OPSET, IR_VERSION = 17, 8
_OPERATORS = {
    "relu": "Relu",
    "leaky_relu": "LeakyRelu",
    "elu": "Elu",
    "softplus": "Softplus",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "softmax": "Softmax",
}


def imported() -> Any:
    """The package onnx."""
    try:
        import onnx
        import onnx.checker
        import onnx.external_data_helper
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise ImportError(
            f"ONNX files need the package onnx ({error}); install it with `pip install 'nnfast[onnx]'`"
        ) from error
    return onnx


def write(model: Model, path: Any, **options: Any) -> None:
    """`Model.to_onnx`: the graph as a file, in one step, after ONNX's own checker has seen it."""
    name = as_path(path)
    content = graph_of(model, **options).SerializeToString(deterministic=True)
    with replacing(name) as file:
        file.write(content)


def graph_of(model: Model, *, probabilities: bool = True, fold: bool = False, dtype: Any = "float32") -> Any:
    """The `onnx.ModelProto`: input "input" (N, inputs), output "output" (N, outputs)."""
    onnx = imported()
    steps = chain_of(model, "ONNX", probabilities=probabilities, dtype=dtype)
    steps = folded(steps) if flag("fold", fold) else steps
    graph = _Graph(onnx, model.dtype if dtype is None else working_dtype(dtype))
    for step in steps:
        if isinstance(step, Affine):
            graph.emit("Gemm", graph.at, *graph.arrays(step.layer, weights=step.weights, biases=step.biases))
        elif isinstance(step, Scaling):
            mean, std = graph.arrays(step.layer, mean=step.mean, std=step.std)
            graph.emit("Sub", graph.at, mean)
            graph.emit("Div", graph.at, std)
        else:
            graph.activation(step)
    return graph.finish(model.n_inputs, model.n_outputs)


class _Graph:
    """Collects nodes and arrays; `at` is the name of the last result."""

    def __init__(self, onnx: Any, dtype: np.dtype[Any]) -> None:
        self._onnx, self._dtype = onnx, dtype
        self._nodes: list[Any] = []
        self._tensors: dict[str, Any] = {}
        self.at = "input"

    def emit(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A node whose result is the last one from now on."""
        self.at = f"{operator.lower()}_{len(self._nodes)}"
        node = self._onnx.helper.make_node(operator, inputs, [self.at], name=self.at, **attributes)
        self._nodes.append(node)
        return self.at

    def arrays(self, layer: int, **values: Array) -> list[str]:
        """Names of a layer's parameters, which are nnfast's own."""
        return [self._keep(f"{layer}.{name}", a) for name, a in values.items()]

    def _keep(self, name: str, values: Any) -> str:
        a = np.asarray(values, self._dtype.newbyteorder("<"))
        self._tensors.setdefault(name, self._onnx.numpy_helper.from_array(a, name))
        return name

    def activation(self, step: Activation) -> None:
        x = self.at
        if step.name == "gelu":
            self.emit("Div", x, self._keep("sqrt_2", math.sqrt(2)))
            self.emit("Erf", self.at)
            self.emit("Add", self.at, self._keep("one", 1.0))
            self.emit("Mul", x, self.at)
            self.emit("Mul", self.at, self._keep("half", 0.5))
        elif step.name == "silu":
            self.emit("Mul", x, self.emit("Sigmoid", x))
        else:
            attributes = {"alpha": step.alpha} if step.name in ("leaky_relu", "elu") else {}
            self.emit(_OPERATORS[step.name], x, **attributes, **({"axis": -1} if step.name == "softmax" else {}))

    def finish(self, inputs: int, outputs: int) -> Any:
        helper = self._onnx.helper
        kind = helper.np_dtype_to_tensor_dtype(self._dtype)
        if self._nodes:
            self._nodes[-1].output[0] = "output"
        else:
            self._nodes.append(helper.make_node("Identity", ["input"], ["output"], name="identity_0"))
        ends = [
            [helper.make_tensor_value_info(name, kind, ["N", width])]
            for name, width in (("input", inputs), ("output", outputs))
        ]
        graph = helper.make_graph(self._nodes, "nnfast", *ends, list(self._tensors.values()))
        made = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="nnfast",
            producer_version=nnfast.__version__,
        )
        self._onnx.checker.check_model(made, full_check=True)
        return made
