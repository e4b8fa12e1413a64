"""ONNX graphs as others may write them, for the tests of `from_onnx`, and what ONNX Runtime makes of them."""

from __future__ import annotations

import numpy as np
import pytest
from exchange_models import X
from onnx import TensorProto, helper, numpy_helper

ROWS = X.astype(np.float32)
W1, B1, W2, B2 = (np.random.default_rng(i).standard_normal(s).astype(np.float32) for i, s in enumerate(
    [(5, 4), (4,), (4, 3), (3,)]
))  # fmt: skip
PRODUCT = [("MatMul", ["x", "w1"], "a", {}), ("Add", ["a", "b1"], "b", {})]


def runtime(content, rows=ROWS):
    """The first output of ONNX Runtime."""
    ort = pytest.importorskip("onnxruntime")
    content = content if isinstance(content, bytes) else content.SerializeToString()
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: rows})[0]


def proto(nodes, outputs=("y",), constants=None, opset=17, domains=(), shape=("N", 5), kind=TensorProto.FLOAT):
    """A graph of nodes (operator, inputs, output or outputs, attributes) with input "x"."""
    made = [
        helper.make_node(op, ins, [out] if isinstance(out, str) else out, name=f"n{i}", **more)
        for i, (op, ins, out, more) in enumerate(nodes)
    ]
    ends = [
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
    ]
    arrays = {"w1": W1, "b1": B1, "w2": W2, "b2": B2} | (constants or {})
    used = {name for _, ins, _, _ in nodes for name in ins}
    graph = helper.make_graph(
        made, "g", *ends, [numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items() if n in used]
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 3) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)
