"""Initializers and the `rng=` argument that feeds them."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from nnfast import initializers
from nnfast.errors import DTypeError, OptionError, ShapeError, UnknownNameError
from nnfast.random import as_rng, draw_key

SHAPE = (300, 200)
UNIFORM = {"glorot_uniform": math.sqrt(6 / 500), "he_uniform": math.sqrt(6 / 300)}
NORMAL = {"normal": 0.01, "glorot_normal": math.sqrt(2 / 500), "he_normal": math.sqrt(2 / 300)}
NAMES = [*UNIFORM, *NORMAL, "zeros"]


@pytest.mark.parametrize("name", UNIFORM)
def test_uniform_ones_fill_their_bounds(name):
    w = initializers.resolve(name)(SHAPE, 0)
    limit = UNIFORM[name]
    assert np.abs(w).max() <= limit
    assert np.abs(w).max() > 0.999 * limit
    assert w.std() == pytest.approx(limit / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize("name", NORMAL)
def test_normal_ones_have_their_deviation(name):
    w = initializers.resolve(name)(SHAPE, 0)
    assert w.std() == pytest.approx(NORMAL[name], rel=0.02)
    assert abs(w.mean()) < 0.02 * NORMAL[name]
    assert np.abs(w).max() > 3.5 * NORMAL[name]  # not truncated


def test_zeros_draws_nothing():
    stream = np.random.RandomState(0)
    assert not initializers.zeros()((3, 2), stream).any()
    assert stream.randn() == np.random.RandomState(0).randn()


def test_normal_repeats_the_books_stream():
    stream = np.random.RandomState(0)
    book = np.random.RandomState(0)
    for shape in ((2, 3), (3, 3)):
        np.testing.assert_array_equal(initializers.normal()(shape, stream), 0.01 * book.randn(*shape))


@pytest.mark.parametrize("name", NAMES)
def test_all_give_float64_of_the_shape_and_repeat(name):
    init = initializers.resolve(name)
    w = init((4, 5), 7)
    assert w.shape == (4, 5)
    assert w.dtype == np.float64
    np.testing.assert_array_equal(w, init((4, 5), 7))


@pytest.mark.parametrize("name", NAMES)
def test_repr_is_the_call_and_equality_is_by_rule_and_options(name):
    init = initializers.resolve(name)
    assert eval(repr(init), vars(initializers)) == init
    assert pickle.loads(pickle.dumps(init)) == init
    assert hash(init) == hash(initializers.resolve(name))
    others = [initializers.resolve(other) for other in NAMES if other != name]
    assert init not in others


def test_scale_is_part_of_it():
    assert repr(initializers.normal(0.5)) == "normal(scale=0.5)"
    assert initializers.normal(0.5) != initializers.normal(0.1)
    assert not initializers.normal(0)((2, 2), 0).any()
    for scale in (-1, math.nan, math.inf, "big"):
        with pytest.raises(OptionError, match="scale"):
            initializers.normal(scale)


def test_resolve_takes_names_initializers_factories_and_callables():
    he = initializers.he_normal()
    assert initializers.resolve("he_normal") == he
    assert initializers.resolve(he) is he
    assert initializers.resolve(initializers.he_normal) == he

    def ones(shape, rng):
        return np.ones(shape)

    assert initializers.resolve(ones) is ones


def test_resolve_names_the_closest():
    with pytest.raises(UnknownNameError, match="unknown initializer 'glorot_unifrom'; did you mean 'glorot_uniform'"):
        initializers.resolve("glorot_unifrom")
    with pytest.raises(DTypeError, match="initializer is 3; expected a name"):
        initializers.resolve(3)


@pytest.mark.parametrize("name", ["glorot_uniform", "glorot_normal", "he_uniform", "he_normal"])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (0, 4)])
def test_scaled_ones_want_a_weight_matrix(name, shape):
    with pytest.raises(ShapeError, match="weight matrix"):
        initializers.resolve(name)(shape, 0)


def test_as_rng_takes_generators_as_they_are():
    for rng in (np.random.default_rng(1), np.random.RandomState(1)):
        assert as_rng(rng) is rng
    assert as_rng(5).random() == np.random.default_rng(5).random()
    assert as_rng(np.int64(5)).random() == np.random.default_rng(5).random()
    assert as_rng().random() != as_rng(None).random()


@pytest.mark.parametrize(
    ("rng", "error"),
    [(-1, OptionError), (1.0, DTypeError), ("0", DTypeError), (True, DTypeError), (np.random, DTypeError)],
)
def test_as_rng_refuses_the_rest(rng, error):
    with pytest.raises(error, match="rng is"):
        as_rng(rng)


@pytest.mark.parametrize("kind", [np.random.default_rng, np.random.RandomState])
def test_keys_have_64_bits_and_differ(kind):
    keys = [draw_key(kind(0)), draw_key(kind(1))]
    keys += [draw_key(rng) for rng in [kind(2)] for _ in range(200)]
    assert draw_key(kind(0)) == keys[0]
    assert len(set(keys)) == len(keys)
    assert 2**63 <= max(keys) < 2**64
    union = 0
    for key in keys:
        union |= key
    assert union == 2**64 - 1  # every bit is drawn
