"""Parts that users write: layers in plain Python, own ops with own layers, own backends by inheritance."""

from __future__ import annotations

import numpy as np
import pytest

import nnfast as nn
from nnfast.protocol import CUSTOM, OPS

X, Y = nn.datasets.spiral(20, 3, 0)


class Cube(nn.PythonLayer):
    def compute(self, x, training):
        self.x = x
        return x**3

    def gradient(self, dy):
        return 3 * self.x**2 * dy


class Scale(nn.PythonLayer):
    """A plain-Python layer with a parameter, and another width."""

    def n_outputs_for(self, n_inputs):
        return 2 * n_inputs

    @property
    def n_inputs_wanted(self):
        return 4

    def parameter_shapes(self):
        return {"scale": (4,)}

    def initial_values(self, rng):
        return {"scale": rng.uniform(0.5, 1.5, 4)}

    def compute(self, x, training):
        self.x = x
        return np.concatenate([x * self.parameter("scale"), x], axis=1)

    def gradient(self, dy):
        left, right = dy[:, :4], dy[:, 4:]
        self.gradient_of("scale")[...] = (left * self.x).sum(axis=0)
        return left * self.parameter("scale") + right


@pytest.fixture
def bent():
    """The op y = x + amount·sin x, registered for the length of a test, and a layer made of it."""

    def bend(x, y, *, amount):
        y[...] = x + amount * np.sin(x)

    def bend_backward(x, dy, dx, *, amount):
        dx[...] = dy * (1 + amount * np.cos(x))

    nn.register_op(
        nn.OpSpec("bend", "x[N,I] -> y[N,I]", "y = x + amount·sin x", scalars=["amount"], flops=9), reference=bend
    )
    spec = nn.OpSpec("bend_backward", "x[N,I] dy[N,I] -> dx[N,I]", scalars=["amount"], flops=9)
    nn.register_op(spec, reference=bend_backward)

    class Bend(nn.Layer):
        scalars = ("amount",)

        def __init__(self, amount, **common):
            super().__init__(**common)
            self.amount = amount

        def lower(self, b):
            x, y = b.x, b.output(b.x.width)
            b.forward("bend", x, y)
            b.backward("bend_backward", x, b.dy, b.dx)

    yield Bend
    for name in ("bend", "bend_backward"):
        del OPS[name], CUSTOM[name]


def _model(middle, backend="numpy"):
    layers = [nn.Dense(2, 4), middle, nn.Dense(middle.n_outputs_for(4), 3)]
    return nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.Adam(0.02), backend=backend, dtype="float64", rng=0)


def _gradient_error(model, rng):
    _, gradient = model.loss_and_gradient(X, Y)
    start = model.parameters.copy()
    direction = rng.standard_normal(start.size) * (gradient != 0)
    values = []
    for sign in (1, -1):
        model.parameters = start + sign * 1e-6 * direction
        values.append(model.loss_and_gradient(X, Y)[0])
    return abs((values[0] - values[1]) / 2e-6 - gradient @ direction) / abs(gradient @ direction)


