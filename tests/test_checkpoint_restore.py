"""Restoring into a model that is there, own parts in files, weights alone, and looking inside."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import X, classifier, fit, regressor
from test_checkpoint import assert_goes_on, passed

import nnfast as nn
from nnfast import checkpoint, initializers
from nnfast.errors import CheckpointError, DTypeError, OptionError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.nnfast"


# ---- restore --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trained", [False, True])
def test_restore_makes_a_model_what_the_file_says(trained, backend, path):
    model = classifier(nn.AdamW(0.05, clip_norm=3), backend=backend)
    fit(model, epochs=2)
    model.layers[2].rate, model.loss.label_smoothing, model.optimizer.beta_1 = 0.4, 0.2, 0.7
    model.optimizer.learning_rate = nn.schedules.StepDecay(0.1, 5, 0.5)
    model.layers[3].trainable = False
    run = {"position": 7}
    checkpoint.save(model, path, run=run)
    other = classifier(nn.AdamW(1.0), backend=backend, rng=9)
    if trained:
        fit(other, epochs=5)
    assert checkpoint.restore(other, path) == run
    assert_goes_on(model, other)


def test_restore_of_a_search_and_of_momentum_switched_on(path):
    model = classifier(nn.RandomSearch(0.1))
    fit(model, batch_size=None)
    model.save(path)
    other = classifier(nn.RandomSearch(0.5, mode="sample"), rng=7)
    checkpoint.restore(other, path)
    assert_goes_on(model, other, batch_size=None)
    model, other = classifier(nn.SGD(0.1, momentum=0.9)), classifier(nn.SGD(0.1), rng=4)
    for m in (model, other):
        fit(m)
    model.save(path)
    checkpoint.restore(other, path)
    assert_goes_on(model, other)


@pytest.mark.parametrize("optimizer", [nn.Adam, nn.RandomSearch])
def test_restore_of_a_model_that_was_never_trained(optimizer, backend, path):
    never, used = classifier(optimizer(), backend=backend), classifier(optimizer(), backend=backend, rng=3)
    fit(used, batch_size=None)
    never.save(path)
    checkpoint.restore(used, path)
    assert fit(used, batch_size=None) == fit(never, batch_size=None)
    assert_goes_on(never, used, batch_size=None)


def different(**changes):
    parts = {"layers": [nn.Dense(2, 16), nn.ReLU(), nn.Dropout(0.1), nn.Dense(16, 3)]}
    parts |= {"loss": nn.SoftmaxCrossEntropy(), "optimizer": nn.Adam(), "metrics": ["accuracy"]} | changes
    layers = parts.pop("layers")
    return nn.Model(layers, **({"backend": "numpy", "rng": 2} | parts))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: different(layers=[nn.Dense(2, 16), nn.Dense(16, 3)]), "number of layers is 4 in the file and 2 in"),
        (
            lambda: different(layers=[nn.Dense(2, 16), nn.Tanh(), nn.Dropout(0.1), nn.Dense(16, 3)]),
            "layer 1 is 'ReLU' in the file and 'Tanh' in the model",
        ),
        (
            lambda: different(layers=[nn.Dense(2, 9), nn.ReLU(), nn.Dropout(0.1), nn.Dense(9, 3)]),
            "n_outputs of layer 0 is 16 in the file and 9 in the model",
        ),
        (lambda: different(loss=nn.MeanSquaredError(), metrics=[]), "loss is 'SoftmaxCrossEntropy' in the file"),
        (lambda: different(loss=None, optimizer=None, metrics=[]), "loss is 'SoftmaxCrossEntropy' .* None in the"),
        (lambda: different(optimizer=nn.SGD()), "optimizer is 'Adam' in the file and 'SGD'"),
        (lambda: different(optimizer=None), "optimizer is 'Adam' in the file and None"),
        (lambda: different(metrics=[]), r"list of metrics is \['accuracy'\] in the file and \[\]"),
        (
            lambda: different(metrics=["accuracy", nn.metrics.top_k(3)]),
            r"list of metrics is \['accuracy'\] in the file and \['accuracy', 'top_3'\]",
        ),
        (lambda: different(dtype="float64"), "dtype is 'float32' in the file and 'float64'"),
    ],
)
def test_restore_into_another_structure_names_the_difference(make, said, path):
    fit(saved := classifier())
    saved.save(path)
    model = make()
    before = model.parameters.tobytes(), repr(model), model._key, model.summary()
    with pytest.raises(CheckpointError, match=said) as caught:
        checkpoint.restore(model, path)
    assert str(path) in str(caught.value)
    assert (model.parameters.tobytes(), repr(model), model._key, model.summary()) == before


def test_only_models_are_saved_and_restored(path):
    for call in (checkpoint.save, checkpoint.restore, checkpoint.save_weights, checkpoint.load_weights):
        with pytest.raises(DTypeError, match=r"model is .* expected an nnfast\.Model"):
            call(nn.Dense(2, 3), path)
        with pytest.raises(DTypeError, match="expected a str or a pathlib"):
            call(classifier(), 7)


# ---- own parts ------------------------------------------------------------------------------------------------------


class Scale(nn.PythonLayer):
    """y = factor·x + shift, with a parameter."""

    scalars = ("factor",)

    def __init__(self, factor, table=None):
        super().__init__()
        self.factor = factor
        self.table = np.arange(3) if table is None else table

    def parameter_shapes(self):
        return {"shift": (1,)}

    def compute(self, x, training):
        return self.factor * x + self.parameter("shift")

    def gradient(self, dy):
        self.gradient_of("shift")[...] = dy.sum()
        return self.factor * dy


class Quartic(nn.PythonLoss):
    def compute(self, output, y):
        return ((output - y) ** 4).sum(axis=1)

    def gradient(self, output, y):
        return 4 * (output - y) ** 3


class Within(nn.metrics.PythonMetric):
    def __init__(self, reach):
        super().__init__()
        self.reach = reach

    def compute(self, output, y):
        return (abs(output - y) <= self.reach).mean(axis=1)


class Halves:
    def __init__(self, first):
        self.first = first

    def __call__(self, step):
        return self.first * 0.5 ** (step / 50)


class Shy(nn.PythonLayer):
    def __init__(self, size):
        super().__init__()
        self._size = size


class Shadowed(nn.PythonLayer):
    def __init__(self, penalty):  # of this name there is a method
        super().__init__()


class Frank(Shy):
    def config(self):
        return {"size": self._size}

    def compute(self, x, training):
        return x

    def gradient(self, dy):
        return dy


def own(backend="numpy"):
    layers = [nn.Dense(2, 8, initializer=lambda shape, rng: rng.normal(size=shape)), Scale(0.5), Frank(3)]
    model = nn.Model([*layers, nn.Dense(8, 1)], Quartic(), nn.SGD(Halves(0.01)), [Within(0.2)], backend=backend, rng=0)
    model.layers[1].factor = 0.75  # a setting, changed after the layer was made
    return model


TARGETS = (X[:, :1] * X[:, 1:]).astype(np.float32)
CUSTOM = [Scale, Quartic, Within, Frank]


def test_own_parts_are_handed_over(backend, path):
    model = own(backend)
    fit(model, X, TARGETS, epochs=2)
    model.save(path)
    rate = Halves(0.01)
    twin = checkpoint.load(path, backend=backend, custom={c.__name__: c for c in CUSTOM} | {"Halves": rate})
    assert (twin.layers[1].factor, twin.layers[2]._size, twin.metrics[0].reach) == (0.75, 3, 0.2)
    assert fit(model, X, TARGETS) == fit(twin, X, TARGETS)
    assert model.parameters.tobytes() == twin.parameters.tobytes()
    again = own(backend)
    fit(again, X, TARGETS, epochs=2)
    checkpoint.restore(again, path)
    assert fit(again, X, TARGETS) == twin.history.history
    plain = own(backend)
    plain.optimizer.learning_rate = 0.1
    with pytest.raises(CheckpointError, match=r"learning_rate of the optimizer is the function 'Halves'"):
        checkpoint.restore(plain, path)
    odd = own(backend)
    odd.layers[1].table[1] = 9
    with pytest.raises(CheckpointError, match="table of layer 1"):
        checkpoint.restore(odd, path)


@pytest.mark.parametrize("missing", [*CUSTOM, Halves])
def test_a_missing_own_part_says_what_to_hand_over(missing, path):
    own().save(path)
    given = {c.__name__: c for c in CUSTOM if c is not missing} | ({"Halves": Halves(1)} if missing != Halves else {})
    with pytest.raises(CheckpointError, match=rf"custom=\{{'{missing.__name__}': {missing.__name__}\}}"):
        checkpoint.load(path, custom=given)


class Square(nn.Dense):
    def __init__(self, size, **common):
        super().__init__(size, size, **common)
        self.size = size


class Heavy(nn.SGD):
    def __init__(self, mass):
        super().__init__(0.1, momentum=mass)
        self.mass = mass


def test_settings_that_no_argument_gives(path):
    model = nn.Model([Square(2, weight_l2=0.5)], nn.MeanSquaredError(), Heavy(0.9), backend="numpy", rng=0)
    model.optimizer.decay, model.optimizer.clip_norm, model.optimizer.learning_rate = 0.1, 3, 0.2
    twin = passed(model, path, custom=[Square, Heavy])
    assert twin.layers[0].weight_l2 == 0.5
    assert_goes_on(model, twin, X, X)
    other = nn.Model([Square(2)], nn.MeanSquaredError(), Heavy(0.9), backend="numpy", rng=1)
    model.save(path)
    checkpoint.restore(other, path)
    assert_goes_on(model, other, X, X)


def test_own_parts_of_nnfasts_names_are_told_apart(path):
    class ReLU(nn.Sigmoid):
        pass

    model = nn.Model([nn.Dense(2, 3), ReLU()], backend="numpy", rng=0)
    with pytest.raises(CheckpointError, match="layer 'ReLU' is no part of nnfast"):
        passed(model, path)
    assert type(passed(model, path, custom=[ReLU]).layers[1]) is ReLU


def test_a_layer_that_a_file_cannot_build_says_so_when_it_is_saved(path):
    for layer, said in ((Shy(2), "Shy takes 'size' and"), (Shadowed(1), "Shadowed takes 'penalty' and")):
        with pytest.raises(DTypeError, match=f"{said} keeps no attribute"):
            nn.Model([nn.Dense(2, 3), layer], backend="numpy").save(path)
    for custom in (3, "Scale", Scale, {"Scale": 3}, {1: Scale}):
        with pytest.raises(DTypeError, match="custom"):
            checkpoint.load(path, custom=custom)


def test_lambdas_go_by_their_name(path):
    model = classifier(nn.Adam(lambda step: 0.01))
    with pytest.raises(CheckpointError, match="'<lambda>'"):
        passed(model, path)
    twin = passed(model, path, custom={"<lambda>": lambda step: 0.01})
    assert fit(twin) == fit(model)


def test_initializers_come_back(path):
    twin = passed(nn.Model([nn.Dense(2, 3, initializers.he_normal())], backend="numpy"), path)
    assert twin.layers[0].initializer == initializers.he_normal()


# ---- weights alone --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["w.npz", "w.safetensors", "w.nnfast"])
def test_weights_alone(name, backend, dtype, tmp_path):
    source, target = classifier(backend=backend, dtype=dtype, rng=1), classifier(backend="numpy", rng=2)
    source.layers[0].weights[0, 0] = np.nan
    fit(target, epochs=1)
    (source.save if name == "w.nnfast" else source.save_weights)(tmp_path / name)
    slots, steps = {n: s.copy() for n, s in target._buffers.slots.items()}, target.optimizer.steps
    target.load_weights(tmp_path / name)
    for mine, theirs in zip(target.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs.astype(np.float32))
    assert np.isnan(target.layers[0].weights[0, 0])
    assert target.optimizer.steps == steps
    assert all((slots[n] == s).all() for n, s in target._buffers.slots.items())


def test_weights_are_read_by_others_and_from_others(tmp_path):
    model = classifier()
    model.save_weights(tmp_path / "w.npz")
    names = ["0.weights", "0.biases", "3.weights", "3.biases"]
    with np.load(tmp_path / "w.npz", allow_pickle=False) as file:
        arrays = {n: file[n] for n in names}
        assert sorted(file.files) == sorted(names)
    assert all((a == b).all() for a, b in zip(arrays.values(), model.get_weights(), strict=True))
    other = {n: np.asfortranarray(2 * a).astype(">f8") for n, a in arrays.items()}
    np.savez_compressed(tmp_path / "other.npz", **other)
    model.load_weights(tmp_path / "other.npz")
    assert all((a == 2 * arrays[n]).all() for n, a in zip(names, model.get_weights(), strict=True))


def test_the_safetensors_package_agrees(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    model = classifier()
    fit(model)
    checkpoint.save(model, tmp_path / "m", run={"a": np.arange(3, dtype=np.int8), "b": np.array([True])})
    model.save_weights(tmp_path / "w.safetensors")
    weights = dict(zip(["0.weights", "0.biases", "3.weights", "3.biases"], model.get_weights(), strict=True))
    for name in ("m", "w.safetensors"):
        found = library.load_file(tmp_path / name)
        assert all((found[n] == w).all() and found[n].dtype == w.dtype for n, w in weights.items())
    library.save_file({n: 3 * w for n, w in weights.items()}, tmp_path / "theirs", metadata={"format": "np"})
    model.load_weights(tmp_path / "theirs")
    assert all((a == 3 * w).all() for a, w in zip(model.get_weights(), weights.values(), strict=True))
    assert "format    np" in checkpoint.inspect(tmp_path / "theirs")


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_weights_that_do_not_fit_change_nothing(ending, tmp_path):
    path, model = tmp_path / f"w{ending}", classifier()
    before = model.parameters.tobytes()
    wide = nn.Model([nn.Dense(2, 16), nn.Dense(16, 4)], backend="numpy")
    for other, said in (
        (regressor(), "has no array '3.weights'; it holds 0.weights, 0.biases, 2.weights, 2.biases"),
        (wide, "has no array '3.weights'"),
        (classifier(nn.SGD(), rng=3), None),
    ):
        other.save_weights(path)
        if said:
            with pytest.raises(CheckpointError, match=said):
                model.load_weights(path)
            assert model.parameters.tobytes() == before
    model.load_weights(path)
    assert model.parameters.tobytes() != before
    big = classifier(dtype="float64")
    big.layers[3].biases[0] = 1e300
    big.save_weights(path)
    before = model.parameters.tobytes()
    with pytest.raises(CheckpointError, match=r"3\.biases holds finite values beyond the range of float32"):
        model.load_weights(path)
    assert model.parameters.tobytes() == before
    extra = nn.Model([*(nn.Dense(2, 16), nn.ReLU(), nn.Dropout(0.1), nn.Dense(16, 3)), nn.Dense(3, 1)], backend="numpy")
    extra.save_weights(path)
    with pytest.raises(CheckpointError, match=r"holds the array '4\.weights'"):
        model.load_weights(path)


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(OptionError, match=r"ending in \.npz or \.safetensors"):
        classifier().save_weights(tmp_path / "w.h5")
    assert not list(tmp_path.iterdir())


# ---- looking inside -------------------------------------------------------------------------------------------------


def test_inspect_tells_what_is_inside(path):
    model = classifier(nn.Adam(nn.schedules.StepDecay(0.1, 5, 0.5)))
    model.layers[0].trainable = False
    fit(model, epochs=2)
    checkpoint.save(model, path, run={"epoch": 12, "history": {"loss": [0.5] * 50}, "bad\x1b[31m": "\x1b]0;x\x07"})
    text, sound = checkpoint.examine(path)
    assert sound
    assert text == checkpoint.inspect(path)
    for words in (
        f"nnfast 1, written by nnfast {nn.__version__} with NumPy {np.__version__}",
        "checksum  fits",
        "Dense(n_inputs=2, n_outputs=16, initializer=glorot_uniform(), weight_l2=0.0001), frozen",
        "Adam(learning_rate=StepDecay(learning_rate=0.1, every=5, factor=0.5), epsilon=1e-07",
        "optimizer.m.3.weights  float32  16 × 3",
        "epoch",
        "12",
        "SoftmaxCrossEntropy()",
        "accuracy()",
    ):
        assert words in text, words
    assert "\x1b" not in text
    assert "\x07" not in text
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    text, sound = checkpoint.examine(path)
    assert not sound
    assert "does not fit: the file is damaged" in text


def test_inspect_of_weights_alone(tmp_path):
    for ending in (".npz", ".safetensors"):
        classifier().save_weights(tmp_path / f"w{ending}")
        text, sound = checkpoint.examine(tmp_path / f"w{ending}")
        assert sound
        assert f"{ending[1:]}: arrays, no model" in text
        assert "3.weights  float32  16 × 3    192" in text
        assert "4 arrays                      396" in text
