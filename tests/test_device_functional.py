"""`nnfast.functional` on device arrays: it follows them, computes beside them, and changes them where it says so."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from device_backends import NAMES, Elsewhere, Foreign, made

import nnfast as nn
from nnfast import registry
from nnfast.errors import DataError, DTypeError, OptionError, ShapeError
from nnfast.protocol import CUSTOM, OPS

F = nn.functional
N, WIDE, OUT = 7, 5, 3


@pytest.fixture(scope="module", params=NAMES)
def gpu_here(request: pytest.FixtureRequest) -> Any:
    return made(request.param)


@pytest.fixture
def gpu(gpu_here: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A backend on a simulated device, and the one that "cupy" names."""
    monkeypatch.delenv(registry.ENVIRONMENT, raising=False)
    monkeypatch.setattr(registry, "_instances", {**registry._instances, "cupy": gpu_here})
    return gpu_here


def normal(*shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def probabilities(*shape: int) -> Any:
    p = np.exp(normal(*shape))
    return p / p.sum(axis=1, keepdims=True)


X, W, B, DY = normal(N, WIDE), normal(WIDE, OUT), normal(OUT), normal(N, OUT)
LABELS = np.arange(N) % OUT
ROWS = np.eye(OUT, dtype=np.float32)[LABELS]
WEIGHT = np.linspace(0.5, 2, N, dtype=np.float32)
UNARY = ("elu", "gelu", "leaky_relu", "relu", "sigmoid", "silu", "softmax", "softplus", "tanh")

# (function, main arrays, targets and weights, keywords)
CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any], dict[str, Any]]] = [
    ("dense", (X, W, B), {}, {}),
    ("dense", (X, W, B), {}, {"activation": "gelu"}),
    ("dense", (X, W, B), {}, {"activation": "relu"}),
    ("dense_backward", (X, W, DY), {}, {}),
    ("dropout", (X,), {}, {"rate": 0.5, "key": 7}),
    ("dropout_backward", (X,), {}, {"rate": 0.5, "key": 7}),
    ("standardize", (X, X[0], np.abs(X[1]) + 1), {}, {}),
    ("standardize_backward", (X, np.abs(X[1]) + 1), {}, {}),
    *[(name, (X,), {}, {}) for name in UNARY],
    *[(f"{name}_backward", (probabilities(N, OUT), DY), {}, {}) for name in UNARY],
    ("softmax_cross_entropy", (DY,), {"y": LABELS, "sample_weight": WEIGHT}, {"label_smoothing": 0.1}),
    ("softmax_cross_entropy", (DY,), {"y": LABELS}, {"per_sample": True}),
    ("categorical_cross_entropy", (probabilities(N, OUT),), {"y": ROWS}, {}),
    ("sigmoid_binary_cross_entropy", (DY,), {"y": ROWS}, {}),
    ("binary_cross_entropy", (probabilities(N, OUT),), {"y": ROWS}, {"per_sample": True}),
    ("mean_squared_error", (DY,), {"y": X[:, :OUT]}, {}),
    ("mean_absolute_error", (DY,), {"y": X[:, :OUT], "sample_weight": WEIGHT}, {}),
    ("huber", (DY,), {"y": X[:, :OUT]}, {}),
    ("poisson", (DY,), {"y": ROWS}, {}),
    ("accuracy", (DY,), {"y": LABELS}, {}),
    ("top_k_accuracy", (DY,), {"y": LABELS}, {"k": 2}),
    ("binary_accuracy", (DY,), {"y": ROWS}, {}),
    ("regression_accuracy", (DY,), {"y": ROWS}, {"precision": 0.5}),
    ("r2_score", (DY,), {"y": X[:, :OUT], "sample_weight": WEIGHT}, {}),
    ("batch_penalty", (W,), {}, {"normaliser": 3, "l1": 0.1, "l2": 0.2}),
    ("penalty", (W,), {}, {"l1": 0.1, "l2": 0.2}),
    ("random_search_propose", (W,), {}, {"key": 3, "step": 1, "scale": 0.1}),
]
IN_PLACE = {"adagrad_step", "adam_step", "clip_by_global_norm", "random_search_accept", "rmsprop_step", "sgd_step"}


