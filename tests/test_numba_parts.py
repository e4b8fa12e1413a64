"""Functions that only compiled ones call: once for all constants, and never machine code of their own."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

numba = pytest.importorskip("numba")
modes = importlib.import_module("nnfast.kernels.numba_cpu.modes")
parts = importlib.import_module("nnfast.kernels.numba_cpu.parts")

pytestmark = pytest.mark.skipif(
    not (modes.COMPILED and parts.SUPPORTED), reason="no parts in this mode, or with this Numba"
)

SIGNATURE = numba.float64(numba.float64)


def power():
    @modes.jit
    def power(x, n):
        y = 1.0
        for _ in range(n):
            y *= x
        return y

    return power


def caller(part):
    @numba.cfunc(SIGNATURE, **modes.OPTIONS)
    def sum_of_powers(x):
        return part(x, 1) + part(x, 2) + part(x, int(x))

    return sum_of_powers


def engine():
    return numba.core.registry.cpu_target.target_context.codegen()._engine


def test_a_caller_holds_it_and_the_engine_does_not():
    part = power()
    assert caller(part).ctypes(3.0) == 3.0 + 9.0 + 27.0
    (version,) = part.overloads.values()
    assert not engine().is_symbol_defined(version.fndesc.llvm_func_name)
    with_code = part.from_python
    assert with_code(2.0, 5) == 32.0
    assert engine().is_symbol_defined(next(iter(with_code.overloads.values())).fndesc.llvm_func_name)


def test_constants_make_no_versions():
    part = power()
    caller(part)
    assert [list(map(str, kinds)) for kinds in part.overloads] == [["float64", "int64"]]


def test_it_can_be_called_from_python(rng):
    total = modes.jit(lambda x: x.sum())
    x = rng.standard_normal(17)
    assert total(x) == pytest.approx(x.sum(), rel=1e-15)


@pytest.mark.parametrize("fault", ["print", "exception"])
def test_what_needs_python_is_refused_and_named(fault):
    def printing(x, n):
        print(x)
        return x

    def raising(x, n):
        if n > 5:
            raise ValueError("too many", n)
        return x

    part = modes.jit(printing if fault == "print" else raising)
    with pytest.raises(numba.core.errors.UnsupportedError, match=r"(printing|raising): it uses Python objects"):
        caller(part)


def test_an_exception_with_constants_ends_the_part():
    @modes.jit
    def root(x, n):
        if x < 0:
            raise ValueError("negative")
        return np.sqrt(x)

    assert caller(root).ctypes(4.0) == 6.0


def test_without_that_numba_compiles_parts_as_it_does(monkeypatch):
    monkeypatch.setattr(parts, "SUPPORTED", False)
    part = power()
    assert type(part) is numba.core.registry.CPUDispatcher
    assert caller(part).ctypes(3.0) == 39.0
