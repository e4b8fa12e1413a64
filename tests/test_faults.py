"""The faults of the book's code that this library does not have: one test each, on our own classes and on `compat`.

Each test was watched failing with its fault put back.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

import nnfast as nn
from nnfast import functional as F
from nnfast.compat import nnfs
from nnfast.errors import DataError, OptionError, ShapeError


@pytest.fixture(autouse=True)
def _seeded():
    """The compat classes draw from NumPy's global stream, which is put back."""
    before = np.random.get_state()
    np.random.seed(0)
    yield
    np.random.set_state(before)


def near(got, want, rtol=1e-6):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-12)


def unit_slope(optimizer, dtype="float32"):
    """A model of one weight that starts at 0, whose gradient is −1 for weight and bias alike, and data for it."""
    dense = nn.Dense(1, 1, "zeros")
    model = nn.Model([dense], nn.MeanAbsoluteError(), optimizer, backend="numpy", dtype=dtype)
    return model, np.ones((1, 1)), np.full((1, 1), 1000.0)


def book_layer(slope=-1.0):
    layer = nnfs.Layer_Dense(1, 1)
    layer.weights, layer.biases = np.zeros((1, 1)), np.zeros((1, 1))
    layer.dweights, layer.dbiases = np.full((1, 1), slope), np.full((1, 1), slope)
    return layer


def book_step(optimizer, layer):
    optimizer.pre_update_params()
    optimizer.update_params(layer)
    optimizer.post_update_params()


def test_fault_01_gradient_of_the_mean_absolute_error_points_uphill():
    output, y = np.array([[2.0, 0.0], [1.0, 5.0]]), np.array([[1.0, 1.0], [1.0, 2.0]])
    want = np.array([[1.0, -1.0], [0.0, 1.0]]) / 2 / 2  # sign(output − y), by outputs, by samples
    near(F.mean_absolute_error(output, y)[1], want)
    native = nn.MeanAbsoluteError(backend="numpy")
    native.forward(output, y)
    near(native.backward(), want)
    book = nnfs.Loss_MeanAbsoluteError()
    book.backward(output, y)
    near(book.dinputs, want)


def test_fault_02_decay_reaches_the_update():
    rates = [1, 1 / 1.1, 1 / 1.2]
    model, x, y = unit_slope(nn.SGD(1.0, decay=0.1))
    model.fit(x, y, epochs=3, verbose=0)
    near(model.get_weights()[0], [[sum(rates)]])

    dense, optimizer = nn.Dense(1, 1, "zeros", backend="numpy", rng=0), nn.SGD(1.0, decay=0.1)
    for _ in rates:
        dense.forward([[1.0]])
        dense.backward([[-1.0]])
        optimizer.step(dense)
    near(dense.weights, [[sum(rates)]])

    for settings in ({}, {"momentum": 1e-9}):
        layer, book = book_layer(), nnfs.Optimizer_SGD(decay=0.1, **settings)
        for _ in rates:
            book_step(book, layer)
        near(layer.weights, [[sum(rates)]])


def test_fault_03_random_search_undoes_a_bad_step():
    x, y = nn.datasets.vertical(20, 3, 0)
    layers = [nn.Dense(2, 3), nn.ReLU(), nn.Dense(3, 3)]
    model = nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.RandomSearch(0.5), backend="numpy", rng=0)
    start = model.evaluate(x, y)["loss"]
    losses = model.fit(x, y, epochs=60, verbose=0).history["loss"]
    assert losses == sorted(losses, reverse=True)
    assert 1 < len(set(losses)) < 60  # some steps were good, and some bad
    assert losses[-1] < start
    assert model.evaluate(x, y)["loss"] == pytest.approx(losses[-1], rel=1e-6)

    p, sums, best = np.array([1.0, 2.0]), np.array([5.0, 0.0]), np.array([4.0, 0.0])
    F.random_search_accept(p, np.array([7.0, 7.0]), sums, best)
    near(p, [1.0, 2.0])
    near(best, [4.0, 0.0])