@pytest.mark.parametrize("make", [Cube, Scale])
def test_python_layer_trains_and_its_gradient_is_right(make, rng):
    model = _model(make())
    assert _gradient_error(model, rng) < 1e-6
    history = model.fit(X, Y, epochs=60, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert "plain Python: cuts the program" in model.backend_report()
    assert make.__name__ in str(model.program)


def test_python_layer_by_hand_equals_the_model():
    model = _model(Scale())
    first, scale, last = model.layers
    logits = last.forward(scale.forward(first.forward(X)))
    loss = nn.SoftmaxCrossEntropy()
    value, gradient = model.loss_and_gradient(X, Y)
    gradient = gradient.copy()
    assert loss.forward(logits, Y) == pytest.approx(value, rel=1e-12)
    first.backward(scale.backward(last.backward(loss.backward())))
    np.testing.assert_allclose(model._buffers.gradients, gradient, rtol=1e-10, atol=1e-14)


def test_frozen_python_layer_keeps_its_parameters():
    model = _model(Scale())
    model.layers[1].trainable = False
    before = model.layers[1].parameter("scale").copy()
    model.fit(X, Y, epochs=5, verbose=0)
    np.testing.assert_array_equal(model.layers[1].parameter("scale"), before)


def test_python_layer_of_a_copy_has_its_own_arrays():
    model = _model(Scale())
    twin = model.to()
    twin.layers[1].parameter("scale")[...] = 9
    assert not (model.layers[1].parameter("scale") == 9).any()


def test_layer_of_an_own_op_trains_and_its_gradient_is_right(bent, rng):
    model = _model(bent(0.7))
    assert _gradient_error(model, rng) < 1e-6
    assert "bend" in str(model.program)
    history = model.fit(X, Y, epochs=60, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    x = np.array([[1.0, 2.0]])
    np.testing.assert_allclose(bent(0.5, dtype="float64").forward(x), x + 0.5 * np.sin(x))


def test_number_of_an_own_layer_is_data_of_the_run(bent):
    model = _model(bent(0.7))
    _, runner = model._programs.runner("train")
    before = model.evaluate(X, Y)["loss"]
    model.layers[1].amount = 0.1
    assert model._programs.runner("train")[1] is runner
    assert model.evaluate(X, Y)["loss"] != before


def test_lowering_mistakes_are_explained(bent):
    class Wrong(nn.Layer):
        def lower(self, b):
            b.forward("bend", b.x, b.output(4), scalars={"amount": "angle"})

    with pytest.raises(nn.errors.OptionError, match="'angle'"):
        _ = _model(Wrong()).program

    class Unknown(nn.Layer):
        def lower(self, b):
            b.forward("bent", b.x, b.output(4))

    with pytest.raises(nn.errors.UnknownNameError, match="bend"):
        _ = _model(Unknown()).program

    class Few(nn.Layer):
        def lower(self, b):
            b.forward("bend", b.x)

    with pytest.raises(nn.errors.OptionError, match="takes 2 arrays"):
        _ = _model(Few()).program


def test_backend_by_inheritance_overrides_what_it_likes():
    reference = type(nn.get_backend("numpy"))

    class Counting(reference):
        name = "counting"
        calls = 0

        def kernel(self, op):
            found = super().kernel(op)
            if op != "dense":
                return found

            def dense(*arrays, **scalars):
                Counting.calls += 1
                found(*arrays, **scalars)

            return dense

    own, plain = _model(Cube(), Counting()), _model(Cube())
    own.fit(X, Y, epochs=3, verbose=0)
    plain.fit(X, Y, epochs=3, verbose=0)
    assert Counting.calls == 6
    np.testing.assert_array_equal(own.parameters, plain.parameters)
    assert nn.functional.dense(X, np.eye(2), np.zeros(2), backend=Counting()).shape == X.shape
    assert Counting.calls == 7


# ---- what plain Python may get wrong --------------------------------------------------------------------------------


def _returning(value, method="compute"):
    class Odd(nn.PythonLayer):
        def compute(self, x, training):
            return value(x) if method == "compute" else x

        def gradient(self, dy):
            return value(dy) if method == "gradient" else dy

    return Odd()


@pytest.mark.parametrize("method", ["compute", "gradient"])
@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (lambda a: None, nn.errors.DTypeError, "return"),
        (lambda a: a[:1], nn.errors.ShapeError, r"\(1, 4\)"),
        (lambda a: 0.0, nn.errors.DTypeError, "float; expected an array"),
        (lambda a: a + 1j, nn.errors.DTypeError, "complex"),
        (lambda a: np.multiply(a, 2, out=a), ValueError, "read-only"),
    ],
    ids=["None", "one row", "number", "complex", "in place"],
)
def test_results_of_plain_python_are_checked(method, value, error, words):
    model = _model(_returning(value, method))
    with pytest.raises(error, match=words) as caught:
        model.loss_and_gradient(X, Y)
    if error is not ValueError:
        assert f"Odd.{method}" in str(caught.value)


class Quartic(nn.PythonLoss):
    def compute(self, output, y):
        return ((output - y) ** 4).sum(axis=1)

    def gradient(self, output, y):
        return 4 * (output - y) ** 3


