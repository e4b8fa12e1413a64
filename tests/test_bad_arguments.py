"""Single arguments that were once taken, or refused too late, or with the words of somebody else."""

from __future__ import annotations

import numpy as np
import pytest

import nnfast as nn
from nnfast import functional as F
from nnfast.compat import nnfs
from nnfast.errors import DTypeError, OptionError, ShapeError, UnknownNameError
from nnfast.validation import integer, number

X, Y = nn.datasets.spiral(10, 3, 0)
P = np.ones(4)


def _model(**settings):
    return nn.Model([nn.Dense(2, 3)], nn.SoftmaxCrossEntropy(), nn.Adam(0.01), backend="numpy", rng=0, **settings)


@pytest.mark.parametrize(
    ("step", "settings"),
    [
        (lambda **s: F.rmsprop_step(P.copy(), P, None, **s), {"learning_rate": 0.1}),
        (lambda **s: F.adagrad_step(P.copy(), P, None, **s), {"learning_rate": 0.1}),
        (lambda **s: F.adam_step(P.copy(), P, None, P * 0, **s), {"step": 1, "learning_rate": 0.1}),
        (lambda **s: F.adam_step(P.copy(), None, P * 0, P * 0, **s), {"step": 1, "learning_rate": 0.1}),
        (lambda **s: F.clip_by_global_norm(None, **s), {"clip_norm": 1}),
        (lambda **s: F.dense(X, None, P, **s), {}),
        (lambda **s: F.relu(None, **s), {}),
        (lambda **s: F.relu_backward(None, X, **s), {}),
        (lambda **s: F.mean_squared_error(None, X, **s), {}),
    ],
)
def test_an_array_that_is_needed_cannot_be_none(step, settings, backend):
    with pytest.raises(DTypeError, match="None"):
        step(**settings, backend=backend)


def test_whole_numbers_fit_into_64_bits():
    assert integer("n", 2**63 - 1, 1) == 2**63 - 1
    for n in (2**63, 10**30):
        with pytest.raises(OptionError, match="from 1 to 9223372036854775807"):
            integer("n", n, 1)
    with pytest.raises(OptionError, match="at least 1"):
        integer("n", 0, 1)
    with pytest.raises(OptionError, match="n_inputs"):
        nn.Dense(10**30, 2)
    with pytest.raises(OptionError, match="samples"):
        nn.datasets.sine(10**30)


def test_a_time_is_no_number():
    with pytest.raises(OptionError, match="finite number"):
        number("rate", np.timedelta64(1, "s"))


@pytest.mark.parametrize(
    "call",
    [
        lambda: F.mean_squared_error(P[:, None], P[:, None], per_sample="no"),
        lambda: F.sgd_step(P.copy(), P, P * 0, learning_rate=0.1, momentum=0.5, nesterov="no"),
        lambda: nn.AdamW(decay_biases="no"),
        lambda: nn.EarlyStopping(restore_best="no"),
        lambda: nnfs.Accuracy_Regression().init(P, reinit="no"),
    ],
)
def test_what_is_true_or_false_is_that(call):
    with pytest.raises(DTypeError, match="expected True or False"):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda words: F.dense(X, np.ones((2, 3)), np.ones(3), activation=words),
        lambda words: F.random_search_propose(P, key=1, step=1, scale=1, mode=words),
        lambda words: nn.RandomSearch(mode=words),
        lambda words: nn.EarlyStopping(mode=words),
        lambda words: nn.EarlyStopping(monitor=words),
        lambda words: nn.metrics.confusion_matrix(np.eye(3), [0, 1, 2], normalize=words),
        lambda words: nn.History(("loss",)).best("loss", mode=words),
        lambda words: nn.History(("loss",)).epochs_of(words),
        lambda words: _model().fit(X, Y, verbose=words),
        lambda words: F.apply_op(words, X),
    ],
)
@pytest.mark.parametrize("words", [np.array([1.0, 2.0]), ["loss"]])
def test_a_word_is_a_word(call, words):
    with pytest.raises((DTypeError, OptionError, UnknownNameError)):
        call(words)


def test_a_backend_is_looked_at_before_arrays_are():
    with pytest.raises(nn.BackendUnavailable, match="no Backend"):
        F.relu([[1.0]], backend=3)


def test_sums_in_lists_of_different_lengths():
    with pytest.raises(DTypeError, match="sums"):
        F.random_search_accept(P.copy(), P, [[1.0], [1.0, 2.0]], P.copy())
    with pytest.raises(DTypeError, match="masked"):
        F.clip_by_global_norm(np.ma.masked_array(P, P < 0), clip_norm=1)


@pytest.mark.parametrize("alpha", [np.array(0.1), np.array([0.1, 0.2]), 10**30, "a"])
def test_scalars_of_any_op_are_numbers(alpha):
    with pytest.raises(OptionError, match="alpha"):
        F.apply_op("leaky_relu", X, alpha=alpha)
    with pytest.raises(DTypeError, match="dims"):
        F.apply_op("leaky_relu", X, alpha=0.1, dims=3)


@pytest.mark.parametrize("path", [3, 2.5, [1], "", "a\0b"])
def test_names_of_files(path):
    model = _model()
    with pytest.raises((DTypeError, OptionError), match="resume"):
        model.fit(X, Y, verbose=0, resume=path)
    for callback in (nn.CSVLogger, nn.ModelCheckpoint, nn.TensorBoard):
        with pytest.raises((DTypeError, OptionError), match=r"path|folder"):
            callback(path)


