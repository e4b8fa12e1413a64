"""The functional API: one call, one checked op. Values on cases small enough to work out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnfast import functional as F
from nnfast.errors import DataError, DTypeError, OptionError, ShapeError, UnknownNameError
from nnfast.own_ops import register_op
from nnfast.protocol import CUSTOM, OPS, OpSpec
from nnfast.registry import get_backend

X = np.array([[1.0, 2.0], [3.0, 4.0], [-1.0, 0.5]])
W = np.array([[1.0, -1.0, 0.0], [0.5, 0.0, -2.0]])
B = np.array([0.0, 1.0, 0.5])
Z = np.array([[2.0, 0.0, -3.5], [5.0, -2.0, -7.5], [-0.75, 2.0, -0.5]])  # X·W + B
LOGITS = np.log([[0.7, 0.1, 0.2], [0.1, 0.5, 0.4], [0.02, 0.9, 0.08]])
CLASSES = np.array([0, 1, 1])

ACTIVATIONS = ["relu", "leaky_relu", "elu", "softplus", "sigmoid", "tanh", "gelu", "silu", "softmax"]
LOSSES = [
    "softmax_cross_entropy",
    "sigmoid_binary_cross_entropy",
    "categorical_cross_entropy",
    "binary_cross_entropy",
    "mean_squared_error",
    "mean_absolute_error",
    "huber",
    "poisson",
]
METRICS = {
    "accuracy": {},
    "top_k_accuracy": {"k": 2},
    "binary_accuracy": {},
    "regression_accuracy": {"precision": 0.1},
    "r2_score": {},
}


def target(op, rows=3):
    """A target that every loss and metric of this name takes."""
    spec = OPS["r2_moments" if op == "r2_score" else op]
    return CLASSES[:rows] if spec.args[1].dtype == "label" else np.array([[1.0, 0, 0], [0, 1, 0], [0, 0.5, 1]])[:rows]


def near(got, want, rtol=1e-6):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-12)


def test_every_op_is_a_function():
    elsewhere = {"r2_moments": "r2_score"}
    assert {elsewhere.get(op, op) for op in OPS if op not in CUSTOM} == set(F.__all__) - {"apply_op"}
    assert all(getattr(F, name).__doc__ for name in F.__all__)


# ---- dense ----------------------------------------------------------------------------------------------------------


def test_dense_by_hand():
    near(F.dense(X, W, B), Z)
    near(F.dense(X, W, B, activation="relu"), np.maximum(Z, 0))
    near(F.dense(X, W, B, activation="leaky_relu"), np.where(Z > 0, Z, 0.01 * Z))
    near(F.dense(X, W, B, activation="leaky_relu", alpha=0.5), np.where(Z > 0, Z, 0.5 * Z))
    near(F.dense(X, W, B, activation="linear"), Z)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_dense_takes_every_activation(name):
    y, b = F.dense(X, W, B, activation=name), {"gelu": B, "silu": B}.get(name)
    near(y, getattr(F, name)(Z))
    dy = np.cos(Z)
    backward = getattr(F, f"{name}_backward")
    dz = backward(Z if b is not None else y, dy)
    want = dz @ W.T, X.T @ dz, dz.sum(axis=0)
    given = {"b": b} if b is not None else {"y": y}
    for got, array in zip(F.dense_backward(X, W, dy, activation=name, **given), want, strict=True):
        near(got, array)
    for got, array in zip(F.dense_backward(X, W, dy, activation=name, b=B), want, strict=True):
        near(got, array)


def test_alpha_reaches_the_backward_pass():
    y = F.dense(X, W, B, activation="elu", alpha=0.5)
    dx, _, _ = F.dense_backward(X, W, np.ones_like(Z), y=y, activation="elu", alpha=0.5)
    near(dx, np.where(Z > 0, 1, y + 0.5) @ W.T)
    near(F.dense_backward(X, W, np.ones_like(Z), b=B, activation="elu", alpha=0.5)[0], dx)


def test_dense_backward_by_hand():
    dx, dw, db = F.dense_backward(X, W, np.ones((3, 3)))
    near(dx, [[0.0, -1.5]] * 3)
    near(dw, [[3.0] * 3, [6.5] * 3])
    near(db, [3.0] * 3)


def test_an_empty_batch_passes():
    empty = np.zeros((0, 2), np.float32)
    w, b = W.astype(np.float32), B.astype(np.float32)
    assert F.dense(empty, w, b, activation="gelu").shape == (0, 3)
    dx, dw, db = F.dense_backward(empty, w, np.zeros((0, 3), np.float32))
    assert dx.shape == (0, 2)
    assert not dw.any()
    assert not db.any()
    for name in ACTIVATIONS:
        assert getattr(F, name)(empty).shape == (0, 2)
        assert getattr(F, f"{name}_backward")(empty, empty).shape == (0, 2)
    assert F.dropout(empty, rate=0.5, key=1).shape == (0, 2)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"x": X[0]}, ShapeError, r"x has shape \(2,\).*x\.reshape\(1, -1\)"),
        ({"w": W.T}, ShapeError, r"w has shape \(3, 2\); expected \(I, O\) with I = 2"),
        ({"b": B[:, None]}, ShapeError, r"b has shape \(3, 1\); expected \(O,\)"),
        ({"b": B[:2]}, ShapeError, "O = 3"),
        ({"x": np.zeros((3, 0)), "w": np.zeros((0, 3))}, ShapeError, "I at least 1"),
        ({"w": W.astype(np.float32)}, DTypeError, "x is float64 but w is float32"),
        ({"x": X.astype(np.float16)}, DTypeError, "x is float16; supported are float32 and float64"),
        ({"x": X.astype(np.longdouble)}, DTypeError, "supported are float32 and float64"),
        ({"x": X * 1j}, DTypeError, "complex"),
        ({"activation": "rellu"}, UnknownNameError, "did you mean 'relu'"),
        ({"alpha": 0.1}, OptionError, "alpha is given, but the activation 'linear' has none"),
        ({"activation": "elu", "alpha": -1}, OptionError, "alpha is -1"),
    ],
)
def test_wrong_dense(given, error, words):
    with pytest.raises(error, match=words):
        F.dense(**{"x": X, "w": W, "b": B, **given})


def test_dense_backward_says_what_it_needs():
    with pytest.raises(OptionError, match=r"'relu' needs y=.* or b="):
        F.dense_backward(X, W, Z, activation="relu")
    with pytest.raises(OptionError, match="'gelu' needs b="):
        F.dense_backward(X, W, Z, y=Z, activation="gelu")
    with pytest.raises(ShapeError, match=r"dy has shape \(2, 3\); expected \(N, O\) with N = 3"):
        F.dense_backward(X, W, Z[:2])
    with pytest.raises(ShapeError, match="y has shape"):
        F.dense_backward(X, W, Z, y=Z[:, :2], activation="relu")


# ---- dtypes and layouts ---------------------------------------------------------------------------------------------


def layouts(a):
    raw = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    raw[...] = a
    frozen = a.copy()
    frozen.setflags(write=False)
    return {
        "fortran": np.asfortranarray(a),
        "strided": np.repeat(a, 2, axis=-1)[..., ::2],
        "backwards": a[::-1].copy()[::-1],
        "big-endian": a.astype(a.dtype.newbyteorder(">")),
        "unaligned": raw,
        "read-only": frozen,
    }


LAYOUTS = list(layouts(X))


def calls(make=lambda a: a):
    """One call per op that reads only: name -> its outputs as a tuple."""
    x, w, b, z, y = (make(a.astype(np.float32)) for a in (X, W, B, Z, target("mean_squared_error")))
    p = np.abs(z)
    made = {
        "dense": F.dense(x, w, b, activation="tanh"),
        "dense_backward": F.dense_backward(x, w, z, y=z, activation="tanh"),
        "dropout": F.dropout(x, rate=0.5, key=3),
        "dropout_backward": F.dropout_backward(x, rate=0.5, key=3),
        "batch_penalty": F.batch_penalty(w, normaliser=3, l1=0.1, l2=0.2),
        "penalty": F.penalty(w, l1=0.1, l2=0.2),
        "random_search_propose": F.random_search_propose(w, key=1, step=2, scale=0.1),
    }
    for name in ACTIVATIONS:
        made[name] = getattr(F, name)(x)
        made[f"{name}_backward"] = getattr(F, f"{name}_backward")(z, y)
    for name in LOSSES:
        made[name] = getattr(F, name)(p, y if target(name).ndim == 2 else make(CLASSES), sample_weight=make(B + 1))
    for name, settings in METRICS.items():
        made[name] = getattr(F, name)(p, y if target(name).ndim == 2 else make(CLASSES), **settings)
    return {name: out if isinstance(out, tuple) else (out,) for name, out in made.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_do_not_matter_and_inputs_stay(layout):
    kept = []

    def make(a):
        given = layouts(a)[layout]
        kept.append((given, given.copy()))
        return given

    want = calls()
    for name, outputs in calls(make).items():
        for got, array in zip(outputs, want[name], strict=True):
            np.testing.assert_array_equal(got, array, err_msg=name)
            if isinstance(got, np.ndarray):
                assert got.dtype == np.float32, name
                assert got.flags.c_contiguous, name
                assert not any(np.shares_memory(got, given) for given, _ in kept), name
    for given, before in kept:
        np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lists_and_integers_take_the_dtype_of_the_floats(dtype):
    assert F.dense([[1, 2]], W.astype(dtype), [0, 0, 0]).dtype == dtype
    assert F.dense(np.array([[1, 2]]), W.astype(dtype), B.tolist()).dtype == dtype
    loss, gradient = F.mean_squared_error([[1.0]], np.zeros((1, 1), dtype))
    assert (loss, gradient.dtype) == (1.0, dtype)


def test_without_floats_it_is_float64():
    assert F.relu([[1, 2]]).dtype == np.float64
    assert F.relu(np.array([[1, 2]], np.int8)).dtype == np.float64


def test_targets_and_weights_follow_the_output():
    z = LOGITS.astype(np.float32)
    _, gradient = F.softmax_cross_entropy(z, np.eye(3)[CLASSES], sample_weight=np.ones(3))
    assert gradient.dtype == np.float32
    half = F.mean_squared_error(z, np.ones((3, 3), np.float16), sample_weight=np.ones(3, np.longdouble))
    assert half[0] == F.mean_squared_error(z, np.ones((3, 3)))[0]


def test_backend_is_a_name_or_an_object():
    for backend in ("numpy", get_backend("numpy"), None):
        near(F.relu(Z, backend=backend), np.maximum(Z, 0))


# ---- activations, dropout -------------------------------------------------------------------------------------------


def test_activations_by_hand():
    x = [[-1.0, 0.0, 2.0]]
    e = math.exp
    want = {
        "relu": [0, 0, 2],
        "leaky_relu": [-0.01, 0, 2],
        "elu": [e(-1) - 1, 0, 2],
        "softplus": [math.log1p(e(-1)), math.log(2), math.log1p(e(2))],
        "sigmoid": [1 / (1 + e(1)), 0.5, 1 / (1 + e(-2))],
        "tanh": [math.tanh(-1), 0, math.tanh(2)],
        "gelu": [-0.15865525393145707, 0, 1.9544997361036416],
        "silu": [-1 / (1 + e(1)), 0, 2 / (1 + e(-2))],
        "softmax": [e(-1) / (e(-1) + 1 + e(2)), 1 / (e(-1) + 1 + e(2)), e(2) / (e(-1) + 1 + e(2))],
    }
    for name in ACTIVATIONS:
        near(getattr(F, name)(x), [want[name]])
    near(F.leaky_relu(x, alpha=0.5), [[-0.5, 0, 2]])
    near(F.leaky_relu_backward(x, [[1.0, 1.0, 1.0]], alpha=0.5), [[0.5, 0.5, 1]])
    with pytest.raises(OptionError, match="alpha is -1"):
        F.leaky_relu(x, alpha=-1)
    with pytest.raises(ShapeError, match=r"dy has shape \(1, 2\)"):
        F.relu_backward(x, [[1.0, 1.0]])


def test_dropout_masks_by_number():
    x = np.ones((100, 8), np.float32)
    y = F.dropout(x, rate=0.25, key=7, step=3, layer=1)
    assert y.dtype == np.float32
    assert set(np.unique(y)) == {np.float32(0), np.float32(4 / 3)}
    np.testing.assert_array_equal(y, F.dropout_backward(x, rate=0.25, key=7, step=3, layer=1))
    np.testing.assert_array_equal(y[60:], F.dropout(x[60:], rate=0.25, key=7, step=3, layer=1, first_row=60))
    for other in ({"key": 8, "step": 3, "layer": 1}, {"key": 7, "step": 4, "layer": 1}, {"key": 7, "step": 3}):
        assert (F.dropout(x, rate=0.25, **other) != y).any()
    np.testing.assert_array_equal(F.dropout(x, rate=0, key=7), x)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"rate": 1}, OptionError, "rate is 1; .*at least 0 and below 1"),
        ({"rate": -0.1}, OptionError, "rate is -0.1"),
        ({"rate": np.nan}, OptionError, "rate is nan"),
        ({"key": 2**64}, OptionError, "key"),
        ({"step": -1}, OptionError, "step"),
        ({"layer": 2**32}, OptionError, "layer"),
        ({"first_row": 1.5}, OptionError, "first_row"),
        ({"first_row": 2**33}, ShapeError, r"at most 2\*\*34 elements"),
    ],
)
def test_wrong_dropout(given, error, words):
    with pytest.raises(error, match=words):
        F.dropout(X, **{"rate": 0.5, "key": 1, **given})


# ---- own ops --------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_op():
    def shift(x, y, *, by):
        y[...] = x + by

    def widen(x, twice, first):
        twice[...] = np.concatenate([x, x], axis=1)
        first[...] = x[:, 0]

    register_op(OpSpec("shift", "x[N,I] -> y[N,I]", scalars=["by"]), reference=shift)
    register_op(OpSpec("widen", "x[N,I] -> twice[N,M] first[N]:f8"), reference=widen)
    yield
    for name in ("shift", "widen"):
        del OPS[name], CUSTOM[name]


@pytest.mark.usefixtures("own_op")
def test_apply_op_calls_own_ops():
    near(F.apply_op("shift", X, by=1), X + 1)
    twice, first = F.apply_op("widen", X.astype(np.float32), dims={"M": 4})
    assert (twice.dtype, first.dtype) == (np.float32, np.float64)
    near(twice, np.hstack([X, X]))
    near(first, X[:, 0])
    with pytest.raises(OptionError, match="dimension M of twice"):
        F.apply_op("widen", X)


@pytest.mark.usefixtures("own_op")
def test_an_op_that_the_backend_lacks_runs_on_the_reference():
    class Bare(type(get_backend("numpy"))):
        def kernel(self, op):
            return None

    near(F.apply_op("shift", X, by=1, backend=Bare()), X + 1)


def test_apply_op_calls_built_in_ops():
    near(F.apply_op("dense", X, W, B, activation="relu", alpha=0), np.maximum(Z, 0))
    total = np.zeros(())
    dz, losses = F.apply_op("softmax_cross_entropy", LOGITS, CLASSES, None, total, normaliser=3, label_smoothing=0)
    near(losses, [0.35667494, 0.69314718, 0.10536052])
    near(total, losses.sum())
    near(dz, F.softmax_cross_entropy(LOGITS, CLASSES)[1])
    p = np.ones(2)
    assert F.apply_op("sgd_step", p, [1.0, 2.0], learning_rate=0.1, momentum=0, nesterov=False) is None
    near(p, [0.9, 0.8])


@pytest.mark.parametrize(
    ("op", "arrays", "keywords", "error", "words"),
    [
        ("reul", (X,), {}, UnknownNameError, "unknown op 'reul'; did you mean 'relu'"),
        ("relu", (), {}, OptionError, "takes 1 input arrays .*x is missing"),
        ("relu", (X, X), {}, OptionError, "2 were given"),
        ("relu", (X,), {"alpha": 1}, OptionError, r"keywords \[\], not \['alpha'\]"),
        ("elu", (X,), {"alpha": np.nan}, OptionError, "alpha is nan"),
        ("dense", (X, W.T, B), {"alpha": 0, "activation": "relu"}, ShapeError, "I = 2"),
        ("accuracy", (LOGITS, [0, 1, 3], None, np.zeros(())), {}, DataError, r"y\[2\] is 3"),
        ("clip_by_global_norm", ([1.0],), {"clip_norm": 1}, DTypeError, "NumPy array"),
        ("clip_by_global_norm", (np.ones(4)[::2],), {"clip_norm": 1}, DataError, "C-contiguous"),
    ],
)
def test_wrong_apply_op(op, arrays, keywords, error, words):
    with pytest.raises(error, match=words):
        F.apply_op(op, *arrays, **keywords)
