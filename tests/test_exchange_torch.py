"""Models to and from PyTorch. Where it is not installed, stand-ins tell `from_torch` what its modules would."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from exchange_models import LAYERS, Cube, X, network

import nnfast as nn
from nnfast.errors import DTypeError, OptionError

# ---- stand-ins: what `from_torch` looks at --------------------------------------------------------------------------


class Tensor:
    def __init__(self, values, requires_grad=True):
        self.values, self.requires_grad = np.asarray(values), requires_grad

    def detach(self):
        return self

    cpu = detach

    def __array__(self, dtype=None, copy=None):
        return self.values


class Module:
    def __init__(self, *children, **attributes):
        self._modules = {str(i): child for i, child in enumerate(children)}
        self.__dict__.update(attributes)

    def state_dict(self):
        return {}


def module(kind, *children, home="torch.nn.modules", **attributes):
    return type(kind, (Module,), {"__module__": home})(*children, **attributes)


def linear(weights, biases=None, requires_grad=True, **attributes):
    bias = None if biases is None else Tensor(biases, requires_grad)
    return module("Linear", weight=Tensor(np.array(weights).T, requires_grad), bias=bias, **attributes)


W, B = np.random.default_rng(0).standard_normal((5, 3)), np.arange(3.0)


def test_weights_are_transposed_and_a_missing_bias_is_zero():
    given = module("Sequential", linear(W, B), module("ReLU"), linear(W[:3].T[:3], None))
    model = nn.from_torch(given, backend="numpy")
    np.testing.assert_allclose(model.predict(X), np.maximum(X @ W + B, 0) @ W[:3].T[:3])
    assert model.dtype == np.float64
    assert (model.loss, model.optimizer) == (None, None)
    given._modules["0"].weight.values[0] = 0  # a copy was taken
    np.testing.assert_array_equal(model.layers[0].weights, W)


def test_every_module_that_is_known():
    given = module(
        "Sequential",
        module("Flatten", start_dim=1, end_dim=-1),
        linear(W.astype("f4"), B.astype("f4")),
        module(
            "Sequential", module("LeakyReLU", negative_slope=0.2), module("ELU", alpha=0.5), module("Dropout", p=0.1)
        ),
        module("GELU", approximate="none"),
        module("SiLU"),
        module("Softplus", beta=1, threshold=20),
        module("Sigmoid"),
        module("Tanh"),
        module("Identity"),
        module("Softmax", dim=-1),
    )
    model = nn.from_torch(given, backend="numpy")
    names = [type(layer).__name__ for layer in model.layers]
    assert names == [
        *["Linear", "Dense", "LeakyReLU", "ELU", "Dropout", "GELU", "SiLU", "Softplus", "Sigmoid", "Tanh"],
        *["Linear", "Softmax"],
    ]
    assert (model.layers[2].alpha, model.layers[3].alpha, model.layers[4].rate) == (0.2, 0.5, 0.1)
    assert model.dtype == np.float32


def test_frozen_ones_stay_frozen_and_a_loss_takes_the_place_of_its_head():
    given = module("Sequential", linear(W, B, requires_grad=False), linear(W[:3]))
    given._modules["1"] = linear(np.eye(3), B)
    given._modules["2"] = module("Softmax", dim=1)
    model = nn.from_torch(given, nn.SoftmaxCrossEntropy(), nn.Adam(), ["accuracy"], backend="numpy", dtype="float32")
    assert [layer.trainable for layer in model.layers] == [False, True]
    assert model.dtype == np.float32
    model.fit(X, np.arange(len(X)) % 3, verbose=0)


def test_a_module_used_twice_is_two_layers():
    act = module("ReLU")
    inner = module("Sequential", act, module("Tanh"))
    given = module("Sequential", linear(W, B), act, linear(W[:3]), inner, linear(W[:3]), inner)
    model = nn.from_torch(given, backend="numpy")
    names = [type(layer).__name__ for layer in model.layers]
    assert names == ["Dense", "ReLU", "Dense", "ReLU", "Tanh", "Dense", "ReLU", "Tanh"]
    first = np.maximum(X @ W + B, 0)
    second = np.tanh(np.maximum(first @ W[:3], 0))
    np.testing.assert_allclose(model.predict(X), np.tanh(np.maximum(second @ W[:3], 0)))


@pytest.mark.parametrize("after", [("Identity",), ("Dropout", "Identity")])
def test_a_head_before_modules_that_do_nothing_goes_with_them(after):
    tail = [module(kind, p=0.2) for kind in after]
    given = module("Sequential", linear(W), module("Softmax", dim=1), *tail)
    model = nn.from_torch(given, nn.SoftmaxCrossEntropy(), backend="numpy")
    assert [type(layer).__name__ for layer in model.layers] == ["Dense"]
    np.testing.assert_allclose(model.predict(X), nn.from_torch(given, backend="numpy").predict(X))
    other = module("Sequential", linear(W), module("Sigmoid"), *tail)
    for loss in (nn.SoftmaxCrossEntropy(), nn.MeanSquaredError(), None):
        assert len(nn.from_torch(other, loss, backend="numpy").layers) == 2 + len(tail)


def with_weight_of(other):
    made = linear(W[:3])
    made.weight = other.weight
    return made


SQUARE = linear(W[:3], B)

REFUSED = {
    "one Linear twice": (
        module("Sequential", SQUARE, module("ReLU"), SQUARE),
        "'2', Linear, shares its weight with '0'",
    ),
    "a block twice": (
        module("Sequential", *[module("Sequential", SQUARE)] * 2),
        r"'1\.0', Linear, shares its weight with '0\.0'",
    ),
    "tied weights": (module("Sequential", SQUARE, with_weight_of(SQUARE)), "'1', Linear, shares its weight with '0'"),
    "a hook": (
        module("Sequential", linear(W), module("ReLU", _forward_hooks={0: print})),
        "'1', ReLU, has a forward hook",
    ),
    "a hook of a Sequential": (
        module("Sequential", module("Sequential", linear(W), _forward_hooks={0: print})),
        "'0', Sequential, has a forward hook",
    ),
    "weight_norm": (linear(W, _forward_pre_hooks={0: print}), "has a forward pre-hook, as of weight_norm"),
    "no values": (module("Linear", weight=SimpleNamespace(is_meta=True), bias=None), r"Linear\.weight is on .* meta"),
    "a forward of its own": (linear(W, forward=print), "has a forward of its own"),
    "parametrizations": (
        module("ParametrizedLinear", home="torch.nn.utils.parametrize"),
        "remove_parametrizations on it first",
    ),
    "quantized ones": (module("Linear", home="torch.ao.nn.quantized.modules.linear"), r"Linear of torch\.ao"),
    "quantized activations": (
        module("Sequential", linear(W), module("LeakyReLU", home="torch.ao.nn.quantized.modules.activation")),
        r"'1', LeakyReLU, has no counterpart in nnfast: it is of torch\.ao",
    ),
    "softplus that ends early": (
        module("Sequential", linear(W), module("Softplus", beta=1.0, threshold=5)),
        "'1', Softplus, has threshold=5; known is 20",
    ),
    "another module": (module("Sequential", linear(W), module("Conv2d")), r"module '1', Conv2d, has no counterpart"),
    "a nested one": (module("Sequential", module("Sequential", module("Mish"))), r"module '0\.0', Mish"),
    "log softmax": (module("Sequential", linear(W), module("LogSoftmax", dim=1)), "SoftmaxCrossEntropy"),
    "somebody's own": (
        module("Sequential", module("ReLU", home="mine")),
        r"module '0', ReLU, has no counterpart in nnfast; of a module of one's own",
    ),
    "somebody's Linear": (module("Linear", home="mine"), "Linear of mine"),
    "somebody's Sequential": (module("Sequential", home="mine"), "Sequential, has no counterpart"),
    "rough gelu": (module("Sequential", linear(W), module("GELU", approximate="tanh")), "approximate='tanh'"),
    "steep softplus": (module("Sequential", linear(W), module("Softplus", beta=2.0)), "beta=2.0"),
    "columns": (module("Sequential", linear(W), module("Softmax", dim=0)), "dim=0"),
    "all dropped": (module("Sequential", linear(W), module("Dropout", p=1.0)), "'1', Dropout, cannot be taken over"),
    "a part flattened": (
        module("Sequential", module("Flatten", start_dim=2, end_dim=-1)),
        "Flatten, has no counterpart",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_named(name):
    given, words = REFUSED[name]
    with pytest.raises(OptionError, match=words):
        nn.from_torch(given)


def test_what_is_no_module():
    for given in (None, [1], nn.Dense(2, 2), "net"):
        with pytest.raises(DTypeError, match="expected a torch"):
            nn.from_torch(given)
    with pytest.raises(DTypeError, match="mixes float32 and float64"):
        nn.from_torch(module("Sequential", linear(W), linear(np.eye(3, dtype="f4"))))
    with pytest.raises(DTypeError, match="float16"):
        nn.from_torch(linear(W.astype("f2")))


def test_without_pytorch_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"to_torch needs PyTorch.*pytorch\.org"):
        network(nn.ReLU()).to_torch()


# ---- PyTorch itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_there_and_back(name, backend, dtype):
    torch = pytest.importorskip("torch")
    model = network(LAYERS[name](), dtype=dtype.name, backend=backend)
    there = model.to_torch().eval()
    rows = X.astype(dtype)
    got = there(torch.from_numpy(rows)).detach().numpy()
    assert got.dtype == dtype
    np.testing.assert_allclose(got, model.predict(rows), rtol=1e-4, atol=1e-5)
    back = nn.from_torch(there, backend=backend)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back.predict(rows), model.predict(rows))


def test_probabilities_and_frozen_layers():
    torch = pytest.importorskip("torch")
    model = network(nn.Tanh(), nn.SoftmaxCrossEntropy())
    model.layers[1].trainable = False
    there = model.to_torch()
    assert [p.requires_grad for p in there.parameters()] == [False, False, True, True]
    assert len(there) == len(model.layers)
    rows = torch.from_numpy(X.astype("f4"))
    np.testing.assert_allclose(torch.softmax(there(rows), 1).detach().numpy(), model.predict(X), atol=1e-5)
    whole = model.to_torch(probabilities=True)
    np.testing.assert_allclose(whole(rows).detach().numpy(), model.predict(X), atol=1e-5)
    before = model.get_weights()[2].copy()
    with torch.no_grad():
        there[3].weight.zero_()
    np.testing.assert_array_equal(model.get_weights()[2], before)
    with pytest.raises(OptionError, match="layer 2, Cube"):
        network(Cube()).to_torch()


def test_gradients_are_the_same():
    torch = pytest.importorskip("torch")
    labels = np.arange(len(X)) % 3
    model = network(nn.GELU(), nn.SoftmaxCrossEntropy(), dtype="float64", scale=0.5)
    there = model.to_torch()
    loss = torch.nn.functional.cross_entropy(there(torch.from_numpy(X)), torch.from_numpy(labels))
    loss.backward()
    value, gradient = model.loss_and_gradient(X, labels)
    assert value == pytest.approx(loss.item())
    block = model._layout["1.weights"]
    ours = gradient[block.offset : block.offset + block.size].reshape(block.shape)
    np.testing.assert_allclose(ours, there[1].weight.grad.numpy().T, rtol=1e-9, atol=1e-12)


def test_modules_of_pytorch_itself():
    torch = pytest.importorskip("torch")
    given = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(5, 4, bias=False), torch.nn.ELU(0.3)).double()
    model = nn.from_torch(given, backend="numpy")
    np.testing.assert_allclose(model.predict(X), given(torch.from_numpy(X)).detach().numpy())
    with pytest.raises(DTypeError, match=r"BFloat16|bfloat16"):
        nn.from_torch(torch.nn.Linear(2, 2).bfloat16())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.ao and torch.jit
def test_modules_of_pytorch_itself_that_compute_otherwise():
    torch = pytest.importorskip("torch")
    prune = pytest.importorskip("torch.nn.utils.prune")
    linear, shared = torch.nn.Linear(5, 5), torch.nn.ReLU()
    given = torch.nn.Sequential(linear, shared, torch.nn.Linear(5, 5), shared).double()
    model = nn.from_torch(given, backend="numpy")
    np.testing.assert_allclose(model.predict(X), given(torch.from_numpy(X)).detach().numpy())
    hooked = torch.nn.Linear(2, 2)
    hooked.register_forward_hook(lambda module, x, y: 2 * y)
    config = torch.ao.quantization.get_default_qat_qconfig()
    refused = {
        "shares its weight": torch.nn.Sequential(linear, linear),
        "a forward hook": hooked,
        "a forward pre-hook": prune.random_unstructured(torch.nn.Linear(2, 2), "weight", 1),
        "remove_parametrizations": torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2)),
        r"Linear of torch\.ao": torch.ao.nn.qat.Linear(2, 2, qconfig=config),
        "threshold=1": torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Softplus(threshold=1)),
        r"0\.weight is on the device meta": torch.nn.Sequential(torch.nn.Linear(2, 2, device="meta")),
        "has no counterpart": torch.nn.LazyLinear(2),
    }
    for words, module in refused.items():
        with pytest.raises(OptionError, match=words):
            nn.from_torch(module)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.ao and torch.jit
def test_a_scaling_can_be_scripted_and_keeps_its_dtype(dtype):
    torch = pytest.importorskip("torch")
    model = nn.Model([nn.Standardize.fit(X)], backend="numpy", dtype=dtype)
    there = model.to_torch()
    rows = torch.from_numpy(X.astype(dtype))
    np.testing.assert_array_equal(torch.jit.script(there)(rows).numpy(), there(rows).numpy())
    back = nn.from_torch(there, backend="numpy")
    assert back.dtype == dtype
    np.testing.assert_array_equal(back.predict(X), model.predict(X))
