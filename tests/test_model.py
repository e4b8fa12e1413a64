"""The Model: its parameters, what it answers, how it moves to another backend or dtype."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from small_models import TARGETS, X, Y, classifier, fit, regressor

import nnfast as nn

# ---- parameters -----------------------------------------------------------------------------------------------------


def test_parameters_are_live_flat_and_settable():
    model = regressor()
    assert np.shares_memory(model.parameters, model.layers[0].weights)
    flat = np.full_like(model.parameters, 2.0)
    model.parameters = flat
    assert all((w == 2).all() for w in model.get_weights())
    assert (model.parameters == 0).sum() == flat.size - model.n_parameters  # padding stays zero
    with pytest.raises(nn.errors.ShapeError):
        model.parameters = flat[:-1]


def test_get_weights_copies_and_set_weights_checks_first():
    model = regressor()
    weights = model.get_weights()
    assert [w.shape for w in weights] == [(2, 16), (16,), (16, 1), (1,)]
    weights[0][...] = 5
    assert not (model.layers[0].weights == 5).any()
    before = model.parameters.copy()
    bad = [np.ones_like(w) for w in weights[:3]] + [np.ones((1, 1))]
    with pytest.raises(nn.errors.ShapeError, match=r"weights\[3\]"):
        model.set_weights(bad)
    with pytest.raises(nn.errors.ShapeError, match="4 parameter arrays; 3"):
        model.set_weights(bad[:3])
    np.testing.assert_array_equal(model.parameters, before)
    model.set_weights([np.ones_like(w) for w in weights])
    assert (model.layers[2].biases == 1).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_agrees_with_differences(dtype, rng):
    model = classifier(dtype="float64", metrics=[])
    _, gradient = model.loss_and_gradient(X, Y)
    start = model.parameters.copy()
    direction = rng.standard_normal(start.size) * (gradient != 0)
    values = []
    for sign in (1, -1):
        model.parameters = start + sign * 1e-6 * direction
        values.append(model.loss_and_gradient(X, Y)[0])
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(gradient @ direction, rel=1e-6)
    single = model.to(dtype="float32")
    single.parameters = _unpadded(model, single, start)
    assert single.loss_and_gradient(X, Y)[0] == pytest.approx(model.evaluate(X, Y)["loss"], rel=1e-4)


def _unpadded(source, target, flat):
    out = np.zeros(target.parameters.size)
    for a, b in zip(source.program.layout.blocks, target.program.layout.blocks, strict=True):
        out[b.offset : b.offset + b.size] = flat[a.offset : a.offset + a.size]
    return out


def test_an_outside_optimizer_can_drive_it():
    optimize = pytest.importorskip("scipy.optimize")
    model = regressor(dtype="float64")

    def objective(flat):
        model.parameters = flat
        return model.loss_and_gradient(X, TARGETS)

    start = model.evaluate(X, TARGETS)["loss"]
    found = optimize.minimize(objective, model.parameters.copy(), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    assert found.fun < 1e-3 * start


def test_freezing_keeps_weights_and_thawing_trains_again():
    model = classifier()
    model.layers[0].trainable = False
    before = model.layers[0].weights.copy()
    fit(model)
    np.testing.assert_array_equal(model.layers[0].weights, before)
    model.layers[0].trainable = True
    fit(model)
    assert not np.array_equal(model.layers[0].weights, before)


def test_another_optimizer_starts_afresh():
    model = classifier(nn.Adam(0.01))
    fit(model)
    old = model.optimizer
    model.optimizer = nn.RMSprop(0.01)
    assert set(model._buffers.slots) == set()
    fit(model)
    assert set(model._buffers.slots) == {"cache"}
    nn.Model([nn.Dense(2, 3)], nn.SoftmaxCrossEntropy(), old, backend="numpy")  # the old one is free


def test_momentum_can_be_switched_on_later():
    model = classifier(nn.SGD(0.1))
    fit(model)
    model.optimizer.momentum = 0.9
    fit(model)
    assert set(model._buffers.slots) == {"v"}


def test_learning_rate_set_later_takes_effect_at_once():
    model = classifier(nn.SGD(0.1))
    fit(model)
    before = model.parameters.copy()
    model.optimizer.learning_rate = 0
    fit(model)
    np.testing.assert_array_equal(model.parameters, before)


# ---- asking ---------------------------------------------------------------------------------------------------------


def test_predict_gives_probabilities_for_logit_losses_else_outputs():
    p = classifier().predict(X)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    binary = nn.Model([nn.Dense(2, 2)], nn.SigmoidBinaryCrossEntropy(), backend="numpy", rng=0)
    assert (binary.predict(100 * X) <= 1).all()
    assert regressor().predict(X).shape == (len(X), 1)


def test_predict_in_batches_agrees():
    model = classifier()
    np.testing.assert_allclose(model.predict(X, batch_size=7), model.predict(X), rtol=1e-5)


def test_binary_accuracy_on_logits_and_probabilities_agree():
    y = (X[:, :1] > 0).astype(int)
    logits = nn.Model(
        [nn.Dense(2, 1)], nn.SigmoidBinaryCrossEntropy(), metrics=["binary_accuracy"], backend="numpy", rng=0
    )
    plain = nn.Model(
        [nn.Dense(2, 1), nn.Sigmoid()], nn.BinaryCrossEntropy(), metrics=["binary_accuracy"], backend="numpy", rng=1
    )
    plain.set_weights(logits.get_weights())
    one, two = logits.evaluate(X, y), plain.evaluate(X, y)
    assert one["binary_accuracy"] == two["binary_accuracy"] == nn.metrics.binary_accuracy(plain.predict(X), y)
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)


def test_predictor_follows_the_weights_and_fills_out():
    model = classifier()
    one = model.predictor()
    np.testing.assert_allclose(one(X[:1]), model.predict(X[:1]), rtol=1e-6)
    fresh = one(X[:1])
    assert one(X[1:2]) is not fresh
    model.layers[3].biases = [1, 2, 3]
    np.testing.assert_allclose(one(X[:1]), model.predict(X[:1]), rtol=1e-6)
    out = np.empty((1, 3), np.float32)
    assert one(X[:1], out=out) is out
    with pytest.raises(nn.errors.ShapeError, match=r"\(1, 2\)"):
        one(X[:2])
    with pytest.raises(nn.errors.ShapeError):
        one(X[:1], out=np.empty((2, 3), np.float32))
    with pytest.raises(nn.errors.DTypeError):
        one(X[:1], out=np.empty((1, 3)))


def test_labels_one_hot_and_sparse_train_alike():
    sparse, rows = classifier(), classifier()
    assert fit(sparse)["loss"] == pytest.approx(fit(rows, y=np.eye(3)[Y])["loss"], rel=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_to_carries_everything_over(dtype):
    model, twin = classifier(dtype=dtype), classifier(dtype=dtype)
    fit(model, epochs=3)
    fit(twin, epochs=3)
    moved = model.to(backend="numpy")
    assert moved.optimizer is not model.optimizer
    assert fit(moved, epochs=3) == fit(twin, epochs=3)
    np.testing.assert_array_equal(moved.parameters, twin.parameters)
    other = model.to(dtype="float64" if dtype == "float32" else "float32")
    assert other.dtype != model.dtype
    np.testing.assert_allclose(other.predict(X), model.predict(X), rtol=1e-4, atol=1e-6)
    assert other.optimizer.steps == model.optimizer.steps


def test_words():
    model = classifier()
    assert "Dense(2, 16, weight_l2=0.0001)" in model.summary()
    assert "99 parameters" in model.summary()
    assert "nnfast.kernels.reference" in model.backend_report()
    assert "SoftmaxCrossEntropy" in repr(model)


def test_pickled_and_copied_models_train_on_alike():
    model = classifier()
    fit(model, epochs=2)
    model.layers[0].forward(X)
    copies = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
    expected = fit(model, epochs=3)
    for twin in copies:
        assert fit(twin, epochs=3) == expected
        assert np.shares_memory(twin.parameters, twin.layers[0].weights)
        assert twin.layers[0]._owner is twin


def test_pickled_optimizer_keeps_the_state_of_lone_layers():
    def step(layer, optimizer):
        layer.forward(X)
        layer.backward(np.ones((len(X), 3)))
        optimizer.step([layer])

    pair = nn.Dense(2, 3, rng=0), nn.Adam(0.1)
    step(*pair)
    twin = pickle.loads(pickle.dumps(pair))
    step(*pair)
    step(*twin)
    np.testing.assert_array_equal(twin[0].weights, pair[0].weights)


def _assert_aligned(model):
    for flat in (model.parameters, model._buffers.gradients, *model._buffers.slots.values()):
        assert flat.ctypes.data % 256 == 0


def test_copies_are_aligned_too():
    model = classifier()
    fit(model, epochs=1)
    for twin in (model.to(), model.to(dtype="float64"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        _assert_aligned(twin)
        assert twin.backend is model.backend


def test_weights_out_of_range_change_nothing():
    model = classifier()
    before = model.parameters.copy()
    huge = [np.full(w.shape, 1.0) for w in model.get_weights()]
    huge[-1][0] = 1e300
    with pytest.raises(nn.errors.DataError, match=r"weights\[3\]"):
        model.set_weights(huge)
    with pytest.raises(nn.errors.DataError, match="parameters"):
        model.parameters = np.full(before.shape, 1e300)
    np.testing.assert_array_equal(model.parameters, before)


def test_padding_stays_zero_whatever_is_added():
    model = classifier()
    model.parameters += 1
    assert np.count_nonzero(model.parameters) <= model.n_parameters


def test_a_loss_of_ones_own_may_change_its_structure():
    class Switch(nn.Loss):
        op = "mean_squared_error"

        def structure(self):
            return (type(self), self.op)

    model = nn.Model([nn.Dense(2, 1)], Switch(), backend="numpy", rng=0)
    squared = model.evaluate(X, TARGETS)["loss"]
    model.loss.op = "mean_absolute_error"
    assert model.evaluate(X, TARGETS)["loss"] != squared


def test_own_strengths_of_penalty_count_as_penalty():
    class Pulled(nn.PythonLayer):
        scalars = ("pull",)
        pull = 0.5

        def parameter_shapes(self):
            return {"p": (2,)}

        def initial_values(self, rng):
            return {"p": np.array([3.0, 4.0])}

        def compute(self, x, training):
            return x

        def gradient(self, dy):
            return dy

        def lower(self, b):
            super().lower(b)
            b.penalize("p", "pull", "pull")

    model = nn.Model([Pulled(), nn.Dense(2, 1)], nn.MeanSquaredError(), nn.SGD(0.1), backend="numpy", rng=0)
    values = model.evaluate(X, TARGETS)
    assert values["loss"] - values["data_loss"] == pytest.approx(0.5 * 7 + 0.5 * 25)
    fit(model, X, TARGETS, epochs=1, batch_size=None)
    np.testing.assert_allclose(model.get_weights()[0], [3 - 0.1 * 3.5, 4 - 0.1 * 4.5], rtol=1e-6)
    fit(model, X, TARGETS, epochs=50)
    assert np.abs(model.get_weights()[0]).max() < 0.1


def test_a_penalty_without_a_gradient_is_refused():
    class Idle(nn.Layer):
        scalars = ("pull",)
        pull = 0.5

        def parameter_shapes(self):
            return {"p": (2,)}

        def lower(self, b):
            b.penalize("p", "pull", "pull")

    model = nn.Model([Idle(), nn.Dense(2, 1)], nn.MeanSquaredError(), nn.SGD(0.1), backend="numpy", rng=0)
    with pytest.raises(nn.errors.OptionError, match="no backward op fills it"):
        fit(model, X, TARGETS)


def test_a_shallow_copy_is_refused():
    with pytest.raises(nn.errors.StateError, match="deepcopy"):
        copy.copy(classifier())


def test_pickled_lone_layers_and_their_slots_are_aligned():
    layer, optimizer = nn.Dense(3, 5, rng=0), nn.Adam(0.1)
    layer.forward(np.ones((2, 3)))
    layer.backward(np.ones((2, 5)))
    optimizer.step(layer)
    for _ in range(5):
        twin, state = pickle.loads(pickle.dumps((layer, optimizer)))
        for flat in (twin._buffers.parameters, twin._buffers.gradients, *state._by_hand[twin].values()):
            assert flat.ctypes.data % 256 == 0


class Counting(type(nn.get_backend("numpy"))):
    """The reference, counting what it compiles."""

    name = "counting"

    def __init__(self):
        self.compiled = []

    def compile(self, program):
        self.compiled.append(program.mode)
        return super().compile(program)


def test_only_a_change_of_structure_compiles_again():
    backend = Counting()
    model = classifier(backend=backend)
    fit(model)
    assert backend.compiled == ["train"]
    model.layers[0].weight_l2 = 0.5
    model.layers[2].rate = 0.4
    model.optimizer.learning_rate = 0.5
    model.optimizer.clip_norm = 1.0
    fit(model, X[:31], Y[:31], batch_size=7)
    assert backend.compiled == ["train"]
    model.layers[0].trainable = False
    fit(model)
    assert backend.compiled == ["train", "train"]
    model.evaluate(X, Y)
    model.predict(X)
    model.predict(X[:3])
    assert backend.compiled == ["train", "train", "evaluate", "predict"]


@pytest.mark.parametrize("optimizer", [lambda: nn.SGD(0.1, momentum=0.9), lambda: nn.AdamW(0.1, weight_decay=0.5)])
def test_a_frozen_layer_between_trained_ones_keeps_its_weights(optimizer):
    layers = [nn.Dense(2, 5), nn.Tanh(), nn.Dense(5, 5), nn.Tanh(), nn.Dense(5, 3)]
    model = nn.Model(layers, nn.SoftmaxCrossEntropy(), optimizer(), backend="numpy", rng=0)
    fit(model)  # fills the optimizer's state
    before = model.get_weights()
    layers[2].trainable = False
    fit(model)
    moved = [not np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True)]
    assert moved == [True, True, False, False, True, True]


def test_the_gradient_is_with_dropout_only_where_asked():
    model = classifier()
    model.layers[2].rate = 0.5
    plain, dropped, again = (model.loss_and_gradient(X, Y, training=t) for t in (False, True, False))
    assert plain[0] == again[0] == pytest.approx(model.evaluate(X, Y)["loss"], rel=1e-6)
    assert dropped[0] != plain[0]
    np.testing.assert_array_equal(again[1], plain[1])
    assert model.loss_and_gradient(X, Y, training=True)[0] == dropped[0]  # the mask of the next step, still


def test_dropout_masks_follow_the_models_seed():
    def model(seed):
        return classifier(rng=seed, dtype="float64")

    one, same, other = model(1), model(1), model(2)
    other.parameters = one.parameters
    losses = [m.loss_and_gradient(X, Y, training=True)[0] for m in (one, same, other)]
    assert losses[0] == losses[1] != losses[2]
    ones = np.ones((4, 16))
    by_hand = [m.layers[2].forward(ones, training=True) for m in (one, same, other, one.to())]
    np.testing.assert_array_equal(by_hand[0], by_hand[1])
    assert not np.array_equal(by_hand[0], by_hand[2])
    assert one.layers[2].key == one.to().layers[2].key == one._key


def test_each_dropout_layer_has_masks_of_its_own():
    model = nn.Model([nn.Dense(2, 50), nn.Dropout(0.5), nn.Dropout(0.5)], backend="numpy", rng=0)
    ones = np.ones((20, 50))
    first, second = (layer.forward(ones, training=True) for layer in model.layers[1:])
    assert 0.4 < (first != second).mean() < 0.6


def test_weights_are_drawn_layer_by_layer_and_then_one_key():
    source, stream = np.random.RandomState(7), np.random.RandomState(7)
    small = nn.initializers.normal(0.01)
    model = nn.Model([nn.Dense(2, 3, small), nn.Dense(3, 1, small)], backend="numpy", dtype="float64", rng=source)
    np.testing.assert_array_equal(model.layers[0].weights, 0.01 * stream.randn(2, 3))
    np.testing.assert_array_equal(model.layers[1].weights, 0.01 * stream.randn(3, 1))
    assert model._key == int.from_bytes(stream.bytes(8), "little")


def test_an_optimizer_that_changes_hands_counts_from_zero():
    used = nn.Adam(0.01, decay=0.1)
    model, other = classifier(used), classifier(nn.SGD(0.1))
    fit(model)
    model.optimizer = nn.Adam(0.01)
    other.optimizer = used
    fresh = classifier(nn.Adam(0.01, decay=0.1))
    assert fit(other) == fit(fresh)
    assert used.steps == fresh.optimizer.steps


def test_a_copy_has_its_own_loss():
    model = nn.Model([nn.Dense(2, 3)], nn.SoftmaxCrossEntropy(), backend="numpy", rng=0)
    twin = model.to()
    before = twin.evaluate(X, Y)
    model.loss.label_smoothing = 0.5
    assert twin.evaluate(X, Y) == before != model.evaluate(X, Y)


def test_summary_counts_what_trains():
    model = classifier()
    model.layers[0].trainable = False
    assert "99 parameters, 51 of them trained" in model.summary()


def test_a_models_optimizer_steps_all_its_layers_or_none():
    model = classifier()
    model.loss_and_gradient(X, Y)
    before = model.parameters.copy()
    with pytest.raises(nn.errors.OwnershipError, match="all of its layers"):
        model.optimizer.step(model.layers[0])
    np.testing.assert_array_equal(model.parameters, before)


def test_a_predictor_follows_the_numbers_of_layers_and_converts():
    layers = [nn.Dense(2, 64), nn.LeakyReLU(0.1), nn.Dense(64, 3)]
    model = nn.Model(layers, nn.SoftmaxCrossEntropy(), backend="numpy", rng=0)
    one, rows = model.predictor(len(X)), X.astype(np.float64) / 3
    before = one(rows)
    np.testing.assert_array_equal(before, model.predict(rows))
    model.layers[1].alpha = 0.9
    np.testing.assert_array_equal(one(rows), model.predict(rows))
    assert not np.array_equal(one(rows), before)


def test_a_loss_whose_op_changes_is_lowered_again():
    class Switch(nn.Loss):
        op = "mean_squared_error"

    model = nn.Model([nn.Dense(2, 1)], Switch(), backend="numpy", rng=0)
    squared = model.evaluate(X, TARGETS)["loss"]
    model.loss.op = "mean_absolute_error"
    assert model.evaluate(X, TARGETS)["loss"] != squared


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (lambda: nn.SGD(0.1, momentum=0.9), "nesterov", True),
        (lambda: nn.AdamW(0.1, weight_decay=0.5), "decay_biases", False),
        (lambda: nn.RandomSearch(0.5, "perturb"), "mode", "sample"),
    ],
)
def test_options_of_an_optimizer_can_be_changed_later(make, name, value):
    changed, fresh = classifier(make()), classifier(make())
    start = [changed.predict(X), changed._programs.runner("train")[1]]
    setattr(changed.optimizer, name, value)
    setattr(fresh.optimizer, name, value)
    assert start[1] is not changed._programs.runner("train")[1]
    assert fit(changed, batch_size=None) == fit(fresh, batch_size=None)
