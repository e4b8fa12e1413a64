"""The book's Model: its figures, its printed lines, and what programs may do with it between two calls."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import numpy as np
import pytest
from compat_models import built, by_hand, figures, follow, image_model, images, same_figures, stepper

import nnfast as nn
from nnfast import functional
from nnfast.compat import nnfs
from nnfast.compat.nnfs import (
    Accuracy_Categorical,
    Accuracy_Regression,
    Activation_Linear,
    Activation_ReLU,
    Activation_Sigmoid,
    Activation_Softmax,
    Layer_Dense,
    Layer_Dropout,
    Loss_BinaryCrossentropy,
    Loss_CategoricalCrossentropy,
    Loss_MeanAbsoluteError,
    Loss_MeanSquaredError,
    Model,
    Optimizer_Adagrad,
    Optimizer_Adam,
    Optimizer_RMSprop,
    Optimizer_SGD,
    init,
)

pytestmark = pytest.mark.usefixtures("like_the_book")


KINDS = {
    "softmax": (Activation_Softmax, Loss_CategoricalCrossentropy, Accuracy_Categorical),
    "sigmoid": (Activation_Sigmoid, Loss_BinaryCrossentropy, lambda: Accuracy_Categorical(binary=True)),
    "linear": (Activation_Linear, Loss_MeanSquaredError, Accuracy_Regression),
    "absolute": (Activation_Linear, Loss_MeanAbsoluteError, Accuracy_Regression),
}
RUNS = [
    ("softmax", lambda: Optimizer_Adam(0.02, 1e-2)),
    ("sigmoid", lambda: Optimizer_RMSprop(0.01, 1e-3)),
    ("linear", lambda: Optimizer_SGD(0.05, 1e-3, 0.9)),
    ("absolute", lambda: Optimizer_Adagrad(0.05, 1e-2)),
    ("softmax", lambda: Optimizer_SGD(0.3)),
]


def problem(head, outputs=3):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(130, 4))
    z = x @ rng.normal(size=(4, outputs))
    targets = {"softmax": z.argmax(axis=1), "sigmoid": (z > 0) * 1}
    return x, targets.get(head, z)


@pytest.mark.parametrize(("head", "optimizer"), RUNS, ids=[f"{h}-{o().__class__.__name__}" for h, o in RUNS])
def test_the_figures_are_those_of_the_books_arithmetic(head, optimizer, dtype, capsys):
    init(default_dtype=dtype)
    (x, y), (xv, yv) = problem(head), (problem(head)[0][:50] * 1.1, problem(head)[1][:50])
    strengths = {"weight_regularizer_l1": 1e-3, "weight_regularizer_l2": 2e-3, "bias_regularizer_l2": 5e-2}
    activation, loss, accuracy = KINDS[head]
    parts = [Layer_Dense(4, 16, **strengths), Activation_ReLU(), Layer_Dense(16, 3, **strengths), activation()]
    for layer in parts[::2]:
        layer.weights *= 30  # away from the symmetric start, so that there is something to tell apart
    start = [layer.get_parameters() for layer in parts[::2]]
    model = built(parts, loss(), optimizer(), accuracy())
    model.train(x, y, epochs=4, batch_size=32, validation_data=(xv, yv))  # 5 batches, the last of 2 rows

    want, ends = follow(
        [4, 16, 3],
        start,
        head,
        stepper(optimizer()),
        x.astype(dtype),
        y,
        epochs=4,
        size=32,
        strengths=((1e-3, 2e-3), (0, 5e-2)),
        precision=np.std(y) / 250,
        validation=(xv.astype(dtype), yv),
    )
    # float32 may also move a prediction across its border; with these numbers it moves none.
    same_figures(capsys.readouterr().out, want, 1e-4 if dtype == np.float32 else 1e-9)
    for layer, (w, b) in zip(parts[::2], ends, strict=True):
        # Adam's and RMSprop's first steps magnify small gradients, so float32 differs by more than a few ULP.
        tolerance = {"rtol": 2e-3, "atol": 2e-4} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-11}
        np.testing.assert_allclose(layer.weights, w, **tolerance)
        np.testing.assert_allclose(layer.biases, b, **tolerance)
    assert model.optimizer.iterations == 20
    assert model.optimizer.current_learning_rate == pytest.approx(want[-2][-1], rel=1e-12)
    assert model.loss.calculate_accumulated() == pytest.approx(want[-1][2], rel=1e-3)
    assert model.accuracy.calculate_accumulated() == pytest.approx(want[-1][1], abs=1e-9)


def test_the_lines_are_the_books(capsys):
    x, y = images(130)
    image_model().train(x, y, epochs=2, batch_size=32, print_every=3, validation_data=(x, y))
    number, rate = r"\d+\.\d{3}", r"\d\.\d+(e-\d+)?"
    losses = rf"acc: {number}, loss: {number} \(data_loss: {number}, reg_loss: {number}\), lr: {rate}"
    epoch = [rf"step: {i}, {losses}" for i in (0, 3, 4)] + [f"training, {losses}"]
    epoch += [rf"validation, acc: {number}, loss: {number}"]
    lines = capsys.readouterr().out.splitlines()
    for line, pattern in zip(lines, ["epoch: 1", *epoch, "epoch: 2", *epoch], strict=True):
        assert re.fullmatch(pattern, line), line
    assert lines[1].endswith("lr: 0.001")


@pytest.mark.parametrize("every", [1, 2, 5, 100])
def test_lines_do_not_depend_on_how_steps_fall_into_jobs(every, capsys, monkeypatch):
    x, y = images(150)
    strength = {"weight_regularizer_l2": 0.5}
    texts = []
    for seconds in (0.1, 0.0):  # many steps in one job; one
        monkeypatch.setattr("nnfast.compat._training.JOB_SECONDS", seconds)
        np.random.seed(0)
        parts = [Layer_Dense(64, 10, **strength), Activation_Softmax()]
        model = built(parts, Loss_CategoricalCrossentropy(), Optimizer_Adam(0.05), Accuracy_Categorical())
        model.train(x, y, epochs=3, batch_size=40, print_every=every)
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    rows = figures(texts[0])
    assert len({row[4] for row in rows if row[0] == "training"}) == 3
    steps = [int(row[1]) for row in rows if row[0] == "step"]
    assert steps == {1: [0, 1, 2, 3], 2: [0, 2, 3], 5: [0, 3], 100: [0, 3]}[every] * 3


def test_many_steps_run_in_one_job_and_no_op_by_itself(monkeypatch, backend):
    x, y = images(640)
    model = image_model()
    jobs = []
    run = model._engine.native._programs.run
    monkeypatch.setattr(model._engine.native._programs, "run", lambda r, job: jobs.append(job.steps) or run(r, job))
    for name in ("dense", "dense_backward", "softmax_cross_entropy", "adam_step", "relu"):
        monkeypatch.setattr(functional, name, None)
    monkeypatch.setattr("nnfast.compat._training.JOB_SECONDS", 1e9)
    model.train(x, y, epochs=30, batch_size=32, print_every=1)
    assert jobs == [1, 599]
    assert "plain Python" not in model._engine.native.backend_report()


# ---- dropout --------------------------------------------------------------------------------------------------------


def drop_model(rate=0.4, inputs=1000):
    """Output: the sum of the inputs that are kept, divided by the share that is kept. Nothing trains."""
    dense = Layer_Dense(inputs, 1)
    dense.weights = np.ones((inputs, 1), np.float32)
    parts = [Layer_Dropout(rate), dense, Activation_Linear()]
    return built(parts, Loss_MeanSquaredError(), Optimizer_SGD(0), Accuracy_Regression())


def test_dropout_acts_in_training_alone_and_its_seed_is_the_global_stream(capsys):
    x, y = np.ones((1, 1000), np.float32), np.zeros((1, 1), np.float32)
    kept = []
    for seed in (3, 3, 4):
        np.random.seed(seed)
        model = drop_model()
        model.train(x, y, epochs=40)
        kept.append([0.6 * row[3] ** 0.5 for row in figures(capsys.readouterr().out) if row[0] == "step"])
    # Binomial(1000, 0.6) has a deviation of 15.5.
    assert all(abs(k - 600) < 80 for k in kept[0])
    assert len(set(np.round(kept[0]))) > 20
    np.testing.assert_array_equal(kept[0], kept[1])
    assert kept[0] != kept[2]
    model.evaluate(x, y)
    assert figures(capsys.readouterr().out)[0][2] == 1000**2
    assert model.predict(x)[0, 0] == 1000
    model.layers[0].rate = 1.0  # the share that is kept
    model.train(x, y)
    assert figures(capsys.readouterr().out)[1][3] == 1000**2


def test_the_global_stream_moves_only_where_something_drops_out():
    np.random.seed(0)
    image_model()
    twin = np.random.RandomState(0)
    for shape in ((64, 32), (32, 32), (32, 10)):
        twin.randn(*shape)
    assert np.random.rand() == twin.rand()
    model = drop_model()
    after = np.random.get_state()[2]
    model.train(np.ones((1, 1000)), np.zeros((1, 1)), epochs=3)
    assert np.random.get_state()[2] == after


# ---- what may be done between two calls -----------------------------------------------------------------------------


def test_weights_are_views_that_follow_and_may_be_changed():
    x, y = images(64)
    model = image_model()
    w, b = model.layers[0].weights, model.layers[0].biases
    assert b.shape == (1, 32)
    before = w.copy()
    model.train(x, y)
    assert model.layers[0].weights is w
    assert not np.array_equal(w, before)
    w *= 0
    b += 1
    for layer in model.layers[2::2]:
        layer.weights = np.zeros(layer.weights.shape)  # float64, in another place
        layer.biases = layer.biases * 0
    model.layers[4].biases = [[0.0] * 9 + [100.0]]
    np.testing.assert_array_equal(model.predict(x)[:, 9], 1)
    assert model.layers[4].weights.dtype == np.float32
    view = model.layers[4].weights
    model.layers[4].biases[...] = 0
    model.train(x, y)
    assert model.layers[4].weights is view
    assert view.any()


def test_training_and_steps_by_hand_go_on_from_each_other():
    x, y = images(200)
    texts = []
    for way in ("train", "hand", "both"):
        np.random.seed(0)
        model = image_model(rate=0.01)
        for epoch in range(4):
            if way == "train" or (way == "both" and epoch % 2 == 0):
                model.train(x, y, batch_size=64)
            else:
                by_hand(model, x, y, 1, 64)
        texts.append(np.concatenate([a.ravel() for pair in model.get_parameters() for a in pair]))
        assert model.optimizer.iterations == 16
    np.testing.assert_allclose(texts[0], texts[1], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(texts[2], texts[1], rtol=1e-3, atol=1e-4)


def test_rates_strengths_and_parts_may_be_exchanged(capsys):
    x, y = images(64)
    model = image_model()
    view = model.layers[0].weights
    model.train(x, y)
    before = model.get_parameters()
    model.optimizer.learning_rate = 0
    model.train(x, y)
    assert figures(capsys.readouterr().out)[-1][-1] == 0
    np.testing.assert_array_equal(model.get_parameters()[0][0], before[0][0])
    model.layers[0].bias_regularizer_l1 = 2.0
    model.train(x, y)
    penalty = 2 * np.abs(before[0][1].astype(np.float64)).sum()
    assert figures(capsys.readouterr().out)[1][5] == pytest.approx(penalty, abs=6e-4)
    adam = model.optimizer
    sgd = Optimizer_SGD(1e-3)
    sgd.current_learning_rate = 0.25  # without decay a rate set by hand stays
    model.set(optimizer=sgd)
    model.train(x, y)
    assert figures(capsys.readouterr().out)[-1][-1] == 0.25
    assert (adam.iterations, sgd.iterations) == (3, 1)
    assert np.shares_memory(model.layers[0].weights, view)  # who held a view still does
    momentum = adam._memory.of(model.layers[0])["weights.momentum"].copy()
    model.set(optimizer=adam)
    adam.beta_1, adam.learning_rate = 0.5, 0.001
    model.train(x[:1] * 0, y[:1])  # no gradient for these weights: momentum only shrinks
    np.testing.assert_allclose(adam._memory.of(model.layers[0])["weights.momentum"], momentum / 2, rtol=1e-6)
    model.set(loss=Loss_MeanSquaredError())
    model.train(x, np.eye(10)[y])
    assert model.softmax_classifier_output is None
    assert figures(capsys.readouterr().out)[-1][0] == "training"


class Elsewhere(type(nn.get_backend("numpy"))):
    """NumPy, but as if its arrays lay on a device: what comes to the host is a copy."""

    name = "elsewhere"
    device = "another"

    def to_numpy(self, a):
        return np.array(a)


def test_on_a_device_the_layers_hold_copies_that_are_kept_up(capsys):
    x, y = images(100)
    texts, ends = [], []
    for where in (nn.get_backend("numpy"), Elsewhere()):
        np.random.seed(0)
        with nn.use_backend(where):
            model = image_model()
            model.train(x, y, epochs=2, batch_size=40)
            model.layers[0].weights *= 2
            before = model.layers[0].weights.copy()
            model.train(x, y, batch_size=40, validation_data=(x, y))
        texts.append(capsys.readouterr().out)
        ends.append((model.layers[0].weights, model.optimizer._memory.of(model.layers[2])["biases.cache"]))
        assert not np.array_equal(before, model.layers[0].weights)
    assert texts[0] == texts[1]
    for mine, other in zip(*ends, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_copies_and_pickles_train_on_by_themselves():
    x, y = images(100)
    model = image_model()
    model.train(x, y, batch_size=32)
    twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    frozen = model.get_parameters()
    for twin in twins:
        twin.train(x, y, batch_size=32)
    for (w, b), (w0, b0) in zip(model.get_parameters(), frozen, strict=True):
        np.testing.assert_array_equal(w, w0)
        np.testing.assert_array_equal(b, b0)
    model.train(x, y, batch_size=32)
    for twin in twins:
        for mine, other in zip(model.get_parameters(), twin.get_parameters(), strict=True):
            np.testing.assert_array_equal(mine[0], other[0])


def test_the_attributes_of_the_book_are_there():
    x, _ = images(20)
    model = image_model()
    assert model.trainable_layers == model.layers[::2]
    assert model.output_layer_activation is model.layers[-1]
    assert model.layers[0].prev is model.input_layer
    assert model.layers[-1].next is model.loss
    assert all(a.next is b and b.prev is a for a, b in zip(model.layers, model.layers[1:], strict=False))
    assert model.loss.trainable_layers == tuple(model.trainable_layers)
    output = model.forward(x, training=False)
    assert output is model.layers[-1].output
    np.testing.assert_allclose(model.predict(x, batch_size=7), output, rtol=1e-5)
    assert model.layers[0].output.shape == (20, 32)
    for method, names in (
        ("train", ["epochs", "batch_size", "print_every", "validation_data"]),
        ("predict", ["batch_size"]),
    ):
        arguments = inspect.signature(getattr(Model, method)).parameters
        assert [n for n, a in arguments.items() if a.kind is a.KEYWORD_ONLY] == names
    assert all(hasattr(nnfs, name) for name in nnfs.__all__)