def test_fault_04_cross_entropy_has_a_finite_gradient_where_the_prediction_is_0():
    output = np.array([[0.0, 1.0], [0.25, 0.75]])
    want = [[-1e7 / 2, 0.0], [-2.0, 0.0]]
    for y in ([0, 0], np.array([[1.0, 0.0], [1.0, 0.0]])):
        near(F.categorical_cross_entropy(output, y)[1], want)
        book = nnfs.Loss_CategoricalCrossentropy()
        book.backward(output, y)
        near(book.dinputs, want)


def test_fault_05_soft_labels():
    logits = np.log([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]])
    p, y = np.exp(logits), np.array([[0.5, 0.4, 0.1], [0.2, 0.2, 0.6]])
    losses, slope = -(y * np.log(p)).sum(axis=1), (p - y) / 2
    loss, got = F.softmax_cross_entropy(logits, y, per_sample=True)
    near(loss, losses)
    near(got, slope)
    loss, got = F.categorical_cross_entropy(p, y, per_sample=True)
    near(loss, losses)
    near(got, -y / p / 2)

    joint = nnfs.Activation_Softmax_Loss_CategoricalCrossentropy()
    assert joint.forward(logits, y) == pytest.approx(losses.mean(), rel=1e-12)
    joint.backward(joint.output, y)
    near(joint.dinputs, slope)
    book = nnfs.Loss_CategoricalCrossentropy()
    near(book.forward(p, y), losses)
    book.backward(p, y)
    near(book.dinputs, -y / p / 2)


@pytest.mark.parametrize(("rows", "other"), [((4, 1), (4,)), ((4, 1), (1, 4)), ((4, 3), (4, 1)), ((4, 3), (3,))])
def test_fault_06_nothing_broadcasts(rows, other):
    output, y = np.full(rows, 0.5), np.full(other, 0.5)
    for name in ("mean_squared_error", "mean_absolute_error", "binary_cross_entropy", "huber", "poisson"):
        with pytest.raises(ShapeError):
            getattr(F, name)(output, y)
    for metric in (nn.metrics.regression_accuracy(0.1), nn.metrics.binary_accuracy, nn.metrics.r2):
        with pytest.raises(ShapeError):
            metric(output, y, backend="numpy")
    with pytest.raises((ShapeError, TypeError)):
        nn.metrics.accuracy(output, y, backend="numpy")
    model = nn.Model([nn.Dense(2, rows[1])], nn.MeanSquaredError(), nn.SGD(), backend="numpy", rng=0)
    with pytest.raises(ShapeError):
        model.fit(np.ones((4, 2)), y, verbose=0)
    for loss in (nnfs.Loss_MeanSquaredError(), nnfs.Loss_MeanAbsoluteError(), nnfs.Loss_BinaryCrossentropy()):
        for call in (loss.calculate, loss.forward, loss.backward):
            with pytest.raises(ShapeError):
                call(output, y)


def test_fault_07_dropout_keeps_the_dtype(dtype):
    x, dy = np.ones((8, 5), dtype), np.full((8, 5), 2, dtype)
    native = nn.Dropout(0.5, backend="numpy", dtype=dtype, rng=0)
    assert native.forward(x, training=True).dtype == dtype
    assert native.backward(dy).dtype == dtype
    book = nnfs.Layer_Dropout(0.5)
    for training in (True, False):
        book.forward(x, training)
        book.backward(dy)
        assert book.output.dtype == book.dinputs.dtype == dtype


@pytest.mark.parametrize("rate", [1, 1.0, 1.5, -0.1, float("nan")])
def test_fault_07_dropout_refuses_a_rate_that_leaves_nothing(rate):
    for make in (nn.Dropout, nnfs.Layer_Dropout):
        with pytest.raises(OptionError, match="rate is"):
            make(rate)


def test_fault_07_dropout_goes_back_after_evaluation():
    x, dy = np.ones((8, 5), np.float32), np.arange(40, dtype=np.float32).reshape(8, 5)
    native, book = nn.Dropout(0.5, backend="numpy", rng=0), nnfs.Layer_Dropout(0.5)
    for first in (False, True):  # without any training pass before, and after one
        if first:
            native.forward(x, training=True)
            book.forward(x)
        near(native.forward(x, training=False), x)
        near(native.backward(dy), dy)
        book.forward(x, training=False)
        book.backward(dy)
        near(book.output, x)
        near(book.dinputs, dy)
    book.forward(x)
    book.backward(dy)
    near(book.dinputs, dy * book.output)


