"""An ONNX file or ModelProto, opened and checked; its one input, and the output to follow."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from nnfast.errors import CheckpointError, OptionError
from nnfast.exchange.onnx_writer import imported
from nnfast.storage.files import as_path, reading

__all__ = ["STANDARD", "Rows", "checker_of", "input_of", "opened", "output_of", "refused", "words"]

STANDARD = ("", "ai.onnx")  # the two names of ONNX's own domain
_OLDEST = 7  # opset; before it Add and Mul broadcast by attributes, and Dropout dropped unless told otherwise
_WHOLE = {f"{sign}INT{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}
_KINDS = {"FLOAT": "float32", "DOUBLE": "float64"} | _WHOLE  # names of dtypes in ONNX and in NumPy


class Rows(NamedTuple):
    """The input of a graph as it is declared; `rank` and `width`, the numbers of one row, are None where unknown."""

    name: str
    kind: str
    rank: int | None
    width: int | None


def words(node: Any) -> str:
    """The node, as messages name it."""
    name = node.name or (f"that makes {node.output[0]}" if node.output else "without a name")
    return f"node {name!r} ({node.op_type})"


def refused(node: str, why: str) -> OptionError:
    return OptionError(f"{node} {why}; nnfast reads dense networks: one chain from the input to the output")


def opened(path: Any) -> tuple[Any, Any]:
    """The package onnx, and the model of a path, or the ModelProto that was given, checked."""
    onnx = imported()
    given = isinstance(path, onnx.ModelProto)
    said = "the ModelProto" if given else as_path(path)
    proto = path if given else _read(onnx, said)
    _check_names(proto.graph)
    _check_meaning(onnx, proto, said)
    return onnx, proto


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


def _check_names(graph: Any) -> None:
    """Nodes come after what they take, and each name is made once: so no walk along them is endless."""
    known = {"", *(i.name for i in graph.input), *(t.name for t in graph.initializer)}
    for node in graph.node:
        for name in node.input:
            if name not in known:
                raise refused(words(node), f"takes {name!r}, which nothing before it makes")
        for name in filter(None, node.output):
            if name in known:
                raise refused(words(node), f"makes {name!r}, which is there already")
            known.add(name)


def _check_meaning(onnx: Any, proto: Any, said: str) -> None:
    """What changes the meaning of operators or the place of weights."""
    newest = onnx.defs.onnx_opset_version()
    versions = _opsets(proto)
    if len(versions) != 1 or not _OLDEST <= versions[0] <= newest:
        words = " and ".join(map(str, versions)) or "none"
        raise OptionError(f"{said} says that its opset is {words}; read are {_OLDEST} to {newest}")
    for function in proto.functions:
        if function.domain in STANDARD:
            raise OptionError(f"{said} has a function {function.name!r} of its own in the domain of ONNX")
    for tensor in proto.graph.initializer:
        if onnx.external_data_helper.uses_external_data(tensor):
            raise OptionError(f"{said} has {tensor.name!r} in another file; load it together with its external data")


def _opsets(proto: Any) -> list[int]:
    return [o.version for o in proto.opset_import if o.domain in STANDARD]


def checker_of(onnx: Any, proto: Any) -> Callable[[Any], None]:
    """A function that raises OptionError for a node that is not as ONNX has its operator in the opset of the model."""
    context = type(onnx.checker.DEFAULT_CONTEXT)()
    context.ir_version = onnx.IR_VERSION
    context.opset_imports = dict.fromkeys(STANDARD, *_opsets(proto))

    def check(node: Any) -> None:
        try:
            onnx.checker.check_node(node, context)
        except Exception as error:  # onnx raises what it likes
            raise refused(words(node), f"is not as ONNX has it: {error!s:.200}") from error

    return check


def input_of(onnx: Any, graph: Any) -> Rows:
    """The one input that is no initializer."""
    constants = {t.name for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs)
        raise OptionError(f"the graph has {len(inputs)} inputs ({names}); expected one, rows of numbers")
    (given,) = inputs
    tensor = given.type.tensor_type
    known = {getattr(onnx.TensorProto, name): kind for name, kind in _KINDS.items()}
    if tensor.elem_type not in known:
        raise OptionError(f"the input {given.name!r} has a dtype that is none of {', '.join(known.values())}")
    kind = known[tensor.elem_type]
    if not tensor.HasField("shape"):
        return Rows(given.name, kind, None, None)
    sizes = [d.dim_value for d in tensor.shape.dim]
    width = math.prod(sizes[1:]) if all(size > 0 for size in sizes[1:]) else None
    return Rows(given.name, kind, len(sizes), width)


def output_of(graph: Any, wanted: str | None) -> str:
    names = [o.name for o in graph.output]
    if wanted is None and len(names) == 1:
        return str(names[0])
    if wanted in names:
        return str(wanted)
    said = "" if wanted is None else f", none named {wanted!r}"
    raise OptionError(f"the graph has {len(names)} outputs{said}; choose one: output= one of {', '.join(names)}")
