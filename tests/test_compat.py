"""The book's class names: programs in the book's manner, with its figures, and what its users may do with the parts."""

from __future__ import annotations

import dataclasses
import gc
import inspect
import types

import numpy as np
import pytest

import nnfast as nn
from nnfast.compat import nnfs
from nnfast.compat.nnfs import (
    Activation_Linear,
    Activation_ReLU,
    Activation_Sigmoid,
    Activation_Softmax,
    Activation_Softmax_Loss_CategoricalCrossentropy,
    Layer_Dense,
    Layer_Dropout,
    Loss,
    Loss_BinaryCrossentropy,
    Loss_CategoricalCrossentropy,
    Loss_MeanAbsoluteError,
    Loss_MeanSquaredError,
    Optimizer_Adagrad,
    Optimizer_Adam,
    Optimizer_RMSprop,
    Optimizer_SGD,
    init,
    sine_data,
    spiral_data,
    vertical_data,
)
from nnfast.errors import DTypeError, NnfastError, OptionError, ShapeError, StateError, UnknownBackend

ONE_SAMPLE = 1 / 300 + 1e-9  # of the spiral


@pytest.fixture(autouse=True)
def _seeded():
    """Each test starts as a program after `init()`; the global stream is put back."""
    before = np.random.get_state()
    init()
    yield
    init(random_seed=None)
    np.random.set_state(before)


def step(optimizer, *layers):
    optimizer.pre_update_params()
    for layer in layers:
        optimizer.update_params(layer)
    optimizer.post_update_params()


# ---- names, arguments and what is drawn -----------------------------------------------------------------------------

OPTIMIZERS = {
    Optimizer_SGD: {"learning_rate": 1.0, "decay": 0.0, "momentum": 0.0},
    Optimizer_Adagrad: {"learning_rate": 1.0, "decay": 0.0, "epsilon": 1e-7},
    Optimizer_RMSprop: {"learning_rate": 0.001, "decay": 0.0, "epsilon": 1e-7, "rho": 0.9},
    Optimizer_Adam: {"learning_rate": 0.001, "decay": 0.0, "epsilon": 1e-7, "beta_1": 0.9, "beta_2": 0.999},
}
REGULARIZERS = ["weight_regularizer_l1", "weight_regularizer_l2", "bias_regularizer_l1", "bias_regularizer_l2"]


@pytest.mark.parametrize(("optimizer", "defaults"), OPTIMIZERS.items(), ids=lambda x: getattr(x, "__name__", ""))
def test_optimizers_take_the_books_arguments_in_its_order(optimizer, defaults):
    assert {n: p.default for n, p in inspect.signature(optimizer).parameters.items()} == defaults
    assert list(inspect.signature(optimizer).parameters) == list(defaults)
    made = optimizer()
    assert {name: getattr(made, name) for name in defaults} == defaults
    assert (made.current_learning_rate, made.iterations) == (defaults["learning_rate"], 0)


def test_a_dense_layer_takes_the_books_arguments():
    assert list(inspect.signature(Layer_Dense).parameters) == ["n_inputs", "n_neurons", *REGULARIZERS]
    assert [getattr(Layer_Dense(2, 3), name) for name in REGULARIZERS] == [0] * 4
    assert [getattr(Layer_Dense(2, 3, 1, 2, 3, 4), name) for name in REGULARIZERS] == [1, 2, 3, 4]


def test_all_names_are_there():
    assert all(hasattr(nnfs, name) for name in nnfs.__all__)
    assert list(inspect.signature(init).parameters) == ["dot_precision_workaround", "default_dtype", "random_seed"]