def test_fault_08_losses_on_logits_do_not_saturate(dtype):
    far = np.array([[-60.0, 40.0]], dtype)
    loss, slope = F.softmax_cross_entropy(far, [0])
    assert loss == pytest.approx(100, rel=1e-6)
    near(slope, [[-1, 1]])
    joint = nnfs.Activation_Softmax_Loss_CategoricalCrossentropy()
    assert joint.forward(far, [0]) == pytest.approx(100, rel=1e-6)
    joint.backward(joint.output, [0])
    near(joint.dinputs, [[-1, 1]])

    loss, slope = F.sigmoid_binary_cross_entropy(far, np.array([[1.0, 0.0]]))
    assert loss == pytest.approx(50, rel=1e-6)
    near(slope, [[-0.5, 0.5]])
    assert F.categorical_cross_entropy(F.softmax(far), [0])[0] == pytest.approx(16.118, abs=1e-3)  # as the text says


@pytest.mark.parametrize(
    ("loss", "y"), [(nn.SoftmaxCrossEntropy(), [1]), (nn.SigmoidBinaryCrossEntropy(), [[0.0, 1.0]])]
)
def test_fault_08_a_model_learns_from_a_sure_and_wrong_answer(loss, y):
    model = nn.Model([nn.Dense(1, 2, "zeros")], loss, nn.SGD(1.0), backend="numpy")
    model.set_weights([[[50.0, -50.0]], [0.0, 0.0]])
    loss_before, gradient = model.loss_and_gradient(np.ones((1, 1)), np.array(y))
    assert loss_before >= 50
    assert np.abs(gradient).max() >= 0.5


@pytest.mark.parametrize("bad", [-1, 3, 2**40])
def test_fault_09_labels_out_of_range(bad):
    logits, y = np.zeros((4, 3)), np.array([0, 1, bad, 2])
    model = nn.Model([nn.Dense(2, 3)], nn.SoftmaxCrossEntropy(), nn.SGD(), ["accuracy"], backend="numpy", rng=0)
    before = model.parameters.copy()
    joint, loss = nnfs.Activation_Softmax_Loss_CategoricalCrossentropy(), nnfs.Loss_CategoricalCrossentropy()
    calls = [F.softmax_cross_entropy, F.categorical_cross_entropy, F.accuracy]
    calls += [joint.forward, joint.backward, loss.forward, loss.backward, loss.calculate]
    calls += [lambda _, y: model.fit(np.zeros((4, 2)), y, verbose=0)]
    calls += [lambda _, y: model.evaluate(np.zeros((4, 2)), y)]
    for call in calls:
        with pytest.raises(DataError, match=rf"\[2\] is {bad}"):
            call(logits, y)
    np.testing.assert_array_equal(model.parameters, before)


def test_fault_10_gradient_of_l1_at_0():
    w = np.array([[0.0, 2.0, -3.0]])
    near(F.penalty(w, l1=0.5)[1], [[0.0, 0.5, -0.5]])
    native = nn.Dense(1, 3, weight_l1=0.5, bias_l1=0.25, backend="numpy", rng=0)
    native.weights, native.biases = w, [0.0, 0.0, 1.0]
    book = nnfs.Layer_Dense(1, 3, weight_regularizer_l1=0.5, bias_regularizer_l1=0.25)
    book.weights, book.biases = w, np.array([[0.0, 0.0, 1.0]])
    for layer in (native, book):
        layer.forward(np.ones((2, 1)))
        layer.backward(np.zeros((2, 3)))
        near(layer.dweights, [[0.0, 0.5, -0.5]])
        near(np.ravel(layer.dbiases), [0.0, 0.0, 0.25])


@pytest.mark.parametrize("decay", [0, 0.5])
def test_fault_11_a_learning_rate_set_later_counts(decay):
    rates = [1, 0.25 / (1 + decay)]
    model, x, y = unit_slope(nn.SGD(1.0, decay=decay))
    model.fit(x, y, verbose=0)
    model.optimizer.learning_rate = 0.25
    model.fit(x, y, verbose=0)
    near(model.get_weights()[0], [[sum(rates)]])

    book, layer = nnfs.Optimizer_SGD(decay=decay), book_layer()
    book_step(book, layer)
    book.learning_rate = 0.25
    assert book.current_learning_rate == rates[1]
    book_step(book, layer)
    near(layer.weights, [[sum(rates)]])


