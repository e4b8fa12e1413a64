"""Arrays of other libraries, by DLPack or `__array__`: taken everywhere, without a copy where that can be, and given.

The stand-ins are what such libraries look like; where PyTorch or JAX are installed, their own arrays are tried too.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import nnfast as nn
from nnfast import functional as F
from nnfast.devices import own_memory
from nnfast.errors import DataError, DTypeError
from nnfast.validation import features

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((40, 5)).astype(np.float32), RNG.integers(0, 3, 40)
ROWS, WEIGHT = RNG.standard_normal((40, 3)).astype(np.float32), RNG.uniform(0.5, 1, 40).astype(np.float32)


class DLPack:
    """An array that offers DLPack and nothing else."""

    def __init__(self, a):
        self.a = a

    def __dlpack__(self, **options):
        return self.a.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.a.__dlpack_device__()


class Array:
    """An object that NumPy can turn into an array."""

    def __init__(self, a):
        self.a = a

    def __array__(self, dtype=None, copy=None):
        return np.array(self.a, dtype)


def torch(a):
    return pytest.importorskip("torch").from_numpy(a)


def jax(a):
    return pytest.importorskip("jax.numpy").asarray(a)


@pytest.fixture(params=[DLPack, Array, torch, jax], ids=["DLPack", "__array__", "torch", "jax"])
def put(request):
    return request.param


def model(loss=None):
    layers = [nn.Dense(5, 8), nn.ReLU(), nn.Dense(8, 3)]
    return nn.Model(layers, loss or nn.SoftmaxCrossEntropy(), nn.Adam(), backend="numpy", rng=0)


def as_they_are(a):
    return a


CALLS = {
    "fit": lambda put: model().fit(put(X), put(Y), sample_weight=put(WEIGHT), batch_size=8, verbose=0).history,
    "fit with validation": lambda put: (
        model().fit(X, Y, validation_data=(put(X), put(Y), put(WEIGHT)), verbose=0).history
    ),
    "fit in batches": lambda put: (
        model().fit(lambda: ((put(X[i : i + 10]), put(Y[i : i + 10])) for i in range(0, 40, 10)), verbose=0).history
    ),
    "fit rows": lambda put: model(nn.MeanSquaredError()).fit(put(X), put(ROWS), verbose=0).history,
    "class_weight": lambda put: model().fit(X, Y, class_weight=put(np.array([1, 2, 3], np.float32)), verbose=0).history,
    "evaluate": lambda put: model().evaluate(put(X), put(Y), sample_weight=put(WEIGHT)),
    "predict": lambda put: model().predict(put(X)),
    "predictor": lambda put: model().predictor(4)(put(X[:4])),
    "loss_and_gradient": lambda put: model().loss_and_gradient(put(X), put(Y)),
    "train_on_batch": lambda put: model().train_on_batch(put(X), put(Y)),
    "layer": lambda put: nn.Dense(5, 2, rng=0, backend="numpy").forward(put(X)),
    "loss": lambda put: nn.SoftmaxCrossEntropy(backend="numpy").forward(put(ROWS), put(Y)),
    "functional": lambda put: F.dense(put(X), put(X[:5, :4]), put(X[0, :4]), backend="numpy"),
    "functional loss": lambda put: F.softmax_cross_entropy(put(ROWS), put(Y), sample_weight=put(WEIGHT)),
    "Standardize": lambda put: nn.Standardize(put(X[0]), put(abs(X[1])), backend="numpy").forward(put(X)),
    "Standardize.fit": lambda put: nn.Standardize.fit(put(X), backend="numpy").forward(X),
    "confusion_matrix": lambda put: nn.metrics.confusion_matrix(put(Y), put(Y)),
}


@pytest.mark.parametrize("name", CALLS)
def test_they_are_taken_everywhere(put, name):
    got, want = CALLS[name](put), CALLS[name](as_they_are)
    assert type(got) is type(want)
    np.testing.assert_equal(got, want)


def test_weights_can_be_given(put):
    made, other = model(), nn.Model([nn.Dense(5, 8), nn.ReLU(), nn.Dense(8, 3)], rng=1, backend="numpy")
    other.set_weights([put(w) for w in made.get_weights()])
    np.testing.assert_array_equal(other.predict(X), made.predict(X) if made.loss is None else _logits(made))
    other.parameters = put(0 * other.parameters)
    assert not other.predict(X).any()
    other.layers[0].weights = put(X[:5, :1] + np.zeros((5, 8), np.float32))
    np.testing.assert_array_equal(other.layers[0].weights[:, 3], X[:5, 0])


def _logits(made):
    x = X
    for layer in made.layers:
        x = layer.forward(x)
    return x


@pytest.mark.parametrize("put", [DLPack, torch, jax])
def test_rows_on_the_host_are_not_copied(put):
    there = put(X)
    assert np.shares_memory(features("X", there, 5, np.dtype(np.float32)), np.from_dlpack(there))


@pytest.mark.parametrize("put", [DLPack, torch])
def test_outputs_go_where_the_caller_says(put):
    made, there = model(), np.zeros((4, 3), np.float32)
    out = put(there)
    assert made.predictor(4)(X[:4], out=out) is out
    np.testing.assert_array_equal(there, made.predict(X[:4]))


@pytest.mark.parametrize("put", [DLPack, torch])
def test_ops_in_place_work_on_the_callers_memory(put):
    p, m, v = (np.ones(6, np.float32) for _ in range(3))
    want = [a.copy() for a in (p, m, v)]
    F.adam_step(want[0], X[0, :1].repeat(6), *want[1:], step=1, learning_rate=0.1)
    F.adam_step(put(p), put(X[0, :1].repeat(6)), put(m), put(v), step=1, learning_rate=0.1)
    np.testing.assert_array_equal([p, m, v], want)
    with pytest.raises(DataError, match="share memory"):
        F.sgd_step(put(p), put(p), learning_rate=0.1)


def test_what_shares_no_memory_is_not_written_to():
    with pytest.raises(DTypeError, match="updated in place"):
        F.sgd_step(Array(np.ones(3)), np.ones(3), learning_rate=0.1)
    with pytest.raises(DTypeError, match="out must be a NumPy array"):
        model().predictor(4)(X[:4], out=Array(np.zeros((4, 3), np.float32)))
    frozen = np.ones(3)
    frozen.flags.writeable = False
    assert own_memory(frozen) is frozen


def test_arrays_of_jax_never_change():
    with pytest.raises(DataError, match="read-only"):
        F.sgd_step(jax(np.ones(3, np.float32)), np.ones(3, np.float32), learning_rate=0.1)


def test_bfloat16_says_what_to_do():
    if importlib.util.find_spec("ml_dtypes") is None:
        pytest.skip("needs ml_dtypes, which JAX brings")
    import ml_dtypes

    with pytest.raises(DTypeError, match="bfloat16, not numbers; convert it to float32 first"):
        model().predict(X.astype(ml_dtypes.bfloat16))


def test_clipping_in_place_gives_the_norm_before():
    g = np.array([3.0, 4.0])
    assert nn.functional.clip_by_global_norm(DLPack(g), clip_norm=1) == 5
    np.testing.assert_allclose(g, [0.6, 0.8])


def test_results_are_taken_by_others():
    made = model()
    for array in (made.predict(X), made.parameters, made.layers[0].weights, made.get_weights()[0]):
        np.testing.assert_array_equal(np.from_dlpack(array), array)
    tensor = pytest.importorskip("torch").from_dlpack(made.layers[0].weights)
    assert tensor.data_ptr() == made.layers[0].weights.ctypes.data