def test_draws_take_turns_on_the_global_stream():
    twin = np.random.RandomState(0)
    x, y = spiral_data(samples=7, classes=2)
    own = np.random.randn(3)
    dense = Layer_Dense(4, 5)
    dropout = Layer_Dropout(0.4)
    dropout.forward(np.ones((6, 5), np.float32))
    bands, _ = vertical_data(samples=4, classes=3)

    want_x, want_y = nn.datasets.spiral(7, 2, twin)
    np.testing.assert_array_equal(x, want_x)
    np.testing.assert_array_equal(y, want_y)
    np.testing.assert_array_equal(own, twin.randn(3))
    np.testing.assert_array_equal(dense.weights, (0.01 * twin.randn(4, 5)).astype(np.float32))
    kept = twin.binomial(1, 0.6, size=(6, 5))
    np.testing.assert_array_equal(dropout.output != 0, kept == 1)
    np.testing.assert_allclose(dropout.output, kept / 0.6, rtol=1e-6)
    np.testing.assert_array_equal(bands, nn.datasets.vertical(4, 3, twin)[0])
    assert np.random.rand() == twin.rand()


def test_a_new_layer():
    dense = Layer_Dense(2, 3)
    assert dense.weights.shape == (2, 3)
    np.testing.assert_array_equal(dense.biases, np.zeros((1, 3), np.float32))
    assert dense.weights.dtype == dense.biases.dtype == np.float32


def test_init_seeds_as_it_is_told():
    init(random_seed=5)
    assert np.random.rand() == np.random.RandomState(5).rand()
    init(True, "float64", 0)
    assert Layer_Dense(2, 3).weights.dtype == np.float64
    np.random.seed(9)
    init(random_seed=None)
    assert np.random.rand() == np.random.RandomState(9).rand()
    with pytest.raises(DTypeError, match="float16"):
        init(default_dtype="float16")


def test_sine_data_is_a_column():
    x, y = sine_data()
    assert x.shape == y.shape == (1000, 1)
    np.testing.assert_array_equal(y, np.sin(2 * np.pi * x))


# ---- parts ----------------------------------------------------------------------------------------------------------


def test_a_dense_layer_by_hand():
    dense = Layer_Dense(2, 3, weight_regularizer_l1=0.1, weight_regularizer_l2=0.01, bias_regularizer_l2=0.5)
    dense.weights = w = np.array([[1.0, -2.0, 0.0], [0.5, 0.25, -1.0]])
    dense.biases = b = np.array([[1.0, 0.0, -1.0]])
    x, dy = np.array([[1.0, 2.0], [-1.0, 0.5]]), np.array([[1.0, 0.0, 2.0], [0.5, -1.0, 1.0]])
    dense.forward(x)
    np.testing.assert_allclose(dense.output, x @ w + b, rtol=1e-15)
    dense.backward(dy)
    np.testing.assert_allclose(dense.dinputs, dy @ w.T, rtol=1e-15)
    np.testing.assert_allclose(dense.dweights, x.T @ dy + 0.1 * np.sign(w) + 0.02 * w, rtol=1e-14)
    np.testing.assert_allclose(dense.dbiases, dy.sum(axis=0, keepdims=True) + b, rtol=1e-15)
    want = 0.1 * np.abs(w).sum() + 0.01 * (w**2).sum() + 0.5 * (b**2).sum()
    assert Loss().regularization_loss(dense) == pytest.approx(want, rel=1e-14)
    np.testing.assert_array_equal(dense.weights, w)
    assert dense.weights is w


def test_a_layer_computes_in_the_dtype_of_its_weights():
    dense = Layer_Dense(2, 3)
    dense.forward(np.ones((4, 2)))
    dense.backward(np.ones((4, 3)))
    assert {a.dtype for a in (dense.output, dense.dinputs, dense.dweights, dense.dbiases)} == {np.dtype("f4")}
    dense.weights = 0.1 * np.random.randn(2, 3)
    dense.forward([[1, 2]])
    dense.backward(np.ones((1, 3), np.float32))
    assert {a.dtype for a in (dense.output, dense.dinputs, dense.dweights, dense.dbiases)} == {np.dtype("f8")}
    step(Optimizer_Adam(), dense)  # float64 weights, float32 biases
    assert dense.biases.dtype == np.float32


