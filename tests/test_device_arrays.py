"""Models and layers on a device: they take arrays from there and from the host, and nothing is converted in passing.

Compared is with the same on NumPy, from the same seeds: the double must agree to the bit, the CuPy backend nearly.
"""

from __future__ import annotations

import copy
import functools
import pickle
from typing import Any

import numpy as np
import pytest
from device_backends import NAMES, Elsewhere, Foreign, made

import nnfast as nn
from nnfast import registry
from nnfast.errors import DataError, DTypeError, ShapeError, StateError

ROWS, INPUTS, CLASSES = 40, 4, 3
SEEDED = np.random.default_rng(5)
X = SEEDED.standard_normal((ROWS, INPUTS)).astype(np.float32)
Y = (np.arange(ROWS) * 7) % CLASSES
ONE_HOT = np.eye(CLASSES, dtype=np.float32)[Y]
WEIGHT = np.linspace(0.5, 2, ROWS).astype(np.float32)


@pytest.fixture(scope="module", params=NAMES)
def gpu_here(request: pytest.FixtureRequest) -> Any:
    return made(request.param)


@pytest.fixture
def gpu(gpu_here: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A backend on a simulated device, under the name that it would have."""
    monkeypatch.delenv(registry.ENVIRONMENT, raising=False)
    monkeypatch.setattr(registry, "_instances", {**registry._instances, "cupy": gpu_here, gpu_here.name: gpu_here})
    return gpu_here


def network(backend: Any, **options: Any) -> Any:
    settings: dict[str, Any] = {"optimizer": nn.Adam(0.02, clip_norm=1.0), "metrics": ["accuracy"], "rng": 3} | options
    layers = [nn.Dense(INPUTS, 8, weight_l2=1e-3), nn.ReLU(), nn.Dropout(0.2), nn.Dense(8, CLASSES)]
    return nn.Model(layers, settings.pop("loss", nn.SoftmaxCrossEntropy()), backend=backend, **settings)


def same(gpu: Any, got: Any, want: Any) -> None:
    """Equal for the double, close for the CuPy backend; of arrays, lists and dictionaries."""
    if isinstance(want, dict):
        assert got.keys() == want.keys()
        got, want = [got[key] for key in want], list(want.values())
    if isinstance(want, list):
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            same(gpu, a, b)
        return
    got = got.get() if isinstance(got, gpu.cupy.ndarray) else got
    assert np.shape(got) == np.shape(want)
    exact = gpu.name == "double"
    np.testing.assert_allclose(got, want, rtol=1e-12 if exact else 2e-3, atol=0 if exact else 2e-4)


def on(gpu: Any, *arrays: Any) -> Any:
    there = tuple(gpu.cupy.asarray(a) for a in arrays)
    return there if len(there) > 1 else there[0]


# ---- training -------------------------------------------------------------------------------------------------------

FITS: dict[str, dict[str, Any]] = {
    "plain": {"epochs": 3},
    "batches": {"epochs": 2, "batch_size": 16},
    "weights": {"epochs": 2, "batch_size": 16, "sample_weight": WEIGHT},
    "in order": {"epochs": 2, "batch_size": 16, "shuffle": False, "sample_weight": WEIGHT},
    "class weights": {"epochs": 2, "batch_size": 16, "class_weight": "balanced"},
    "accumulate": {"epochs": 2, "batch_size": 8, "accumulate": 2, "sample_weight": WEIGHT},
    "split": {"epochs": 2, "batch_size": 16, "validation_split": 0.25, "sample_weight": WEIGHT},
    "validation": {"epochs": 3, "batch_size": 16, "validation_data": (X[:20], Y[:20], WEIGHT[:20])},
    "hook": {"epochs": 2, "batch_size": 16, "on_gradients": lambda flat: flat.__imul__(0.5)},
}


@pytest.mark.parametrize("how", list(FITS))
@pytest.mark.parametrize("kind", ["device", "host", "foreign", "float64"])
def test_fit(gpu: Any, how: str, kind: str) -> None:
    options = FITS[how]
    put = {
        "device": gpu.cupy.asarray,
        "host": np.asarray,
        "foreign": lambda a: Foreign(gpu.cupy.asarray(a)),
        "float64": lambda a: gpu.cupy.asarray(a.astype(np.float64) if a.dtype == np.float32 else a),
    }[kind]
    there = {name: put(a) if isinstance(a, np.ndarray) else a for name, a in options.items()}
    if "validation_data" in options:
        there["validation_data"] = tuple(map(put, options["validation_data"]))
    model, reference = network(gpu), network("numpy")
    got = model.fit(put(X), put(Y), verbose=0, **there)
    want = reference.fit(X, Y, verbose=0, **options)
    same(gpu, got.history, want.history)
    same(gpu, model.get_weights(), reference.get_weights())
    assert type(model.parameters) is np.ndarray


def test_a_training_copies_the_rows_of_a_device_array_nowhere(gpu: Any) -> None:
    if gpu.name != "cupy":
        pytest.skip("the double computes on the host")
    wide = np.tile(X, (100, 1))
    x, y = on(gpu, wide, np.tile(Y, 100))
    model = network(gpu)
    before = gpu.cupy.counts.snapshot()
    model.fit(x, y, epochs=2, batch_size=1000, shuffle=False, verbose=0)
    after = gpu.cupy.counts.snapshot()
    assert after.d2h_bytes - before.d2h_bytes < y.nbytes + wide.nbytes // 4
    assert after.h2d_bytes - before.h2d_bytes < y.nbytes + wide.nbytes // 4


@pytest.mark.parametrize(
    "part",
    [
        {"loss": nn.MeanSquaredError, "metrics": ["r2", "mean_absolute_error", nn.metrics.regression_accuracy(0.1)]},
        {"loss": nn.SigmoidBinaryCrossEntropy, "metrics": ["binary_accuracy"], "optimizer": nn.RMSprop},
        {"loss": nn.Huber, "metrics": [], "optimizer": lambda: nn.SGD(0.1, momentum=0.9)},
        {"loss": nn.SoftmaxCrossEntropy, "metrics": [nn.metrics.top_k(2)], "optimizer": lambda: nn.AdamW(0.01)},
    ],
)
def test_other_losses_metrics_and_optimizers(gpu: Any, part: dict[str, Any]) -> None:
    results = []
    for backend, x, y in ((gpu, *on(gpu, X, ONE_HOT)), ("numpy", X, ONE_HOT)):
        made_here = {name: kind() if callable(kind) else kind for name, kind in part.items()}
        model = network(backend, **made_here)
        results.append((model.fit(x, y, epochs=2, batch_size=16, verbose=0).history, model.evaluate(x, y)))
    same(gpu, list(results[0]), list(results[1]))


def test_random_search(gpu: Any) -> None:
    model, reference = (network(b, optimizer=nn.RandomSearch(0.1)) for b in (gpu, "numpy"))
    same(gpu, model.fit(*on(gpu, X, Y), epochs=4, verbose=0).history, reference.fit(X, Y, epochs=4, verbose=0).history)
    same(gpu, model.get_weights(), reference.get_weights())


def test_streams(gpu: Any) -> None:
    def batches(put: Any) -> Any:
        return [tuple(map(put, (X[a : a + 10], Y[a : a + 10], WEIGHT[a : a + 10]))) for a in range(0, ROWS, 10)]

    for options in ({}, {"accumulate": 2}, {"class_weight": {0: 2.0}}):
        model, reference = network(gpu), network("numpy")
        there, here = batches(gpu.cupy.asarray), batches(np.asarray)
        got = model.fit(there, epochs=2, validation_data=functools.partial(iter, there), verbose=0, **options)
        want = reference.fit(here, epochs=2, validation_data=functools.partial(iter, here), verbose=0, **options)
        same(gpu, got.history, want.history)
        same(gpu, model.evaluate(there), reference.evaluate(here))


def test_rows_on_disk(gpu: Any, tmp_path: Any) -> None:
    for name, a in (("x", X.astype(np.float64)), ("y", ONE_HOT)):
        np.save(tmp_path / f"{name}.npy", a)
    x, y = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xy")
    model, reference = network(gpu), network("numpy")
    for options in ({}, {"validation_split": 0.25}):
        got = model.fit(x, y, epochs=2, batch_size=16, verbose=0, **options)
        want = reference.fit(x, y, epochs=2, batch_size=16, verbose=0, **options)
        same(gpu, got.history, want.history)
    got = model.fit(x, on(gpu, Y), epochs=1, verbose=0)
    same(gpu, got.history, reference.fit(x, Y, epochs=1, verbose=0).history)
    output = model.predict(x)
    assert isinstance(output, gpu.cupy.ndarray)
    same(gpu, output, reference.predict(x))


def test_single_steps(gpu: Any) -> None:
    model, reference = network(gpu), network("numpy")
    for _ in range(2):
        got = model.train_on_batch(*on(gpu, X, Y), sample_weight=on(gpu, WEIGHT))
        same(gpu, got, reference.train_on_batch(X, Y, sample_weight=WEIGHT))
    loss, gradient = model.loss_and_gradient(*on(gpu, X, Y), sample_weight=on(gpu, WEIGHT), training=True)
    assert type(gradient) is np.ndarray
    same(gpu, [loss, gradient], list(reference.loss_and_gradient(X, Y, sample_weight=WEIGHT, training=True)))
    seen = []
    model.train_on_batch(X, Y, on_gradients=seen.append)
    assert isinstance(seen[0], gpu.cupy.ndarray)


# ---- asking ---------------------------------------------------------------------------------------------------------


def test_predictions_lie_on_the_device(gpu: Any) -> None:
    model, reference = network(gpu), network("numpy")
    for x in (X, on(gpu, X), Foreign(on(gpu, X)), on(gpu, X.astype(np.float64)), X.tolist()):
        for size in (None, 7):
            output = model.predict(x, size)
            assert isinstance(output, gpu.cupy.ndarray)
            same(gpu, output, reference.predict(X))
    same(gpu, model.evaluate(*on(gpu, X, Y)), reference.evaluate(X, Y))
    got = model.evaluate(on(gpu, X), on(gpu, ONE_HOT), batch_size=7, sample_weight=on(gpu, WEIGHT))
    same(gpu, got, reference.evaluate(X, ONE_HOT, batch_size=7, sample_weight=WEIGHT))


def test_a_predictor(gpu: Any) -> None:
    model, reference = network(gpu), network("numpy")
    predict, want = model.predictor(2), reference.predict(X[:2])
    for x in (X[:2], on(gpu, X[:2]), Foreign(on(gpu, X[:2])), X[:2].tolist()):
        output = predict(x)
        assert isinstance(output, gpu.cupy.ndarray)
        same(gpu, output, want)
    first = predict(X[:2])
    assert predict(X[2:4]) is not first
    same(gpu, first, want)
    for out in (gpu.cupy.empty((2, CLASSES), np.float32), np.empty((2, CLASSES), np.float32)):
        assert predict(X[:2], out=out) is out
        same(gpu, out, want)
    other = Foreign(gpu.cupy.empty((2, CLASSES), np.float32))
    predict(X[:2], out=other)
    same(gpu, other._array, want)
    for out, error in (
        (gpu.cupy.empty((2, CLASSES)), DTypeError),
        (gpu.cupy.empty((CLASSES, 2), np.float32), ShapeError),
        (gpu.cupy.empty((CLASSES, 2), np.float32).T, DTypeError),
        ([0.0], DTypeError),
    ):
        with pytest.raises(error, match="out must"):
            predict(X[:2], out=out)
    with pytest.raises(ShapeError, match="takes x of shape"):
        predict(on(gpu, X[:3]))
    model.set_weights([w * 0 for w in model.get_weights()])
    np.testing.assert_allclose(predict(X[:2]).get(), 1 / CLASSES, rtol=1e-6)
    assert pickle.loads(pickle.dumps(predict))(X[:2]).shape == (2, CLASSES)


def test_profile(gpu: Any) -> None:
    model = network(gpu)
    before = model.get_weights()
    text = str(model.profile(on(gpu, X), on(gpu, Y), batch_size=16, seconds=0.02))
    assert "dense" in text
    assert str(model.profile(X, Y, seconds=0.02))
    same(gpu, model.get_weights(), before)
    predicting = nn.Model([nn.Dense(INPUTS, 2)], backend=gpu, rng=0)
    assert "dense" in str(predicting.profile(on(gpu, X), seconds=0.02))


# ---- weights, copies, files -----------------------------------------------------------------------------------------


def test_weights_come_from_anywhere_and_are_read_on_the_host(gpu: Any) -> None:
    model, reference = network(gpu), network("numpy")
    weights = [w + 1 for w in reference.get_weights()]
    for put in (np.asarray, gpu.cupy.asarray, lambda a: Foreign(gpu.cupy.asarray(a.astype(np.float64)))):
        model.set_weights([w * 0 for w in weights])
        model.set_weights([put(w) for w in weights])
        assert all(type(w) is np.ndarray for w in model.get_weights())
        same(gpu, model.get_weights(), weights)
    for put in (np.asarray, gpu.cupy.asarray, lambda a: Foreign(gpu.cupy.asarray(a))):
        flat = reference.parameters + 2
        model.parameters = put(flat)
        reference.parameters = flat
        same(gpu, model.parameters, reference.parameters)  # padding included
    layer = model.layers[0]
    assert isinstance(layer.weights, gpu.cupy.ndarray)
    layer.weights = on(gpu, weights[0])
    layer.biases = weights[1]
    layer.weights += 1
    same(gpu, layer.values(), {"weights": weights[0] + 1, "biases": weights[1]})
    with pytest.raises(ShapeError, match=r"weights\[1\] must have shape"):
        model.set_weights(on(gpu, *[weights[0]] * 4))
    with pytest.raises(ShapeError, match="have shape"):
        layer.weights = on(gpu, weights[1])
    with pytest.raises(ShapeError, match="parameters is a flat array"):
        model.parameters = on(gpu, flat[:-1])


def test_models_move_between_backends(gpu: Any) -> None:
    model, reference = network(gpu), network("numpy")
    for m in (model, reference):
        m.fit(X, Y, epochs=2, verbose=0)
    there, back = reference.to(backend=gpu), model.to(backend="numpy")
    double = model.to(dtype="float64")
    for m in (there, back, double):
        m.fit(X, Y, epochs=2, verbose=0)
    reference.fit(X, Y, epochs=2, verbose=0)
    for m in (there, back):
        same(gpu, m.get_weights(), reference.get_weights())
    assert double.get_weights()[0].dtype == np.float64


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_copies_go_on_alike(gpu: Any, way: str) -> None:
    model = network(gpu)
    model.fit(*on(gpu, X, Y), epochs=1, batch_size=16, verbose=0)
    model.layers[0].forward(on(gpu, X))
    twin = copy.deepcopy(model, {id(gpu): gpu}) if way == "deepcopy" else pickle.loads(pickle.dumps(model))
    assert twin.backend is gpu
    for m in (model, twin):
        m.fit(*on(gpu, X, Y), epochs=2, batch_size=16, verbose=0)
    np.testing.assert_array_equal(twin.parameters, model.parameters)
    twin.set_weights([w * 0 for w in twin.get_weights()])
    assert model.parameters.any()
    layer = nn.Dense(INPUTS, 2, backend=gpu, rng=0)
    layer.forward(X)
    other = pickle.loads(pickle.dumps(layer))
    same(gpu, other.forward(X), layer.forward(X).get())
    optimizer = nn.Adam(0.1)
    layer.backward(np.ones((ROWS, 2)))
    optimizer.step(layer)
    again, moved = pickle.loads(pickle.dumps((optimizer, layer)))
    for o, one in ((optimizer, layer), (again, moved)):
        one.forward(X)
        one.backward(np.ones((ROWS, 2)))
        o.step(one)
    np.testing.assert_array_equal(moved.values()["weights"], layer.values()["weights"])
    loss = nn.MeanSquaredError(backend=gpu)
    loss.forward(on(gpu, X), on(gpu, X))
    with pytest.raises(StateError):
        pickle.loads(pickle.dumps(loss)).backward()


def test_files(gpu: Any, tmp_path: Any) -> None:
    model = network(gpu)
    model.fit(X, Y, epochs=2, batch_size=16, verbose=0)
    model.save(tmp_path / "model.nnfast")
    for backend in ("numpy", gpu):
        loaded = nn.load(tmp_path / "model.nnfast", backend=backend)
        np.testing.assert_array_equal(loaded.parameters, model.parameters)
        same(gpu, loaded.fit(X, Y, epochs=1, verbose=0).history, twin_fit(model))
    for ending in ("npz", "safetensors"):
        model.save_weights(tmp_path / f"weights.{ending}")
        other = network(gpu, rng=9)
        other.load_weights(tmp_path / f"weights.{ending}")
        np.testing.assert_array_equal(other.parameters, model.parameters)


def twin_fit(model: Any) -> Any:
    return model.to().fit(X, Y, epochs=1, verbose=0).history


def test_callbacks_and_resuming(gpu: Any, tmp_path: Any) -> None:
    path = tmp_path / "run.nnfast"

    def callbacks() -> list[Any]:
        return [
            nn.EarlyStopping(patience=20, restore_best=True),
            nn.ReduceLROnPlateau(patience=1),
            nn.TerminateOnNaN(),
            nn.ModelCheckpoint(path, every=2),
        ]

    whole = network(gpu)
    options: dict[str, Any] = {"batch_size": 16, "validation_data": on(gpu, X[:20], Y[:20]), "verbose": 0}
    whole.fit(*on(gpu, X, Y), epochs=4, callbacks=callbacks(), **options)
    path.unlink()
    network(gpu).fit(*on(gpu, X, Y), epochs=2, callbacks=callbacks()[1:], **options)
    again = network(gpu)
    history = again.fit(*on(gpu, X, Y), epochs=4, callbacks=callbacks()[1:], resume=path, **options)
    assert len(history.history["loss"]) == 4
    plain = network(gpu)
    plain.fit(*on(gpu, X, Y), epochs=4, callbacks=callbacks()[1:3], **options)
    np.testing.assert_array_equal(again.parameters, plain.parameters)


# ---- by hand --------------------------------------------------------------------------------------------------------

LAYERS: list[Any] = [
    lambda **c: nn.Dense(INPUTS, 3, weight_l1=0.1, bias_l2=0.2, **c),
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Softplus,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softmax,
    nn.Linear,
    lambda **c: nn.Dropout(0.5, **c),
]


class Cube(nn.PythonLayer):
    def compute(self, x: Any, training: bool) -> Any:
        self.x = x
        return x**3 * self.parameter("factor")

    def gradient(self, dy: Any) -> Any:
        self.gradient_of("factor")[...] = (self.x**3 * dy).sum(axis=0)
        return 3 * self.x**2 * dy * self.parameter("factor")

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"factor": (INPUTS,)}

    def initial_values(self, rng: Any) -> Any:
        return {"factor": np.arange(1.0, INPUTS + 1)}

    @property
    def n_inputs_wanted(self) -> int:
        return INPUTS


class Quartic(nn.PythonLoss):
    def compute(self, output: Any, y: Any) -> Any:
        return ((output - y) ** 4).sum(axis=1)

    def gradient(self, output: Any, y: Any) -> Any:
        return 4 * (output - y) ** 3


class Near(nn.PythonMetric):
    def compute(self, output: Any, y: Any) -> Any:
        return (abs(output - y) <= 0.5).mean(axis=1)


@pytest.mark.parametrize("kind", [*LAYERS, Cube])
@pytest.mark.parametrize("training", [False, True])
def test_layers_by_hand(gpu: Any, kind: Any, training: bool) -> None:
    layer, reference = kind(backend=gpu, rng=1), kind(backend="numpy", rng=1)
    want = reference.forward(X, training)
    dy = np.cos(want)
    back = reference.backward(dy)
    for put in (np.asarray, gpu.cupy.asarray, lambda a: Foreign(gpu.cupy.asarray(a.astype(np.float64)))):
        y = layer.forward(put(X), training)
        dx = layer.backward(put(dy))
        assert isinstance(y, gpu.cupy.ndarray)
        assert isinstance(dx, gpu.cupy.ndarray)
        if isinstance(layer, nn.Dropout) and training:
            continue  # each training pass has its own mask
        same(gpu, [y, dx], [want, back])
    same(gpu, layer.penalty(), reference.penalty())
    if layer.parameter_shapes():
        layer.trainable = False
        layer.forward(X)
        layer.backward(dy)
    with pytest.raises(ShapeError, match="dy has shape"):
        layer.backward(on(gpu, dy[1:]))
    with pytest.raises(DTypeError, match="lives on the device CUDA:1"):
        layer.forward(Elsewhere(on(gpu, X)))


LOSSES: list[tuple[Any, Any]] = [
    (nn.SoftmaxCrossEntropy, Y % INPUTS),
    (nn.CategoricalCrossEntropy, Y % INPUTS),
    (nn.SigmoidBinaryCrossEntropy, X > 0),
    (nn.BinaryCrossEntropy, X > 0),
    (nn.MeanSquaredError, X / 2),
    (nn.MeanAbsoluteError, X / 2),
    (nn.Huber, X / 2),
    (nn.Poisson, np.abs(X)),
    (Quartic, X / 2),
]


@pytest.mark.parametrize("kind", LOSSES, ids=lambda kind: kind[0].__name__)
@pytest.mark.parametrize("named", [False, True])
def test_losses_by_hand(gpu: Any, kind: Any, named: bool) -> None:
    output = np.abs(X) / 4
    loss, reference = kind[0](backend=gpu if named else None), kind[0](backend="numpy")
    for put in (np.asarray, gpu.cupy.asarray):
        got = loss.forward(on(gpu, output), put(kind[1]), sample_weight=put(WEIGHT))
        want = reference.forward(output, kind[1], sample_weight=WEIGHT)
        assert type(got) is float
        same(gpu, got, want)
        assert isinstance(loss.backward(), gpu.cupy.ndarray)
        same(gpu, loss.backward(), reference.backward())
    with pytest.raises(ShapeError):
        loss.forward(on(gpu, output), on(gpu, kind[1][1:]))
    with pytest.raises(DTypeError, match="computes on the CPU"):
        reference.forward(on(gpu, output), kind[1])


def test_metrics_by_hand(gpu: Any) -> None:
    m = nn.metrics
    for metric, y in (
        (m.accuracy, Y),
        (m.top_k(2), Y),
        (m.binary_accuracy, (X > 0).astype(np.float32)),
        (m.r2, X / 2),
        (m.mean_absolute_error, X / 2),
        (m.regression_accuracy(0.2), X / 2),
        (Near(), X / 2),
    ):
        want = metric(X, y, sample_weight=WEIGHT, backend="numpy")
        for put in (np.asarray, gpu.cupy.asarray):
            got = metric(on(gpu, X), put(y), sample_weight=put(WEIGHT))
            assert type(got) is float
            same(gpu, got, want)
    table = m.confusion_matrix(*on(gpu, X, Y))
    np.testing.assert_array_equal(table, m.confusion_matrix(X, Y))
    np.testing.assert_array_equal(m.confusion_matrix(on(gpu, Y), Y), m.confusion_matrix(Y, Y))


@pytest.mark.parametrize(
    "kind",
    [
        lambda: nn.SGD(0.1, momentum=0.9),
        lambda: nn.Adam(0.1, clip_norm=0.5),
        lambda: nn.AdamW(0.1),
        nn.RMSprop,
        nn.Adagrad,
    ],
)
def test_optimizers_by_hand(gpu: Any, kind: Any) -> None:
    results = []
    for backend in (gpu, "numpy"):
        optimizer = kind()
        layers = [nn.Dense(INPUTS, 6, backend=backend, rng=1), nn.Dense(6, 2, backend=backend, rng=2)]
        for _ in range(3):
            hidden = layers[0].forward(X)
            output = layers[1].forward(hidden)
            layers[0].backward(layers[1].backward(output))
            optimizer.step(layers)
        results.append([value for layer in layers for value in layer.values().values()])
        model = network(backend, optimizer=kind())
        model.loss_and_gradient(X, Y)
        model.optimizer.step(model.layers)
        results[-1] += model.get_weights()
    same(gpu, *results)


# ---- plain Python within a step -------------------------------------------------------------------------------------


def test_plain_python_gets_device_arrays(gpu: Any) -> None:
    seen = []

    class Looking(Cube):
        def compute(self, x: Any, training: bool) -> Any:
            seen.append(type(x))
            return super().compute(x, training)

    results = []
    for backend, x, y in ((gpu, *on(gpu, X, X / 2)), ("numpy", X, X / 2)):
        layers = [nn.Dense(INPUTS, INPUTS), nn.Tanh(), Looking()]
        model = nn.Model(layers, Quartic(), nn.SGD(0.01), [Near()], backend=backend, rng=1)
        history = model.fit(x, y, epochs=2, batch_size=16, verbose=0, sample_weight=WEIGHT).history
        results.append([history, model.evaluate(x, y), model.get_weights(), model.predict(x)])
        assert "plain Python" in model.backend_report()
    assert set(seen) == {gpu.cupy.ndarray, np.ndarray}
    results[0][3] = results[0][3].get()
    same(gpu, *results)


def test_plain_python_must_stay_on_the_device(gpu: Any) -> None:
    class Home(nn.PythonLayer):
        def compute(self, x: Any, training: bool) -> Any:
            return x.get()

    with pytest.raises(DTypeError, match=r"Home.compute returned a numpy.ndarray; expected a .*ndarray, as this back"):
        Home(backend=gpu).forward(X)


# ---- where it cannot be ---------------------------------------------------------------------------------------------


def test_a_cpu_model_takes_no_device_arrays(gpu: Any) -> None:
    model = network("numpy")
    there = on(gpu, X)
    for call in (
        lambda: model.fit(there, Y, verbose=0),
        lambda: model.fit(X, on(gpu, Y), verbose=0),
        lambda: model.fit(X, Y, sample_weight=on(gpu, WEIGHT), verbose=0),
        lambda: model.evaluate(there, Y),
        lambda: model.predict(there),
        lambda: model.predictor(ROWS)(there),
        lambda: model.layers[0].forward(there),
        lambda: model.set_weights([on(gpu, w) for w in model.get_weights()]),
        lambda: setattr(model, "parameters", on(gpu, model.parameters)),
        lambda: setattr(model.layers[0], "weights", on(gpu, model.layers[0].weights)),
    ):
        with pytest.raises(DTypeError, match="lives on the device CUDA:0, and this backend computes on the CPU"):
            call()


def test_nothing_changes_where_data_are_bad(gpu: Any) -> None:
    model = network(gpu)
    before = model.parameters
    labels = Y.copy()
    labels[3] = CLASSES
    for call, error, message in (
        (lambda: model.fit(Elsewhere(on(gpu, X)), Y, verbose=0), DTypeError, "X .* lives on the device CUDA:1"),
        (lambda: model.fit(on(gpu, X[:, 1:]), Y, verbose=0), ShapeError, "X has shape"),
        (lambda: model.fit(on(gpu, X), on(gpu, labels), verbose=0), DataError, r"y\[3\] is 3, which is no class"),
        (lambda: model.fit(on(gpu, X), on(gpu, Y[1:]), verbose=0), ShapeError, "39 labels for 40 rows"),
        (lambda: model.fit(*on(gpu, X, Y), sample_weight=on(gpu, -WEIGHT), verbose=0), DataError, "at least 0"),
        (lambda: model.fit(on(gpu, X.astype(complex)), Y, verbose=0), DTypeError, "complex128"),
        (lambda: model.predict(on(gpu, X[:0])), DataError, "no rows"),
    ):
        with pytest.raises(error, match=message):
            call()
    np.testing.assert_array_equal(model.parameters, before)