def test_the_list_is_complete() -> None:
    assert {name for name, *_ in CALLS} | IN_PLACE | {"apply_op"} == set(F.__all__)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call[0])
@pytest.mark.parametrize("side", ["device", "host"])
def test_outputs_lie_beside_the_inputs(gpu: Any, call: Any, side: str) -> None:
    name, arrays, follow, options = call
    function, put = getattr(F, name), gpu.cupy.asarray
    expected = function(*arrays, **follow, **options, backend="numpy")
    follow = {key: put(a) for key, a in follow.items()} if side == "device" else follow
    got = function(*map(put, arrays), **follow, **options)
    assert_alike(gpu, got, expected)


def assert_alike(gpu: Any, got: Any, expected: Any) -> None:
    """Numbers are numbers, and arrays are arrays on the device, of the same dtype and nearly the same values."""
    if isinstance(expected, tuple):
        assert isinstance(got, tuple)
        for a, b in zip(got, expected, strict=True):
            assert_alike(gpu, a, b)
    elif isinstance(expected, float):
        assert type(got) is float
        assert got == pytest.approx(expected, rel=1e-5, abs=1e-6)
    else:
        assert isinstance(got, gpu.cupy.ndarray)
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got.get(), expected, rtol=1e-4, atol=1e-6)


def test_arrays_on_the_host_stay_there_even_with_a_gpu_named(gpu: Any) -> None:
    y = F.dense(X, W, B, backend=gpu)
    assert type(y) is np.ndarray
    np.testing.assert_allclose(y, F.dense(X, W, B, backend="numpy"), rtol=1e-5, atol=1e-6)
    p, g = W.copy(), normal(WIDE, OUT)
    F.sgd_step(p, g, learning_rate=0.5, backend=gpu)
    np.testing.assert_allclose(p, W - 0.5 * g, rtol=1e-6)


@pytest.mark.parametrize("kind", ["other library", "DLPack alone", "strided", "Fortran", "half", "integers", "empty"])
def test_any_device_array_will_do(gpu: Any, kind: str) -> None:
    x = gpu.cupy.asarray(X)
    given: Any = {
        "other library": lambda: Foreign(x),
        "DLPack alone": lambda: DLPackOnly(x),
        "strided": lambda: gpu.cupy.asarray(np.repeat(X, 2, axis=0))[::2],
        "Fortran": lambda: gpu.cupy.asarray(np.ascontiguousarray(X.T)).T,
        "half": lambda: gpu.cupy.asarray(X.astype(np.float16)),
        "integers": lambda: gpu.cupy.asarray(np.arange(10).reshape(5, 2)),
        "empty": lambda: x[:0],
    }[kind]()
    if kind == "half":
        with pytest.raises(DTypeError, match="x is float16"):
            F.relu(given)
        return
    y = F.relu(given)
    assert isinstance(y, gpu.cupy.ndarray)
    want = {"integers": np.arange(10.0).reshape(5, 2), "empty": X[:0]}.get(kind, np.maximum(X, 0))
    assert y.dtype == want.dtype
    np.testing.assert_array_equal(y.get(), want)


class DLPackOnly(Foreign):
    @property
    def __cuda_array_interface__(self) -> Any:
        raise AttributeError("not this one")


# ---- in place -------------------------------------------------------------------------------------------------------