def test_restoring_wants_a_function(tmp_path):
    model = _model()
    model.save(tmp_path / "a.nnfast")
    with pytest.raises(DTypeError, match="check"):
        nn.checkpoint.restore(model, tmp_path / "a.nnfast", check=3)


def test_weights_of_classes_beside_batches():
    """An array is no word: it used to be compared with one."""
    model = _model()
    history = model.fit([(X, Y)], class_weight=np.array([1.0, 2.0, 0.5]), verbose=0)
    assert len(history.history["loss"]) == 1


def test_a_step_takes_layers():
    for layers in (3, None, ""):
        with pytest.raises(DTypeError, match="layer"):
            nn.Adam().step(layers)
    with pytest.raises(DTypeError, match="callbacks is a list"):
        _model().fit(X, Y, verbose=0, callbacks="")


def test_a_rate_is_looked_at_before_gradients_are_clipped():
    layer = nn.Dense(2, 3, rng=0, backend="numpy")
    layer.backward(np.ones_like(layer.forward(X)))
    before = layer.dweights.copy()
    with pytest.raises(OptionError, match="schedule"):
        nn.SGD(lambda step: float("nan"), clip_norm=1e-3).step(layer)
    np.testing.assert_array_equal(layer.dweights, before)


def test_a_refused_input_draws_no_weights():
    layer = nn.Dense(2, 3, backend="numpy")
    with pytest.raises(ShapeError):
        layer.forward(X[0])
    assert not layer.values()
    twins = [nn.Model([part], backend="numpy", rng=0) for part in (layer, nn.Dense(2, 3))]
    np.testing.assert_array_equal(twins[0].parameters, twins[1].parameters)


def test_the_books_parts_are_as_before():
    linear = nnfs.Activation_Linear()
    linear.forward(X)
    with pytest.raises(DTypeError):
        linear.forward("text")
    assert linear.inputs is X
    before, made = np.random.get_state()[1].copy(), nnfs.Layer_Dense(1, 1).weights.dtype
    for seed in (-1, "a", 2**32, 1.5):
        with pytest.raises(OptionError, match="random_seed"):
            nnfs.init(default_dtype="float64", random_seed=seed)
    assert nnfs.Layer_Dense(1, 1).weights.dtype == made
    assert len(before)


@pytest.mark.parametrize("shape", [3, "32", None, (2.5, 3), (-1, 2), ("a", 2)])
def test_shapes_of_weights(shape):
    with pytest.raises((DTypeError, OptionError), match="shape"):
        nn.initializers.normal()(shape, 0)


def test_initializers_by_hand():
    with pytest.raises(UnknownNameError, match="'he_normal'"):
        nn.initializers.Initializer("he_norma")
    for options in ({"gain": 1.0}, {}):
        with pytest.raises(OptionError, match="options"):
            nn.initializers.Initializer("normal", **options)


def test_names_of_metrics_need_not_be_hashable():
    with pytest.raises(DTypeError, match="word"):
        _model(metrics=[nn.metrics.regression_accuracy(0.1, ["a"])])


@pytest.mark.parametrize(
    "changes",
    [
        {"name": 3},
        {"name": "two words"},
        {"signature": 3},
        {"signature": "x -> y"},
        {"signature": "x[N,I] x[N,I] -> y[N,I]"},
        {"signature": " "},
        {"signature": "x[N,I]"},
        {"signature": "x[N,I] a[I]? ->"},
        {"equation": None},
        {"scalars": "scale"},
        {"scalars": [1]},
        {"attributes": ["a", "a"]},
        {"flops": -1},
        {"by_rows": 1},
    ],
)
def test_what_an_op_says_of_itself(changes):
    with pytest.raises((DTypeError, OptionError)):
        nn.OpSpec(**({"name": "cube", "signature": "x[N,I] -> y[N,I]"} | changes))


@pytest.mark.parametrize("signature", ["x[N,I]!", "x[N,I] total[]!:f8", "x[N,I] -> y[N,Q]"])
def test_signatures_that_are_right(signature):
    assert nn.OpSpec("cube", signature).signature == signature


def test_ops_that_cannot_be_registered():
    half = nn.OpSpec("half_floats", "x[N,I]:f2 -> y[N,I]")
    with pytest.raises(OptionError, match="f2"):
        nn.register_op(half, reference=lambda x, y: None)
    spec = nn.OpSpec("without_signature", "x[N,I] -> y[N,I]")
    with pytest.raises(OptionError, match="no signature"):
        nn.register_op(spec, reference=lambda x, y: None, numba=max)


def test_lists_that_are_none():
    with pytest.raises(DTypeError, match="class_weight"):
        _model().fit(X, Y, verbose=0, class_weight=np.array(1.0))
    with pytest.raises(DTypeError, match="masked"):
        _model().predictor()(X[:1], out=np.ma.masked_array(np.ones((1, 3), np.float32)))
    book = nnfs.Model()
    book.add(nnfs.Layer_Dense(2, 3))
    book.finalize()
    for parameters in (None, 3, "text", [1]):
        with pytest.raises(DTypeError, match="pairs"):
            book.set_parameters(parameters)
