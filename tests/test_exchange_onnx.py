"""Models as ONNX: what ONNX Runtime makes of them, and reading what we, PyTorch and scikit-learn's converter write."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from exchange_models import LAYERS, Cube, X, network

import nnfast as nn
from nnfast.errors import CheckpointError, DTypeError, OptionError, UnknownNameError
from nnfast.exchange import onnx_writer
from nnfast.exchange.onnx_writer import OPSET, graph_of

onnx = pytest.importorskip("onnx", reason="ONNX files need it")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_graphs import B1, B2, PRODUCT, ROWS, W1, W2, proto, runtime  # noqa: E402


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("fold", [True, False], ids=["folded", "apart"])
def test_onnx_runtime_gives_the_same(name, fold, dtype, tmp_path):
    """The file is float32 whatever the model: ONNX Runtime lacks operators in float64."""
    model = network(LAYERS[name](), dtype=dtype.name)
    model.to_onnx(tmp_path / "a.onnx", fold=fold)
    got = runtime((tmp_path / "a.onnx").read_bytes())
    want = model.predict(X)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(runtime(graph_of(model), ROWS[:1]), want[:1], rtol=1e-5, atol=1e-5)  # any rows


@pytest.mark.parametrize("name", LAYERS)
def test_float64_as_the_standard_has_it(name):
    from onnx.reference import ReferenceEvaluator

    model = network(LAYERS[name](), dtype="float64")
    graph = graph_of(model, dtype="float64")
    (got,) = ReferenceEvaluator(graph).run(None, {"input": X})
    # Its own Erf and Softplus, and attributes, which ONNX keeps in float32, are good for this.
    np.testing.assert_allclose(got, model.predict(X), rtol=1e-6, atol=1e-6)
    assert graph.graph.output[0].type.tensor_type.elem_type == TensorProto.DOUBLE


@pytest.mark.parametrize("loss", [nn.SoftmaxCrossEntropy, nn.SigmoidBinaryCrossEntropy])
def test_probabilities_or_logits(loss):
    model = network(nn.Tanh(), loss())
    np.testing.assert_allclose(runtime(graph_of(model)), model.predict(X), atol=1e-5)
    logits = network(nn.Tanh()).predict(X)
    np.testing.assert_allclose(runtime(graph_of(model, probabilities=False)), logits, rtol=1e-5, atol=1e-5)


def test_what_is_in_the_file(tmp_path):
    model = network(nn.SiLU(), nn.SoftmaxCrossEntropy())
    for name in ("a", "b"):
        model.to_onnx(tmp_path / f"{name}.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    proto = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert [n.op_type for n in proto.graph.node] == ["Sub", "Div", "Gemm", "Sigmoid", "Mul", "Gemm", "Softmax"]
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", OPSET)]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert proto.producer_name == "nnfast"


def test_a_model_that_computes_nothing():
    model = nn.Model([nn.Linear(), nn.Standardize(0, 1, n_inputs=5), nn.Dropout(0.5)], backend="numpy")
    assert [n.op_type for n in graph_of(model, fold=True).graph.node] == ["Sub", "Div"]
    only = nn.Model([nn.Dense(5, 2), nn.Softmax()], nn.CategoricalCrossEntropy(), backend="numpy", rng=0)
    np.testing.assert_allclose(runtime(graph_of(only)), only.predict(X), atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_there_and_back(name, backend, dtype, tmp_path):
    model = network(LAYERS[name](), nn.SoftmaxCrossEntropy(), dtype=dtype.name, backend=backend)
    model.to_onnx(tmp_path / "a.onnx", dtype=dtype.name)
    back = nn.from_onnx(tmp_path / "a.onnx", backend=backend)
    assert (back.loss, back.optimizer, back.dtype) == (None, None, dtype)
    rounding = 1e-5 if name == "standardize" else 0  # after a product it becomes a part of that
    np.testing.assert_allclose(back.predict(X), model.predict(X), rtol=rounding, atol=rounding)


def test_training_goes_on(tmp_path):
    labels = np.arange(len(X)) % 3
    model = network(nn.Tanh(), nn.SoftmaxCrossEntropy())
    model.to_onnx(tmp_path / "a.onnx")
    back = nn.from_onnx(
        tmp_path / "a.onnx", nn.SoftmaxCrossEntropy(), nn.Adam(0.01), ["accuracy"], backend="numpy", dtype="float64"
    )
    assert not isinstance(back.layers[-1], nn.Softmax)  # the loss has its own
    assert back.dtype == np.float64
    np.testing.assert_allclose(back.predict(X), model.predict(X), atol=1e-5)
    losses = back.fit(X, labels, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


# ---- graphs of others -----------------------------------------------------------------------------------------------

SOFTMAX_OF = np.exp(np.maximum(ROWS @ W1 + B1, 0) @ W2 + B2)
WANTED = SOFTMAX_OF / SOFTMAX_OF.sum(1, keepdims=True)


REST = [
    ("Relu", ["b"], "c", {}),
    ("MatMul", ["c", "w2"], "d", {}),
    ("Add", ["d", "b2"], "e", {}),
    ("Softmax", ["e"], "y", {"axis": 1}),
]


def test_chains_of_matmul_and_add():
    """As scikit-learn's converter writes them: with a cast before, and the label beside the probabilities."""
    label = [("ArgMax", ["y"], "label", {"axis": 1, "keepdims": 0})]
    cast = [("Cast", ["x"], "x0", {"to": TensorProto.FLOAT}), ("MatMul", ["x0", "w1"], "a", {}), PRODUCT[1]]
    given = proto([*cast, *REST, *label], ("label", "y"))
    model = nn.from_onnx(given, output="y", backend="numpy")
    np.testing.assert_allclose(model.predict(ROWS), WANTED, rtol=1e-5)
    with pytest.raises(OptionError, match="2 outputs; choose one: output= one of label, y"):
        nn.from_onnx(given)
    with pytest.raises(OptionError, match="none named 'z'"):
        nn.from_onnx(given, output="z")
    with pytest.raises(OptionError, match=r"node 'n7' \(ArgMax\)"):
        nn.from_onnx(given, output="label")


