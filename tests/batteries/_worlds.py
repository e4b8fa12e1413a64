"""The objects whose methods are called with wrong arguments: models that have trained, lone parts that have a state."""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np

import nnfast as nn
from batteries._targets import FIXED, World
from nnfast import optimizers, schedules
from nnfast.compat import nnfs

__all__ = ["MAKERS", "MEMBERS", "population_pattern"]

INPUTS, OUTPUTS = FIXED["I"], FIXED["O"]
X = np.linspace(-1, 1, 8 * INPUTS, dtype=np.float32).reshape(8, INPUTS)
Y = np.arange(8) % OUTPUTS
T = np.linspace(0, 1, 8 * OUTPUTS, dtype=np.float32).reshape(8, OUTPUTS)


class Cube(nn.PythonLayer):
    """Plain Python, with a parameter array."""

    def parameter_shapes(self):
        return {"scale": (1,)}

    def compute(self, x, training):
        self.x = x
        return x**3 * self.parameter("scale")

    def gradient(self, dy):
        return 3 * self.x**2 * dy * self.parameter("scale")


class Quartic(nn.PythonLoss):
    def compute(self, output, y):
        return ((output - y) ** 4).sum(axis=1)

    def gradient(self, output, y):
        return 4 * (output - y) ** 3


class Near(nn.PythonMetric):
    def compute(self, output, y):
        return (abs(output - y) <= 0.1).mean(axis=1)


def _trained(loss, y, optimizer=None, layers=None, metrics=()):
    """A model with optimizer state, counters and gradients that are not zero."""

    def make(world: World):
        body = (layers or _two_layers)()
        step = nn.Adam(0.01) if optimizer is None else optimizer()
        model = nn.Model(body, loss(), step, metrics, backend=world.backend, rng=0)
        model.fit(X, y, epochs=2, batch_size=None if not step.uses_gradients else 5, verbose=0)
        return model

    return make


def _used(layer, width=INPUTS):
    """A lone layer after one pass there and back."""

    def make(world: World):
        made = layer(backend=world.backend, rng=1)
        y = made.forward(X[:, :width], training=True)
        made.backward(np.ones_like(y))
        return made

    return make


def _parts(world: World):
    """Two lone layers with gradients, and the optimizer that has stepped them."""
    layers = [nn.Dense(INPUTS, 5, backend=world.backend, rng=1), nn.Dense(5, OUTPUTS, backend=world.backend, rng=2)]
    for layer in reversed(layers):
        layer.backward(np.ones_like(layer.forward(np.ones((4, layer.n_inputs), np.float32))))
    optimizer = nn.Adam(0.01, clip_norm=1.0)
    optimizer.step(layers)
    return {"layers": layers, "optimizer": optimizer}


def _loss(kind, y):
    def make(world: World):
        loss = kind(backend=world.backend)
        loss.forward(T.copy(), y)
        return loss

    return make


def _book(world: World):
    """The book's model, trained; the parts draw from NumPy's global stream, which is put back."""
    before = np.random.get_state()
    with nn.use_backend(world.backend):
        model = nnfs.Model()
        for part in (nnfs.Layer_Dense(INPUTS, 5), nnfs.Activation_ReLU(), nnfs.Layer_Dense(5, OUTPUTS)):
            model.add(part)
        model.add(nnfs.Activation_Softmax())
        adam, accuracy = nnfs.Optimizer_Adam(0.01), nnfs.Accuracy_Categorical()
        model.set(loss=nnfs.Loss_CategoricalCrossentropy(), optimizer=adam, accuracy=accuracy)
        model.finalize()
        with contextlib.redirect_stdout(io.StringIO()):
            model.train(X, Y, epochs=2)
    np.random.set_state(before)
    return model


def _book_part(make_part, back=None):
    """One of the book's parts after a pass; `back` is what its `backward` takes."""

    def make(world: World):
        before = np.random.get_state()
        with nn.use_backend(world.backend):
            part = make_part()
            part.forward(X)
            part.backward(np.ones_like(part.output))
        np.random.set_state(before)
        return part

    return make


def _book_pair(world: World):
    layer = _book_part(lambda: nnfs.Layer_Dense(INPUTS, OUTPUTS, 1e-3, 1e-3))(world)
    optimizer = nnfs.Optimizer_Adam(0.01, decay=1e-3)
    with nn.use_backend(world.backend):
        optimizer.update_params(layer)
    return {"layer": layer, "optimizer": optimizer}


MEMBERS = 3  # of the population


def population_pattern():
    return nn.Model(_two_layers(), nn.SoftmaxCrossEntropy(), nn.Adam(0.01), ["accuracy"], rng=0)


