"""A model from an ONNX graph that is a dense network: products, biases, scalings and activations in one chain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from nnfast import layers
from nnfast.errors import DTypeError, NnfastError, OptionError
from nnfast.exchange.building import dense
from nnfast.exchange.onnx_file import Rows, input_of, opened, output_of, refused
from nnfast.exchange.onnx_graph import SHAPING, Found, Graph
from nnfast.layers.base import Layer

__all__ = ["layers_of"]

Array = np.ndarray[Any, Any]

_PRODUCTS = frozenset({"MatMul", "Gemm"})
_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div"})
_FLOATS = ("float32", "float64")
_CASTS = {1: "float32", 11: "float64"}  # by the numbers of TensorProto.DataType
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


def layers_of(path: Any, output: str | None, *, mixed: bool) -> tuple[list[Layer], str]:
    """The layers of a file or a ModelProto, up to this output, and their dtype; `mixed`: whether there may be two."""
    onnx, proto = opened(path)
    rows, wanted = input_of(onnx, proto.graph), output_of(proto.graph, output)
    chain = Graph(onnx, proto, rows.name).chain(wanted)
    _check_rank(rows, chain)
    made = _Layers(_told(chain) if rows.width is None else rows.width, rows.kind)
    with np.errstate(all="ignore"):  # what comes of it is looked at
        for found in chain:
            made.take(found)
        given = made.finish()
    if not any(isinstance(layer, layers.Dense | layers.Standardize) for layer in given):
        raise OptionError(f"there is no product and no scaling before {wanted!r}, so no layer that has a width")
    if len(made.kinds) > 1 and not mixed:
        raise DTypeError(f"the constants are of {' and '.join(sorted(made.kinds))}; choose one with dtype=")
    return given, made.kinds.pop()


def _check_rank(rows: Rows, chain: list[Found]) -> None:
    """Raise OptionError unless rows come, or the first thing is to make rows of what comes."""
    first = next((found.operator for found in chain if found.operator != "Cast"), None)
    if rows.rank not in (None, 2) and not (rows.rank > 2 and first in SHAPING):
        raise OptionError(f"the input {rows.name!r} has rank {rows.rank}; expected rows, (N, width)")


def _told(chain: Iterable[Found]) -> int | None:
    """The width of rows, where the input does not declare it: the first product or vector of constants has it."""
    for found in chain:
        if found.operator in _PRODUCTS | _ARITHMETIC and found.constants[0].ndim:
            shape = found.constants[0].shape
            if found.operator in _PRODUCTS:
                return int(shape[-1] if found.attributes.get("transB", 0) else shape[0])
            if shape[-1] != 1:
                return int(shape[-1])
    return None


def _short(value: float) -> float:
    """ONNX keeps attributes in float32: 0.01 comes as 0.009999999776, and is meant as 0.01."""
    return float(str(np.float32(value)))


class _Layers:
    """Layers from operators. What is a product with what follows it, or a shift with a scale, becomes one layer."""

    def __init__(self, width: int | None, kind: str) -> None:
        self._layers: list[Layer] = []
        self._product: tuple[str, Array, Array] | None = None  # node, weights and biases, while more may be added
        self._scaling: tuple[str, Array, Array | None] | None = None  # node, mean, std
        self._width, self._kind = width, kind  # of the rows that come to what is next
        self.kinds: set[str] = set()

    def take(self, found: Found) -> None:
        operator = found.operator
        if operator in _PRODUCTS:
            weights, biases = self._weights(found)
            self._close()
            self._product, self._width = (found.node, weights, biases), weights.shape[1]
        elif operator in _ARITHMETIC:
            self._arithmetic(found)
        elif operator in SHAPING:
            self._shape(found)
        elif operator == "Cast":
            self._cast(found)
        elif operator in _ACTIVATIONS:
            self._close()
            self._check_activation(found)
            self._layers.append(self._made(found.node, lambda: _ACTIVATIONS[operator](found.attributes)))
        else:
            raise refused(found.node, "is of a kind that nnfast does not have")

    def finish(self) -> list[Layer]:
        self._close()
        return self._layers

    def _made(self, node: str, make: Callable[[], Layer]) -> Layer:
        try:
            return make()
        except NnfastError as error:
            raise refused(node, f"cannot be taken over: {error}") from error

    def _check_activation(self, found: Found) -> None:
        given = found.attributes
        if found.operator == "Softmax" and int(given.get("axis", -1)) not in (1, -1):
            raise refused(found.node, f"is along axis {given['axis']}")
        if self._kind not in _FLOATS:
            raise refused(found.node, f"takes rows of {self._kind}, where float32 and float64 are known")
        if given.get("approximate", b"none") != b"none":
            raise refused(found.node, f"approximates GELU by {given['approximate'].decode()}, where nnfast is exact")

    def _cast(self, found: Found) -> None:
        kind = _CASTS.get(found.attributes["to"])
        if kind is None:
            raise refused(found.node, "makes of the numbers what is neither float32 nor float64")
        self._kind = kind

    def _shape(self, found: Found) -> None:
        """Raise OptionError unless a Flatten or Reshape gives the rows as they are, or makes one of each sample."""
        if found.operator == "Flatten":
            if int(found.attributes.get("axis", 1)) != 1:
                raise refused(found.node, f"is along axis {found.attributes['axis']}")
            return
        shape = found.constants[0].reshape(-1).tolist()
        first, width = shape if len(shape) == 2 else (None, None)
        keeps = width == self._width or (first == 0 and (width == -1 or self._width is None))
        if first not in (0, -1) or not keeps or found.attributes.get("allowzero", 0):
            raise refused(found.node, f"makes shape {shape} of rows of {self._width or 'unknown width'}")

    def _weights(self, found: Found) -> tuple[Array, Array]:
        """Weights (inputs, outputs) and biases of a MatMul or Gemm."""
        given = found.attributes
        if given.get("transA", 0) or found.constants[0].ndim != 2:
            raise refused(found.node, "is no product of rows with a matrix of constants")
        w, *rest = found.constants
        self._check_kind(found, w, "weights")
        w = w.T if given.get("transB", 0) else w
        if w.shape[0] != self._width:
            raise refused(found.node, f"takes {w.shape[0]} numbers a row, where {self._width} come")
        alpha, beta = (np.float64(given.get(name, 1.0)) for name in ("alpha", "beta"))
        weights = w if alpha == 1 else self._kept(found, w, w * alpha)
        biases = np.zeros(w.shape[1])
        for c in rest:
            biases = biases + self._vector(found, c, w.shape[1])
        return weights, biases if beta == 1 else self._kept(found, biases, biases * beta)

    def _check_kind(self, found: Found, value: Array, what: str) -> None:
        if value.dtype.name not in _FLOATS:
            raise refused(found.node, f"has {what} of {value.dtype}, where float32 and float64 are known")
        if value.dtype.name != self._kind:
            raise refused(found.node, f"has {what} of {value.dtype}, where rows of {self._kind} come")
        self.kinds.add(value.dtype.name)

    def _vector(self, found: Found, value: Array, width: int) -> Array:
        """A constant as a vector with a number for each feature, or one for all; in float64, to be put together."""
        if value.ndim > 2 or value.size not in (1, width or 1) or value.shape[:-1] not in ((), (1,)):
            raise refused(found.node, f"has a constant of shape {value.shape} for rows of {width}")
        self._check_kind(found, value, "constants")
        return value.reshape(-1).astype(np.float64)

    def _kept(self, found: Found, before: Array, after: Array) -> Array:
        """What an operator makes of weights. Too large for their dtype they would make another product: OptionError."""
        kind = np.float32 if "float32" in self.kinds else np.float64
        if (np.isfinite(before) & ~np.isfinite(after.astype(kind))).any():
            raise refused(found.node, f"cannot join the product before it: that gives weights beyond {kind.__name__}")
        return after

    def _arithmetic(self, found: Found) -> None:
        if self._width is None:
            raise refused(found.node, "takes rows of a width that nothing in the graph tells")
        (constant,) = found.constants
        value = self._vector(found, constant, self._width)
        if self._product is not None:
            self._into_product(found, value)
            return
        adds = found.operator in ("Add", "Sub")
        if self._scaling is not None and (adds or self._scaling[2] is not None):
            self._close()
        if adds:
            self._scaling = found.node, value if found.operator == "Sub" else -value, None
        else:
            node, mean, _ = self._scaling or (found.node, np.zeros(1), None)
            self._scaling = node, mean, value if found.operator == "Div" else 1 / value

    def _into_product(self, found: Found, a: Array) -> None:
        assert self._product is not None
        node, w, b = self._product
        if not np.isfinite(a).all() or (found.operator == "Div" and not a.all()):
            raise refused(found.node, "cannot join the product before it: it has zeros to divide by, or no numbers")
        if found.operator in ("Add", "Sub"):
            self._product = node, w, self._kept(found, b, b + a if found.operator == "Add" else b - a)
        else:
            after = (w * a, b * a) if found.operator == "Mul" else (w / a, b / a)
            self._product = node, self._kept(found, w, after[0]), self._kept(found, b, after[1])

    def _close(self) -> None:
        """Make a layer of what has been gathered."""
        if self._product is not None:
            node, w, b = self._product
            self._layers.append(self._made(node, lambda: dense(w, b)))
            self._product = None
        if self._scaling is not None:
            node, mean, std = self._scaling
            self._layers.append(self._made(node, lambda: self._standardize(mean, np.ones(1) if std is None else std)))
            self._scaling = None

    def _standardize(self, *given: Array) -> Layer:
        mean, std = (a if a.size > 1 else a[0] for a in given)
        return layers.Standardize(mean, std, self._width)
