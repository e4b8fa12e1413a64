"""Weights under PyTorch's names, without PyTorch and with it."""

from __future__ import annotations

import numpy as np
import pytest
from exchange_models import X, network
from safetensors import numpy as safetensors

import nnfast as nn
from nnfast.errors import CheckpointError, DTypeError, OptionError, UnknownNameError

NAMES = {"0.mean", "0.std", "1.weight", "1.bias", "3.weight", "3.bias"}


@pytest.fixture(params=["a.safetensors", "a.npz"])
def path(request, tmp_path):
    return tmp_path / request.param


def other():
    """The same layers with other weights."""
    layers = [nn.Standardize(0, 1, n_inputs=5), nn.Dense(5, 7), nn.Tanh(), nn.Dense(7, 3)]
    return nn.Model(layers, backend="numpy", rng=9)


def read(path):
    return safetensors.load_file(path) if path.suffix == ".safetensors" else dict(np.load(path))


def write(path, arrays):
    if path.suffix == ".safetensors":
        safetensors.save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, path)
    else:
        np.savez(path, **arrays)


def test_what_is_written(path, dtype):
    model = network(nn.Tanh(), dtype=dtype.name)
    model.save_weights(path, layout="torch")
    arrays = read(path)
    assert set(arrays) == NAMES
    np.testing.assert_array_equal(arrays["1.weight"], model.layers[1].weights.T)
    np.testing.assert_array_equal(arrays["3.bias"], model.layers[3].biases)
    assert {a.dtype for a in arrays.values()} == {dtype}


def test_there_and_back(path, backend):
    model, twin = network(nn.Tanh(), backend=backend), other()
    model.save_weights(path, layout="torch")
    twin.load_weights(path, layout="torch")
    np.testing.assert_allclose(twin.predict(X), model.predict(X), rtol=1e-5, atol=1e-6)
    for a, b in zip(twin.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_modules_with_names_of_their_own(path):
    model, twin = network(nn.Tanh()), other()
    names = ["scaling", "body.fc1", "fc2"]
    model.save_weights(path, layout="torch", modules=names)
    assert set(read(path)) == {
        *("scaling.mean", "scaling.std", "body.fc1.weight", "body.fc1.bias", "fc2.weight", "fc2.bias")
    }
    twin.load_weights(path, layout="torch", modules=names)
    np.testing.assert_array_equal(twin.predict(X), model.predict(X))


def test_a_missing_bias_is_zero_and_other_floats_are_converted(path):
    model = network(nn.Tanh())
    model.save_weights(path, layout="torch")
    arrays = {name: a.astype(np.float64) for name, a in read(path).items() if name != "1.bias"}
    write(path, arrays)
    twin = other()
    twin.layers[1].biases += 5
    twin.load_weights(path, layout="torch")
    assert not twin.layers[1].biases.any()
    np.testing.assert_array_equal(twin.layers[3].biases, model.layers[3].biases)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda arrays: arrays.pop("3.weight"), "has no array '3.weight'"),
        (lambda arrays: arrays.update({"5.weight": np.ones((2, 2))}), "holds the array '5.weight'"),
        (lambda arrays: arrays.update({"1.weight": np.ones((5, 7))}), r"1.weight has shape \(5, 7\).*has \(7, 5\)"),
        (lambda arrays: arrays.update({"1.bias": np.ones(7, bool)}), "expected real numbers"),
        (lambda arrays: arrays.update({"0.std": np.full(5, 1e300)}), "beyond the range"),
    ],
)
def test_files_that_do_not_fit_change_nothing(path, change, words):
    network(nn.Tanh()).save_weights(path, layout="torch")
    arrays = read(path)
    change(arrays)
    write(path, arrays)
    twin = other()
    before = twin.parameters.copy()
    with pytest.raises(CheckpointError, match=words):
        twin.load_weights(path, layout="torch")
    np.testing.assert_array_equal(twin.parameters, before)


def test_the_other_names_are_hinted_at(path):
    network(nn.Tanh()).save_weights(path, layout="torch")
    with pytest.raises(CheckpointError, match="use layout='torch'"):
        other().load_weights(path)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"layout": "keras"}, UnknownNameError, "layout 'keras'"),
        ({"layout": None}, UnknownNameError, "layout"),
        ({"modules": ["a", "b", "c"]}, OptionError, "use it with layout='torch'"),
        ({"layout": "torch", "modules": ["a", "b"]}, OptionError, "2 names; expected 3"),
        ({"layout": "torch", "modules": ["a", "a", "b"]}, OptionError, "different"),
        ({"layout": "torch", "modules": "abc"}, DTypeError, "expected a list of names"),
        ({"layout": "torch", "modules": [1, 2, 3]}, DTypeError, "expected a list of names"),
    ],
)
def test_bad_options_write_nothing(options, error, words, path):
    with pytest.raises(error, match=words):
        network(nn.Tanh()).save_weights(path, **options)
    assert not path.exists()
    with pytest.raises(error, match=words):
        other().load_weights(path, **options)


def test_state_dicts_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    model, path = network(nn.Tanh()), tmp_path / "a.safetensors"
    there = model.to_torch()
    assert set(there.state_dict()) == NAMES
    model.save_weights(path, layout="torch")
    there[1].weight.data.zero_()
    there.load_state_dict(load_file(path))
    rows = torch.from_numpy(X.astype("f4"))
    np.testing.assert_allclose(there(rows).detach().numpy(), model.predict(X), rtol=1e-5, atol=1e-5)
    save_file(there.state_dict(), path, metadata={"format": "pt"})
    twin = other()
    twin.load_weights(path, layout="torch")
    np.testing.assert_array_equal(twin.predict(X), model.predict(X))
