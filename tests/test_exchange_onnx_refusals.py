"""Graphs that `from_onnx` refuses by the name of the node, among them those that look much like what it reads."""

from __future__ import annotations

import numpy as np
import pytest

import nnfast as nn
from nnfast.errors import CheckpointError, DTypeError, OptionError

onnx = pytest.importorskip("onnx", reason="ONNX files need it")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_graphs import B1, PRODUCT, ROWS, W1, W2, proto, runtime  # noqa: E402

MATMUL = [("MatMul", ["x", "w1"], "y", {})]
LAST = ("MatMul", ["a", "w1"], "y", {})  # of what another node has made of x

REFUSED = {
    "another operator": ([*PRODUCT, ("Sin", ["b"], "y", {})], r"node 'n2' \(Sin\) is of a kind"),
    "a convolution": ([("Conv", ["x", "k"], "y", {})], r"node 'n0' \(Conv\)"),
    "a shortcut": ([*PRODUCT, ("Relu", ["b"], "c", {}), ("Add", ["b", "c"], "y", {})], r"'n3' \(Add\) joins 2 values"),
    "turned round": ([("MatMul", ["k", "x"], "y", {})], r"'n0' \(MatMul\) has a constant where the rows would be"),
    "transposed rows": ([("Gemm", ["x", "w1"], "y", {"transA": 1})], r"'n0' \(Gemm\) is no product of rows"),
    "columns": ([*PRODUCT, ("Softmax", ["b"], "y", {"axis": 0})], r"'n2' \(Softmax\) is along axis 0"),
    "another gelu": ([*PRODUCT, ("Gelu", ["b"], "y", {"approximate": "tanh"})], r"'n2' \(Gelu\) approximates"),
    "a negative slope": ([*PRODUCT, ("LeakyRelu", ["b"], "y", {"alpha": -1.0})], r"'n2' \(LeakyRelu\) cannot be taken"),
    "a negative scale": ([("Mul", ["x", "neg"], "z", {}), ("MatMul", ["z", "w1"], "y", {})], r"'n0' \(Mul\) cannot be"),
    "a matrix added": ([*PRODUCT, ("Add", ["b", "w1"], "y", {})], r"'n2' \(Add\) has a constant of shape \(5, 4\)"),
    "whole numbers": ([("Cast", ["x"], "z", {"to": 7}), ("MatMul", ["z", "w1"], "y", {})], r"'n0' \(Cast\)"),
    "a reshape": ([("Reshape", ["x", "s"], "z", {}), ("MatMul", ["z", "w1"], "y", {})], r"'n0' \(Reshape\)"),
    "weights of whole numbers": ([("MatMul", ["x", "i"], "y", {})], r"'n0' \(MatMul\) has weights of int64"),
    "of a domain": ([("Scaler", ["x"], "y", {"domain": "ai.onnx.ml"})], r"'n0' \(Scaler\) is of the domain"),
    "out of nothing": ([("Relu", ["nowhere"], "y", {})], r"'n0' \(Relu\) takes 'nowhere', which nothing before it"),
    "constants alone": ([("Relu", ["b1"], "y", {})], "depends on constants alone"),
    "a number for each row": ([("Sub", ["x", "column"], "y", {})], r"'n0' \(Sub\) has a constant of shape \(5, 1\)"),
    "of another rank": ([("Mul", ["x", "cube"], "y", {})], r"'n0' \(Mul\) has a constant of shape \(1, 1, 1\)"),
    "of no numbers": ([("Add", ["x", "none"], "y", {})], r"'n0' \(Add\) has a constant of shape \(0,\)"),
    "widths apart": (
        [("MatMul", ["x", "w1"], "a", {}), ("MatMul", ["a", "k"], "y", {})],
        r"'n1' \(MatMul\) takes 5 numbers a row, where 4 come",
    ),
    "no outputs": ([("MatMul", ["x", "empty"], "y", {})], r"'n0' \(MatMul\) cannot be taken over: n_outputs is 0"),
    "a wrong permutation": (
        [("Transpose", ["w1"], "k1", {"perm": [0, 2, 1]}), ("MatMul", ["x", "k1"], "y", {})],
        r"'n0' \(Transpose\) has perm=\[0, 2, 1\] for a constant of shape \(5, 4\)",
    ),
    "dropping at random": ([("Dropout", ["x", "", "true"], "a", {}), LAST], r"'n0' \(Dropout\) is in training mode"),
    "a mask": (
        [("Dropout", ["x"], ["d", "m"], {}), ("Cast", ["m"], "a", {"to": 1}), LAST],
        r"'n0' \(Dropout\) makes 'm' beside its first output",
    ),
    "rows cut in two": (
        [("Reshape", ["x", "two"], "a", {}), ("Mul", ["a", "half"], "y", {})],
        r"'n0' \(Reshape\) makes shape \[-1, 1\] of rows of 5",
    ),
    "one row of all": ([("Flatten", ["x"], "a", {"axis": 0}), LAST], r"'n0' \(Flatten\) is along axis 0"),
    "a foreign sigmoid": (
        [("Sigmoid", ["x"], "a", {"domain": "ai.onnx.ml"}), ("Mul", ["x", "a"], "y", {})],
        r"'n1' \(Mul\) joins 2 values",
    ),
    "a foreign constant": (
        [("Identity", ["w1"], "k1", {"domain": "ai.onnx.ml"}), ("MatMul", ["x", "k1"], "y", {})],
        r"'n1' \(MatMul\) joins 2 values",
    ),
    "divided by zero": ([*PRODUCT, ("Div", ["b", "zero"], "y", {})], r"'n2' \(Div\) cannot join the product before it"),
    "an infinite factor": ([*PRODUCT, ("Mul", ["b", "inf"], "y", {})], r"'n2' \(Mul\) cannot join the product before"),
    "beyond float32": ([*PRODUCT, ("Mul", ["b", "huge"], "c", {}), ("Mul", ["c", "huge"], "y", {})], "beyond float32"),
    "a name made twice": (
        [("Identity", ["x"], "a", {}), ("Identity", ["a"], "a", {}), ("Relu", ["a"], "y", {})],
        r"'n1' \(Identity\) makes 'a', which is there already",
    ),
    "a circle": (
        [("Identity", ["b"], "a", {}), ("Identity", ["a"], "b", {}), ("Relu", ["b"], "y", {})],
        r"'n0' \(Identity\) takes 'b', which nothing before it makes",
    ),
    "without its inputs": ([("Relu", [], "y", {})], r"'n0' \(Relu\) is not as ONNX has it"),
    "an operator of a later opset": ([("RMSNormalization", ["x", "b1"], "y", {})], "is not as ONNX has it"),
    "nothing that has a width": ([("Tanh", ["x"], "y", {})], "no product and no scaling before 'y'"),
    "a kind without a cast": ([("MatMul", ["x", "wide"], "y", {})], r"weights of float64, where rows of float32 come"),
    "half precision": ([("Cast", ["x"], "h", {"to": 10}), ("Cast", ["h"], "a", {"to": 1}), LAST], r"'n0' \(Cast\)"),
}
ODD = {
    "k": np.zeros((5, 5), np.float32),
    "neg": np.float32(-1),
    "s": np.array([5, -1]),
    "i": np.ones((5, 2), np.int64),
    "column": np.ones((5, 1), np.float32),
    "cube": np.full((1, 1, 1), 0.5, np.float32),
    "none": np.zeros(0, np.float32),
    "empty": np.zeros((5, 0), np.float32),
    "true": np.array(True),
    "two": np.array([-1, 1]),
    "half": np.float32(0.5),
    "zero": np.float32(0),
    "inf": np.float32(np.inf),
    "huge": np.float32(1e30),
    "wide": np.ones((5, 2)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_graphs_are_refused_by_the_name_of_the_node(name):
    nodes, words = REFUSED[name]
    given = proto(nodes, constants=ODD, opset=20, domains=["ai.onnx.ml"])
    with pytest.raises(OptionError, match=words):
        nn.from_onnx(given)


INPUTS = {
    "another width": (MATMUL, ("N", 3), r"'n0' \(MatMul\) takes 5 numbers a row, where 3 come"),
    "one for five": ([("Mul", ["x", "row"], "y", {})], ("N", 1), r"'n0' \(Mul\) has a constant of shape \(1, 5\)"),
    "three dimensions": (MATMUL, ("N", 2, 5), "the input 'x' has rank 3"),
    "one dimension": ([("Flatten", ["x"], "a", {}), LAST], ("N",), "the input 'x' has rank 1"),
    "a width unknown": ([("Mul", ["x", "half"], "y", {})], ("N", "D"), r"'n0' \(Mul\) takes rows of a width that"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_that_do_not_fit_are_refused(name):
    nodes, shape, words = INPUTS[name]
    with pytest.raises(OptionError, match=words):
        nn.from_onnx(proto(nodes, shape=shape, constants={"row": np.ones((1, 5), np.float32), **ODD}))


def test_the_declared_width_is_that_of_one_number_for_all():
    given = proto([("Mul", ["x", "half"], "a", {}), ("Relu", ["a"], "y", {})], constants=ODD)
    np.testing.assert_allclose(nn.from_onnx(given, backend="numpy").predict(ROWS), np.maximum(ROWS / 2, 0))


@pytest.mark.parametrize("shape", [None, ("N", "D")])
def test_without_a_declared_width_the_first_product_tells_it(shape):
    given = proto(
        [("Mul", ["x", "half"], "a", {}), ("Relu", ["a"], "b", {}), ("MatMul", ["b", "w1"], "y", {})],
        shape=shape,
        constants=ODD,
    )
    np.testing.assert_allclose(nn.from_onnx(given, backend="numpy").predict(ROWS), runtime(given), rtol=1e-5, atol=1e-5)


def test_pictures_may_be_made_rows_first():
    nodes = [("Cast", ["x"], "c", {"to": 1}), ("Flatten", ["c"], "a", {}), LAST]
    given = proto(nodes, shape=("N", 1, 5, 1), kind=TensorProto.UINT8)
    rows = np.arange(10, dtype=np.uint8).reshape(2, 5)
    want = runtime(given, rows.reshape(2, 1, 5, 1))
    np.testing.assert_allclose(nn.from_onnx(given, backend="numpy").predict(rows), want, rtol=1e-5, atol=1e-5)


def test_products_of_two_dtypes_need_a_word_as_in_keras():
    nodes = [
        ("Cast", ["x"], "x64", {"to": TensorProto.DOUBLE}),
        ("MatMul", ["x64", "wide"], "a", {}),
        ("Cast", ["a"], "b", {"to": TensorProto.FLOAT}),
        ("MatMul", ["b", "w2"], "y", {}),
    ]
    given = proto(nodes, constants={"wide": W1.astype(np.float64)})
    with pytest.raises(DTypeError, match="float32 and float64; choose one with dtype="):
        nn.from_onnx(given)
    for dtype in ("float32", "float64"):
        model = nn.from_onnx(given, backend="numpy", dtype=dtype)
        np.testing.assert_allclose(model.predict(ROWS), ROWS @ W1 @ W2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("start", ["x", "w1"])
def test_long_ways_are_walked(start):
    """Further than Python calls itself."""
    way = [("Identity", [f"i{i}" if i else start], f"i{i + 1}", {}) for i in range(3000)]
    given = proto([*way, ("MatMul", ["i3000", "w1"] if start == "x" else ["x", "i3000"], "y", {})])
    np.testing.assert_allclose(nn.from_onnx(given, backend="numpy").predict(ROWS), ROWS @ W1, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [6, 99])
def test_opsets_with_another_meaning_are_refused(opset):
    with pytest.raises(OptionError, match=f"opset is {opset}; read are 7 to"):
        nn.from_onnx(proto([("Add", ["x", "b1"], "y", {"broadcast": 1})] if opset == 6 else MATMUL, opset=opset))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.BOOL, TensorProto.STRING])
def test_inputs_of_other_dtypes_are_refused(kind):
    with pytest.raises(OptionError, match="the input 'x' has a dtype that is none of float32, float64, int8"):
        nn.from_onnx(proto([("Cast", ["x"], "a", {"to": 1}), LAST], kind=kind))


def test_an_operator_of_ones_own_under_a_name_of_onnx_is_refused():
    given = proto(MATMUL)
    relu = helper.make_node("Relu", ["p"], ["q"])
    given.functions.append(helper.make_function("", "MatMul", ["p", "r"], ["q"], [relu], [helper.make_opsetid("", 17)]))
    with pytest.raises(OptionError, match="function 'MatMul' of its own in the domain of ONNX"):
        nn.from_onnx(given)


def test_weights_that_are_elsewhere_or_damaged_are_refused():
    given = proto(MATMUL)
    (tensor,) = given.graph.initializer
    onnx.external_data_helper.set_external_data(tensor, "a.data")
    with pytest.raises(OptionError, match="'w1' in another file"):
        nn.from_onnx(given)
    given = proto(MATMUL)
    given.graph.initializer[0].raw_data = b"short"
    with pytest.raises(OptionError, match="initializer 'w1' cannot be read"):
        nn.from_onnx(given)


def test_sparse_weights_are_refused():
    given = proto([("MatMul", ["x", "b1"], "y", {})])
    del given.graph.initializer[:]
    values = numpy_helper.from_array(B1[:1], "b1")
    indices = helper.make_tensor("where", TensorProto.INT64, [1], [3])
    given.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [5, 4]))
    with pytest.raises(OptionError, match="takes 'b1', which nothing before it makes"):
        nn.from_onnx(given)


def test_a_choice_of_two_branches_is_refused():
    branch = [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
    ways = [helper.make_graph([helper.make_node(op, ["x"], ["r"])], op, [], branch) for op in ("Relu", "Tanh")]
    choice = {"then_branch": ways[0], "else_branch": ways[1]}
    with pytest.raises(OptionError, match=r"'n0' \(If\)"):
        nn.from_onnx(proto([("If", ["truth"], "a", choice), LAST], constants={"truth": np.array(True)}))


def test_several_inputs_and_none():
    given = proto([*PRODUCT, ("Add", ["b", "z"], "y", {})], constants={"z": B1})
    given.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, (4,)))  # as old files have it
    np.testing.assert_allclose(nn.from_onnx(given, backend="numpy").predict(ROWS), runtime(given), rtol=1e-4, atol=1e-5)
    del given.graph.initializer[-1]
    with pytest.raises(OptionError, match=r"2 inputs \(x, z\)"):
        nn.from_onnx(given)
    del given.graph.input[:]
    with pytest.raises(OptionError, match="takes 'x', which nothing"):
        nn.from_onnx(given)
    with pytest.raises(OptionError, match="opset is none"):
        nn.from_onnx(onnx.ModelProto())


