"""Layers, losses and optimizers by hand: the same numbers as in a model, and the contract of each attribute."""

from __future__ import annotations

import numpy as np
import pytest

import nnfast as nn
from nnfast.errors import OptionError, OwnershipError, ShapeError, StateError

X, Y = nn.datasets.spiral(30, 3, 0)


def test_by_hand_and_in_a_model_agree():
    def layers():
        return [nn.Dense(2, 8, rng=1, weight_l2=0.01), nn.ReLU(), nn.Dense(8, 3, rng=2, bias_l1=0.01)]

    model = nn.Model(layers(), loss=nn.SoftmaxCrossEntropy(), optimizer=nn.Adam(0.01), backend="numpy")
    first, relu, last = layers()
    loss, optimizer = nn.SoftmaxCrossEntropy(), nn.Adam(0.01)
    for _ in range(20):
        expected = model.train_on_batch(X, Y)
        value = loss.forward(last.forward(relu.forward(first.forward(X))), Y)
        assert value == pytest.approx(expected["data_loss"], rel=1e-6)
        assert value + first.penalty() + last.penalty() == pytest.approx(expected["loss"], rel=1e-6)
        first.backward(relu.backward(last.backward(loss.backward())))
        optimizer.step([first, relu, last])
    np.testing.assert_allclose(model.layers[0].weights, first.weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.layers[2].biases, last.biases, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("clip_norm", [None, 0.01])
@pytest.mark.parametrize("make", [nn.SGD, nn.Adagrad, nn.RMSprop, nn.Adam, nn.AdamW])
def test_optimizer_of_a_model_steps_it_from_its_gradients(make, clip_norm):
    def model():
        layers = [nn.Dense(2, 4), nn.Tanh(), nn.Dense(4, 3)]
        optimizer = make(learning_rate=0.01, clip_norm=clip_norm)
        return nn.Model(layers, loss=nn.SoftmaxCrossEntropy(), optimizer=optimizer, backend="numpy", rng=3)

    fitted, stepped = model(), model()
    for _ in range(5):
        fitted.train_on_batch(X, Y)
        stepped.loss_and_gradient(X, Y)
        stepped.optimizer.step(stepped.layers)
    assert stepped.optimizer.steps == fitted.optimizer.steps == 5
    np.testing.assert_array_equal(stepped.parameters, fitted.parameters)


def test_clipping_by_hand_uses_the_norm_over_all_layers():
    one, two = nn.Dense(2, 3, rng=0), nn.Dense(3, 2, rng=0)
    for layer in (one, two):
        layer.dweights[...] = 3.0
        layer.dbiases[...] = 4.0
    norm = np.sqrt(9 * 12 + 16 * 5)
    before = one.weights.copy()
    nn.SGD(1.0, clip_norm=1.0).step([one, two])
    np.testing.assert_allclose(before - one.weights, 3.0 / norm, rtol=1e-5)


def test_clipping_layers_of_two_dtypes_rounds_neither():
    one, two = nn.Dense(2, 3, rng=0), nn.Dense(3, 2, rng=0, dtype="float64")
    for layer in (one, two):
        layer.dweights[...] = 1 / 3
        layer.dbiases[...] = 0
    nn.SGD(1.0, clip_norm=1e9).step([one, two])  # nothing to clip
    assert (two.dweights == 1 / 3).all()
    assert (one.dweights == np.float32(1 / 3)).all()


def test_lone_dense_owns_two_arrays_of_its_dtype():
    layer = nn.Dense(2, 5, dtype="float64", rng=0)
    assert layer.weights.shape == (2, 5)
    assert layer.biases.shape == (5,)
    assert layer.weights.dtype == np.float64
    assert layer.forward(X.astype(np.float32)).dtype == np.float64
    assert nn.Dense(2, 5).forward(X).dtype == np.float32


def test_weights_are_copied_into_place_never_rebound():
    layer = nn.Dense(2, 3, rng=0)
    view = layer.weights
    new = np.ones((2, 3))
    layer.weights = new
    new[...] = 7
    assert (view == 1).all()
    layer.weights += 1
    assert (view == 2).all()
    with pytest.raises(ShapeError, match=r"\(2, 3\).*\(3, 2\)"):
        layer.weights = np.ones((3, 2))
    with pytest.raises(ShapeError):
        layer.biases = np.ones((1, 3))
    assert (view == 2).all()


def test_rng_draws_at_once_and_without_it_at_first_use():
    stream = np.random.RandomState(0)
    first = nn.Dense(2, 3, nn.initializers.normal(0.01), rng=stream)
    second = nn.Dense(3, 3, nn.initializers.normal(0.01), rng=stream)
    book = np.random.RandomState(0)
    np.testing.assert_array_equal(first.weights, (0.01 * book.randn(2, 3)).astype(np.float32))
    np.testing.assert_array_equal(second.weights, (0.01 * book.randn(3, 3)).astype(np.float32))
    assert not np.array_equal(nn.Dense(2, 3).weights, nn.Dense(2, 3).weights)


def test_lone_dropout_counts_its_own_training_forwards():
    ones = np.ones((40, 25))
    drop, twin = nn.Dropout(0.5, rng=5), nn.Dropout(0.5, rng=5)
    first, second = drop.forward(ones, training=True), drop.forward(ones, training=True)
    assert not np.array_equal(first, second)
    assert 0.4 < (first == 0).mean() < 0.6
    assert set(np.unique(first)) == {0.0, 2.0}
    np.testing.assert_array_equal(drop.backward(ones), second)
    np.testing.assert_array_equal(twin.forward(ones, training=True), first)
    np.testing.assert_array_equal(twin.forward(ones), ones)  # no training: identity, and counts nothing
    np.testing.assert_array_equal(twin.backward(ones), ones)
    np.testing.assert_array_equal(twin.forward(ones, training=True), second)


def test_identity_layers_do_not_hand_out_their_input_for_writing():
    dy = np.ones((3, 2), dtype=np.float32)
    layer = nn.Linear()
    layer.forward(np.ones((3, 2), dtype=np.float32))
    dx = layer.backward(dy)
    dx[...] = 5
    assert (dy == 1).all()


def test_frozen_layer_passes_gradients_and_keeps_its_weights():
    layer = nn.Dense(2, 3, rng=0)
    layer.forward(X)
    layer.backward(np.ones((len(X), 3)))
    assert layer.dweights.any()
    layer.trainable = False
    assert not layer.dweights.any()
    before = layer.weights.copy()
    layer.forward(X)
    dx = layer.backward(np.ones((len(X), 3)))
    assert dx.any()
    nn.SGD(1.0).step(layer)
    np.testing.assert_array_equal(layer.weights, before)


def test_backward_needs_a_forward_and_a_gradient_of_its_shape():
    layer, loss = nn.Dense(2, 3, rng=0), nn.MeanSquaredError()
    with pytest.raises(StateError, match="before forward"):
        layer.backward(np.ones((1, 3)))
    with pytest.raises(StateError, match="before forward"):
        loss.backward()
    layer.forward(X)
    with pytest.raises(ShapeError, match=r"\(90, 3\)"):
        layer.backward(np.ones((90, 2)))


def test_loss_gradient_is_a_copy():
    loss = nn.MeanSquaredError()
    loss.forward(np.ones((2, 1)), np.zeros((2, 1)))
    loss.backward()[...] = 9
    np.testing.assert_array_equal(loss.backward(), np.full((2, 1), 1.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Dense(0, 3), "n_inputs"),
        (lambda: nn.Dense(2.5, 3), "n_inputs"),
        (lambda: nn.Dense(2, 3, weight_l2=-1), "weight_l2"),
        (lambda: nn.Dropout(1), "rate"),
        (lambda: nn.Dropout(-0.1), "rate"),
        (lambda: nn.LeakyReLU(-1), "alpha"),
        (lambda: nn.Adam(-0.1), "learning_rate"),
        (lambda: nn.Adam(float("nan")), "learning_rate"),
        (lambda: nn.Adam(beta_1=1), "beta_1"),
        (lambda: nn.SGD(momentum=1.5), "momentum"),
        (lambda: nn.SGD(decay=-1), "decay"),
        (lambda: nn.SGD(clip_norm=-1), "clip_norm"),
        (lambda: nn.SoftmaxCrossEntropy(label_smoothing=1), "label_smoothing"),
        (lambda: nn.Huber(0), "delta"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(OptionError, match=message):
        make()


def test_a_bad_setting_leaves_the_old_one():
    layer = nn.Dropout(0.25)
    with pytest.raises(OptionError):
        layer.rate = 1.0
    assert layer.rate == 0.25
    optimizer = nn.SGD(0.5)
    with pytest.raises(OptionError):
        optimizer.learning_rate = -1
    assert optimizer.learning_rate == 0.5


def test_rate_zero_is_legal_and_changes_nothing():
    layer = nn.Dense(2, 3, rng=0)
    before = layer.weights.copy()
    layer.forward(X)
    layer.backward(np.ones((len(X), 3)))
    nn.Adam(0).step(layer)
    np.testing.assert_array_equal(layer.weights, before)


def test_learning_rates_follow_decay_and_schedules():
    sgd = nn.SGD(1.0, decay=0.1)
    np.testing.assert_allclose(sgd.learning_rates(0, 4), [1, 1 / 1.1, 1 / 1.2, 1 / 1.3])
    assert nn.SGD(1.0, decay=1e-2).learning_rates(10_000, 1)[0] == pytest.approx(0.009900990099, rel=1e-9)
    schedule = nn.SGD(nn.schedules.InverseTimeDecay(1.0, 0.1))
    np.testing.assert_array_equal(schedule.learning_rates(0, 4), sgd.learning_rates(0, 4))
    with pytest.raises(OptionError, match="schedule"):
        nn.SGD(lambda step: -1.0).learning_rates(0, 1)


def test_one_layer_of_a_model_cannot_be_stepped_by_a_foreign_optimizer():
    model = nn.Model([nn.Dense(2, 3)], loss=nn.SoftmaxCrossEntropy(), optimizer=nn.SGD(0.1), backend="numpy", rng=0)
    with pytest.raises(OwnershipError):
        nn.SGD(0.1).step(model.layers)
    with pytest.raises(OwnershipError):
        model.optimizer.step([nn.Dense(2, 3, rng=0)])


def test_empty_batch_by_hand():
    layer = nn.Dense(2, 3, rng=0)
    assert layer.forward(np.empty((0, 2))).shape == (0, 3)
    assert layer.backward(np.empty((0, 3))).shape == (0, 2)
    assert not layer.dweights.any()


def test_strided_and_foreign_inputs_by_hand():
    layer = nn.Dense(2, 3, rng=0)
    expected = layer.forward(X.copy())
    np.testing.assert_array_equal(layer.forward(np.asfortranarray(X)), expected)
    np.testing.assert_array_equal(layer.forward(np.repeat(X, 2, axis=0)[::2]), expected)
    np.testing.assert_array_equal(layer.forward(X.astype(">f8")), expected)
    np.testing.assert_array_equal(layer.forward(X.tolist()), expected)


def test_words():
    assert repr(nn.SGD(0.5, decay=1e-3, momentum=0.9)) == "SGD(0.5, decay=0.001, momentum=0.9)"
    assert repr(nn.Adagrad(clip_norm=2)) == "Adagrad(1, clip_norm=2, epsilon=1e-07)"
    assert "InverseTimeDecay(1, decay=0.1)" in repr(nn.Adam(nn.schedules.InverseTimeDecay(1.0, 0.1)))
    assert repr(nn.SGD(momentum=0.9, nesterov=True)) == "SGD(1, momentum=0.9, nesterov=True)"
    assert repr(nn.RandomSearch(mode="sample")) == "RandomSearch(0.05, mode='sample')"
    assert "decay_biases=False" in repr(nn.AdamW(decay_biases=False))
    assert repr(nn.Dropout(0.1)) == "Dropout(rate=0.1)"
    assert repr(nn.Dense(2, 3, weight_l2=0.5)) == "Dense(2, 3, weight_l2=0.5)"


def test_freezing_counts_for_a_layer_used_before():
    layer = nn.Dense(2, 3, rng=0)
    for trainable in (True, False):
        layer.trainable = trainable
        layer.forward(X)
        layer.backward(np.ones((len(X), 3)))
        assert layer.dweights.any() == trainable


def test_stepping_leaves_frozen_layers_alone_whatever_the_optimizer_adds():
    layer, frozen = nn.Dense(2, 3, rng=0), nn.Dense(2, 3, rng=0)
    frozen.trainable = False
    before = frozen.weights.copy()
    nn.AdamW(0.1, weight_decay=0.5).step([layer, frozen])
    np.testing.assert_array_equal(frozen.weights, before)
    assert not np.array_equal(layer.weights, before)


def test_momentum_switched_on_later_counts_by_hand_too():
    def trained(switch):
        layer, optimizer = nn.Dense(2, 3, "zeros", rng=0), nn.SGD(0.1, momentum=0 if switch else 0.9)
        layer.dweights[...] = 0
        optimizer.step(layer)
        optimizer.momentum = 0.9
        for _ in range(3):
            layer.dweights[...] = 1
            optimizer.step(layer)
        return layer.weights

    np.testing.assert_array_equal(trained(switch=True), trained(switch=False))


def test_decay_acts_on_a_schedule_too():
    both = nn.SGD(lambda step: 2.0 + step, decay=0.5)
    np.testing.assert_allclose(both.learning_rates(1, 3), [3 / 1.5, 4 / 2, 5 / 2.5])


def test_what_layers_hand_out_by_hand_is_not_overwritten():
    dense, linear = nn.Dense(2, 3, rng=0), nn.Linear()
    x, dy = X.astype(np.float32), np.ones((len(X), 3))
    dense.forward(x)
    first = dense.backward(dy)
    kept = first.copy()
    dense.backward(2 * dy)
    np.testing.assert_array_equal(first, kept)
    linear.forward(x)[...] = 5
    np.testing.assert_array_equal(x, X.astype(np.float32))


def test_a_layer_used_by_hand_before_its_model_is_used_there():
    layer = nn.Dense(4, 3, rng=0)
    rows = np.ones((5, 4))
    expected = layer.forward(rows)
    model = nn.Model([nn.Dense(2, 4), nn.ReLU(), layer], backend="numpy", rng=1)
    np.testing.assert_array_equal(layer.forward(rows), expected)
    dx = layer.backward(np.ones((5, 3)))
    np.testing.assert_allclose(dx, np.ones((5, 3)) @ layer.weights.T, rtol=1e-6)
    assert not model.layers[0].dweights.any()


def test_losses_by_hand_take_weights_and_settings():
    output, y = X @ np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 0.0]]), Y
    w = np.arange(len(X)) % 3
    repeated = np.repeat(np.arange(len(X)), w)
    for loss in (nn.SoftmaxCrossEntropy(label_smoothing=0.3), nn.SoftmaxCrossEntropy()):
        weighted = loss.forward(output, y, sample_weight=w)
        assert weighted == pytest.approx(loss.forward(output[repeated], y[repeated]), rel=1e-12)
    plain, smooth = (nn.SoftmaxCrossEntropy(e).forward(output, y) for e in (0, 0.3))
    p = np.exp(output) / np.exp(output).sum(axis=1, keepdims=True)
    assert smooth == pytest.approx(0.7 * plain - 0.3 * np.log(p).mean(), rel=1e-9)
    assert nn.Huber(0.1).forward([[2.0]], [[0.0]]) == pytest.approx(0.1 * (2 - 0.05))