def test_activations_by_hand():
    x = np.array([[1.0, -2.0, 0.0], [3.0, 0.5, -1.0]])
    dy = np.array([[1.0, 2.0, 3.0], [-1.0, 4.0, 0.5]])
    e, s = np.exp(x), 1 / (1 + np.exp(-x))
    p = e / e.sum(axis=1, keepdims=True)
    cases = [
        (Activation_ReLU, np.maximum(x, 0), dy * (x > 0), x),
        (Activation_Sigmoid, s, dy * s * (1 - s), (x > 0.5) * 1),
        (Activation_Softmax, p, p * (dy - (dy * p).sum(axis=1, keepdims=True)), x.argmax(axis=1)),
        (Activation_Linear, x, dy, x),
    ]
    for activation, y, dx, predictions in cases:
        a = activation()
        a.forward(x, training=False)
        a.backward(dy)
        np.testing.assert_array_equal(a.inputs, x)
        np.testing.assert_allclose(a.output, y, rtol=1e-14)
        np.testing.assert_allclose(a.dinputs, dx, rtol=1e-13, atol=1e-16)
        np.testing.assert_array_equal(a.predictions(x), predictions)
        assert a.dinputs is not dy


def test_backward_works_on_values_that_the_program_sets():
    outputs, targets = np.array([[0.7, 0.1, 0.2], [0.1, 0.5, 0.4], [0.02, 0.9, 0.08]]), np.array([0, 1, 1])
    joint = Activation_Softmax_Loss_CategoricalCrossentropy()
    joint.backward(outputs, targets)
    activation, loss = Activation_Softmax(), Loss_CategoricalCrossentropy()
    activation.output = outputs
    loss.backward(outputs, targets)
    activation.backward(loss.dinputs)
    want = (outputs - np.eye(3)[targets]) / 3
    np.testing.assert_allclose(joint.dinputs, want, rtol=1e-14)
    np.testing.assert_allclose(activation.dinputs, want, rtol=1e-14)
    np.testing.assert_array_equal(outputs[0], [0.7, 0.1, 0.2])


@pytest.mark.parametrize(
    ("loss", "want"),
    [
        (Loss_MeanSquaredError, [(0.25 + 1) / 2, (4 + 0) / 2]),
        (Loss_MeanAbsoluteError, [(0.5 + 1) / 2, (2 + 0) / 2]),
        (Loss_BinaryCrossentropy, None),
    ],
)
def test_losses_per_row_and_their_slopes(loss, want):
    y = np.array([[1.0, 0.0], [0.0, 1.0]])
    p = np.array([[0.5, 1.0], [2.0, 1.0]]) if want else np.array([[0.5, 0.1], [0.2, 0.9]])
    want = want or (-y * np.log(p) - (1 - y) * np.log(1 - p)).mean(axis=1)
    one = loss()
    np.testing.assert_allclose(one.forward(p, y), want, rtol=1e-14)
    one.backward(p, y)
    moved = p.copy()
    moved[0, 0] += 1e-6
    slope = (loss().calculate(moved, y) - loss().calculate(p, y)) / 1e-6
    assert one.dinputs[0, 0] == pytest.approx(slope, rel=1e-5)


def test_accumulated_losses_are_the_mean_over_rows():
    p, y = np.random.rand(10, 2), np.random.rand(10, 2)
    loss = Loss_MeanSquaredError()
    for _ in range(2):
        loss.new_pass()
        for rows in (slice(0, 7), slice(7, 10)):
            loss.calculate(p[rows], y[rows])
        assert loss.calculate_accumulated() == pytest.approx(((p - y) ** 2).mean(), rel=1e-13)
    assert loss.accumulated_count == 10


def test_regularization_of_remembered_layers():
    layers = [Layer_Dense(2, 3, weight_regularizer_l2=1), Layer_Dense(3, 3, bias_regularizer_l1=2)]
    layers[1].biases += 0.5
    loss = Loss_MeanSquaredError()
    loss.remember_trainable_layers(layers)
    total = loss.regularization_loss()
    assert total == pytest.approx((layers[0].weights.astype("f8") ** 2).sum() + 3, rel=1e-6)
    assert total == pytest.approx(loss.regularization_loss(layers[0]) + loss.regularization_loss(layers[1]))
    assert loss.regularization_loss(types.SimpleNamespace(weights=np.ones(3))) == 0
    assert loss.calculate(np.ones((2, 1)), np.zeros((2, 1)), include_regularization=True) == (1, total)