BOOK_OPTIMIZERS = [
    lambda: nnfs.Optimizer_SGD(learning_rate=0.1, momentum=0.9),
    lambda: nnfs.Optimizer_Adagrad(learning_rate=0.1),
    lambda: nnfs.Optimizer_RMSprop(learning_rate=0.1),
    lambda: nnfs.Optimizer_Adam(learning_rate=0.1),
]
OPTIMIZERS = [lambda: nn.SGD(0.1, momentum=0.9), lambda: nn.Adagrad(0.1), lambda: nn.RMSprop(0.1), lambda: nn.Adam(0.1)]


@pytest.mark.parametrize("after", range(4))
@pytest.mark.parametrize("before", range(4))
def test_fault_12_optimizers_can_be_exchanged(before, after):
    """The second of two optimizers does what it does on a layer that never knew the first."""
    layer, fresh = book_layer(), book_layer()
    names = set(vars(layer))
    first, second, alone = BOOK_OPTIMIZERS[before](), BOOK_OPTIMIZERS[after](), BOOK_OPTIMIZERS[after]()
    for _ in range(3):
        book_step(first, layer)
    layer.weights, layer.biases = fresh.weights.copy(), fresh.biases.copy()
    for _ in range(2):
        book_step(second, layer)
        book_step(alone, fresh)
    np.testing.assert_array_equal(layer.weights, fresh.weights)
    assert set(vars(layer)) == names

    ends = []
    for optimizers in ([OPTIMIZERS[before](), OPTIMIZERS[after]()], [OPTIMIZERS[after]()]):
        model, x, y = unit_slope(optimizers[0])
        model.fit(x, y, epochs=3 * (len(optimizers) - 1), verbose=0)
        model.set_weights([[[0.0]], [0.0]])
        model.optimizer = optimizers[-1]
        model.fit(x, y, epochs=2, verbose=0)
        ends.append(model.parameters.copy())
    np.testing.assert_array_equal(*ends)


def test_fault_12_lone_layers_keep_no_optimizer_state():
    ends = []
    for makes in ([nn.SGD(0.1, momentum=0.9), nn.Adam(0.1)], [nn.Adam(0.1)]):
        dense = nn.Dense(1, 1, "zeros", backend="numpy", rng=0)
        for optimizer in makes:
            dense.weights, dense.biases = [[0.0]], [0.0]
            for _ in range(2):
                dense.forward([[1.0]])
                dense.backward([[-1.0]])
                optimizer.step(dense)
        ends.append(float(dense.weights[0, 0]))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("metric", [nn.metrics.regression_accuracy(0.1), nn.metrics.binary_accuracy], ids=repr)
def test_fault_13_accuracy_over_several_outputs_is_a_share(metric):
    x = np.eye(5)
    y = np.tile([[0.0, 1.0, 0.0]], (5, 1))
    model = nn.Model([nn.Dense(5, 3, "zeros")], nn.MeanSquaredError(), nn.SGD(0.0), [metric], backend="numpy")
    for right, biases in ((1.0, [0.0, 1.0, 0.0]), (2 / 3, [0.0, 1.0, 1.0])):
        model.set_weights([np.zeros((5, 3)), biases])
        for size in (1, 2, 5):
            history = model.fit(x, y, batch_size=size, verbose=0).history
            assert history[metric.name] == [pytest.approx(right)]
            assert model.evaluate(x, y, batch_size=size)[metric.name] == pytest.approx(right)
        assert metric(model.predict(x), y, backend="numpy") == pytest.approx(right)


def test_fault_14_parameters_are_handed_out_as_copies():
    model = nn.Model([nn.Dense(2, 3)], backend="numpy", rng=0)
    book = nnfs.Layer_Dense(2, 3)
    for get, now in ((model.get_weights, lambda: model.parameters), (book.get_parameters, lambda: book.weights)):
        before = now().copy()
        for a in get():
            a += 1
        np.testing.assert_array_equal(now(), before)


