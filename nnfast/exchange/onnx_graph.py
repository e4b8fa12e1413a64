"""An ONNX graph read backwards from its output: a chain of operators that act on rows, with their constants."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from nnfast.errors import OptionError

__all__ = ["Found", "Graph", "refused"]

Array = np.ndarray[Any, Any]

# Operators that change nothing about rows of numbers in a prediction.
_PASSING = frozenset({"Identity", "Dropout"})
_SHAPING = frozenset({"Flatten", "Reshape"})


class Found(NamedTuple):
    """One operator of the chain: what it does, with its constants and attributes; `node` names it in messages."""

    operator: str
    node: str
    constants: tuple[Array, ...]
    attributes: Mapping[str, Any]


def refused(node: str, why: str) -> OptionError:
    return OptionError(f"{node} {why}; nnfast reads dense networks: one chain from the input to the output")


class Graph:
    """The nodes of a graph by what they make, and its constants."""

    def __init__(self, onnx: Any, graph: Any) -> None:
        self._onnx = onnx
        self._makers = {name: node for node in graph.node for name in node.output}
        self._constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        inputs = [i.name for i in graph.input if i.name not in self._constants]
        if len(inputs) != 1:
            raise OptionError(
                f"the graph has {len(inputs)} inputs ({', '.join(inputs)}); expected one, rows of numbers"
            )
        self.input = inputs[0]
        self._check_order(graph)

    def _check_order(self, graph: Any) -> None:
        """Nodes come after what they take, so no walk along them is endless."""
        known = {"", self.input, *self._constants}
        for node in graph.node:
            for name in node.input:
                if name not in known:
                    raise refused(self.words(node), f"takes {name!r}, which nothing before it makes")
            known.update(node.output)

    def chain(self, output: str) -> list[Found]:
        """The operators from the input to this output. Raises OptionError naming a node that is no part of one."""
        found: list[Found] = []
        at = output
        while at != self.input:
            at, step = self._step(at)
            if step is not None:
                found.append(step)
        return found[::-1]

    def _step(self, at: str) -> tuple[str, Found | None]:
        """What makes a value, and of what."""
        node = self._makers.get(at)
        if node is None:
            raise OptionError(f"nothing in the graph makes {at!r}")
        said = self.words(node)
        if node.domain not in ("", "ai.onnx"):
            raise refused(said, f"is of the domain {node.domain!r}, which is not read")
        for pattern in (self._gelu, self._silu):
            x = pattern(node)
            if x is not None:
                return x, Found("Gelu" if pattern == self._gelu else "Silu", said, (), {})
        attributes = {a.name: self._onnx.helper.get_attribute_value(a) for a in node.attribute}
        moving, constants = self._inputs(node)
        if node.op_type in _PASSING or self._keeps_numbers(node, attributes):
            return moving[0], None
        if len(moving) != 1:
            raise refused(said, f"joins {len(moving)} values ({', '.join(moving)})")
        if node.op_type in ("Sub", "Div", "MatMul", "Gemm") and node.input[0] != moving[0]:
            raise refused(said, f"has a constant where the rows would be, {node.input[0]!r}")
        return moving[0], Found(node.op_type, said, tuple(constants), attributes)

    def _inputs(self, node: Any) -> tuple[list[str], list[Array]]:
        """The inputs that depend on the rows, and the values of the others."""
        moving: list[str] = []
        constants: list[Array] = []
        for name in filter(None, node.input):
            value = self.constant(name)
            if value is None:
                moving.append(name)
            else:
                constants.append(value)
        if not moving:
            raise refused(self.words(node), "depends on constants alone")
        return moving, constants

    def constant(self, name: str) -> Array | None:
        """The value of an initializer or of a Constant, perhaps passed on or transposed; None for anything else."""
        if name in self._constants:
            value: Array = self._constants[name]
            return value
        node = self._makers.get(name)
        if node is None:
            return None
        attributes = {a.name: a for a in node.attribute}
        if node.op_type == "Constant":
            return self._constant_node(attributes)
        if node.op_type not in ("Identity", "Transpose"):
            return None
        inner = self.constant(node.input[0])
        if inner is None or node.op_type == "Identity":
            return inner
        return inner.transpose(list(attributes["perm"].ints) if "perm" in attributes else None)

    def _constant_node(self, attributes: Mapping[str, Any]) -> Array | None:
        if "value" in attributes:
            value: Array = self._onnx.numpy_helper.to_array(attributes["value"].t)
            return value
        if "value_float" in attributes:
            return np.array(attributes["value_float"].f, np.float32)
        if "value_floats" in attributes:
            return np.array(attributes["value_floats"].floats, np.float32)
        return None

    def _keeps_numbers(self, node: Any, attributes: Mapping[str, Any]) -> bool:
        """Whether the node makes floats of what comes, or rows: (N, …) to (N, width)."""
        if node.op_type == "Cast":
            kinds = self._onnx.TensorProto
            return attributes["to"] in (kinds.FLOAT, kinds.DOUBLE)
        if node.op_type not in _SHAPING:
            return False
        if node.op_type == "Flatten":
            return int(attributes.get("axis", 1)) == 1
        shape = self.constant(node.input[1])
        return shape is not None and shape.size == 2 and (shape[0] in (0, -1))

    def words(self, node: Any) -> str:
        """The node, as messages name it."""
        name = node.name or (f"that makes {node.output[0]}" if node.output else "without a name")
        return f"node {name!r} ({node.op_type})"

    # ---- operators that are written as several -----------------------------------------------------------------------

    def _silu(self, node: Any) -> str | None:
        """x of x·Sigmoid(x)."""
        if node.op_type != "Mul":
            return None
        for x, other in self._both_ways(node):
            maker = self._makers.get(other)
            if maker is not None and maker.op_type == "Sigmoid" and maker.input[0] == x:
                return x
        return None

    def _gelu(self, node: Any) -> str | None:
        """x of x·(1 + Erf(x/√2))·½, whatever is multiplied first."""
        if node.op_type != "Mul":
            return None
        factors = self._factors(node)
        numbers = [float(c) for c in map(self.constant, factors) if c is not None and c.size == 1]
        names = [name for name in factors if self.constant(name) is None]
        if len(factors) != 3 or len(names) != 2 or numbers != [0.5]:
            return None
        return next((x for x, other in (names, names[::-1]) if self._is_one_plus_erf(other, x)), None)

    def _factors(self, node: Any) -> list[str]:
        """The factors of a product of up to three."""
        for x, other in self._both_ways(node):
            maker = self._makers.get(x)
            if maker is not None and maker.op_type == "Mul":
                return [*maker.input, other]
        return list(node.input)

    def _is_one_plus_erf(self, name: str, x: str) -> bool:
        plus = self._makers.get(name)
        if plus is None or plus.op_type != "Add":
            return False
        for erf, one in self._both_ways(plus):
            maker = self._makers.get(erf)
            if maker is not None and maker.op_type == "Erf" and _is(self.constant(one), 1.0):
                scaled = self._makers.get(maker.input[0])
                return scaled is not None and scaled.input[0] == x and self._is_by_root(scaled)
        return False

    def _is_by_root(self, node: Any) -> bool:
        """Whether it divides by √2."""
        by = {"Div": math.sqrt(2), "Mul": math.sqrt(0.5)}.get(node.op_type)
        return by is not None and _is(self.constant(node.input[1]), by)

    @staticmethod
    def _both_ways(node: Any) -> Iterator[tuple[str, str]]:
        first, second = node.input
        yield first, second
        yield second, first


def _is(value: Array | None, number: float) -> bool:
    return value is not None and value.size == 1 and math.isclose(float(value.reshape(())), number, rel_tol=1e-6)