class Cubed(Loss):
    """A loss of the program's own, in float64 whatever it is given, without the inherited constructor."""

    def __init__(self):
        self.calls = 0

    def forward(self, y_pred, y_true):
        self.calls += 1
        return np.mean(np.abs(y_pred - y_true) ** 3.0, axis=-1)

    def backward(self, dvalues, y_true):
        e = dvalues - np.asarray(y_true, np.float64)
        self.dinputs = 3 * e * np.abs(e) / e.size


class Scaled(Layer_Dense):
    """A layer of the program's own on top of ours."""

    def forward(self, inputs, training=True):
        super().forward(inputs, training)
        self.output = 2 * self.output

    def backward(self, dvalues):
        super().backward(2 * dvalues)


def test_losses_and_layers_of_the_program_join_in():
    x = np.random.randn(50, 2)
    y = x @ [[1.0], [-2.0]] + 0.5
    dense, loss, optimizer = Scaled(2, 1), Cubed(), Optimizer_Adam(learning_rate=0.02)
    losses = []
    for _ in range(300):
        dense.forward(x)
        losses.append(loss.calculate(dense.output, y))
        loss.backward(dense.output, y)
        dense.backward(loss.dinputs)
        step(optimizer, dense)
    assert loss.calls == 300
    assert losses[-1] < 1e-3 * losses[0]
    np.testing.assert_allclose(dense.weights, [[0.5], [-1.0]], atol=0.05)
    with pytest.raises(NotImplementedError, match="Loss must define forward"):
        Loss().calculate(x, x)


# ---- optimizers -----------------------------------------------------------------------------------------------------


def by_the_equations(optimizer, p, g, t, state):
    """One step in float64, as the chapter on optimizers writes it; t counts from 0."""
    o = optimizer
    rate = o.learning_rate / (1 + o.decay * t)
    if isinstance(o, Optimizer_SGD):
        state["v"] = o.momentum * state.get("v", 0) - rate * g
        return p + state["v"]
    if isinstance(o, Optimizer_Adam):
        state["m"] = o.beta_1 * state.get("m", 0) + (1 - o.beta_1) * g
        state["c"] = o.beta_2 * state.get("c", 0) + (1 - o.beta_2) * g**2
        m, c = state["m"] / (1 - o.beta_1 ** (t + 1)), state["c"] / (1 - o.beta_2 ** (t + 1))
        return p - rate * m / (np.sqrt(c) + o.epsilon)
    if isinstance(o, Optimizer_RMSprop):
        state["c"] = o.rho * state.get("c", 0) + (1 - o.rho) * g**2
    else:
        state["c"] = state.get("c", 0) + g**2
    return p - rate * g / (np.sqrt(state["c"]) + o.epsilon)


def bare_layer(kind=types.SimpleNamespace):
    names = ("weights", "biases", "dweights", "dbiases")
    shapes = ((2, 3), (1, 3), (2, 3), (1, 3))
    return kind(**{name: np.random.randn(*shape) for name, shape in zip(names, shapes, strict=True)})


@dataclasses.dataclass
class Record:
    weights: np.ndarray
    biases: np.ndarray
    dweights: np.ndarray
    dbiases: np.ndarray


