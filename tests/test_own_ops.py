"""Own ops: what `register_op` takes, and what it refuses."""

from __future__ import annotations

import re

import numpy as np
import pytest

from nnfast import own_ops
from nnfast.errors import BackendUnavailable, DTypeError, NnfastError, OptionError, UnknownBackend
from nnfast.own_ops import register_op
from nnfast.protocol import CUSTOM, OPS, OpSpec
from nnfast.registry import get_backend

CUBE = OpSpec("cube", "x[N,I] -> y[N,I]", "y = scale·x³", scalars=["scale"], attributes=["mode"])


@pytest.fixture
def ops(monkeypatch):
    """Forgets the ops that a test registers."""
    known = set(OPS)
    yield
    for name in set(OPS) - known:
        del OPS[name]
        CUSTOM.pop(name)


def cube(x, y, *, scale, mode):
    np.multiply(x**3, scale, out=y)


def test_an_own_op_joins_the_table(ops):
    register_op(CUBE, reference=cube, cuda=cube)
    assert OPS["cube"] is CUBE
    assert CUSTOM["cube"] == {"reference": cube, "cuda": cube}
    y = np.empty((2, 2))
    kernel = get_backend("numpy").kernel("cube")
    kernel(np.full((2, 2), 2.0), y, scale=0.5, mode="")
    assert (y == 4).all()


def test_a_second_op_of_the_name_is_refused(ops):
    register_op(CUBE, reference=cube)
    with pytest.raises(OptionError, match=r"op 'cube' exists already: x\[N,I\] -> y\[N,I\]"):
        register_op(CUBE, reference=cube)
    relu = OpSpec("relu", CUBE.signature, scalars=["scale"], attributes=["mode"])
    with pytest.raises(OptionError, match="op 'relu' exists already"):
        register_op(relu, reference=cube)


def test_no_reference_no_registration(ops):
    with pytest.raises(OptionError, match="op 'cube': reference is None"):
        register_op(CUBE, reference=None)
    with pytest.raises(DTypeError, match="spec is 'cube'"):
        register_op("cube", reference=cube)
    assert "cube" not in OPS
    assert "cube" not in CUSTOM


@pytest.mark.parametrize("shape", ["N", "", "N,O,K"])
def test_a_label_of_another_rank_is_refused(shape, ops):
    spec = OpSpec("hits", f"z[N,O] y[{shape}]:label total[]!:f8")
    with pytest.raises(OptionError, match="op 'hits': y is a label, and those have the shape"):
        register_op(spec, reference=lambda z, y, total: None)
    assert "hits" not in OPS


@pytest.mark.parametrize(
    "kernel",
    [
        lambda x, *, scale, mode: None,
        lambda y, x, *, scale, mode: None,
        lambda x, y, z, *, scale, mode: None,
        lambda x, y, *, scale: None,
        lambda x, y, *, scale, mode, more=0: None,
        lambda *arrays, scale, mode: None,
        lambda x, y, **scalars: None,
        lambda x, y, scale, mode, /: None,
        lambda *, x, y, scale, mode: None,
    ],
)
def test_a_reference_with_other_parameters_is_refused(kernel, ops):
    with pytest.raises(OptionError, match=re.escape("its spec asks for (x, y, *, scale, mode)")):
        register_op(CUBE, reference=kernel)
    assert "cube" not in OPS


def test_the_built_in_reference_kernels_pass_the_same_check():
    numpy = get_backend("numpy")
    for name, spec in OPS.items():
        own_ops._check_parameters(spec, "reference", numpy.kernel(name))


def test_all_errors_are_of_the_family():
    assert issubclass(UnknownBackend, BackendUnavailable)
    assert issubclass(BackendUnavailable, NnfastError)
    assert issubclass(BackendUnavailable, RuntimeError)
    assert issubclass(UnknownBackend, ValueError)