@pytest.mark.parametrize("weights", [np.ones((3, 2)), np.ones(6), np.ones((1, 3)), 1.0, [["a"] * 3] * 2])
def test_fault_14_parameters_are_checked_before_any_is_set(weights):
    model = nn.Model([nn.Dense(2, 3)], backend="numpy", rng=0)
    book = nnfs.Layer_Dense(2, 3)
    before, w, b = model.parameters.copy(), book.weights.copy(), book.biases.copy()
    with pytest.raises((ShapeError, TypeError)):
        model.set_weights([weights, np.ones(3)])
    with pytest.raises((ShapeError, TypeError)):
        book.set_parameters(weights, np.ones((1, 3)))
    with pytest.raises(ShapeError):
        model.set_weights([np.ones((2, 3)), np.ones(2)])
    with pytest.raises(ShapeError):
        book.set_parameters(np.ones((2, 3)), np.ones((3, 1)))
    np.testing.assert_array_equal(model.parameters, before)
    np.testing.assert_array_equal(book.weights, w)
    np.testing.assert_array_equal(book.biases, b)


def test_fault_14_parameters_set_are_the_layers_own():
    model, book = nn.Model([nn.Dense(2, 3)], backend="numpy", rng=0), nnfs.Layer_Dense(2, 3)
    w = np.ones((2, 3), np.float32)
    model.set_weights([w, np.ones(3)])
    book.set_parameters(w, np.ones((1, 3)))
    w += 1
    near(model.get_weights()[0], np.ones((2, 3)))
    near(book.weights, np.ones((2, 3)))


def calls_made(function):
    """How many functions, Python's and C's, run inside."""
    count, before = 0, sys.getprofile()

    def note(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


def softmax_calls(x, dy):
    """Calls made by softmax's backward: as a function, in our layer, in the book's; after checking their values."""
    native, book = nn.Softmax(backend="numpy", dtype="float64"), nnfs.Activation_Softmax()
    p = native.forward(x)
    book.forward(x)
    jacobians = np.einsum("ni,ij->nij", p, np.eye(x.shape[1])) - np.einsum("ni,nj->nij", p, p)
    want = np.einsum("nij,nj->ni", jacobians, dy)
    book.backward(dy)
    for got in (F.softmax_backward(p, dy), native.backward(dy), book.dinputs):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-14)
    ways = [lambda: F.softmax_backward(p, dy), lambda: native.backward(dy), lambda: book.backward(dy)]
    return [calls_made(way) for way in ways]


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="what would be compiled loops in Python then")
def test_fault_15_softmax_backward_does_not_loop_over_samples(rng):
    x, dy = rng.standard_normal((500, 3)), rng.standard_normal((500, 3))
    assert softmax_calls(x, dy) == softmax_calls(x[:2], dy[:2])


def test_fault_16_regression_accuracy_on_a_constant_target():
    y = np.full((6, 1), 2.0)
    precision = np.std(y) / 250
    assert precision == 0
    metric = nn.metrics.regression_accuracy(precision)
    assert metric(y, y, backend="numpy") == 1
    assert metric(y + 1e-9, y, backend="numpy") == 0
    model = nn.Model([nn.Dense(1, 1, "zeros")], nn.MeanSquaredError(), metrics=[metric], backend="numpy")
    model.set_weights([[[0.0]], [2.0]])
    assert model.evaluate(np.ones((6, 1)), y)["regression_accuracy"] == 1


def test_fault_17_the_set_up_call_patches_nothing():
    def everything():
        return {(m.__name__, name): id(value) for m in (np, np.random, np.linalg) for name, value in vars(m).items()}

    before, error_state, printing = everything(), np.geterr(), np.get_printoptions()
    nnfs.init()
    x, _ = nnfs.spiral_data(5, 2)
    nnfs.Layer_Dense(2, 3).forward(x)
    after = everything()
    assert {key for key in before if after.get(key) != before[key]} == set()
    assert (np.geterr(), np.get_printoptions()) == (error_state, printing)
    assert np.zeros(2).dtype == np.random.randn(2).dtype == np.float64
    nnfs.init()
    np.testing.assert_array_equal(np.random.randn(4), np.random.RandomState(0).randn(4))
