"""ONNX Runtime's predictions, one row at a time: the graph is written with the onnx package, no framework exports it.

One thread: for a network this small a second one only costs.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import onnxruntime
from cases.ops import OpCase
from onnx import TensorProto, helper, numpy_helper

from peers.timing import Predictor, given

__all__ = ["subject"]

OPSET, FORMAT = 17, 8  # old enough for any runtime of the last years


class PredictOne(Predictor):
    def __init__(self, widths: tuple[int, ...], batch: int) -> None:
        weights, x = given(widths, batch)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        graph = _graph(widths, weights, batch)
        self.session = onnxruntime.InferenceSession(graph, settings, ["CPUExecutionProvider"])
        self.call = partial(self.session.run, None, {"x": x})

    def results(self) -> list[Any]:
        return [np.asarray(self.answer[0])]


def _graph(widths: tuple[int, ...], weights: list[Any], batch: int) -> bytes:
    nodes, last, value = [], len(widths) - 2, "x"
    for k in range(last + 1):
        out = "y" if k == last else f"z{k}"
        nodes.append(helper.make_node("Gemm", [value, f"w{k}", f"b{k}"], [out]))
        value = out
        if k < last:
            nodes.append(helper.make_node("Relu", [out], [f"a{k}"]))
            value = f"a{k}"
    names = [f"{letter}{k}" for k, _ in enumerate(pairwise(widths)) for letter in "wb"]
    constants = [numpy_helper.from_array(w, name) for w, name in zip(weights, names, strict=True)]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, width])]
        for name, width in (("x", widths[0]), ("y", widths[-1]))
    ]
    graph = helper.make_graph(nodes, "network", *ends, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=FORMAT)
    return bytes(model.SerializeToString())


def subject(case: OpCase, batch: int = 1) -> PredictOne:
    assert case.kind == "predict_one"
    return PredictOne(case.sizes, batch)
