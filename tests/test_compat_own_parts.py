"""Parts of a program's own inside the book's Model, the accuracies by themselves, and what is refused."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from compat_models import built, by_hand, figures, image_model, images

import nnfast as nn
from nnfast.compat.nnfs import (
    Accuracy,
    Accuracy_Categorical,
    Accuracy_Regression,
    Activation_Linear,
    Activation_ReLU,
    Activation_Sigmoid,
    Activation_Softmax,
    Layer_Dense,
    Layer_Dropout,
    Layer_Input,
    Loss,
    Loss_BinaryCrossentropy,
    Loss_CategoricalCrossentropy,
    Loss_MeanSquaredError,
    Model,
    Optimizer_Adam,
    Optimizer_SGD,
)
from nnfast.errors import DataError, DTypeError, NonFiniteWarning, OptionError, OwnershipError, ShapeError, StateError

pytestmark = pytest.mark.usefixtures("like_the_book")


# ---- parts of one's own ---------------------------------------------------------------------------------------------


class Tanh:
    """An activation without a base class."""

    def forward(self, inputs, training):
        self.output = np.tanh(inputs)

    def backward(self, dvalues):
        self.dinputs = dvalues * (1 - self.output**2)


class Scaled(Layer_Dense):
    """A dense layer with a factor, and penalties like those of its base."""

    def forward(self, inputs, training=True):
        super().forward(inputs, training)
        self.output = 2 * self.output

    def backward(self, dvalues):
        super().backward(2 * dvalues)


class Wide(Layer_Dense):
    """Begins elsewhere, and is for the rest the book's: nothing of it runs in Python."""

    def __init__(self, n_inputs, n_neurons):
        self.weights = (0.3 * np.random.randn(n_inputs, n_neurons)).astype(np.float32)
        self.biases = np.zeros((1, n_neurons), np.float32)


class Rounded(Activation_Linear):
    """The book's activation, but for what it predicts."""

    def predictions(self, outputs):
        return np.round(outputs)


class Quartic(Loss):
    def forward(self, y_pred, y_true):
        return np.mean((y_pred - y_true) ** 4, axis=1)

    def backward(self, dvalues, y_true):
        self.dinputs = 4 * (dvalues - y_true) ** 3 / dvalues.size


class Within(Accuracy):
    """Right where two numbers lie within a tenth; sees the targets of a training first."""

    seen = 0

    def init(self, y):
        self.seen += len(y)

    def compare(self, predictions, y):
        return np.abs(predictions - y) < 0.1


class Descent:
    """An optimizer without a base class, that puts new arrays in the place of the old."""

    def __init__(self, rate):
        self.current_learning_rate, self.iterations = rate, 0

    def pre_update_params(self):
        self.current_learning_rate *= 0.9

    def update_params(self, layer):
        layer.weights = layer.weights - self.current_learning_rate * np.sign(layer.dweights)
        layer.biases -= self.current_learning_rate * np.sign(layer.dbiases)

    def post_update_params(self):
        self.iterations += 1


class Bare:
    """Neither a rate nor a count."""

    def pre_update_params(self):
        pass

    def update_params(self, layer):
        layer.weights -= 0.1 * layer.dweights

    def post_update_params(self):
        pass


class Halving(Optimizer_SGD):
    """The book's optimizer with a schedule of its own."""

    def pre_update_params(self):
        self.current_learning_rate = self.learning_rate * 0.5**self.iterations


OWN = {
    "activation": {"middle": Tanh},
    "layer": {"layer": Scaled},
    "values alone": {"layer": Wide},
    "predictions": {"last": Rounded},
    "loss": {"loss": Quartic},
    "accuracy": {"accuracy": Within},
    "optimizer": {"optimizer": lambda: Descent(0.02)},
    "schedule": {"optimizer": lambda: Halving(0.1)},
    "all": {"middle": Tanh, "layer": Scaled, "loss": Quartic, "accuracy": Within, "optimizer": lambda: Descent(0.02)},
}


def own_model(
    middle=Activation_ReLU,
    layer=Layer_Dense,
    last=Activation_Linear,
    loss=Loss_MeanSquaredError,
    accuracy=Accuracy_Regression,
    optimizer=lambda: Optimizer_Adam(0.01, 1e-2),
):
    np.random.seed(2)
    parts = [layer(3, 8), middle(), Layer_Dense(8, 8), Activation_ReLU(), layer(8, 2), last()]
    for part in parts[::2]:
        part.weights *= 20
    for part in parts[::4]:
        part.weight_regularizer_l2, part.bias_regularizer_l1 = 1e-3, 1e-3
    return built(parts, loss(), optimizer(), accuracy())


def regression_data():
    x = np.random.default_rng(3).normal(size=(90, 3)).astype(np.float32)
    return x, np.stack([x[:, 0] * x[:, 1], x[:, 2]], axis=1)


