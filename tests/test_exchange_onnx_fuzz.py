"""Random graphs: `from_onnx` refuses one with an error of nnfast, or predicts what ONNX Runtime computes."""

from __future__ import annotations

import numpy as np
import pytest

import nnfast as nn
from nnfast.errors import NnfastError

pytest.importorskip("onnx", reason="ONNX files need it")
ort = pytest.importorskip("onnxruntime")
from onnx_random import Drawn  # noqa: E402

GRAPHS = 1000
DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}


def agreements(seed):
    """How many batches a model has in common with ONNX Runtime; None where the graph is refused."""
    drawn = Drawn(seed)
    given = drawn.proto()
    try:
        model = nn.from_onnx(given, backend="numpy")
    except NnfastError:
        return None
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # the graph as it is
    try:
        session = ort.InferenceSession(given.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except ort.capi.onnxruntime_pybind11_state.NotImplemented:  # it lacks operators in float64
        return 0
    agreed = 0
    for n in (1, 4):
        if drawn.shape is None or drawn.shape[0] in ("N", n):
            check(drawn, model, session, n)
            agreed += 1
    return agreed


def check(drawn, model, session, n):
    dtype = DTYPES[session.get_inputs()[0].type]
    rows = (drawn.rng.integers(-6, 7, (n, model.n_inputs)) / 2).astype(dtype)
    several = drawn.shape is not None and len(drawn.shape) > 2
    (want,) = session.run(["y"], {"x": rows.reshape(n, *drawn.shape[1:]) if several else rows})
    got = model.predict(rows)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_random_graphs_are_refused_or_read_as_onnx_runtime_has_them():
    ort.set_default_logger_severity(4)
    found = []
    for seed in range(GRAPHS):
        try:
            found.append(agreements(seed))
        except Exception as error:
            raise AssertionError(f"the graph of seed {seed}: {error}") from error
    assert sum(bool(n) for n in found) > GRAPHS // 4  # so that it says something
    assert found.count(None) > GRAPHS // 4