def _population(world: World):
    rates = {"learning_rate": [0.01, 0.02, 0.03]}
    made = nn.Population(population_pattern, MEMBERS, rates, backend=world.backend, rng=0)
    made.fit(X, Y, epochs=2, batch_size=5, verbose=0)
    return made


def _estimator(kind, y):
    def make(world: World):
        from nnfast import sklearn

        with warnings.catch_warnings(action="ignore"):  # that it has not converged yet
            settings = {"hidden_layer_sizes": (5,), "max_iter": 2, "random_state": 0, "backend": world.backend}
            return getattr(sklearn, kind)(**settings).fit(X, y)

    return make


def _plateau():
    return nn.SGD(schedules.PiecewiseConstant([3, 5], [0.1, 0.01, 0.001]), momentum=0.9)


def _two_layers():
    return [nn.Dense(INPUTS, 5, weight_l2=1e-3), nn.Tanh(), nn.Dropout(0.2), nn.Dense(5, OUTPUTS)]


def _one_layer():
    return [nn.Dense(INPUTS, OUTPUTS)]


MAKERS = {
    "classifier": _trained(nn.SoftmaxCrossEntropy, Y, metrics=["accuracy"]),
    "regressor": _trained(nn.MeanSquaredError, T, _plateau, metrics=["r2"]),
    "bits": _trained(nn.SigmoidBinaryCrossEntropy, T, nn.RMSprop, metrics=["binary_accuracy"]),
    "counts": _trained(nn.Poisson, T, nn.Adagrad),
    "own": _trained(Quartic, T, layers=lambda: [*_one_layer(), Cube()], metrics=[Near()]),
    "search": _trained(nn.SoftmaxCrossEntropy, Y, nn.RandomSearch, _one_layer),
    "fresh": lambda world: nn.Model(_one_layer(), nn.SoftmaxCrossEntropy(), nn.Adam(), backend=world.backend, rng=0),
    "population": _population,
    "sklearn classifier": _estimator("MLPClassifier", Y),
    "sklearn regressor": _estimator("MLPRegressor", T[:, 0]),
    "predictor": lambda world: world["classifier"].predictor(2),
    "own file": lambda world: _own_file(world),
    "history": lambda world: world["classifier"].history,
    "dense": _used(lambda **common: nn.Dense(INPUTS, OUTPUTS, weight_l1=1e-3, **common)),
    "fresh dense": lambda world: nn.Dense(INPUTS, OUTPUTS, backend=world.backend),
    "dropout": _used(lambda **common: nn.Dropout(0.3, **common)),
    "linear": _used(nn.Linear),
    "cube": _used(Cube),
    "leaky": _used(lambda **common: nn.LeakyReLU(0.1, **common)),
    "elu": _used(lambda **common: nn.ELU(0.5, **common)),
    "relu": _used(nn.ReLU),
    "parts": _parts,
    "class loss": _loss(nn.SoftmaxCrossEntropy, Y),
    "real loss": _loss(nn.Huber, T),
    "own loss": _loss(Quartic, T),
    "near": lambda world: Near(),
    "optimizers": lambda world: {kind.__name__: kind() for kind in optimizer_classes()},
    "schedule": lambda world: schedules.CosineDecay(0.1, 10, warmup=2),
    "book": _book,
    "book dense": _book_part(lambda: nnfs.Layer_Dense(INPUTS, OUTPUTS)),
    "book dropout": _book_part(lambda: nnfs.Layer_Dropout(0.3)),
    "book relu": _book_part(nnfs.Activation_ReLU),
    "book softmax": _book_part(nnfs.Activation_Softmax),
    "book sigmoid": _book_part(nnfs.Activation_Sigmoid),
    "book linear": _book_part(nnfs.Activation_Linear),
    "book pair": _book_pair,
    "book losses": lambda world: {kind.__name__: kind() for kind in book_losses()},
    "book accuracies": lambda world: {"classes": nnfs.Accuracy_Categorical(), "numbers": _regression_accuracy()},
}


def optimizer_classes():
    return [getattr(optimizers, name) for name in ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW", "RandomSearch")]


def book_losses():
    names = ("CategoricalCrossentropy", "BinaryCrossentropy", "MeanSquaredError", "MeanAbsoluteError")
    return [getattr(nnfs, f"Loss_{name}") for name in names] + [nnfs.Activation_Softmax_Loss_CategoricalCrossentropy]


def _regression_accuracy():
    accuracy = nnfs.Accuracy_Regression()
    accuracy.init(T)
    return accuracy


def _own_file(world: World):
    """The classifier, saved."""
    path = world.folder / "own.nnfast"
    world["classifier"].save(path)
    return path
