"""A model from an ONNX graph that is a dense network: products, biases, scalings and activations in one chain."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nnfast import layers
from nnfast.errors import CheckpointError, NnfastError, OptionError
from nnfast.exchange.building import dense
from nnfast.exchange.onnx_graph import Found, Graph, refused
from nnfast.exchange.onnx_writer import imported
from nnfast.layers.base import Layer
from nnfast.storage.files import as_path, reading

__all__ = ["layers_of"]

Array = np.ndarray[Any, Any]

_ACTIVATIONS: dict[str, Callable[[Mapping[str, Any]], Layer]] = {
    "Relu": lambda given: layers.ReLU(),
    "LeakyRelu": lambda given: layers.LeakyReLU(_short(given.get("alpha", 0.01))),
    "Elu": lambda given: layers.ELU(_short(given.get("alpha", 1.0))),
    "Gelu": lambda given: layers.GELU(),
    "Silu": lambda given: layers.SiLU(),
    "Softplus": lambda given: layers.Softplus(),
    "Sigmoid": lambda given: layers.Sigmoid(),
    "Tanh": lambda given: layers.Tanh(),
    "Softmax": lambda given: layers.Softmax(),
}


def layers_of(path: Any, output: str | None) -> tuple[list[Layer], str]:
    """The layers of a file or a ModelProto, up to this output, and their dtype."""
    onnx = imported()
    proto = path if isinstance(path, onnx.ModelProto) else _read(onnx, as_path(path))
    graph = Graph(onnx, proto.graph)
    chain = graph.chain(_output(proto.graph, output))
    made = _Layers()
    for found in chain:
        made.take(found)
    return made.finish(), made.dtype


def _read(onnx: Any, name: str) -> Any:
    with reading(name) as file:
        content = file.read()
    try:
        proto = onnx.load_model_from_string(content)
        onnx.external_data_helper.load_external_data_for_model(proto, os.path.dirname(os.path.realpath(name)))
        onnx.checker.check_model(proto)
    except Exception as error:  # protobuf and onnx raise what they like
        raise CheckpointError(f"{name} is no ONNX model: {error!s:.300}") from error
    return proto


def _output(graph: Any, wanted: str | None) -> str:
    names = [o.name for o in graph.output]
    if wanted is None and len(names) == 1:
        return str(names[0])
    if wanted in names:
        return str(wanted)
    said = "" if wanted is None else f", none named {wanted!r}"
    raise OptionError(f"the graph has {len(names)} outputs{said}; choose one: output= one of {', '.join(names)}")


def _short(value: float) -> float:
    """ONNX keeps attributes in float32: 0.01 comes as 0.009999999776, and is meant as 0.01."""
    return float(str(np.float32(value)))


class _Layers:
    """Layers from operators. What is a product with what follows it, or a shift with a scale, becomes one layer."""

    def __init__(self) -> None:
        self._layers: list[Layer] = []
        self._product: tuple[Array, Array] | None = None  # weights and biases, while more may be added
        self._scaling: tuple[str, Any, Any] | None = None  # node, mean, std
        self._width: int | None = None  # of a row, where a product has told it
        self.dtype = "float32"

    def take(self, found: Found) -> None:
        operator = found.operator
        if operator in ("MatMul", "Gemm"):
            weights, biases = self._weights(found)
            self._close(weights.shape[0])
            self._product = weights, biases
        elif operator in ("Add", "Sub", "Mul", "Div"):
            self._arithmetic(found)
        elif operator in _ACTIVATIONS:
            self._close()
            self._check_activation(found)
            self._layers.append(self._made(found, lambda: _ACTIVATIONS[operator](found.attributes)))
        else:
            raise refused(found.node, "is of a kind that nnfast does not have")

    def finish(self) -> list[Layer]:
        self._close()
        return self._layers

    def _made(self, found: Found, make: Callable[[], Layer]) -> Layer:
        try:
            return make()
        except NnfastError as error:
            raise refused(found.node, f"cannot be taken over: {error}") from error

    def _check_activation(self, found: Found) -> None:
        given = found.attributes
        if found.operator == "Softmax" and int(given.get("axis", -1)) not in (1, -1):
            raise refused(found.node, f"is along axis {given['axis']}")
        if given.get("approximate", b"none") != b"none":
            raise refused(found.node, f"approximates GELU by {given['approximate'].decode()}, where nnfast is exact")

    def _weights(self, found: Found) -> tuple[Array, Array]:
        """Weights (inputs, outputs) and biases of a MatMul or Gemm."""
        given = found.attributes
        if given.get("transA", 0) or not found.constants or found.constants[0].ndim != 2:
            raise refused(found.node, "is no product of rows with a matrix of constants")
        w, *rest = found.constants
        if w.dtype not in (np.float32, np.float64):
            raise refused(found.node, f"has weights of {w.dtype}, where float32 and float64 are known")
        self.dtype = w.dtype.name
        w = (w.T if given.get("transB", 0) else w) * w.dtype.type(given.get("alpha", 1.0))
        bias = np.zeros(w.shape[1], w.dtype)
        return w, bias + self._vector(found, rest[0], bias) * given.get("beta", 1.0) if rest else bias

    def _vector(self, found: Found, value: Array, like: Array) -> Array:
        """A constant as a vector for each output, or a number for all."""
        if (
            value.dtype.kind != "f"
            or value.ndim > 2
            or value.size not in (1, like.size)
            or value.shape[:-1]
            not in (
                (),
                (1,),
            )
        ):
            raise refused(found.node, f"has a constant of shape {value.shape} and dtype {value.dtype}")
        flat: Array = np.broadcast_to(value.reshape(-1), like.shape)
        return flat

    def _arithmetic(self, found: Found) -> None:
        (value,) = found.constants if len(found.constants) == 1 else (None,)
        if value is None:
            raise refused(found.node, "has no constant of its own")
        if self._product is not None:
            self._into_product(found, value)
            return
        operator = found.operator
        value = value.astype(np.float64).reshape(-1) if value.ndim < 3 else value
        if operator in ("Add", "Sub") and self._scaling is None:
            self._scaling = found.node, (value if operator == "Sub" else -value), None
        elif operator in ("Mul", "Div") and (self._scaling is None or self._scaling[2] is None):
            node, mean, _ = self._scaling or (found.node, np.zeros(1), None)
            with np.errstate(divide="ignore"):
                self._scaling = node, mean, (value if operator == "Div" else 1 / value)
        else:
            self._close()
            self._arithmetic(found)

    def _into_product(self, found: Found, value: Array) -> None:
        assert self._product is not None
        w, b = self._product
        a = self._vector(found, value, b)
        if found.operator in ("Add", "Sub"):
            self._product = w, b + a if found.operator == "Add" else b - a
        else:
            self._product = (w * a, b * a) if found.operator == "Mul" else (w / a, b / a)

    def _close(self, width: int | None = None) -> None:
        """Make layers of what has been gathered; `width` is that of the rows, where the next one knows it."""
        if self._product is not None:
            self._layers.append(dense(*self._product))
            self._width, self._product = self._product[0].shape[1], None
        if self._scaling is not None:
            node, mean, std = self._scaling
            made = self._standardize(node, mean, np.ones(1) if std is None else std, width or self._width)
            self._layers.append(made)
            self._scaling = None

    def _standardize(self, node: str, mean: Array, std: Array, width: int | None) -> Layer:
        width = width or max(mean.size, std.size)  # one number alone stands for all
        try:
            alone = [a if a.size > 1 else a[0] for a in (mean, std)]
            return layers.Standardize(alone[0], alone[1], width)
        except NnfastError as error:
            raise refused(node, f"cannot be taken over as Standardize: {error}") from error