def test_numbers_that_are_none_are_kept():
    w = W1.copy()
    w[0, 0] = np.nan
    given = proto([("MatMul", ["x", "wn"], "a", {}), ("Relu", ["a"], "y", {})], constants={"wn": w})
    np.testing.assert_allclose(nn.from_onnx(given, backend="numpy").predict(ROWS), runtime(given), rtol=1e-4, atol=1e-5)


def test_constants_as_attributes():
    nodes = [
        ("Constant", [], "s", {"value_ints": [-1, 5]}),
        ("Reshape", ["x", "s"], "r", {}),
        ("Constant", [], "h", {"value_float": 0.5}),
        ("Mul", ["r", "h"], "a", {}),
        ("Constant", [], "d", {"value_floats": [1.0, 2.0, 3.0, 4.0, 5.0]}),
        ("Div", ["a", "d"], "y", {}),
    ]
    given = proto(nodes)
    np.testing.assert_allclose(nn.from_onnx(given, backend="numpy").predict(ROWS), runtime(given), rtol=1e-5, atol=1e-6)


def test_files_are_refused_like_protos(tmp_path):
    onnx.save(proto(MATMUL, shape=("N", 3)), tmp_path / "a.onnx")
    with pytest.raises(CheckpointError, match=r"a\.onnx is no ONNX model"):  # its output has no shape
        nn.from_onnx(tmp_path / "a.onnx")