def test_python_loss_trains_weighs_and_agrees_by_hand(rng):
    targets = np.eye(3)[Y]
    w = rng.uniform(0, 2, len(X))
    model = nn.Model([nn.Dense(2, 3)], Quartic(), nn.Adam(0.05), ["r2"], backend="numpy", dtype="float64", rng=0)
    by_hand = Quartic()
    assert by_hand.forward(model.predict(X), targets, sample_weight=w) == pytest.approx(
        model.evaluate(X, targets, sample_weight=w)["loss"], rel=1e-12
    )
    slope = (w / w.sum())[:, None] * 4 * (model.predict(X) - targets) ** 3
    np.testing.assert_allclose(by_hand.backward(), slope, rtol=1e-12)
    _, gradient = model.loss_and_gradient(X, targets, sample_weight=w)
    np.testing.assert_allclose(gradient[:6].reshape(2, 3), X.T @ slope, rtol=1e-10)
    history = model.fit(X, targets, epochs=40, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert "Quartic" in model.backend_report()


def test_python_loss_must_give_one_number_per_row():
    class Wrong(Quartic):
        def compute(self, output, y):
            return (output - y) ** 4

    with pytest.raises(nn.errors.ShapeError, match=r"Wrong.compute.*\(60, 3\).*\(60,\)"):
        Wrong().forward(np.zeros((60, 3)), np.zeros((60, 3)))


# ---- names, numbers and structure of own layers ---------------------------------------------------------------------


class Offset(nn.Layer):
    """y = x + 0.7·sin x · p, with its names chosen to collide and a constant of its own."""

    def __init__(self, name="y", **common):
        super().__init__(**common)
        self.name = name

    @property
    def n_inputs_wanted(self):
        return 4

    def parameter_shapes(self):
        return {self.name: (1, 4)}

    def initial_values(self, rng):
        return {self.name: np.full((1, 4), 0.5)}

    def lower(self, b):
        bent, y = b.scratch("y", 4), b.output(4)
        b.forward("bend", b.x, bent, scalars={"amount": 0.7})
        b.forward("bend", bent, y, scalars={"amount": 0.3})
        middle = b.scratch("dy", 4)
        b.backward("bend_backward", bent, b.dy, middle, scalars={"amount": 0.3})
        b.backward("bend_backward", b.x, middle, b.dx, scalars={"amount": 0.7})


def test_own_names_and_constants_do_not_collide(bent, rng):
    models = [_model(Offset(name)) for name in ("y", "dx", "scale")]
    outputs = [m.predict(X) for m in models]
    np.testing.assert_array_equal(outputs[0], outputs[2])
    np.testing.assert_array_equal(outputs[1], outputs[2])
    assert max(_gradient_error(m, rng) for m in models) < 1e-6
    x = np.linspace(-2, 2, 8).reshape(2, 4)
    inner = x + 0.7 * np.sin(x)
    np.testing.assert_allclose(Offset(dtype="float64").forward(x), inner + 0.3 * np.sin(inner))


def test_an_own_layer_with_parameters_can_come_first(bent):
    model = nn.Model([Offset(), nn.Dense(4, 3)], nn.SoftmaxCrossEntropy(), nn.SGD(0.1), backend="numpy", rng=0)
    rows = np.c_[X, X]
    history = model.fit(rows, Y, epochs=20, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    for op in model.program.ops:
        assert op.name != "bend_backward" or None not in op.args


def test_a_layer_without_backward_is_refused_where_one_is_needed(bent):
    class Forward(nn.Layer):
        def lower(self, b):
            b.forward("bend", b.x, b.output(4), scalars={"amount": 1})

    model = _model(Forward())
    model.predict(X)
    with pytest.raises(nn.errors.OptionError, match="layer 1 emits no backward"):
        model.fit(X, Y, verbose=0)


def test_wrong_widths_are_found_when_lowering(bent):
    class Wide(nn.Layer):
        def lower(self, b):
            b.forward("bend", b.x, b.output(5), scalars={"amount": 1})

    with pytest.raises(nn.errors.ShapeError, match=r"bend.*I = 4"):
        _ = _model(Wide()).program

    class Liar(nn.Layer):
        def n_outputs_for(self, n_inputs):
            return 6

        def lower(self, b):
            b.forward("bend", b.x, b.output(4), scalars={"amount": 1})

    with pytest.raises(nn.errors.ShapeError, match="lowers to 4 outputs; n_outputs_for says 6"):
        _ = _model(Liar()).program


def test_own_random_ops_by_hand_use_the_layers_seed():
    def jitter(x, y, *, key, step):
        y[...] = x + np.random.default_rng([key, step]).standard_normal(x.shape)

    nn.register_op(nn.OpSpec("jitter", "x[N,I] -> y[N,I]", scalars=["key", "step"]), reference=jitter)

    class Jitter(nn.Layer):
        def lower(self, b):
            b.forward("jitter", b.x, b.output(b.x.width))

    x = np.zeros((2, 3))
    one, two, three = (Jitter(rng=seed).forward(x, training=True) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, three)
    del OPS["jitter"], CUSTOM["jitter"]


def test_random_search_refuses_parameters_that_plain_python_reads():
    model = _model(Scale())
    model.optimizer = nn.RandomSearch()
    with pytest.raises(nn.errors.OptionError, match="random search"):
        model.fit(X, Y, verbose=0)
    model.layers[1].trainable = False
    model.fit(X, Y, epochs=3, verbose=0)


def test_lists_of_an_own_layer_are_copied_with_the_model():
    layer = Cube()
    layer.notes = []
    model = _model(layer)
    model.to().layers[1].notes.append(1)
    assert layer.notes == []


class GELUFirst(nn.Dense):
    """y = gelu(x)·W + b, whose backward goes on with dx where the dense op left it."""

    def lower(self, b):
        w, h, y = b.parameter("weights"), b.scratch("h", self.n_inputs), b.output(self.n_outputs)
        linear = {"scalars": {"alpha": 0}, "activation": "linear"}
        b.forward("gelu", b.x, h)
        b.forward("dense", h, w, b.parameter("biases"), y, **linear)
        b.backward(
            "dense_backward", h, w, None, b.dy, None, b.dx, b.gradient("weights"), b.gradient("biases"), **linear
        )
        b.backward("gelu_backward", b.x, b.dx, b.dx)


class GELULast(nn.Dense):
    """y = gelu(x·W + b)."""

    def lower(self, b):
        w, h, y = b.parameter("weights"), b.scratch("h", self.n_outputs), b.output(self.n_outputs)
        dh, linear = b.scratch("dh", self.n_outputs), {"scalars": {"alpha": 0}, "activation": "linear"}
        b.forward("dense", b.x, w, b.parameter("biases"), h, **linear)
        b.forward("gelu", h, y)
        b.backward("gelu_backward", h, b.dy, dh)
        b.backward(
            "dense_backward", b.x, w, None, dh, None, b.dx, b.gradient("weights"), b.gradient("biases"), **linear
        )


@pytest.mark.parametrize(
    ("own", "library"),
    [
        (lambda: [GELUFirst(2, 4), nn.ReLU()], lambda: [nn.GELU(), nn.Dense(2, 4), nn.ReLU()]),
        (lambda: [GELULast(2, 4), nn.ReLU()], lambda: [nn.Dense(2, 4), nn.GELU(), nn.ReLU()]),
    ],
)
def test_dense_within_an_own_layer_is_left_as_it_is(own, library):
    one, other = (
        nn.Model([*make(), nn.Dense(4, 3)], nn.SoftmaxCrossEntropy(), backend="numpy", dtype="float64", rng=0)
        for make in (own, library)
    )
    np.testing.assert_allclose(one.predict(X), other.predict(X), rtol=1e-12)
    value, gradient = one.loss_and_gradient(X, Y)
    expected, reference = other.loss_and_gradient(X, Y)
    assert value == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(gradient, reference, rtol=1e-10, atol=1e-15)


def test_arrays_of_the_arena_begin_aligned_whatever_the_rows():
    class Spy(Cube):
        def compute(self, x, training):
            places.append(x.ctypes.data % 256)
            return super().compute(x, training)

    places = []
    layers = [nn.Dense(2, 5), Spy(), Spy(), nn.Dense(5, 3)]
    model = nn.Model(layers, nn.SoftmaxCrossEntropy(), backend="numpy", rng=0)
    model.loss_and_gradient(X[:7], Y[:7])
    assert places == [0, 0]


def test_plain_python_is_told_whether_it_trains():
    class Told(Cube):
        def compute(self, x, training):
            told.append(training)
            return super().compute(x, training)

    told = []
    model = _model(Told())
    model.fit(X, Y, verbose=0)
    model.loss_and_gradient(X, Y, training=True)
    model.loss_and_gradient(X, Y)
    model.evaluate(X, Y)
    model.predict(X)
    model.layers[1].forward(np.ones((1, 4)), training=True)
    model.layers[1].forward(np.ones((1, 4)))
    assert told == [True, True, False, False, False, True, False]


def test_gradient_of_a_frozen_python_layer_is_zero():
    model = _model(Scale())
    model.layers[1].trainable = False
    model.loss_and_gradient(X, Y)
    assert not model.layers[1].gradient_of("scale").any()


def test_a_layer_has_one_output():
    class Twice(nn.Dense):
        def lower(self, b):
            super().lower(b)
            b.activation("relu")

    with pytest.raises(nn.errors.OptionError, match=r"b\.output once"):
        nn.Model([Twice(3, 3)], backend="numpy").predict(np.zeros((1, 3)))