def test_gemm_as_pytorch_writes_it():
    nodes = [
        ("Flatten", ["x"], "r", {"axis": 1}),
        ("Gemm", ["r", "w1t", "b1"], "b", {"transB": 1, "alpha": 1.0, "beta": 1.0}),
        *REST,
    ]
    model = nn.from_onnx(proto(nodes, constants={"w1t": W1.T}), backend="numpy")
    np.testing.assert_allclose(model.predict(ROWS), WANTED, rtol=1e-5)


def test_gemm_with_factors_and_without_a_bias():
    nodes = [("Gemm", ["x", "w1"], "a", {"alpha": 0.5}), ("Gemm", ["a", "w2", "c"], "y", {"beta": 2.0})]
    model = nn.from_onnx(proto(nodes, constants={"c": B2[None]}), backend="numpy")
    np.testing.assert_allclose(model.predict(ROWS), ROWS @ W1 * 0.5 @ W2 + 2 * B2, rtol=1e-4, atol=1e-5)


def test_constants_as_nodes_and_transposed():
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.ascontiguousarray(W1.T)))
    given = proto([("Transpose", ["k"], "kt", {"perm": [1, 0]}), ("MatMul", ["x", "kt"], "y", {})])
    given.graph.node.insert(0, constant)
    np.testing.assert_allclose(nn.from_onnx(given, backend="numpy").predict(ROWS), ROWS @ W1, rtol=1e-4, atol=1e-5)


MEAN, STD = np.arange(5, dtype=np.float32), np.arange(1, 6, dtype=np.float32) / 2
SCALINGS = {
    "difference and quotient": ([("Sub", ["x", "m"], "s", {}), ("Div", ["s", "d"], "t", {})], (ROWS - MEAN) / STD),
    "difference and product": ([("Sub", ["x", "m"], "s", {}), ("Mul", ["s", "d"], "t", {})], (ROWS - MEAN) * STD),
    "sum": ([("Add", ["m", "x"], "t", {})], ROWS + MEAN),
    "one number for all": ([("Mul", ["x", "h"], "t", {})], ROWS / 2),
    "twice": ([("Div", ["x", "d"], "s", {}), ("Sub", ["s", "m"], "t", {})], ROWS / STD - MEAN),
}


@pytest.mark.parametrize("name", SCALINGS)
def test_scalings_become_standardize(name):
    nodes, scaled = SCALINGS[name]
    constants = {"m": MEAN, "d": STD, "h": np.float32(0.5)}
    given = proto([*nodes, ("Gemm", ["t", "w1", "b1"], "u", {}), ("Relu", ["u"], "y", {})], constants=constants)
    model = nn.from_onnx(given, backend="numpy")
    assert isinstance(model.layers[0], nn.Standardize)
    np.testing.assert_allclose(model.predict(ROWS), np.maximum(scaled @ W1 + B1, 0), rtol=1e-4, atol=1e-4)


