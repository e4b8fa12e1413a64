"""Learning-rate schedules: their equations, their bits, what they refuse, and that a change compiles nothing."""

from __future__ import annotations

import copy
import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import classifier, fit

import nnfast as nn
from nnfast.errors import DTypeError, OptionError, ShapeError
from nnfast.schedules import (
    CosineDecay,
    ExponentialDecay,
    InverseTimeDecay,
    OneCycle,
    PiecewiseConstant,
    StepDecay,
)

ALL = [
    InverseTimeDecay(0.5, 0.01),
    StepDecay(0.5, 7, 0.3),
    ExponentialDecay(0.5, 0.97),
    ExponentialDecay(0.5, 0.5, every=13),
    CosineDecay(0.5, 200),
    CosineDecay(0.5, 200, final=0.01, warmup=30),
    PiecewiseConstant([5, 50, 51], [0.5, 0.1, 0.3, 0.0]),
    PiecewiseConstant([], [0.2]),
    OneCycle(0.5, 200),
    OneCycle(0.5, 3, rise=0.9, start_divisor=1, final_divisor=2),
]


def equation(s, t):
    """The rate after t steps, once more, in plain Python."""
    if isinstance(s, InverseTimeDecay):
        return s.learning_rate / (1 + s.decay * t)
    if isinstance(s, StepDecay):
        return s.learning_rate * s.factor ** (t // s.every)
    if isinstance(s, ExponentialDecay):
        return s.learning_rate * s.rate ** (t / s.every)
    if isinstance(s, CosineDecay):
        if t < s.warmup:
            return s.learning_rate * (t + 1) / s.warmup
        u = min(1, (t - s.warmup) / (s.steps - s.warmup))
        return s.final + (s.learning_rate - s.final) * (1 + math.cos(math.pi * u)) / 2
    if isinstance(s, PiecewiseConstant):
        return s.values[sum(b <= t for b in s.boundaries)]
    start, end, top = s.max_rate / s.start_divisor, s.max_rate / s.final_divisor, s.rise * s.steps
    if t < top:
        return start + (s.max_rate - start) * (1 - math.cos(math.pi * t / top)) / 2
    u = min(1, (t / s.steps - s.rise) / (1 - s.rise))
    return end + (s.max_rate - end) * (1 + math.cos(math.pi * u)) / 2


def names(schedules):
    return [f"{i}-{type(s).__name__}" for i, s in enumerate(schedules)]


@pytest.mark.parametrize("schedule", ALL, ids=names(ALL))
class TestEach:
    def test_follows_its_equation(self, schedule):
        expected = [equation(schedule, t) for t in range(300)]
        np.testing.assert_allclose(schedule.rates(0, 300), expected, rtol=1e-12, atol=1e-15)

    def test_has_the_same_bits_one_by_one(self, schedule):
        together = schedule.rates(0, 300)
        assert together.dtype == np.float64
        np.testing.assert_array_equal(together, [schedule(t) for t in range(300)])
        for first, count in [(0, 0), (1, 1), (3, 8), (17, 100), (299, 1)]:
            np.testing.assert_array_equal(schedule.rates(first, count), together[first : first + count])
        assert type(schedule(3)) is float

    def test_is_rebuilt_from_its_config(self, schedule):
        config = json.loads(json.dumps(schedule.config()))
        twin = type(schedule)(**config)
        assert twin == schedule
        assert hash(twin) == hash(schedule)
        assert copy.deepcopy(schedule) == schedule == pickle.loads(pickle.dumps(schedule))
        np.testing.assert_array_equal(twin.rates(0, 99), schedule.rates(0, 99))

    def test_differs_from_one_with_another_argument(self, schedule):
        for name, value in schedule.config().items():
            if isinstance(value, list):
                changed = [v / 2 for v in value] if name == "values" else [v + 1 for v in value]
            else:
                changed = value / 2 if name in ("rise", "rate", "factor") else value + 1
            other = type(schedule)(**(schedule.config() | {name: changed}))
            assert (other == schedule) is (changed == value)

    def test_says_what_it_is_and_stays_so(self, schedule):
        twin = eval(repr(schedule), vars(nn.schedules))
        assert twin == schedule
        with pytest.raises(AttributeError):
            setattr(schedule, next(iter(schedule.config())), 1)

    def test_refuses_steps_that_are_none(self, schedule):
        for bad in (-1, 1.5, "3", True):
            with pytest.raises(OptionError, match="first"):
                schedule(bad)
        with pytest.raises(OptionError, match="count"):
            schedule.rates(0, -1)


def test_every_public_schedule_is_tested():
    public = {name for name in nn.schedules.__all__ if name != "Schedule"}
    assert public == {type(s).__name__ for s in ALL}


def test_ends_are_exact():
    s = CosineDecay(0.3, 100, final=0.007, warmup=10)
    assert s(9) == s(10) == 0.3
    assert s(0) == pytest.approx(0.03)
    assert s(99) > s(100) == s(101) == s(10**9) == 0.007
    s = OneCycle(0.3, 100)
    assert s(0) == 0.3 / 25
    assert s(30) == 0.3 == s.rates(0, 200).max()
    assert s(100) == s(10**9) == 0.3 / 1e4
    assert StepDecay(1, 3, 0.5).rates(0, 7).tolist() == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    assert PiecewiseConstant([2, 3], [3, 2, 1]).rates(0, 5).tolist() == [3, 3, 2, 1, 1]


@settings(deadline=None, derandomize=True)  # a busy machine decides nothing, and neither does chance
@given(
    st.floats(0, 10),
    st.integers(1, 10_000),
    st.floats(0, 10),
    st.floats(0, 0.999),
    st.integers(0, 20_000),
    st.integers(1, 70),
)
def test_bits_do_not_depend_on_where_a_job_begins(rate, steps, final, share, first, count):
    for s in (
        CosineDecay(rate, steps, final, int(share * steps)),
        OneCycle(rate, steps, rise=max(share, 0.01)),
        ExponentialDecay(rate, max(share, 1e-3), every=steps),
        StepDecay(rate, steps, max(share, 1e-3)),
    ):
        rates = s.rates(first, count)
        assert np.isfinite(rates).all()
        assert (rates >= 0).all()
        assert (rates <= max(rate, final) * (1 + 1e-12)).all()
        np.testing.assert_array_equal(rates, [s(t) for t in range(first, first + count)])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: InverseTimeDecay(-1, 0), "learning_rate is -1"),
        (lambda: InverseTimeDecay(1, math.nan), "decay is nan"),
        (lambda: StepDecay(1, 0, 0.5), "every is 0"),
        (lambda: StepDecay(1, 2.5, 0.5), "every is 2.5"),
        (lambda: StepDecay(1, 2, 0), "factor is 0"),
        (lambda: StepDecay(1, 2, 1.1), "factor is 1.1"),
        (lambda: ExponentialDecay(1, 1.01), "rate is 1.01"),
        (lambda: ExponentialDecay("1", 0.9), "learning_rate is '1'"),
        (lambda: CosineDecay(1, 0), "steps is 0"),
        (lambda: CosineDecay(1, 10, warmup=10), "warmup is 10"),
        (lambda: CosineDecay(1, 10, final=-0.1), "final is -0.1"),
        (lambda: CosineDecay(math.inf, 10), "learning_rate is inf"),
        (lambda: PiecewiseConstant([3, 3], [1, 2, 3]), "rise"),
        (lambda: PiecewiseConstant([0], [1, 2]), r"boundaries\[0\] is 0"),
        (lambda: PiecewiseConstant([3], [1, 2, 3]), "one value more"),
        (lambda: PiecewiseConstant([3], [1, -2]), r"values\[1\] is -2"),
        (lambda: OneCycle(1, 10, rise=0), "rise is 0"),
        (lambda: OneCycle(1, 10, rise=1), "rise is 1"),
        (lambda: OneCycle(1, 10, start_divisor=0.5), "start_divisor is 0.5"),
        (lambda: OneCycle(True, 10), "max_rate is True"),
    ],
)
def test_bad_arguments_are_refused(make, words):
    with pytest.raises(OptionError, match=words):
        make()


