"""The toy data sets against the book's own loops, written out here, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from nnfast import datasets
from nnfast.errors import OptionError


def book_spiral(samples, classes, turns):
    """The book's (turns 2.5) and the case study's (turns 1) generator, on NumPy's legacy stream from seed 0."""
    stream = np.random.RandomState(0)
    x, y = np.zeros((samples * classes, 2)), np.zeros(samples * classes, dtype="uint8")
    for c in range(classes):
        rows = range(samples * c, samples * (c + 1))
        r = np.linspace(0.0, 1, samples)
        t = np.linspace(c * 4, (c + 1) * 4, samples) + stream.randn(samples) * 0.2
        x[rows] = np.c_[r * np.sin(t * turns), r * np.cos(t * turns)]
        y[rows] = c
    return x, y


def book_vertical(samples, classes):
    stream = np.random.RandomState(0)
    x, y = np.zeros((samples * classes, 2)), np.zeros(samples * classes, dtype="uint8")
    for c in range(classes):
        rows = range(samples * c, samples * (c + 1))
        x[rows] = np.c_[stream.randn(samples) * 0.1 + c / 3, stream.randn(samples) * 0.1 + 0.5]
        y[rows] = c
    return x, y


def assert_same(got, want):
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("samples", "classes"), [(100, 3), (7, 2), (1, 1), (33, 5)])
@pytest.mark.parametrize(("make", "turns"), [(datasets.spiral, 2.5), (datasets.case_study_spiral, 1)])
def test_spirals_are_the_books(make, turns, samples, classes):
    assert_same(make(samples, classes, np.random.RandomState(0)), book_spiral(samples, classes, turns))


@pytest.mark.parametrize(("samples", "classes"), [(100, 3), (7, 2), (1, 1)])
def test_vertical_is_the_books(samples, classes):
    assert_same(datasets.vertical(samples, classes, np.random.RandomState(0)), book_vertical(samples, classes))


def test_defaults_are_100_samples_of_3_classes():
    for make in (datasets.spiral, datasets.case_study_spiral, datasets.vertical):
        x, y = make(rng=0)
        assert x.shape == (300, 2)
        assert np.bincount(y).tolist() == [100, 100, 100]


def test_sine_is_one_period_as_columns():
    x, y = datasets.sine()
    assert x.shape == y.shape == (1000, 1)
    assert x[0, 0] == 0
    assert x[-1, 0] == 0.999
    np.testing.assert_array_equal(y, np.sin(2 * np.pi * x))
    assert len(datasets.sine(10)[0]) == 10


def test_a_random_state_is_used_as_it_is_and_moves_on():
    stream, twin = np.random.RandomState(3), np.random.RandomState(3)
    datasets.spiral(5, 2, stream)
    twin.randn(10)
    assert stream.randn() == twin.randn()


def test_a_seed_repeats_the_data_and_another_does_not():
    assert_same(datasets.vertical(rng=4), datasets.vertical(rng=4))
    assert not np.array_equal(datasets.vertical(rng=4)[0], datasets.vertical(rng=5)[0])
    assert not np.array_equal(datasets.vertical()[0], datasets.vertical()[0])


@pytest.mark.parametrize("make", [datasets.spiral, datasets.case_study_spiral, datasets.vertical])
@pytest.mark.parametrize(
    ("options", "message"),
    [({"samples": 0}, "samples is 0"), ({"samples": 2.5}, "samples is 2.5"), ({"classes": 0}, "classes is 0")],
)
def test_bad_counts_are_named(make, options, message):
    with pytest.raises(OptionError, match=message):
        make(**options)


def test_more_classes_than_uint8_holds_are_refused():
    assert datasets.spiral(1, 256, 0)[1][-1] == 255
    with pytest.raises(OptionError, match="classes is 257; at most 256"):
        datasets.spiral(1, 257, 0)
    with pytest.raises(OptionError, match="samples is -1"):
        datasets.sine(-1)
