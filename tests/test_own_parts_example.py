"""The example of parts in plain Python: right gradients, agreement with what is imitated, copies; `PythonMetric`."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest

import nnfast as nn
from nnfast.errors import DTypeError, ShapeError, UnknownNameError
from nnfast.examples import own_parts
from nnfast.metrics import PythonMetric
from nnfast.testing import check_vjp

X, Y = nn.datasets.spiral(20, 3, 0)
WEIGHTS = np.random.default_rng(0).uniform(0, 2, len(X))
OWN = [variant for variant in own_parts.VARIANTS if variant != "nothing"]


def fit(model, **options):
    return model.fit(X, Y, **({"epochs": 20, "batch_size": 25, "verbose": 0} | options)).history


# ---- the four parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", OWN)
def test_it_trains_and_agrees_with_what_it_imitates(variant, backend):
    own, built_in = (own_parts.build(v, backend=backend, dtype="float64") for v in (variant, "nothing"))
    options = {"validation_data": (X, Y, WEIGHTS), "sample_weight": WEIGHTS[::-1].copy()}
    got, wanted = fit(own, **options), fit(built_in, **options)
    assert got["loss"][-1] < 0.98 * got["loss"][0]
    np.testing.assert_allclose(own.parameters, built_in.parameters, rtol=1e-9, atol=1e-11)
    for name in wanted:
        if variant == "the metric, in validation only" and name == "accuracy":
            assert name not in got
        else:
            np.testing.assert_allclose(got[name], wanted[name], rtol=1e-9)
    assert own.evaluate(X, Y)["accuracy"] == built_in.evaluate(X, Y)["accuracy"]


@pytest.mark.parametrize("variant", OWN)
def test_its_gradient_is_that_of_its_loss(variant, backend, rng):
    model = own_parts.build(variant, backend=backend, dtype="float64")
    _, gradient = model.loss_and_gradient(X, Y, sample_weight=WEIGHTS)
    start, gradient = model.parameters.copy(), gradient.copy()
    direction, values = rng.standard_normal(start.size) * (gradient != 0), []
    for sign in (1, -1):
        model.parameters = start + sign * 1e-6 * direction
        values.append(model.loss_and_gradient(X, Y, sample_weight=WEIGHTS)[0])
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(gradient @ direction, rel=1e-6)


def test_the_layer_alone_is_silu(rng):
    x, dy = rng.standard_normal((2, 9, 5))
    own, built_in = own_parts.Swish(dtype="float64"), nn.SiLU(dtype="float64")
    np.testing.assert_allclose(own.forward(x), built_in.forward(x), rtol=1e-14)
    np.testing.assert_allclose(own.backward(dy), built_in.backward(dy), rtol=1e-13)

    def backward(dy, x):
        own.forward(x)
        return (own.backward(dy),)

    check_vjp(own.forward, backward, [x], rng)


def test_the_loss_alone_is_softmax_cross_entropy(rng):
    z, y = 5 * rng.standard_normal((9, 3)), rng.integers(0, 3, 9)
    own, built_in = own_parts.CrossEntropy(), nn.SoftmaxCrossEntropy()
    assert own.forward(z, y) == pytest.approx(built_in.forward(z, y), rel=1e-13)
    np.testing.assert_allclose(own.backward(), built_in.backward(), rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("variant", OWN)
def test_a_copy_goes_its_own_way(variant, backend):
    model = own_parts.build(variant, backend=backend)
    fit(model, epochs=3)
    twin = copy.deepcopy(model)
    before = model.parameters.copy()
    fit(twin, epochs=3)
    np.testing.assert_array_equal(model.parameters, before)
    fit(model, epochs=3)
    np.testing.assert_array_equal(model.parameters, twin.parameters)


def test_what_cuts_the_step_and_what_does_not():
    if not nn.available_backends()["numba"]:
        pytest.skip("needs a backend that compiles")
    counts = {variant: own_parts.cuts(own_parts.build(variant, backend="numba")) for variant in own_parts.VARIANTS}
    assert list(counts.values()) == [0, 2, 1, 1, 0, 0, 4]


@pytest.mark.parametrize("epochs", [1, 12])
def test_the_program_measures_each(epochs, capsys):
    assert own_parts.main(["--epochs", str(epochs)]) == 0
    out = capsys.readouterr().out
    assert f"{epochs:,} epochs" in out
    for variant in own_parts.VARIANTS:
        (row,) = [line for line in out.splitlines() if re.match(rf"{re.escape(variant)}  ", line)]
        assert float(row[len(variant) :].split()[0].replace(",", "")) > 0


# ---- PythonMetric ---------------------------------------------------------------------------------------------------


class AbsoluteError(PythonMetric):
    higher_is_better = False

    def compute(self, output, y):
        return abs(output - y).mean(axis=1)


def regressor(metrics, loss=None, **settings):
    layers = [nn.Dense(2, 8), nn.Tanh(), nn.Dense(8, 2)]
    return nn.Model(layers, loss or nn.MeanSquaredError(), nn.Adam(0.02), metrics, rng=0, **settings)


TARGETS = np.c_[X[:, 0] * X[:, 1], X.sum(axis=1)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_metric_of_real_targets_is_a_weighted_mean_of_rows(dtype, backend):
    model = regressor([AbsoluteError(), "mean_absolute_error"], backend=backend, dtype=dtype)
    validation = {"validation_data": (X[::2], TARGETS[::2], WEIGHTS[::2]), "validation_every": 2}
    options = {"epochs": 4, "batch_size": 7, "verbose": 0, "sample_weight": WEIGHTS}
    history = model.fit(X, TARGETS, **options, **validation).history
    for prefix in ("", "val_"):
        np.testing.assert_allclose(
            history[f"{prefix}absolute_error"], history[f"{prefix}mean_absolute_error"], rtol=1e-6
        )
    values = model.evaluate(X, TARGETS, batch_size=11, sample_weight=WEIGHTS)
    by_hand = AbsoluteError()(model.predict(X), TARGETS, sample_weight=WEIGHTS)
    assert by_hand == pytest.approx(values["absolute_error"], rel=1e-6)
    assert by_hand == pytest.approx(values["mean_absolute_error"], rel=1e-6)


def test_early_stopping_knows_which_way_it_is_better():
    stop = nn.EarlyStopping("absolute_error", patience=1)
    stop.on_begin(regressor([AbsoluteError()]), 9, ("loss", "absolute_error"))
    assert [stop.on_epoch(None, e, {"absolute_error": v}) for e, v in enumerate([3, 2, 2.5], 1)] == [None, None, True]


def test_it_sees_probabilities_where_the_loss_takes_logits(backend):
    seen = []

    class Brier(PythonMetric):
        def compute(self, output, y):
            seen.append(output)
            assert not output.flags.writeable
            assert not y.flags.writeable
            return ((output - y) ** 2).sum(axis=1)

    model = regressor([Brier()], nn.SigmoidBinaryCrossEntropy(), backend=backend)
    value = model.evaluate(X, (TARGETS > 0).astype(float))["brier"]
    np.testing.assert_allclose(seen[-1], model.predict(X), rtol=1e-6)
    assert value == pytest.approx(float(((model.predict(X) - (TARGETS > 0)) ** 2).sum(axis=1).mean()), rel=1e-6)


def test_names():
    class R2D2Score(AbsoluteError):
        pass

    assert AbsoluteError().name == "absolute_error"
    assert R2D2Score().name == "r2_d2_score"
    assert AbsoluteError("far off").name == "far off"
    two = regressor([AbsoluteError("one"), AbsoluteError("two")]).evaluate(X, TARGETS)
    assert two["one"] == two["two"] > 0
    with pytest.raises(nn.errors.OptionError, match="named twice"):
        regressor([AbsoluteError(), AbsoluteError()])
    assert repr(AbsoluteError()) == "<metric absolute_error>"


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (lambda a: None, DTypeError, "return"),
        (lambda a: a, ShapeError, r"shape \(60, 2\); expected \(60,\)"),
        (lambda a: 0.5, DTypeError, "float; expected an array"),
        (lambda a: a[:, 0] + 1j, DTypeError, "complex"),
    ],
)
def test_what_it_returns_is_checked(value, error, words):
    class Odd(PythonMetric):
        def compute(self, output, y):
            return value(output)

    with pytest.raises(error, match=words) as caught:
        regressor([Odd()], backend="numpy").evaluate(X, TARGETS)
    assert "Odd.compute" in str(caught.value)
    with pytest.raises(error, match=words):
        Odd()(TARGETS, TARGETS)


def test_mistakes_are_explained():
    class Nothing(PythonMetric):
        pass

    with pytest.raises(NotImplementedError, match=r"Nothing must define compute\(output, y\)"):
        Nothing()(TARGETS, TARGETS)
    with pytest.raises(UnknownNameError, match="targets of the metric Wrong 'labels'"):
        type("Wrong", (PythonMetric,), {"targets": "labels"})
    model = nn.Model([nn.Dense(2, 3)], nn.SoftmaxCrossEntropy(), nn.SGD(0.1), [AbsoluteError()])
    with pytest.raises(ShapeError, match="needs targets of the output's shape"):
        model.evaluate(X, Y)
    with pytest.raises(ShapeError, match="y has shape"):
        AbsoluteError()(TARGETS, TARGETS[:3])


def test_a_random_search_can_be_measured(backend):
    model = regressor([AbsoluteError(), "mean_absolute_error"], backend=backend)
    model.optimizer = nn.RandomSearch(0.1)
    history = model.fit(X, TARGETS, epochs=30, verbose=0).history
    np.testing.assert_allclose(history["absolute_error"], history["mean_absolute_error"], rtol=1e-6)