@pytest.mark.parametrize("kind", [types.SimpleNamespace, Record])  # no weak references; no hash
@pytest.mark.parametrize(
    "make",
    [
        lambda: Optimizer_SGD(0.5, 0.1),
        lambda: Optimizer_SGD(0.5, 0.1, 0.9),
        lambda: Optimizer_Adagrad(0.5, 0.1),
        lambda: Optimizer_RMSprop(0.02, 0.1, rho=0.95),
        lambda: Optimizer_Adam(0.02, 0.1, beta_1=0.8),
    ],
    ids=["SGD", "momentum", "Adagrad", "RMSprop", "Adam"],
)
def test_optimizers_follow_their_equations_on_anything_like_a_layer(make, kind):
    optimizer, layers = make(), [bare_layer(kind), bare_layer(kind)]
    names = [(i, name) for i in (0, 1) for name in ("weights", "biases")]
    want = {key: getattr(layers[key[0]], key[1]).copy() for key in names}
    same = {key: getattr(layers[key[0]], key[1]) for key in names}
    states = {key: {} for key in names}
    for t in range(5):
        for layer in layers:
            layer.dweights, layer.dbiases = np.random.randn(2, 3), np.random.randn(1, 3)
        for i, name in names:
            g = getattr(layers[i], f"d{name}")
            want[i, name] = by_the_equations(optimizer, want[i, name], g, t, states[i, name])
        step(optimizer, *layers)
    for i, name in names:
        np.testing.assert_allclose(getattr(layers[i], name), want[i, name], rtol=1e-12)
        assert getattr(layers[i], name) is same[i, name]  # in place
    assert optimizer.iterations == 5


def test_an_optimizer_forgets_a_layer_that_is_gone():
    optimizer, layer = Optimizer_Adam(), bare_layer(Record)
    step(optimizer, layer)
    assert len(optimizer._memory._entries) == 1
    del layer
    gc.collect()
    assert not optimizer._memory._entries


def test_weights_of_another_shape_start_with_fresh_arrays():
    optimizer, layer = Optimizer_SGD(momentum=0.9), Layer_Dense(2, 3)
    for inputs in (2, 4):
        layer.weights = np.zeros((inputs, 3), np.float32)
        layer.dweights, layer.dbiases = np.ones((inputs, 3)), np.ones((1, 3))
        step(optimizer, layer)
    np.testing.assert_array_equal(layer.weights, -np.ones((4, 3)))


def test_a_rate_set_by_hand_stays_without_decay():
    optimizer, layer = Optimizer_SGD(), bare_layer()
    optimizer.current_learning_rate = 0.25
    want = layer.weights - 0.25 * layer.dweights
    step(optimizer, layer)
    np.testing.assert_allclose(layer.weights, want, rtol=1e-14)


# ---- who computes ---------------------------------------------------------------------------------------------------


def recording():
    """The reference backend, noting which ops it is asked for."""

    class Recording(type(nn.get_backend("numpy"))):
        name = "recording"

        def __init__(self):
            self.seen = set()

        def kernel(self, op):
            self.seen.add(op)
            return super().kernel(op)

    return Recording()


def test_the_chosen_backend_computes_everything():
    x, y = spiral_data(samples=5, classes=2)
    t = y.reshape(-1, 1).astype(np.float32)
    with nn.use_backend(recording()) as backend:
        dense = Layer_Dense(2, 2, weight_regularizer_l2=0.1)
        joint = Activation_Softmax_Loss_CategoricalCrossentropy()
        dense.forward(x)
        joint.forward(dense.output, y)
        joint.loss.calculate(joint.output, y)
        joint.backward(joint.output, y)
        joint.activation.backward(joint.dinputs)
        for activation in (Activation_ReLU(), Activation_Sigmoid()):
            activation.forward(dense.output)
            activation.backward(joint.dinputs)
        for loss in (Loss_BinaryCrossentropy(), Loss_MeanSquaredError(), Loss_MeanAbsoluteError()):
            loss.calculate(t, t)
        dense.backward(joint.dinputs)
        for optimizer in OPTIMIZERS:
            step(optimizer(), dense)
    losses = {"categorical_cross_entropy", "binary_cross_entropy", "mean_squared_error", "mean_absolute_error"}
    layers = {"dense", "dense_backward", "relu", "relu_backward", "sigmoid", "sigmoid_backward", "softmax"}
    others = {"softmax_backward", "softmax_cross_entropy", "penalty"}
    assert backend.seen == losses | layers | others | {"sgd_step", "adagrad_step", "rmsprop_step", "adam_step"}