def test_sequences_must_be_some():
    for bad in (3, "12", None):
        with pytest.raises(DTypeError, match="boundaries"):
            PiecewiseConstant(bad, [1, 2])


# ---- in an optimizer ------------------------------------------------------------------------------------------------


def test_optimizers_ask_for_all_rates_of_a_job_at_once():
    asked = []

    class Watched:
        def __call__(self, step):
            raise AssertionError("one by one")

        def rates(self, first, count):
            asked.append((first, count))
            return np.full(count, 0.01)

    optimizer = nn.Adam(Watched(), decay=0.5)
    np.testing.assert_array_equal(optimizer.learning_rates(2, 3), 0.01 / (1 + 0.5 * np.arange(2, 5)))
    assert asked == [(2, 3)]


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf, "0.1", None, True, 1j, np.ones(2)])
def test_rates_of_a_function_are_checked(bad):
    def rule(step):
        return bad if step == 7 else 0.1

    optimizer = nn.Adam(rule)
    assert optimizer.learning_rates(0, 7).tolist() == [0.1] * 7
    with pytest.raises(OptionError, match=r"rule.* after 7 steps"):
        optimizer.learning_rates(0, 9)
    with pytest.raises(OptionError, match="after 7 steps"):
        optimizer.learning_rates(7, 1)