STEPS: list[tuple[str, tuple[str, ...], dict[str, Any]]] = [
    ("sgd_step", ("p", "g"), {"learning_rate": 0.1}),
    ("sgd_step", ("p", "g", "v"), {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    ("adagrad_step", ("p", "g", "cache"), {"learning_rate": 0.1}),
    ("rmsprop_step", ("p", "g", "cache"), {"learning_rate": 0.1}),
    ("adam_step", ("p", "g", "m", "v"), {"learning_rate": 0.1, "step": 3, "weight_decay": 0.01}),
]


@pytest.mark.parametrize("shape", [(12,), (3, 4), (0,)])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[0])
def test_steps_change_the_arrays_themselves(gpu: Any, step: Any, shape: tuple[int, ...]) -> None:
    name, names, options = step
    hosts = {n: np.abs(normal(*shape)) + i for i, n in enumerate(names)}
    there = {n: gpu.cupy.asarray(a) for n, a in hosts.items()}
    given = {n: a if n == "g" else Foreign(a) for n, a in there.items()}
    addresses = {n: a.data.ptr for n, a in there.items()}
    before = gpu.cupy.counts.snapshot()
    assert getattr(F, name)(**given, **options) is None
    if gpu.name == "cupy":
        assert gpu.cupy.counts.snapshot().d2h == before.d2h, "a copy to the host"
    getattr(F, name)(**hosts, **options, backend="numpy")
    for n, a in there.items():
        assert a.data.ptr == addresses[n]
        np.testing.assert_allclose(a.get(), hosts[n], rtol=1e-5, atol=1e-7)


def test_clipping_gives_the_norm_before(gpu: Any) -> None:
    g = gpu.cupy.asarray(np.array([[3, 0], [0, 4]], np.float32))
    assert F.clip_by_global_norm(g, clip_norm=1) == pytest.approx(5)
    np.testing.assert_allclose(g.get(), [[0.6, 0], [0, 0.8]], rtol=1e-6)
    large = gpu.cupy.asarray(np.full(4, 1e30, np.float32))
    assert F.clip_by_global_norm(large, clip_norm=np.finfo(np.float32).max) == pytest.approx(2e30)


def test_the_better_candidate_is_kept(gpu: Any) -> None:
    p, q = (gpu.cupy.asarray(a) for a in (W, W + 1))
    sums, best = (gpu.cupy.asarray(np.array(a, np.float64)) for a in ([1, 0], [2, 0]))
    F.random_search_accept(p, q, sums, best)
    np.testing.assert_array_equal(p.get(), W + 1)
    assert best.get().tolist() == [1, 0]
    with pytest.raises(ShapeError, match="expected both"):
        F.random_search_accept(p, q, sums, best[:1])


def broken(gpu: Any) -> dict[str, tuple[dict[str, Any], type[Exception], str]]:
    """What must not be updated, beside good arrays p, g, m, v."""
    cp = gpu.cupy
    good, wide = cp.asarray(normal(4, 4)), cp.asarray(normal(4, 8))
    fixed = Foreign(cp.asarray(normal(4, 4)))
    about = {**fixed.__cuda_array_interface__, "data": (fixed.__cuda_array_interface__["data"][0], True)}
    fixed = type("Fixed", (Foreign,), {"__cuda_array_interface__": about})(fixed._array)
    return {
        "on the host": ({"m": np.zeros((4, 4), np.float32)}, DTypeError, "p lies on .*CUDA:0 and m on the host"),
        "another dtype": ({"m": cp.zeros((4, 4))}, DTypeError, "m has dtype float64"),
        "another shape": ({"v": cp.zeros((4, 3), np.float32)}, ShapeError, r"v has shape \(4, 3\); expected \(4, 4\)"),
        "gradient of another shape": ({"g": cp.zeros(16, np.float32)}, ShapeError, r"g has shape \(16,\)"),
        "gradient of another dtype": ({"g": cp.zeros((4, 4))}, DTypeError, "p is float32 but g is float64"),
        "strided": ({"v": wide[:, ::2]}, DataError, "v is not a C-contiguous array"),
        "transposed": ({"p": cp.asarray(normal(4, 4)).T}, DataError, "p is not a C-contiguous array"),
        "read-only": ({"m": fixed}, DataError, "m is read-only"),
        "twice": ({"m": good, "v": good}, DataError, "m and v share memory"),
        "overlapping": ({"m": wide[:2].reshape(4, 4), "v": wide[1:3].reshape(4, 4)}, DataError, "m and v share memory"),
        "elsewhere": ({"m": Elsewhere(cp.zeros((4, 4), np.float32))}, DTypeError, "m .*lives on the device CUDA:1"),
        "integers": ({"p": cp.zeros((4, 4), np.int64)}, DTypeError, "p is int64"),
    }


@pytest.mark.parametrize("fault", list(broken(made("double"))))
def test_nothing_changes_where_an_array_cannot_be_updated(gpu: Any, fault: str) -> None:
    put = {n: gpu.cupy.asarray(np.full((4, 4), 1 + i, np.float32)) for i, n in enumerate(("p", "g", "m", "v"))}
    wrong, error, message = broken(gpu)[fault]
    given = {**put, **wrong}
    with pytest.raises(error, match=message):
        F.adam_step(**given, step=1, learning_rate=0.1)
    for i, a in enumerate(put.values()):
        assert (a.get() == 1 + i).all()


# ---- where it cannot be ---------------------------------------------------------------------------------------------


def test_main_arrays_lie_on_one_side(gpu: Any) -> None:
    put = gpu.cupy.asarray
    for given in ((put(X), W, B), (X, put(W), B), (put(X), put(W), B.tolist())):
        with pytest.raises(DTypeError, match="on the host; copy one to where the other is"):
            F.dense(*given)
    with pytest.raises(DTypeError, match="y lies on the device CUDA:0 and logits on the host"):
        F.softmax_cross_entropy(DY, put(LABELS))
    with pytest.raises(DTypeError, match=re.escape("x is float32 but w is float64")):
        F.dense(put(X), put(W.astype(np.float64)), put(B))


def test_a_cpu_that_was_named_takes_no_device_arrays(gpu: Any) -> None:
    x = gpu.cupy.asarray(X)
    with pytest.raises(DTypeError, match="lives on the device CUDA:0, and this backend computes on the CPU"):
        F.relu(x, backend="numpy")
    with nn.use_backend("numpy"), pytest.raises(DTypeError, match="computes on the CPU"):
        F.relu(x)
    with nn.use_backend("numpy"), pytest.raises(DTypeError, match="computes on the CPU"):
        F.sgd_step(x, x.copy(), learning_rate=1)
    assert isinstance(F.relu(x, backend="auto"), gpu.cupy.ndarray)


def test_another_gpu_is_an_error(gpu: Any) -> None:
    with pytest.raises(DTypeError, match=r"x .*Elsewhere.* lives on the device CUDA:1, and the backend .* CUDA:0"):
        F.relu(Elsewhere(gpu.cupy.asarray(X)))


def test_bad_values_and_shapes_are_found_as_on_the_host(gpu: Any) -> None:
    put = gpu.cupy.asarray
    with pytest.raises(DataError, match=re.escape("y[2] is 9, which is no class")):
        F.softmax_cross_entropy(put(DY), put(np.array([0, 1, 9, 0, 1, 2, 0])))
    with pytest.raises(DataError, match=re.escape("y[0, 0] is nan")):
        F.mean_squared_error(put(DY), put(np.full((N, OUT), np.nan, np.float32)))
    with pytest.raises(DataError, match="sample_weight has no weight above 0"):
        F.huber(put(DY), put(DY), sample_weight=put(np.zeros(N)))
    with pytest.raises(ShapeError, match=re.escape("w has shape (3, 5)")):
        F.dense(put(X), put(W.T), put(B))
    with pytest.raises(DTypeError, match="x has dtype complex64, not numbers"):
        F.relu(put(X.astype(np.complex64)))


def test_without_cupy_the_error_says_what_is_missing(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(registry._instances, "cupy")
    monkeypatch.setitem(registry._factories, "cupy", lambda: Unavailable())
    with pytest.raises(nn.BackendUnavailable, match="there is no CuPy"):
        F.relu(gpu.cupy.asarray(X))


class Unavailable:
    name, device, api_version = "cupy", "cuda", 1
    kernel = asarray = to_numpy = empty = zeros = synchronize = compile = lambda self, *args: None

    def unavailable(self) -> str:
        return "there is no CuPy"


# ---- any op ---------------------------------------------------------------------------------------------------------


def test_any_op_by_its_name(gpu: Any) -> None:
    put = gpu.cupy.asarray
    y = F.apply_op("leaky_relu", put(X), alpha=0.1)
    assert_alike(gpu, y, F.apply_op("leaky_relu", X, alpha=0.1, backend="numpy"))
    g, total = put(np.zeros(WIDE * OUT, np.float32)), put(np.zeros(()))
    assert F.apply_op("penalty", put(W.reshape(-1)), g, total, l1=1.0, l2=0.0) is None
    np.testing.assert_array_equal(g.get(), np.sign(W.reshape(-1)))
    assert float(total.get()) == pytest.approx(np.abs(W).sum())
    sums = put(np.zeros(()))
    dz, losses = F.apply_op("mean_squared_error", put(DY), put(X[:, :OUT].copy()), None, sums, normaliser=float(N))
    assert_alike(
        gpu,
        (dz, losses),
        F.apply_op("mean_squared_error", DY, X[:, :OUT], None, np.zeros(()), normaliser=float(N), backend="numpy"),
    )
    with pytest.raises(DataError, match="g is not a C-contiguous array"):
        F.apply_op("clip_by_global_norm", put(normal(8))[::2], clip_norm=1.0)


@pytest.fixture
def no_own_ops() -> Any:
    before = set(OPS)
    yield
    for name in set(OPS) - before:
        del OPS[name], CUSTOM[name]


def test_an_op_of_your_own_runs_its_cuda_function_or_its_reference(gpu: Any, no_own_ops: None) -> None:
    def twice(x, y, *, by):
        assert type(x) is np.ndarray
        y[...] = by * x

    def there(x, y, *, by):
        assert isinstance(x, gpu.cupy.ndarray)
        y[...] = by * x

    spec = nn.OpSpec("twice", "x[N,I] -> y[N,I]", scalars=["by"])
    nn.register_op(spec, reference=twice)
    nn.register_op(nn.OpSpec("twice_there", "x[N,I] -> y[N,I]", scalars=["by"]), reference=twice, cuda=there)
    for op in ("twice", "twice_there") if gpu.name == "cupy" else ("twice",):
        y = F.apply_op(op, gpu.cupy.asarray(X), by=2.0)
        assert_alike(gpu, y, 2 * X)


def test_a_cuda_function_must_fit_its_op(no_own_ops: None) -> None:
    def good(x, y, *, by): ...

    def bad(x, out, *, by): ...

    spec = nn.OpSpec("twice", "x[N,I] -> y[N,I]", scalars=["by"])
    with pytest.raises(OptionError, match="cuda is 3; expected a function on CuPy's arrays"):
        nn.register_op(spec, reference=good, cuda=3)
    with pytest.raises(OptionError, match=re.escape("cuda takes (x, out, *, by); its spec asks for (x, y, *, by)")):
        nn.register_op(spec, reference=good, cuda=bad)
    assert "twice" not in OPS


def test_an_op_that_the_backend_lacks_runs_on_the_reference(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = type(gpu).kernel
    monkeypatch.setattr(type(gpu), "kernel", lambda self, op: None if op == "tanh" else kernel(self, op))
    assert_alike(gpu, F.tanh(gpu.cupy.asarray(X)), np.tanh(X))