def test_the_environment_chooses_the_backend(monkeypatch):
    dense = Layer_Dense(2, 3)
    monkeypatch.setenv("NNFAST_BACKEND", "nonsense")
    with pytest.raises(UnknownBackend, match="nonsense"):
        dense.forward(np.ones((1, 2)))
    monkeypatch.setenv("NNFAST_BACKEND", "numpy")
    dense.forward(np.ones((1, 2)))
    assert dense.output.shape == (1, 3)


# ---- misuse ---------------------------------------------------------------------------------------------------------


def trained_dense():
    dense = Layer_Dense(2, 3)
    dense.forward(np.ones((4, 2)))
    dense.backward(np.ones((4, 3)))
    return dense


def with_biases(biases):
    dense = Layer_Dense(2, 3)
    dense.biases = biases
    dense.forward(np.ones((4, 2)))


def without_gradient():
    Optimizer_SGD().update_params(Layer_Dense(2, 3))


def integer_weights():
    dense = trained_dense()
    dense.weights = np.ones((2, 3), int)
    Optimizer_SGD().update_params(dense)


@pytest.mark.parametrize(
    ("misuse", "error", "words"),
    [
        (lambda: Layer_Dense(0, 3), OptionError, "n_inputs is 0"),
        (lambda: Layer_Dense(2, 3, weight_regularizer_l2=-1), OptionError, "weight_regularizer_l2 is -1"),
        (lambda: trained_dense().forward(np.ones((4, 3))), ShapeError, "inputs has shape .*2 are expected"),
        (lambda: trained_dense().forward(np.ones(2)), ShapeError, r"inputs\.reshape\(1, -1\)"),
        (lambda: trained_dense().backward(np.ones((3, 3))), ShapeError, "dvalues has shape"),
        (lambda: Layer_Dense(2, 3).backward(np.ones((4, 3))), StateError, "before forward"),
        (lambda: Activation_ReLU().backward(np.ones((4, 3))), StateError, "before forward"),
        (lambda: Layer_Dropout(0.5).backward(np.ones((4, 3))), StateError, "before forward"),
        (lambda: with_biases(np.zeros((3, 1))), ShapeError, r"biases has shape \(3, 1\); expected \(1, 3\)"),
        (lambda: Optimizer_SGD(learning_rate=-1), OptionError, "learning_rate is -1"),
        (lambda: Optimizer_Adam(decay=-1), OptionError, "decay is -1"),
        (lambda: Optimizer_Adam(beta_2=1), OptionError, "beta_2 is 1"),
        (lambda: Optimizer_SGD(momentum=2), OptionError, "momentum is 2"),
        (without_gradient, StateError, "has no dweights"),
        (integer_weights, DTypeError, "weights is int64"),
        (lambda: Loss_MeanSquaredError().regularization_loss(), StateError, "remember_trainable_layers"),
        (lambda: Loss_MeanSquaredError().calculate_accumulated(), StateError, "calculate_accumulated"),
        (lambda: Loss_MeanSquaredError().calculate(np.ones((0, 1)), np.ones((0, 1))), NnfastError, "no rows"),
    ],
)
def test_misuse_is_named(misuse, error, words):
    with pytest.raises(error, match=words):
        misuse()


def test_a_refused_update_changes_nothing():
    layer, optimizer = bare_layer(), Optimizer_Adam()
    step(optimizer, layer)
    weights, biases = layer.weights.copy(), layer.biases.copy()
    layer.dbiases = np.ones((3, 1))
    with pytest.raises(ShapeError, match=r"dbiases has shape \(3, 1\); expected \(1, 3\)"):
        optimizer.update_params(layer)
    np.testing.assert_array_equal(layer.weights, weights)
    np.testing.assert_array_equal(layer.biases, biases)


def test_zero_is_a_learning_rate():
    layer = bare_layer()
    weights = layer.weights.copy()
    step(Optimizer_SGD(learning_rate=0), layer)
    np.testing.assert_array_equal(layer.weights, weights)
