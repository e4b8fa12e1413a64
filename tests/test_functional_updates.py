"""Optimizer steps, clipping and penalties of the functional API: in place, in any layout, all or nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnfast import functional as F
from nnfast.errors import DataError, DTypeError, OptionError, ShapeError
from nnfast.registry import get_backend

STEPS = {
    "sgd_step": (["v"], {"learning_rate": 0.5, "momentum": 0.9}),
    "adagrad_step": (["cache"], {"learning_rate": 0.5}),
    "rmsprop_step": (["cache"], {"learning_rate": 0.5}),
    "adam_step": (["m", "v"], {"learning_rate": 0.5, "step": 2}),
}
SHAPE = (3, 4)


def arrays(name, dtype=np.float64):
    """p, g and the state of a step, by name."""
    rng = np.random.default_rng(1)
    return {a: rng.uniform(0.5, 2, SHAPE).astype(dtype) for a in ["p", "g", *STEPS[name][0]]}


def step(name, given, **options):
    return getattr(F, name)(**given, **{**STEPS[name][1], **options})


def near(got, want, rtol=1e-12):
    np.testing.assert_allclose(got, want, rtol=rtol)


# ---- values ---------------------------------------------------------------------------------------------------------


def test_sgd_by_hand():
    p, v = np.array([1.0]), np.array([0.5])
    assert F.sgd_step(p, [2.0], learning_rate=0.1) is None
    near(p, [0.8])
    F.sgd_step(p, [2.0], v, learning_rate=0.1, momentum=0.5)
    near(v, [0.05])
    near(p, [0.85])
    F.sgd_step(p, [2.0], v, learning_rate=0.1, momentum=0.5, nesterov=True)
    near(v, [-0.175])
    near(p, [0.85 - 0.0875 - 0.2])


def test_adaptive_steps_by_hand():
    p, cache = np.array([1.0]), np.array([5.0])
    F.adagrad_step(p, [2.0], cache, learning_rate=0.3, epsilon=1)
    near(cache, [9])
    near(p, [1 - 0.3 * 2 / 4])
    p, cache = np.array([1.0]), np.array([12.0])
    F.rmsprop_step(p, [2.0], cache, learning_rate=0.3, epsilon=1, rho=0.625)
    near(cache, [9])
    near(p, [1 - 0.3 * 2 / 4])
    p, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    F.adam_step(p, [2.0], m, v, step=1, learning_rate=0.3, epsilon=1, weight_decay=0.1)
    near(m, [0.2])
    near(v, [0.004])
    near(p, [1 - 0.3 * (2 / (2 + 1) + 0.1)])
    F.adam_step(p, [0.0], m, v, step=2, learning_rate=0)
    near(p, [1 - 0.3 * (2 / 3 + 0.1)])


def test_penalty_by_hand():
    p = np.array([[1.0, -2.0], [0.0, 0.5]], np.float32)
    value, gradient = F.penalty(p, l1=0.5, l2=0.25)
    assert type(value) is float
    assert gradient.dtype == np.float32
    near(value, 0.5 * 3.5 + 0.25 * 5.25)
    near(gradient, [[0.5 + 0.5, -0.5 - 1.0], [0.0, 0.5 + 0.25]])
    of_batch, its_gradient = F.batch_penalty(p, normaliser=4, l1=0.5, l2=0.25)
    near(of_batch, value / 4)
    near(its_gradient, gradient / 4)
    with pytest.raises(OptionError, match="normaliser is 0"):
        F.batch_penalty(p, normaliser=0, l2=1)
    assert F.penalty(p)[0] == 0
    with pytest.raises(OptionError, match="l2 is -1"):
        F.penalty(p, l2=-1)


def test_clip_by_global_norm_by_hand():
    g = np.array([[3.0, 0.0], [0.0, 4.0]])
    assert F.clip_by_global_norm(g, clip_norm=10) == 5
    near(g, [[3, 0], [0, 4]])
    assert F.clip_by_global_norm(g, clip_norm=1) == 5
    near(g, [[0.6, 0], [0, 0.8]])
    big = np.full(4, 1e25, np.float32)  # a square would overflow
    near(F.clip_by_global_norm(big, clip_norm=1), 2e25, rtol=1e-6)
    near(big, [0.5] * 4, rtol=1e-6)
    assert math.isnan(F.clip_by_global_norm(np.array([np.nan, 1.0]), clip_norm=1))
    assert F.clip_by_global_norm(np.zeros(0), clip_norm=1) == 0
    for limit in (-1, None, np.nan):
        with pytest.raises(OptionError, match="clip_norm is"):
            F.clip_by_global_norm(g, clip_norm=limit)


def test_random_search():
    p = np.zeros((2, 3), np.float32)
    q = F.random_search_propose(p, key=5, step=1, scale=0.1)
    assert (q.shape, q.dtype) == (p.shape, p.dtype)
    near(F.random_search_propose(p + 1, key=5, step=1, scale=0.1, mode="sample"), q)
    near(F.random_search_propose(p.ravel()[2:], key=5, step=1, scale=0.1, offset=2), q.ravel()[2:])
    sums, best = np.array([3.0, 1.0]), np.array([8.0, 1.0])
    F.random_search_accept(p, q, sums, best, normaliser=2)
    near(p, q)
    near(best, [3, 1])
    F.random_search_accept(p, q + 1, worse := np.array([9.0, 1.0]), best, normaliser=2)
    near(p, q)
    near(worse, [3, 1])
    with pytest.raises(OptionError, match="mode is 'walk'"):
        F.random_search_propose(p, key=5, step=1, scale=0.1, mode="walk")
    with pytest.raises(ShapeError, match="sums has shape"):
        F.random_search_accept(p, q, np.zeros(1), np.zeros(1))
    with pytest.raises(DTypeError, match=r"sums .*float64"):
        F.random_search_accept(p, q, np.zeros(2, np.float32), np.zeros(2))


# ---- in place -------------------------------------------------------------------------------------------------------


def layouts(a):
    swapped = a.astype(a.dtype.newbyteorder(">"))
    unaligned = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    wide, backwards = np.zeros((a.shape[0], 2 * a.shape[1]), a.dtype)[:, ::2], np.empty_like(a)[::-1, ::-1]
    made = {
        "fortran": np.asfortranarray(a),
        "transposed": a.T.copy().T,
        "strided": wide,
        "backwards": backwards,
        "big-endian": swapped,
        "unaligned": unaligned,
        "matrix": a.copy().view(np.matrix),
    }
    for view in (unaligned, wide, backwards):
        view[...] = a
    return made


@pytest.mark.parametrize("layout", layouts(np.zeros(SHAPE)))
@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_steps_work_in_any_layout(name, layout, dtype):
    want = arrays(name, dtype)
    before = {a: array.copy() for a, array in want.items()}
    step(name, want)
    given = {a: layouts(array)[layout] for a, array in before.items()}
    step(name, given)
    for a, array in given.items():
        np.testing.assert_array_equal(array, want[a], err_msg=a)
        assert (a == "g") == np.array_equal(array, before[a])


@pytest.mark.parametrize("shape", [(), (5,), (2, 0), (2, 3, 2)])
def test_steps_take_any_shape(shape):
    p, g, m, v = np.ones(shape), np.ones(shape), np.zeros(shape), np.zeros(shape)
    F.adam_step(p, g, m, v, step=1, learning_rate=0.5, epsilon=0)
    near(p, np.full(shape, 0.5))


def test_arrays_that_interleave_but_share_nothing_are_fine():
    table = np.ones((5, 4))
    p, g, m, v = table.T
    F.adam_step(p, g, m, v, step=1, learning_rate=0.5)
    assert (p < 1).all()
    assert (g == 1).all()


def test_a_device_gets_copies_and_gives_the_results_back():
    seen = []

    class Device(type(get_backend("numpy"))):
        name, device = "device", "elsewhere"

        def asarray(self, a, dtype=None):
            seen.append("up")
            return np.array(a, dtype)

        def empty(self, shape, dtype):
            return np.full(shape, np.nan, dtype)

        def to_numpy(self, a):
            seen.append("down")
            return a

    device = Device()
    given, want = arrays("adam_step"), arrays("adam_step")
    step("adam_step", given, backend=device)
    step("adam_step", want)
    for a in given:
        np.testing.assert_array_equal(given[a], want[a])
    assert seen == ["up"] * 4 + ["down"] * 3
    np.testing.assert_array_equal(F.relu([[-1.0, 2.0]], backend=device), [[0, 2]])


# ---- all or nothing -------------------------------------------------------------------------------------------------


def refused(name, given, error, words, **options):
    before = {a: np.array(array, copy=True) for a, array in given.items()}
    with pytest.raises(error, match=words):
        step(name, given, **options)
    for a, array in given.items():
        np.testing.assert_array_equal(array, before[a], err_msg=f"{a} was changed")


@pytest.mark.parametrize("name", STEPS)
def test_a_step_that_is_refused_changes_nothing(name):
    for a in ["p", *STEPS[name][0]]:
        good = arrays(name)
        frozen = good[a].copy()
        frozen.setflags(write=False)
        refused(name, good | {a: frozen}, DataError, rf"^{a} is read-only")
        refused(name, good | {a: good[a].tolist()}, DTypeError, rf"^{a} is a list.*NumPy array")
        refused(name, good | {a: good[a].astype(int)}, DTypeError, f"^{a} .*int64")
        refused(name, good | {a: good["g"]}, DataError, "share memory")
    for a in arrays(name):
        good = arrays(name)
        refused(name, good | {a: good[a][:2]}, ShapeError, "has shape")
        refused(name, good | {a: good[a].astype(np.float32)}, DTypeError, "float32")
    p = np.ones((4, 4))
    refused(name, arrays(name) | {"p": p[:3], "g": p[1:]}, DataError, "p and g share memory")


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("rate", [-0.1, np.nan, np.inf, True, "0.1", None, [0.1]])
def test_learning_rates(name, rate):
    refused(name, arrays(name), OptionError, "^learning_rate is", learning_rate=rate)


@pytest.mark.parametrize(
    ("name", "option", "values"),
    [
        ("sgd_step", "momentum", [-0.1, 1.1]),
        ("adagrad_step", "epsilon", [-1e-7]),
        ("rmsprop_step", "rho", [1, -0.1]),
        ("adam_step", "beta_1", [1, -0.1]),
        ("adam_step", "beta_2", [1]),
        ("adam_step", "step", [0, 1.0, True]),
        ("adam_step", "weight_decay", [-1]),
        ("adam_step", "epsilon", [np.nan]),
    ],
)
def test_settings_out_of_range(name, option, values):
    for value in values:
        refused(name, arrays(name), OptionError, f"^{option} is", **{option: value})


def test_momentum_needs_a_velocity():
    with pytest.raises(OptionError, match=r"momentum is 0\.9, which needs v="):
        F.sgd_step(np.ones(1), np.ones(1), learning_rate=0.1, momentum=0.9)
