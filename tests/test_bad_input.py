"""Bad input to a model: a clear error of nnfast.errors, before anything has changed."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest

import nnfast as nn
from nnfast.errors import (
    DataError,
    DTypeError,
    NnfastError,
    OptionError,
    OwnershipError,
    ShapeError,
    StateError,
    UnknownNameError,
)

X, Y = nn.datasets.spiral(10, 3, 0)
T = X[:, :1].copy()


def _classifier():
    layers = [nn.Dense(2, 4), nn.ReLU(), nn.Dropout(0.2), nn.Dense(4, 3)]
    return nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.Adam(0.01), ["accuracy"], backend="numpy", rng=0)


def _regressor(loss=None):
    layers = [nn.Dense(2, 1)]
    return nn.Model(layers, loss or nn.MeanSquaredError(), nn.Adam(0.01), ["r2"], backend="numpy", rng=0)


class OnGPU:
    @property
    def __cuda_array_interface__(self):
        return {"shape": (30, 2), "typestr": "<f4", "data": (0, False), "version": 3}


NAN_TARGET = T.copy()
NAN_TARGET[7] = np.nan

BAD_DATA = [
    ("X of rank 1", _classifier, X[:, 0], Y, ShapeError, "X"),
    ("X of rank 3", _classifier, X[None], Y, ShapeError, "X"),
    ("X too wide", _classifier, np.c_[X, X], Y, ShapeError, "4 columns where 2"),
    ("X empty", _classifier, X[:0], Y[:0], DataError, "X"),
    ("X of words", _classifier, np.full((30, 2), "a"), Y, DTypeError, "X"),
    ("X complex", _classifier, X + 1j, Y, DTypeError, "complex"),
    ("X on a GPU", _classifier, OnGPU(), Y, DTypeError, "(?i)gpu|cuda|device"),
    ("X ragged", _classifier, [[1, 2], [3]], Y, DTypeError, "X"),
    ("X None", _classifier, None, Y, DTypeError, "X"),
    ("fewer labels", _classifier, X, Y[:-1], ShapeError, "y"),
    ("label too large", _classifier, X, np.where(Y == 2, 3, Y), DataError, "3"),
    ("label negative", _classifier, X, Y.astype(int) - 1, DataError, "-1"),
    ("labels as a column", _classifier, X, Y[:, None], ShapeError, "y"),
    ("labels as floats", _classifier, X, Y.astype(float), DTypeError, "y"),
    ("labels NaN", _classifier, X, np.full(30, np.nan), NnfastError, "y"),
    ("rows of wrong width", _classifier, X, np.eye(4)[Y], ShapeError, "y"),
    ("rows that are no probabilities", _classifier, X, 2 * np.eye(3)[Y], DataError, "y"),
    ("target (N,) for (N, 1)", _regressor, X, T[:, 0], ShapeError, re.escape("reshape(-1, 1)")),
    ("target NaN", _regressor, X, NAN_TARGET, DataError, "7"),
    ("target too wide", _regressor, X, np.c_[T, T], ShapeError, "y"),
    ("binary target of 2", lambda: _regressor(nn.SigmoidBinaryCrossEntropy()), X, T * 0 + 2, DataError, "y"),
    ("negative count", lambda: _regressor(nn.Poisson()), X, T * 0 - 1, DataError, "y"),
]

BAD_OPTIONS = [
    ({"epochs": -1}, OptionError, "epochs"),
    ({"epochs": 1.5}, OptionError, "epochs"),
    ({"batch_size": 0}, OptionError, "batch_size"),
    ({"verbose": 3}, OptionError, "verbose"),
    ({"sample_weight": np.ones(29)}, ShapeError, "sample_weight"),
    ({"sample_weight": -np.ones(30)}, DataError, "sample_weight"),
    ({"sample_weight": np.zeros(30)}, DataError, "sample_weight"),
    ({"validation_data": X}, DTypeError, "validation_data"),
    ({"validation_data": (X, Y[:3])}, ShapeError, "validation"),
    ({"validation_every": 0}, OptionError, "validation_every"),
    ({"callbacks": ["loss"]}, DTypeError, "callback"),
    ({"callbacks": [nn.EarlyStopping]}, DTypeError, "callback"),
    ({"on_gradients": 3}, DTypeError, "on_gradients"),
]


def _state(model):
    slots = {name: slot.copy() for name, slot in model._buffers.slots.items()}
    return model.parameters.copy(), slots, model.optimizer.steps, model._epochs, model._key


def _assert_unchanged(model, before):
    for one, other in zip(before, _state(model), strict=True):
        np.testing.assert_equal(other, one)


@pytest.mark.parametrize(("make", "x", "y", "error", "words"), [c[1:] for c in BAD_DATA], ids=[c[0] for c in BAD_DATA])
@pytest.mark.parametrize("call", ["fit", "evaluate", "train_on_batch", "loss_and_gradient"])
def test_bad_data(call, make, x, y, error, words):
    model = make()
    good = Y if model.n_outputs == 3 else np.clip(np.abs(T), 0, 1)
    model.fit(X, good, epochs=2, verbose=0)
    before = _state(model)
    with pytest.raises(error, match=words) as caught:
        getattr(model, call)(x, y, **({"verbose": 0} if call == "fit" else {}))
    assert isinstance(caught.value, (ValueError, TypeError))
    _assert_unchanged(model, before)


@pytest.mark.parametrize(("options", "error", "words"), BAD_OPTIONS, ids=[str(next(iter(o[0]))) for o in BAD_OPTIONS])
def test_bad_options(options, error, words):
    model = _classifier()
    model.fit(X, Y, epochs=2, verbose=0)
    before = _state(model)
    with pytest.raises(error, match=words):
        model.fit(X, Y, **({"verbose": 0} | options))
    _assert_unchanged(model, before)


@pytest.mark.parametrize("x", [X[:, :1], X[0], X[:0], None])
def test_predict_checks_too(x):
    with pytest.raises(NnfastError, match="X"):
        _classifier().predict(x)


def test_layers_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"layer 2, Dense\(5, 3\), takes 5 inputs, but layer 1, ReLU\(\), gives 4"):
        nn.Model([nn.Dense(2, 4), nn.ReLU(), nn.Dense(5, 3)])
    with pytest.raises(ShapeError, match="at least one layer"):
        nn.Model([nn.ReLU()])
    with pytest.raises(ShapeError, match="at least one layer"):
        nn.Model([])


def test_classes_instead_of_objects():
    with pytest.raises(DTypeError, match=r"ReLU\(…\)"):
        nn.Model([nn.Dense(2, 4), nn.ReLU])
    with pytest.raises(DTypeError, match="loss"):
        nn.Model([nn.Dense(2, 4)], loss=nn.SoftmaxCrossEntropy)
    with pytest.raises(DTypeError, match="optimizer"):
        nn.Model([nn.Dense(2, 4)], loss=nn.SoftmaxCrossEntropy(), optimizer="adam")


def test_softmax_before_a_loss_on_logits():
    with pytest.raises(OptionError, match="CategoricalCrossEntropy"):
        nn.Model([nn.Dense(2, 3), nn.Softmax()], nn.SoftmaxCrossEntropy())
    with pytest.raises(OptionError, match="BinaryCrossEntropy"):
        nn.Model([nn.Dense(2, 1), nn.Sigmoid()], nn.SigmoidBinaryCrossEntropy())


def test_unknown_names_give_the_closest():
    with pytest.raises(UnknownNameError, match="'accuracy'"):
        nn.Model([nn.Dense(2, 3)], nn.SoftmaxCrossEntropy(), metrics=["acuracy"])
    with pytest.raises(UnknownNameError, match="'he_normal'"):
        nn.Dense(2, 3, "he_norma")
    with pytest.raises(nn.BackendUnavailable, match="'numpy'"):
        nn.Model([nn.Dense(2, 3)], backend="nunpy")
    with pytest.raises(UnknownNameError, match="perturb"):
        nn.RandomSearch(mode="pertub")
    with pytest.raises(DTypeError, match="regression_accuracy"):
        nn.Model([nn.Dense(2, 3)], nn.MeanSquaredError(), metrics=["regression_accuracy"])
    with pytest.raises(NnfastError, match="float32"):
        nn.Model([nn.Dense(2, 3)], dtype="float16")


def test_metrics_that_do_not_fit():
    with pytest.raises(DTypeError, match="metrics is a list"):
        nn.Model([nn.Dense(2, 3)], nn.SoftmaxCrossEntropy(), metrics="accuracy")
    with pytest.raises(OptionError, match="twice"):
        nn.Model([nn.Dense(2, 3)], nn.SoftmaxCrossEntropy(), metrics=["accuracy", "accuracy"])
    with pytest.raises(OptionError, match="loss"):
        nn.Model([nn.Dense(2, 3)], metrics=["accuracy"])
    model = nn.Model([nn.Dense(2, 3)], nn.SoftmaxCrossEntropy(), metrics=["r2"], backend="numpy")
    with pytest.raises(ShapeError, match="r2"):
        model.evaluate(X, Y)


def test_a_layer_or_optimizer_serves_one_model():
    layer, optimizer = nn.Dense(2, 3, rng=0), nn.Adam()
    model = nn.Model([layer], nn.SoftmaxCrossEntropy(), optimizer, backend="numpy")
    before = copy.deepcopy(model.get_weights())
    fresh, other = nn.Dense(2, 3), nn.Adam()
    with pytest.raises(OwnershipError, match="belongs to a model"):
        nn.Model([layer], nn.SoftmaxCrossEntropy(), other, backend="numpy")
    with pytest.raises(OwnershipError, match="optimizer"):
        nn.Model([fresh], nn.SoftmaxCrossEntropy(), optimizer, backend="numpy")
    with pytest.raises(OwnershipError, match="twice"):
        nn.Model([fresh, fresh], backend="numpy")
    np.testing.assert_equal(model.get_weights(), before)
    nn.Model([fresh], nn.SoftmaxCrossEntropy(), other, backend="numpy")  # what was refused is still free


def test_calls_that_need_a_loss_or_an_optimizer():
    bare = nn.Model([nn.Dense(2, 3)], backend="numpy", rng=0)
    assert bare.predict(X).shape == (30, 3)
    for call in (bare.fit, bare.evaluate, bare.loss_and_gradient, bare.train_on_batch):
        with pytest.raises(StateError, match="loss"):
            call(X, Y)
    lossy = nn.Model([nn.Dense(2, 3)], nn.SoftmaxCrossEntropy(), backend="numpy", rng=0)
    assert lossy.evaluate(X, Y)["loss"] > 0
    with pytest.raises(StateError, match="optimizer"):
        lossy.fit(X, Y)


def test_random_search_takes_the_whole_set():
    model = nn.Model([nn.Dense(2, 3)], nn.SoftmaxCrossEntropy(), nn.RandomSearch(), backend="numpy", rng=0)
    before = _state(model)
    with pytest.raises(OptionError, match="whole set"):
        model.fit(X, Y, batch_size=5, verbose=0)
    with pytest.raises(OptionError, match="no gradients"):
        model.fit(X, Y, on_gradients=print, verbose=0)
    with pytest.raises(StateError, match="fit"):
        model.train_on_batch(X, Y)
    _assert_unchanged(model, before)


def test_inputs_are_read_only_safe_and_never_changed():
    x, y = X.astype(np.float32), Y.copy()
    x.flags.writeable = y.flags.writeable = False
    model = _classifier()
    model.fit(x, y, epochs=3, batch_size=7, verbose=0)
    model.evaluate(x, y)
    model.predict(x)
    np.testing.assert_array_equal(x, X.astype(np.float32))


def test_a_callback_that_raises_leaves_a_usable_model():
    def broken(model, epoch, logs):
        raise RuntimeError("callback")

    model, twin = _classifier(), _classifier()
    with pytest.raises(RuntimeError, match="callback"):
        model.fit(X, Y, epochs=5, verbose=0, callbacks=[broken])
    twin.fit(X, Y, epochs=1, verbose=0)
    np.testing.assert_array_equal(model.parameters, twin.parameters)
    model.fit(X, Y, epochs=2, verbose=0)
    twin.fit(X, Y, epochs=2, verbose=0)
    np.testing.assert_array_equal(model.parameters, twin.parameters)


def test_an_initializer_of_the_wrong_shape_or_that_raises_claims_nothing():
    def broken(shape, rng):
        raise RuntimeError("initializer")

    good, optimizer = nn.Dense(2, 3), nn.Adam()
    with pytest.raises(ShapeError, match=r"\(3, 3\)"):
        nn.Model([good, nn.Dense(3, 3, lambda shape, rng: np.ones(3))], nn.SoftmaxCrossEntropy(), optimizer)
    with pytest.raises(RuntimeError, match="initializer"):
        nn.Model([good, nn.Dense(3, 3, broken)], nn.SoftmaxCrossEntropy(), optimizer)
    assert not good.values()
    nn.Model([good], nn.SoftmaxCrossEntropy(), optimizer, backend="numpy")


def test_a_layer_on_a_backend_that_is_not_there_fails_at_once():
    with pytest.raises(nn.BackendUnavailable, match="'numpy'"):
        nn.Dense(2, 3, backend="nunpy")


def test_metrics_that_would_lie():
    def model(loss, outputs, metric):
        return nn.Model([nn.Dense(2, outputs)], loss, metrics=[metric], backend="numpy")

    for loss, outputs in (
        (nn.SigmoidBinaryCrossEntropy(), 1),
        (nn.MeanSquaredError(), 1),
        (nn.BinaryCrossEntropy(), 2),
    ):
        with pytest.raises(OptionError, match="binary_accuracy"):
            model(loss, outputs, "accuracy")
    with pytest.raises(OptionError, match="at most 3"):
        model(nn.SoftmaxCrossEntropy(), 3, nn.metrics.top_k(4))
    for name in ("loss", "data_loss", "a.b"):
        with pytest.raises(OptionError, match=name):
            model(nn.MeanSquaredError(), 2, nn.metrics.regression_accuracy(0.1, name))


def test_what_should_have_been_a_list_or_a_truth_value():
    with pytest.raises(DTypeError, match="layers is a list"):
        nn.Model(nn.Dense(2, 3))
    model = _classifier()
    before = _state(model)
    for options, words in (
        ({"callbacks": nn.EarlyStopping("loss")}, "callbacks is a list"),
        ({"callbacks": 3}, "callbacks is a list"),
        ({"shuffle": "yes"}, "shuffle"),
    ):
        with pytest.raises(DTypeError, match=words):
            model.fit(X, Y, verbose=0, **options)
    with pytest.raises(DTypeError, match="trainable"):
        model.layers[0].trainable = "no"
    with pytest.raises(OptionError, match="twice"):
        nn.Adam().step([layer := nn.Dense(2, 3, rng=0), layer])
    with pytest.raises(StateError, match=r"Model.fit"):
        nn.RandomSearch().step([layer])
    with pytest.raises(OptionError, match="epsilon"):
        nn.Adam(epsilon=0)
    with pytest.raises(OptionError, match="clip_norm"):
        nn.Adam(clip_norm=0)
    _assert_unchanged(model, before)


def test_a_predictor_says_what_is_wrong_with_out():
    one = _classifier().predictor()
    frozen = np.empty((1, 3), np.float32)
    frozen.flags.writeable = False
    view = memoryview(np.empty((1, 3), np.float32))
    for out, words in (
        ([[1]], "list"),
        (view, "memoryview"),
        (frozen, "writable"),
        (np.empty((1, 6), np.float32)[:, ::2], "C-contiguous"),
    ):
        with pytest.raises(DTypeError, match=words):
            one(X[:1], out=out)


def test_a_model_that_computes_nothing():
    class Pass(nn.Layer):
        n_inputs_wanted = 2

        def lower(self, b):
            pass

    with pytest.raises(OptionError, match="nothing to compute"):
        nn.Model([Pass()], backend="numpy").predict(X)
    learner = nn.Model([Pass()], nn.MeanSquaredError(), nn.SGD(0.1), backend="numpy")
    assert len(learner.fit(X, X, epochs=2, verbose=0).history["loss"]) == 2


def test_more_that_is_no_list_name_or_truth_value():
    with pytest.raises(DTypeError, match="metrics is a list"):
        nn.Model([nn.Dense(2, 3)], nn.SoftmaxCrossEntropy(), metrics=None)
    with pytest.raises(DTypeError, match="word"):
        nn.Model([nn.Dense(2, 3)], nn.MeanSquaredError(), metrics=[nn.metrics.regression_accuracy(0.1, 3)])
    with pytest.raises(OptionError, match="val_loss"):
        nn.Model([nn.Dense(2, 3)], nn.MeanSquaredError(), metrics=[nn.metrics.regression_accuracy(0.1, "val_loss")])
    model = _classifier()
    with pytest.raises(DTypeError, match="get_weights"):
        model.set_weights(None)
    with pytest.raises(DTypeError, match="training"):
        model.loss_and_gradient(X, Y, training="no")
    with pytest.raises(DTypeError, match="training"):
        nn.Dropout(0.5, rng=0).forward(X, training="no")
    with pytest.raises(nn.BackendUnavailable, match="nunpy"):
        nn.MeanSquaredError(backend="nunpy")
    for rate in (float("inf"), "a"):
        with pytest.raises(OptionError, match="finite"):
            nn.SGD(lambda step, rate=rate: rate).learning_rates(0, 1)


def test_names_of_parameters_that_are_not_there():
    class Own(nn.PythonLayer):
        def parameter_shapes(self):
            return {"w": (2,)}

    with pytest.raises(UnknownNameError, match="Known: w"):
        Own().parameter("v")

    class Lowered(nn.Layer):
        n_inputs_wanted = 2

        def lower(self, b):
            b.parameter("weights")

    with pytest.raises(UnknownNameError, match=r"0\.weights"):
        nn.Model([Lowered(), nn.Dense(2, 3)], backend="numpy").predict(X)
    with pytest.raises(UnknownNameError, match="'label'"):
        type("Misspelt", (nn.PythonLoss,), {"targets": "labels"})


def test_plain_python_losses_take_the_same_dtypes_as_others():
    class Own(nn.PythonLoss):
        def compute(self, output, y):
            return (output - y).sum(axis=1)

    with pytest.raises(DTypeError, match="float16"):
        Own().forward(np.zeros((2, 1), np.float16), np.zeros((2, 1)))


def test_a_metric_cannot_be_named_penalty():
    with pytest.raises(OptionError, match="penalty"):
        nn.Model([nn.Dense(2, 2)], nn.MeanSquaredError(), metrics=[nn.metrics.regression_accuracy(0.1, "penalty")])


def test_a_callback_must_be_due_at_times():
    class Never(nn.Callback):
        every = 0

    model = _classifier()
    before = _state(model)
    with pytest.raises(OptionError, match="every"):
        model.fit(X, Y, verbose=0, callbacks=[Never()])
    _assert_unchanged(model, before)