@pytest.mark.parametrize("kind", [np.float32, np.float64, int])
def test_numbers_of_any_kind_will_do(kind):
    rates = nn.SGD(lambda step: kind(step)).learning_rates(0, 3)
    assert rates.dtype == np.float64
    assert rates.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (np.ones(2), ShapeError, r"shape \(2,\)"),
        (np.array(["a"] * 3), ShapeError, r"expected \(3,\)"),
        (np.array([1.0, -1.0, 1.0]), OptionError, "after 5 steps"),
        (np.array([1.0, 1.0, math.nan]), OptionError, "after 6 steps"),
    ],
)
def test_rates_given_together_are_checked(value, error, words):
    class Odd:
        def __call__(self, step):
            return 1.0

        def rates(self, first, count):
            return value

    with pytest.raises(error, match=words) as caught:
        nn.Adam(Odd()).learning_rates(4, 3)
    assert "Odd" in str(caught.value)


def test_a_class_is_not_a_schedule():
    with pytest.raises(DTypeError, match="give an object"):
        nn.Adam(CosineDecay).learning_rates(0, 1)


@pytest.mark.parametrize("schedule", [*ALL, lambda step: 0.1 / (1 + step)])
def test_a_fit_follows_its_schedule(schedule, backend):
    """SGD on batches against the same steps by hand, each with its rate as a number."""
    model, by_hand = (classifier(nn.SGD(0.0), backend=backend, dtype="float64") for _ in range(2))
    model.optimizer.learning_rate = schedule
    fit(model, epochs=3, shuffle=False)
    from small_models import X, Y

    step = 0
    for _ in range(3):
        for start in range(0, len(X), 32):
            by_hand.optimizer.learning_rate = float(schedule(step))
            by_hand.train_on_batch(X[start : start + 32], Y[start : start + 32])
            step += 1
    np.testing.assert_allclose(model.parameters, by_hand.parameters, rtol=1e-12, atol=1e-13)


class CountingBackend:
    """Another backend's, with its compilations counted."""

    def __init__(self, backend):
        self._backend, self.compiled = backend, 0

    def __getattr__(self, name):
        return getattr(self._backend, name)

    def compile(self, program):
        self.compiled += 1
        return self._backend.compile(program)


def test_a_new_rate_counts_from_the_next_step_on_and_compiles_nothing(backend):
    counting = CountingBackend(backend)
    rates = []

    def change(model, epoch, logs):
        if epoch == 2:
            model.optimizer.learning_rate = 0.003
        if epoch == 4:
            model.optimizer.learning_rate = CosineDecay(0.05, 40, warmup=17)
        if epoch == 6:
            model.optimizer.learning_rate = lambda step: 0.01 / (1 + step)
        rates.append(model.optimizer.current_learning_rate)

    model, pieces = (classifier(nn.Adam(0.02), backend=b) for b in (counting, backend))
    fit(model, epochs=8, callbacks=[change])
    assert counting.compiled == 1
    fit(pieces, epochs=2)
    for rate in (0.003, CosineDecay(0.05, 40, warmup=17), lambda step: 0.01 / (1 + step)):
        pieces.optimizer.learning_rate = rate
        fit(pieces, epochs=2)
    np.testing.assert_array_equal(model.parameters, pieces.parameters)
    steps = model.optimizer.steps // 8
    assert rates[1] == rates[2] == 0.003
    assert rates[3] == CosineDecay(0.05, 40, warmup=17)(4 * steps)
    assert rates[7] == 0.01 / (1 + 8 * steps)


def test_a_schedule_goes_with_its_model():
    model = classifier(nn.Adam(OneCycle(0.05, 200)))
    fit(model, epochs=2)
    twin, moved = copy.deepcopy(model), model.to()
    for m in (model, twin, moved):
        assert m.optimizer.learning_rate == OneCycle(0.05, 200)
        fit(m, epochs=2)
    np.testing.assert_array_equal(twin.parameters, model.parameters)
    np.testing.assert_array_equal(moved.parameters, model.parameters)
