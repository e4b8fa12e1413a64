"""The example of an own op: its two versions agree, its gradient is right, and it runs inside the compiled step."""

from __future__ import annotations

import enum
import os

import numpy as np
import pytest

import nnfast as nn
from nnfast.examples import own_op
from nnfast.protocol import CUSTOM, OPS
from nnfast.testing import check_vjp

BACKENDS = [name for name, works in nn.available_backends().items() if works]


@pytest.fixture(autouse=True)
def registered():
    own_op.register()
    yield
    for name in ("prelu", "prelu_backward"):
        OPS.pop(name), CUSTOM.pop(name)


def pair(backend):
    kernel, gradient = (nn.get_backend(backend).kernel(name) for name in ("prelu", "prelu_backward"))

    def forward(x, a):
        y = np.full_like(x, np.nan)
        kernel(x, a, y)
        return y

    def backward(dy, x, a):
        dx, da = np.full_like(x, np.nan), np.full_like(a, np.nan)
        gradient(x, a, dy, dx, da)
        return dx, da

    return forward, backward


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_gradient_is_that_of_the_function(backend, rng):
    forward, backward = pair(backend)
    x = rng.standard_normal((9, 5))
    x += 0.1 * np.sign(x)  # away from the kink
    check_vjp(forward, backward, [x, rng.uniform(0, 1, 5)], rng)


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 5), (257, 33)])
def test_both_versions_agree(shape, rng, dtype):
    x, dy = rng.standard_normal((2, *shape)).astype(dtype)
    a = rng.uniform(0, 1, shape[1]).astype(dtype)
    x.flat[::5] = 0
    tolerance = {"rtol": 4 * np.finfo(dtype).eps * max(shape[0], 1), "atol": 4 * np.finfo(dtype).eps * max(shape[0], 1)}
    (f, b), *others = (pair(name) for name in BACKENDS)
    for forward, backward in others:
        np.testing.assert_array_equal(forward(x, a), f(x, a))
        for got, want in zip(backward(dy, x, a), b(dy, x, a), strict=True):
            np.testing.assert_allclose(got, want, **tolerance)


def test_training_agrees_and_stays_compiled():
    ends = [own_op.train(40, backend=name, dtype="float64", verbose=0) for name in BACKENDS]
    for end in ends[1:]:
        np.testing.assert_allclose(end.model.parameters, ends[0].model.parameters, rtol=1e-9, atol=1e-9)
    for end in ends:
        if end.model.backend.name == "numba" and not {"NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK"} & set(os.environ):
            report = end.model.backend_report()
            assert "prelu_body" in report
            assert "cuts the program" not in report
    assert not np.allclose(ends[0].model.get_weights()[2], 0.25)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_frozen_layer_keeps_its_slopes(backend):
    layers = [nn.Dense(2, 4), own_op.PReLU(4), nn.Dense(4, 3)]
    model = nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.Adam(0.1), backend=backend, rng=0)
    layers[1].trainable = False
    before = model.get_weights()
    model.fit(np.eye(2), np.array([0, 1]), epochs=3, verbose=0)
    after = model.get_weights()
    np.testing.assert_array_equal(after[2], before[2])
    assert not np.allclose(after[0], before[0])


def test_the_program_runs(capsys):
    assert own_op.main(["--epochs", "5"]) == 0
    assert "PReLU" in capsys.readouterr().out


def test_a_body_with_other_parameters_is_refused():
    spec = nn.OpSpec("bent", "x[N,I] -> y[N,I]", scalars=["amount"])

    def reference(x, y, *, amount): ...

    for body, said in [(lambda x, y: None, "asks for"), ("text", "numba is 'text'")]:
        with pytest.raises(nn.errors.OptionError, match=said):
            nn.register_op(spec, reference=reference, numba=body)
    assert "bent" not in OPS


def test_what_a_body_refers_to_tells_its_versions_apart():
    from nnfast.kernels.numba_cpu.table import _fingerprint  # noqa: TID251

    def body_with(helper, number=2.0, **names):
        space = {"helper": helper, "number": number, "np": np, **names}
        exec("def body(x, y):\n    for i in range(x.size):\n        y.flat[i] = number * helper(x.flat[i])", space)
        return space["body"]

    def twice(x):
        return 2 * x

    def thrice(x):
        return 3 * x

    prints = [_fingerprint(body_with(*given), set()) for given in ((twice,), (twice,), (thrice,), (twice, 3.0))]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3

    def closing_over(k):
        return lambda x: k * x

    def both(f, g):
        return _fingerprint(body_with(lambda x: f(x) + g(x)), set())

    def default(k):
        def f(x, k=k):
            return k * x

        return f

    assert both(closing_over(2.0), closing_over(3.0)) != both(closing_over(2.0), closing_over(5.0))
    assert _fingerprint(default(2.0), set()) != _fingerprint(default(5.0), set())

    class Settings(enum.IntEnum):
        SCALE = 2

    assert _fingerprint(body_with(twice, Settings.SCALE), set()) is not None
    assert _fingerprint(body_with(twice, np.float32), set()) is not None
    for unknown in (object(), np.ones(3), [1], pytest, Settings):
        assert _fingerprint(body_with(twice, unknown), set()) is None  # compiled, but not kept on disk