def test_scalings_after_a_product_join_it():
    nodes = [*PRODUCT, ("Mul", ["b", "b1"], "c", {}), ("Div", ["c", "h"], "d", {}), ("Sub", ["d", "b1"], "y", {})]
    model = nn.from_onnx(proto(nodes, constants={"h": np.float32(4)}), backend="numpy")
    assert len(model.layers) == 1
    np.testing.assert_allclose(model.predict(ROWS), (ROWS @ W1 + B1) * B1 / 4 - B1, rtol=1e-4, atol=1e-5)


def test_alpha_is_what_was_meant():
    nodes = [*PRODUCT, ("LeakyRelu", ["b"], "c", {}), ("Elu", ["c"], "d", {"alpha": 0.3}), ("Gelu", ["d"], "y", {})]
    model = nn.from_onnx(proto(nodes, opset=20), backend="numpy")
    assert (model.layers[1].alpha, model.layers[2].alpha) == (0.01, 0.3)
    assert isinstance(model.layers[3], nn.GELU)


def test_weights_in_a_file_beside_it(tmp_path):
    """As PyTorch's newer exporter leaves them."""
    model, path = network(nn.ELU()), tmp_path / "a.onnx"
    onnx.save(graph_of(model), path, save_as_external_data=True, location="a.data", size_threshold=0)
    assert (tmp_path / "a.data").exists()
    np.testing.assert_array_equal(nn.from_onnx(path, backend="numpy").predict(X), model.predict(X))
    (tmp_path / "a.data").unlink()
    with pytest.raises(CheckpointError, match=r"a\.onnx"):
        nn.from_onnx(tmp_path / "a.onnx")


def test_files_that_are_none(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"this is no protobuf at all")
    with pytest.raises(CheckpointError, match=r"a\.onnx is no ONNX model"):
        nn.from_onnx(tmp_path / "a.onnx")
    with pytest.raises(FileNotFoundError):
        nn.from_onnx(tmp_path / "none.onnx")
    with pytest.raises(DTypeError, match="path"):
        nn.from_onnx(3)


def test_bad_options_write_nothing(tmp_path):
    path = tmp_path / "a.onnx"
    with pytest.raises(OptionError, match="layer 2, Cube.*cannot be written as ONNX"):  # noqa: RUF043
        network(Cube()).to_onnx(path)
    with pytest.raises(DTypeError, match="float16"):
        network(nn.ReLU()).to_onnx(path, dtype="float16")
    with pytest.raises(DTypeError, match="fold"):
        network(nn.ReLU()).to_onnx(path, fold=1)
    with pytest.raises(UnknownNameError, match="nowhere"):
        nn.from_onnx(graph_of(network(nn.ReLU())), backend="numpy", metrics=["nowhere"])
    assert not list(tmp_path.iterdir())


def test_without_onnx_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'nnfast\[onnx\]'"):
        onnx_writer.imported()


def test_what_pytorch_writes(tmp_path):
    torch = pytest.importorskip("torch")
    middle = [torch.nn.ReLU(), torch.nn.GELU(), torch.nn.SiLU(), torch.nn.Softplus(), torch.nn.LeakyReLU(0.2)]
    for opset in (13, 20):
        for activation in middle:
            module = torch.nn.Sequential(
                torch.nn.Flatten(), torch.nn.Linear(5, 4), activation, torch.nn.Linear(4, 3, bias=False)
            ).eval()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that this exporter is the old one
                torch.onnx.export(
                    module, (torch.zeros(2, 5),), str(tmp_path / "t.onnx"), opset_version=opset, dynamo=False
                )
            got = nn.from_onnx(tmp_path / "t.onnx", backend="numpy").predict(ROWS)
            np.testing.assert_allclose(got, module(torch.from_numpy(ROWS)).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_what_the_new_exporter_of_pytorch_writes(tmp_path):
    """It writes Softplus as a choice between two branches: that is no chain, and refused by name."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    made = torch.nn
    for activation in (made.ReLU(), made.GELU(), made.SiLU(), made.ELU(0.7), made.Softmax(1), made.Softplus()):
        module = made.Sequential(made.Linear(5, 4), activation, made.Linear(4, 3, bias=False)).eval()
        batch = ({0: torch.export.Dim("batch")},)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = {"dynamo": True, "dynamic_shapes": batch, "verbose": False}
            torch.onnx.export(module, (torch.zeros(2, 5),), str(tmp_path / "t.onnx"), **given)
        if isinstance(activation, made.Softplus):
            with pytest.raises(OptionError, match="Where"):
                nn.from_onnx(tmp_path / "t.onnx", backend="numpy")
            continue
        got = nn.from_onnx(tmp_path / "t.onnx", backend="numpy").predict(ROWS)
        np.testing.assert_allclose(got, module(torch.from_numpy(ROWS)).detach().numpy(), rtol=1e-4, atol=1e-5)
