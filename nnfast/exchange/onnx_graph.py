"""An ONNX graph read backwards from its output: a chain of operators that act on rows, with their constants."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from nnfast.errors import OptionError
from nnfast.exchange.onnx_file import STANDARD, checker_of, refused, words

__all__ = ["SHAPING", "Found", "Graph"]

Array = np.ndarray[Any, Any]

SHAPING = frozenset({"Flatten", "Reshape"})
# Constants that are attributes, beside the tensor "value".
_NUMBERS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


class Found(NamedTuple):
    """One operator of the chain: what it does, with its constants and attributes; `node` names it in messages."""

    operator: str
    node: str
    constants: tuple[Array, ...]
    attributes: Mapping[str, Any]


class Graph:
    """The nodes of a checked graph by what they make, and its constants."""

    def __init__(self, onnx: Any, proto: Any, start: str) -> None:
        graph = proto.graph
        self._onnx = onnx
        self._start = start
        self._check = checker_of(onnx, proto)
        self._makers = {name: node for node in graph.node for name in node.output}
        self._constants = {t.name: self._array(f"initializer {t.name!r}", t) for t in graph.initializer}
        for node in graph.node:  # in order, so what a node takes is known
            value = self._constant(node)
            if value is not None:
                self._constants[node.output[0]] = value

    def _array(self, said: str, tensor: Any) -> Array:
        try:
            value: Array = self._onnx.numpy_helper.to_array(tensor)
        except Exception as error:  # onnx raises what it likes
            raise refused(said, f"cannot be read: {error!s:.200}") from error
        return value

    def _constant(self, node: Any) -> Array | None:
        """The value of a Constant, or of a constant passed on or transposed; None for anything else."""
        if node.domain not in STANDARD or node.op_type not in ("Constant", "Identity", "Transpose"):
            return None
        self._check(node)
        if node.op_type == "Constant":
            return self._constant_node(node)
        inner = self._constants.get(node.input[0])
        if inner is None or node.op_type == "Identity":
            return inner
        perm = self._attributes(node).get("perm")
        if perm is not None and sorted(perm) != list(range(inner.ndim)):
            raise refused(words(node), f"has perm={list(perm)} for a constant of shape {inner.shape}")
        return inner.transpose(perm)

    def _constant_node(self, node: Any) -> Array | None:
        for name, value in self._attributes(node).items():
            if name == "value":
                return self._array(words(node), value)
            if name in _NUMBERS:
                return np.array(value, _NUMBERS[name])
        return None

    def _attributes(self, node: Any) -> dict[str, Any]:
        return {a.name: self._onnx.helper.get_attribute_value(a) for a in node.attribute}

    def chain(self, output: str) -> list[Found]:
        """The operators from the input to this output. Raises OptionError naming a node that is no part of one."""
        found: list[Found] = []
        at = output
        while at != self._start:
            at, step = self._step(at)
            if step is not None:
                found.append(step)
        return found[::-1]

    def _step(self, at: str) -> tuple[str, Found | None]:
        """What makes a value, and of what."""
        node = self._makers.get(at)
        if node is None:
            raise OptionError(f"nothing in the graph makes {at!r}")
        said = words(node)
        if node.domain not in STANDARD:
            raise refused(said, f"is of the domain {node.domain!r}, which is not read")
        self._check(node)
        if at != node.output[0]:
            raise refused(said, f"makes {at!r} beside its first output, which alone is read")
        for pattern in (self._gelu, self._silu):
            x = pattern(node)
            if x is not None:
                return x, Found("Gelu" if pattern == self._gelu else "Silu", said, (), {})
        moving, constants = self._inputs(node)
        if node.op_type not in ("Add", "Mul") and node.input[0] != moving:
            raise refused(said, f"has a constant where the rows would be, {node.input[0]!r}")
        if self._passes(node):
            return moving, None
        return moving, Found(node.op_type, said, tuple(constants), self._attributes(node))

    def _inputs(self, node: Any) -> tuple[str, list[Array]]:
        """The one input that depends on the rows, and the values of the others."""
        given = list(filter(None, node.input))
        moving = [name for name in given if name not in self._constants]
        if not moving:
            raise refused(words(node), "depends on constants alone")
        if len(moving) != 1:
            raise refused(words(node), f"joins {len(moving)} values ({', '.join(moving)})")
        return moving[0], [self._constants[name] for name in given if name != moving[0]]

    def _passes(self, node: Any) -> bool:
        """Whether the node changes nothing in a prediction."""
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2] and self._constants[node.input[2]].any():
            raise refused(words(node), "is in training mode, where it drops at random")
        return node.op_type in ("Identity", "Dropout")

    # ---- operators that are written as several -----------------------------------------------------------------------

    def _maker(self, name: str, *kinds: str) -> Any:
        """The node that makes a value, if it is of one of these kinds, and ONNX's own."""
        node = self._makers.get(name)
        if node is None or node.op_type not in kinds or node.domain not in STANDARD:
            return None
        self._check(node)
        return node

    def _silu(self, node: Any) -> str | None:
        """x of x·Sigmoid(x)."""
        if node.op_type != "Mul":
            return None
        for x, other in self._both_ways(node):
            maker = self._maker(other, "Sigmoid")
            if maker is not None and maker.input[0] == x:
                return x
        return None

    def _gelu(self, node: Any) -> str | None:
        """x of x·(1 + Erf(x/√2))·½, whatever is multiplied first."""
        if node.op_type != "Mul":
            return None
        factors = self._factors(node)
        numbers = [self._constants[name] for name in factors if name in self._constants]
        names = [name for name in factors if name not in self._constants]
        if len(names) != 2 or len(numbers) != 1 or not _is(numbers[0], 0.5):
            return None
        return next((x for x, other in (names, names[::-1]) if self._is_one_plus_erf(other, x)), None)

    def _factors(self, node: Any) -> list[str]:
        """The factors of a product of up to three."""
        for x, other in self._both_ways(node):
            maker = self._maker(x, "Mul")
            if maker is not None:
                return [*maker.input, other]
        return list(node.input)

    def _is_one_plus_erf(self, name: str, x: str) -> bool:
        plus = self._maker(name, "Add")
        for erf, one in self._both_ways(plus) if plus is not None else ():
            maker = self._maker(erf, "Erf")
            if maker is not None and _is(self._constants.get(one), 1.0):
                scaled = self._maker(maker.input[0], "Div", "Mul")
                return scaled is not None and scaled.input[0] == x and self._is_by_root(scaled)
        return False

    def _is_by_root(self, node: Any) -> bool:
        """Whether it divides by √2."""
        by = {"Div": math.sqrt(2), "Mul": math.sqrt(0.5)}[node.op_type]
        return _is(self._constants.get(node.input[1]), by)

    @staticmethod
    def _both_ways(node: Any) -> Iterator[tuple[str, str]]:
        first, second = node.input
        yield first, second
        yield second, first


def _is(value: Array | None, number: float) -> bool:
    """Whether it is this number, in a shape that rows keep theirs with."""
    return (
        value is not None
        and value.dtype.kind == "f"
        and value.size == 1
        and value.ndim <= 2
        and math.isclose(float(value.reshape(())), number, rel_tol=1e-6)
    )
