"""Saving, loading and restoring models: every part comes back, and training goes on with the same bits."""

from __future__ import annotations

import copy
import inspect as signatures
import warnings

import numpy as np
import pytest
from small_models import TARGETS, X, Y, classifier, fit, regressor

import nnfast as nn
from nnfast import checkpoint, initializers, schedules
from nnfast.errors import CheckpointError, DTypeError, OptionError, StateError
from nnfast.storage.configuration import TABLES

# One of each, with every argument set to something that is not its default.
LAYERS = {
    "Dense": {
        "n_inputs": 16,
        "n_outputs": 5,
        "initializer": initializers.normal(0.3),
        "weight_l1": 1e-4,
        "weight_l2": 2e-4,
        "bias_l1": 3e-4,
        "bias_l2": 4e-4,
    },
    "Dropout": {"rate": 0.3},
    "LeakyReLU": {"alpha": 0.2},
    "ELU": {"alpha": 0.7},
    "Standardize": {"mean": 0.5, "std": 2.0, "n_inputs": 16},
    **{name: {} for name in ("GELU", "Linear", "ReLU", "SiLU", "Sigmoid", "Softmax", "Softplus", "Tanh")},
}
LOSSES = {"SoftmaxCrossEntropy": {"label_smoothing": 0.1}, "Huber": {"delta": 0.5}}
LOSSES |= {name: {} for name in ("CategoricalCrossEntropy", "MeanSquaredError", "MeanAbsoluteError", "Poisson")}
LOSSES |= {name: {} for name in ("SigmoidBinaryCrossEntropy", "BinaryCrossEntropy")}
COMMON = {"learning_rate": 0.03, "decay": 1e-3, "clip_norm": 2.0}
OPTIMIZERS = {
    "SGD": COMMON | {"momentum": 0.8, "nesterov": True},
    "Adagrad": COMMON | {"epsilon": 1e-6},
    "RMSprop": COMMON | {"epsilon": 1e-6, "rho": 0.8},
    "Adam": COMMON | {"epsilon": 1e-6, "beta_1": 0.8, "beta_2": 0.98},
    "AdamW": COMMON | {"epsilon": 1e-6, "beta_1": 0.8, "beta_2": 0.98, "weight_decay": 0.2, "decay_biases": False},
    "RandomSearch": {"scale": 0.1, "mode": "sample"},
}
SCHEDULES = {
    "InverseTimeDecay": {"learning_rate": 0.03, "decay": 0.1},
    "StepDecay": {"learning_rate": 0.03, "every": 3, "factor": 0.7},
    "ExponentialDecay": {"learning_rate": 0.03, "rate": 0.9, "every": 2},
    "CosineDecay": {"learning_rate": 0.03, "steps": 20, "final": 1e-3, "warmup": 4},
    "PiecewiseConstant": {"boundaries": [5, 9], "values": [0.03, 0.02, 0.01]},
    "OneCycle": {"max_rate": 0.05, "steps": 30, "rise": 0.4, "start_divisor": 10, "final_divisor": 100},
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.nnfast"


def passed(model, path, **options):
    """The model after a way through a file."""
    model.save(path)
    return nn.load(path, **({"backend": model.backend} | options))


def assert_same(a, b):
    assert a.parameters.tobytes() == b.parameters.tobytes()
    assert a._buffers.slots.keys() == b._buffers.slots.keys()
    for name, slot in a._buffers.slots.items():
        assert np.asarray(slot).tobytes() == np.asarray(b._buffers.slots[name]).tobytes(), name
    assert np.asarray(a._buffers.state).tobytes() == np.asarray(b._buffers.state).tobytes()
    assert (a._key, a._epochs, list(map(repr, a.layers))) == (b._key, b._epochs, list(map(repr, b.layers)))
    assert [w.trainable for w in a.layers] == [w.trainable for w in b.layers]
    assert a.optimizer is None or (a.optimizer.steps, vars_of(a.optimizer)) == (b.optimizer.steps, vars_of(b.optimizer))


def vars_of(part):
    return {k: v for k, v in vars(part).items() if k not in ("_model", "_by_hand", "_lowered")}


def assert_goes_on(model, twin, *data, **options):
    """Both models are the same, and stay so in further training, to the last bit."""
    assert_same(model, twin)
    assert fit(model, *data, **options) == fit(twin, *data, **options)
    assert_same(model, twin)


def test_the_tables_of_this_test_are_complete():
    ours = {"layer": LAYERS, "loss": LOSSES, "optimizer": OPTIMIZERS, "schedule": SCHEDULES}
    for kind, table in ours.items():
        assert TABLES[kind].keys() == table.keys()
        for name, arguments in table.items():
            known = signatures.signature(TABLES[kind][name]).parameters
            names = {n for n, p in known.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
            assert names - {"backend", "dtype", "rng"} == arguments.keys(), name
            assert not [n for n, value in arguments.items() if known[n].default == value], name


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer(name, backend, dtype, path):
    layer = getattr(nn, name)(**LAYERS[name])
    parts = [nn.Dense(2, 16), layer, nn.Dense(layer.n_outputs_for(16), 3)]
    model = nn.Model(parts, nn.SoftmaxCrossEntropy(), nn.Adam(0.02), ["accuracy"], backend=backend, dtype=dtype, rng=3)
    parts[2].trainable = False
    fit(model, epochs=2)
    twin = passed(model, path)
    assert all(np.all(getattr(twin.layers[1], n) == value) for n, value in LAYERS[name].items())
    assert [w.trainable for w in twin.layers] == [True, name != "Standardize", False]
    assert_goes_on(model, twin, epochs=2)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss(name, backend, path):
    loss = getattr(nn, name)(**LOSSES[name])
    heads = {"CategoricalCrossEntropy": nn.Softmax, "BinaryCrossEntropy": nn.Sigmoid}
    parts = [nn.Dense(2, 8), nn.Tanh(), nn.Dense(8, 3), heads.get(name, nn.Linear)()]
    model = nn.Model(parts, loss, nn.SGD(0.1, momentum=0.9), backend=backend, rng=3)
    data = X, Y if loss.targets == "label" else np.eye(3)[Y]
    fit(model, *data, epochs=2)
    twin = passed(model, path)
    assert vars_of(twin.loss) | {"_gradient": 0} == vars_of(loss) | {"_gradient": 0}
    assert type(twin.loss) is type(loss)
    assert_goes_on(model, twin, *data, epochs=2)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("before", [0, 3])
def test_every_optimizer(name, before, backend, dtype, path):
    options = {"batch_size": None} if name == "RandomSearch" else {}
    model = classifier(getattr(nn, name)(**OPTIMIZERS[name]), backend=backend, dtype=dtype)
    if before:
        fit(model, epochs=before, **options)
    twin = passed(model, path)
    assert {n: getattr(twin.optimizer, n) for n in OPTIMIZERS[name]} == OPTIMIZERS[name]
    assert_goes_on(model, twin, epochs=3, **options)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule(name, path):
    model = classifier(nn.Adam(getattr(schedules, name)(**SCHEDULES[name])))
    fit(model, epochs=2)
    twin = passed(model, path)
    assert twin.optimizer.learning_rate == model.optimizer.learning_rate
    assert_goes_on(model, twin)


def test_every_metric(backend, path):
    yes_or_no = [nn.metrics.binary_accuracy, nn.metrics.mean_absolute_error, nn.metrics.r2]
    yes_or_no += [nn.metrics.regression_accuracy(0.2), nn.metrics.regression_accuracy(0.5, "wide")]
    sorts = {"accuracy", "binary_accuracy", "mean_absolute_error", "r2", "regression_accuracy", "top_k"}
    others = {"Metric", "PythonMetric", "confusion_matrix", "resolve"}  # nothing that a model could have by name
    assert set(nn.metrics.__all__) - others == sorts
    for model, data in (
        (classifier(metrics=["accuracy", nn.metrics.top_k(2)], backend=backend), (X, Y)),
        (regressor(metrics=yes_or_no, backend=backend), (X, TARGETS)),
    ):
        for source in (model, copy.deepcopy(model)):
            twin = passed(source, path)
            assert [vars(m) for m in twin.metrics] == [vars(m) for m in model.metrics]
            assert twin.evaluate(*data) == model.evaluate(*data)


def test_a_model_that_only_predicts_and_one_never_trained(backend, path):
    model = nn.Model([nn.Dense(2, 3), nn.ReLU()], backend=backend, rng=1)
    twin = passed(model, path)
    assert twin.loss is twin.optimizer is None
    np.testing.assert_array_equal(twin.predict(X), model.predict(X))
    assert_goes_on(fresh := classifier(backend=backend), passed(fresh, path))


def test_files_move_between_backends_and_dtypes(path):
    pytest.importorskip("numba")
    model = classifier(backend="numba")
    fit(model)
    twin = passed(model, path, backend="numpy")
    assert_same(model, twin)
    wide = passed(model, path, backend="numpy", dtype="float64")
    assert wide.dtype == np.float64
    assert all((a == b).all() for a, b in zip(wide.get_weights(), model.get_weights(), strict=True))
    assert_same(passed(wide, path, dtype="float32", backend="numba"), model)
    wide.layers[0].weights[0, 0] = 1e300
    wide.save(path)
    with warnings.catch_warnings(), pytest.raises(CheckpointError, match=r"0\.weights holds finite values beyond"):
        checkpoint.load(path, dtype="float32")


def test_dropout_by_hand_goes_on_too(path):
    model = classifier()
    drop = model.layers[2]
    drop.forward(X[:, :1], training=True)
    twin = passed(model, path).layers[2]
    ones = np.ones((64, 4), np.float32)
    np.testing.assert_array_equal(twin.forward(ones, training=True), drop.forward(ones, training=True))
    assert twin.key == drop.key


def test_what_a_run_holds_comes_back(path):
    run = {
        "text": "ä\ud800\x00", "none": None, "yes": True, "int": -(2**100), "float": 0.1, "nan": float("nan"),
        "infinities": [float("inf"), -float("inf")], "empty": [{}, [], ()], "tuple": (1, (2.5, "x")),
        "$float": "not a float", "nested": {"$a": {"$b": 1}}, "curve": [0.1 * i for i in range(100)] + [float("nan")],
        "numpy": [np.float32(0.1), np.int64(7), np.bool_(True)],
    }  # fmt: skip
    arrays = {
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "strided": np.arange(10)[::3],
        "big endian": np.arange(4, dtype=">i4"),
        "lone": np.array(2.5),
        "no rows": np.zeros((0, 3), np.float32),
        "flags": np.array([True, False]),
        "nan": np.array([np.nan, -0.0, np.inf]),
    }
    checkpoint.save(classifier(), path, run={"plain": run, "arrays": arrays})
    found = checkpoint.read_run(path)
    assert repr(found["plain"]) == repr(run | {"numpy": [float(np.float32(0.1)), 7, True]})
    for name, a in arrays.items():
        b = found["arrays"][name]
        assert (b.shape, b.dtype.newbyteorder("=")) == (a.shape, a.dtype.newbyteorder("="))
        np.testing.assert_array_equal(a, b)
        b[...] = 0  # it is the caller's own


def test_a_run_that_cannot_be_kept_leaves_the_old_file(path):
    model = classifier()
    model.save(path)
    before = path.read_bytes()
    endless: list = []
    endless.append(endless)
    for run, error, said in (
        ({"a": [object()]}, DTypeError, r"run\['a'\]\[0\] is a object"),
        ({1: 2}, DTypeError, "the key 1"),
        ([np.array(["x"])], DTypeError, r"run\[0\] is an array of <U1"),
        (endless, OptionError, "holds itself"),
        ([10**50], OptionError, "digits"),
        ({"f": len}, DTypeError, "builtin_function_or_method"),
        ([0] * 600_000, CheckpointError, "too much for one file's header"),
    ):
        with pytest.raises(error, match=said):
            checkpoint.save(model, path, run=run)
        assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 1


def test_the_same_model_gives_the_same_bytes(path):
    fit(model := classifier())
    model.save(path)
    first = path.read_bytes()
    checkpoint.load(path, backend="numpy").save(path)
    assert path.read_bytes() == first


def test_saving_in_the_middle_of_a_step_is_refused(path):
    model = classifier()
    with pytest.raises(StateError, match="in the middle of a step"):
        fit(model, on_gradients=lambda flat: model.save(path))
    assert not path.exists()


@pytest.mark.parametrize(("optimizer", "numbers"), [(nn.Adam, 1), (nn.RandomSearch, 1), (nn.RandomSearch, 9)])
def test_another_number_of_numbers_than_the_optimizer_has(optimizer, numbers, path):
    """Compiled code would look for them where they are not."""
    models = [classifier(optimizer()) for _ in range(2)]
    for model in models:
        fit(model, batch_size=None)
    forged, model = models
    forged._buffers.state = np.zeros(numbers)
    forged.save(path)
    before = model.parameters.tobytes(), model._buffers.state.tobytes()
    for use in (lambda: checkpoint.load(path, backend="numpy"), lambda: checkpoint.restore(model, path)):
        with pytest.raises(CheckpointError, match=rf"optimizer\.state has {numbers} numbers, where the model has"):
            use()
    assert (model.parameters.tobytes(), model._buffers.state.tobytes()) == before


def test_counters_leave_room_to_count_on(path):
    for count, fits in ((2**62 - 1, True), (2**62, False)):
        model = classifier()
        fit(model, epochs=1)
        model._epochs = model.optimizer.steps = count
        model.save(path)
        if fits:
            fit(checkpoint.load(path, backend="numpy"))
        else:
            with pytest.raises(CheckpointError, match="its epochs is"):
                checkpoint.load(path, backend="numpy")