@pytest.mark.parametrize("own", OWN, ids=str)
def test_parts_of_the_programs_own_give_what_they_give_by_hand(own, capsys):
    x, y = regression_data()
    model, twin = own_model(**OWN[own]), own_model(**OWN[own])
    model.train(x, y, epochs=3, batch_size=40, print_every=1)
    rows = [row for row in figures(capsys.readouterr().out) if row[0] == "step"]
    losses = by_hand(twin, x, y, 3, 40)
    np.testing.assert_allclose([row[3] for row in rows], losses, rtol=1e-4, atol=5.1e-4)
    assert model.optimizer.iterations == twin.optimizer.iterations == 9
    assert rows[-1][-1] == model.optimizer.current_learning_rate == twin.optimizer.current_learning_rate
    for mine, other in zip(model.get_parameters(), twin.get_parameters(), strict=True):
        np.testing.assert_allclose(mine[0], other[0], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(mine[1], other[1], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(model.predict(x), twin.forward(x, training=False), rtol=1e-3, atol=1e-3)
    model.evaluate(x, y)
    _, accuracy, loss = figures(capsys.readouterr().out)[0]
    output = twin.forward(x, training=False)
    right = model.accuracy.compare(getattr(twin.layers[-1], "predictions", None)(output), y)
    assert accuracy == pytest.approx(right.mean(), abs=0.012)
    assert loss == pytest.approx(twin.loss.calculate(output, y), abs=1e-3)
    assert getattr(model.accuracy, "seen", 90) == 90
    cuts = model._engine.native.backend_report().count("plain Python")
    assert (cuts == 0) == (own in ("values alone", "optimizer", "schedule"))


class Steep(Quartic):
    def backward(self, dvalues, y_true):
        self.dinputs = np.full_like(dvalues, np.inf)


class Factors:
    """A layer with weights and no biases."""

    def __init__(self, n):
        self.weights = np.ones((1, n), np.float32)

    def forward(self, inputs, training):
        self.inputs, self.output = inputs, inputs * self.weights

    def backward(self, dvalues):
        self.dweights = (dvalues * self.inputs).sum(axis=0, keepdims=True)
        self.dinputs = dvalues * self.weights


def test_the_least_that_an_optimizer_and_a_layer_can_be(capsys):
    dense, factors = Layer_Dense(1, 1000), Factors(1000)
    model = built([dense, Layer_Dropout(0.4), factors], Quartic(), Bare(), Within())
    x, y = np.ones((1, 1), np.float32), np.ones((1, 1000), np.float32)
    dropped = []
    for _ in range(3):
        dense.weights[...], factors.weights[...] = 1, 0.9
        model.train(x, y)
        dropped.append(factors.weights[0] == np.float32(0.9))
    assert capsys.readouterr().out.count("lr: nan") == 6
    assert all(300 < d.sum() < 500 for d in dropped)
    assert not np.array_equal(dropped[0], dropped[1])  # the masks go on without its count
    assert not np.array_equal(dropped[1], dropped[2])
    first, second = model.get_parameters()
    assert (len(first), len(second)) == (2, 1)
    model.set_parameters([(first[0] * 0, first[1] * 0 + 1), (second[0] * 0 + 2,)])
    np.testing.assert_array_equal(model.predict(x), 2)


def test_dropout_that_comes_later_has_a_seed_as_well():
    model = bare()
    assert model._key == 0
    model.add(Layer_Dropout(0.5))
    model.finalize()
    assert model._key != 0


def test_an_optimizer_of_the_programs_own_has_the_last_word():
    dense = Layer_Dense(1, 1)
    dense.weights[...] = 1
    model = built([dense, Activation_Linear()], Steep(), Descent(0.5), Within())
    model.train(np.ones((1, 1)), np.zeros((1, 1)))
    assert dense.weights[0, 0] == np.float32(1 - 0.45)  # nothing of the infinite gradient is left for another update


def test_an_error_inside_a_step_leaves_a_model_that_goes_on():
    class Fails(Accuracy_Categorical):
        calls = 0

        def compare(self, predictions, y):
            self.calls += 1
            if self.calls == 4:
                raise RuntimeError("enough")
            return super().compare(predictions, y)

    x, y = images(160)
    model = image_model()
    model.set(accuracy=Fails())
    with pytest.raises(RuntimeError, match="enough"):
        model.train(x, y, epochs=5, batch_size=32)
    assert model.optimizer.iterations == 3
    model.set(accuracy=Accuracy_Categorical())
    model.train(x, y, epochs=40, batch_size=32, print_every=100)
    assert model.optimizer.iterations == 203
    assert np.mean(model.predict(x).argmax(axis=1) == y) > 0.9


def test_ctrl_c_is_heard_after_the_steps_that_are_under_way(capsys, usual_ctrl_c):
    class Pressed(Accuracy_Categorical):
        calls = 0

        def compare(self, predictions, y):
            self.calls += 1
            if self.calls == 7:
                signal.raise_signal(signal.SIGINT)
            return super().compare(predictions, y)

    x, y = images(160)
    model = image_model()
    model.set(accuracy=Pressed())
    with pytest.raises(KeyboardInterrupt):
        model.train(x, y, epochs=10_000, batch_size=32)
    steps = [row for row in figures(capsys.readouterr().out) if row[0] == "step"]
    assert 7 <= model.optimizer.iterations == model.accuracy.calls == len(steps) < 5000
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_loss_that_is_not_finite_gives_one_warning(monkeypatch):
    monkeypatch.setattr("nnfast.compat._training.JOB_SECONDS", 0.0)  # each step is a job
    x, y = regression_data()
    model = own_model(optimizer=lambda: Optimizer_SGD(1e6))
    with pytest.warns(NonFiniteWarning, match="since epoch") as seen:
        model.train(x, y, epochs=12)
    assert len(seen) == 1


# ---- accuracies by themselves ---------------------------------------------------------------------------------------


def test_accuracies_compare_and_accumulate():
    accuracy = Accuracy_Categorical()
    assert accuracy.calculate(np.array([0, 1, 2]), np.array([0, 1, 1])) == pytest.approx(2 / 3)
    assert accuracy.calculate(np.array([2]), np.array([[0.0, 0.0, 1.0]])) == 1
    assert accuracy.calculate_accumulated() == pytest.approx(3 / 4)
    accuracy.new_pass()
    with pytest.raises(StateError, match="before calculate"):
        accuracy.calculate_accumulated()
    binary = Accuracy_Categorical(binary=True)
    for _ in range(2):
        assert binary.calculate(np.array([[0, 1], [1, 1]]), np.array([[0, 1], [0, 1]])) == 0.75
    assert binary.calculate_accumulated() == 0.75  # never above 1, however many outputs
    with pytest.raises(NotImplementedError, match="compare"):
        Accuracy().calculate(np.ones(2), np.ones(2))


def test_the_precision_of_a_regression_is_that_of_the_first_targets():
    y = np.random.randn(50, 1)
    accuracy = Accuracy_Regression()
    with pytest.raises(StateError, match="init"):
        accuracy.compare(y, y)
    accuracy.init(y)
    assert accuracy.precision == pytest.approx(np.std(y) / 250, rel=1e-12)
    accuracy.init(9 * y)
    assert accuracy.precision == pytest.approx(np.std(y) / 250, rel=1e-12)
    np.testing.assert_array_equal(accuracy.compare(y + 0.9 * accuracy.precision, y), True)
    np.testing.assert_array_equal(accuracy.compare(y + 1.1 * accuracy.precision, y), False)
    accuracy.init(9 * y, reinit=True)
    assert accuracy.precision == pytest.approx(9 * np.std(y) / 250, rel=1e-12)
    constant = Accuracy_Regression()
    constant.init(np.ones((4, 1)))
    assert constant.calculate(np.ones((4, 1)), np.ones((4, 1))) == 1
    with pytest.raises(ShapeError, match="alike"):
        constant.compare(np.ones((4, 1)), np.ones(4))


def test_a_regression_can_be_measured_before_it_is_trained(capsys):
    x, y = regression_data()
    own_model().evaluate(x, y)
    assert figures(capsys.readouterr().out)[0][1] < 0.1


def test_an_input_layer_passes_on():
    layer, x = Layer_Input(), np.ones((2, 2))
    layer.forward(x, True)
    assert layer.output is x


# ---- refusals -------------------------------------------------------------------------------------------------------


def unfinished():
    model = Model()
    model.add(Layer_Dense(3, 2))
    return model


X3, Y2 = np.ones((4, 3)), np.zeros((4, 2))
REFUSED = [
    (lambda: Model().finalize(), StateError, "without layers"),
    (lambda: Model().add(Layer_Dense), DTypeError, "is the class"),
    (lambda: Model().add(nn.optimizers.Adam()), DTypeError, "layer must be one of"),
    (lambda: twice(), OwnershipError, "already"),
    (lambda: Model().set(loss=nn.MeanSquaredError()), DTypeError, "loss must be .*calculate"),
    (lambda: Model().set(optimizer=nn.Adam()), DTypeError, "optimizer must be .*pre_update_params"),
    (lambda: Model().set(accuracy="accuracy"), DTypeError, "accuracy must be"),
    (lambda: unfinished().train(X3, Y2), StateError, r"train\(\) was called before finalize"),
    (lambda: unfinished().predict(X3), StateError, r"predict\(\) was called before finalize"),
    (lambda: bare().train(X3, Y2), StateError, "needs a loss"),
    (lambda: bare().evaluate(X3, Y2), StateError, "needs a loss"),
    (lambda: bare(loss=Loss_MeanSquaredError()).train(X3, Y2), StateError, "needs an optimizer"),
    (lambda: bare(loss=Loss_MeanSquaredError(), optimizer=Optimizer_SGD()).train(X3, Y2), StateError, "an accuracy"),
    (lambda: bare(2).predict(X3), ShapeError, "3 columns where 2"),
    (lambda: own_model().train(X3, Y2, epochs=-1), OptionError, "epochs"),
    (lambda: own_model().train(X3, Y2, batch_size=0), OptionError, "batch_size"),
    (lambda: own_model().train(X3, Y2, print_every=0), OptionError, "print_every"),
    (lambda: own_model().train(X3, Y2[:, :1]), ShapeError, "y has shape"),
    (lambda: own_model().train(X3, Y2, validation_data=(X3,)), DTypeError, "validation_data"),
    (lambda: own_model().train(X3, Y2, validation_data=(X3, Y2[1:])), ShapeError, "validation y"),
    (lambda: own_model().evaluate(X3[:0], Y2), DataError, "no rows"),
    (lambda: image_model().train(np.ones((2, 64)), [0, 10]), DataError, r"y\[1\] is 10"),
    (lambda: binary_softmax().train(np.ones((2, 3)), np.eye(2)), ShapeError, "alike"),
    (lambda: own_model().set_parameters([]), ShapeError, "3 pairs"),
    (lambda: own_model().set_parameters([(np.ones(1), np.ones(1))] * 3), ShapeError, "weights of trainable layer 0"),
    (lambda: built([Layer_Dense(2, 3), Layer_Dense(4, 1)], None, None, None), ShapeError, "takes 4 inputs"),
    (lambda: built([Activation_ReLU()], None, None, None), ShapeError, "at least one layer"),
]


def binary_softmax():
    """Classes are numbers, and one by one is how rows are compared."""
    accuracy = Accuracy_Categorical(binary=True)
    return built([Layer_Dense(3, 2), Activation_Softmax()], Loss_CategoricalCrossentropy(), Optimizer_SGD(), accuracy)


def twice():
    model, relu = Model(), Activation_ReLU()
    model.add(relu)
    model.add(relu)


def bare(inputs=3, **parts):
    model = Model()
    model.add(Layer_Dense(inputs, 2))
    model.add(Activation_Linear())
    model.set(**parts)
    model.finalize()
    return model


@pytest.mark.parametrize(("call", "error", "match"), REFUSED, ids=[f"{i}-{m}" for i, (_, _, m) in enumerate(REFUSED)])
def test_what_does_not_fit_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_nothing_has_changed_after_a_refusal(capsys):
    model, (x, y) = own_model(), regression_data()
    before = model.get_parameters()
    for bad in ({"validation_data": (x, y[1:])}, {"print_every": 0}, {"batch_size": 0.5}):
        with pytest.raises((ShapeError, OptionError, DTypeError)):
            model.train(x, y, **bad)
    with pytest.raises(ShapeError):
        model.set_parameters([*before[:2], (before[2][0], np.ones(3))])
    assert capsys.readouterr().out == ""
    assert (model.optimizer.iterations, model.accuracy.precision) == (0, None)
    for mine, other in zip(model.get_parameters(), before, strict=True):
        np.testing.assert_array_equal(mine[0], other[0])


def test_a_model_of_yes_or_no(capsys):
    x = np.random.default_rng(0).normal(size=(200, 2))
    y = ((x[:, :1] * x[:, 1:]) > 0) * 1
    parts = [Layer_Dense(2, 32), Activation_ReLU(), Layer_Dense(32, 1), Activation_Sigmoid()]
    for part in parts[::2]:
        part.weights *= 30
    accuracy = Accuracy_Categorical(binary=True)
    model = built(parts, Loss_BinaryCrossentropy(), Optimizer_Adam(0.02), accuracy)
    model.train(x, y, epochs=100, batch_size=50, print_every=100)
    assert figures(capsys.readouterr().out)[-1][1] > 0.9
    assert np.mean(model.layers[-1].predictions(model.predict(x)) == y) > 0.9


def test_labels_as_rows_train_the_same():
    x, y = images(100)
    ends = []
    for labels in (y, np.eye(10)[y]):
        np.random.seed(0)
        model = built(
            [Layer_Dense(64, 10), Activation_Softmax()],
            Loss_CategoricalCrossentropy(),
            Optimizer_Adam(),
            Accuracy_Categorical(),
        )
        model.train(x, labels, epochs=3, batch_size=30)
        ends.append((model.layers[0].weights, model.accuracy.calculate_accumulated()))
    np.testing.assert_allclose(ends[0][0], ends[1][0], rtol=1e-4, atol=1e-6)
    assert ends[0][1] == ends[1][1]
