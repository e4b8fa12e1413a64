"""The parity kit finds what is wrong: every mutant of the example backend is caught, the backend itself passes.

A mutant is tried as its writer would try it, `check_backend(backend, ops=[op])`, until the first row that fails. That
row must name the op, or a training. The backend itself passes the same here in float32; in both dtypes, with all else,
it does in test_array_api_backend.py.
"""

from __future__ import annotations

import functools
import re

import pytest
from mutants import FAULTS, first_failure, loaded, with_fault
from mutants.arrays import ARRAYS, with_arrays
from mutants.runners import RUNNERS, with_runner
from mutants.wrappers import WRAPPERS, targets, touching_inputs, wrapped

from nnfast.protocol import OPS
from nnfast.testing import DTYPES

CASES = 8  # generated ones, beside those of the table
KINDS = ("ops", "gradients")

# What it says when a mutant could not even run; that would prove nothing.
NOT_RUN = re.compile(r"(Name|Syntax|Attribute|Import|Type|Lookup|Key|Index|Unbound\w+)Error: ")


@functools.cache
def right():
    return loaded().ArrayAPIBackend()


def with_kernel(op, kernel):
    return loaded().ArrayAPIBackend(kernels={**loaded().KERNELS, op: kernel})


def survives(backend, op, dtypes=DTYPES):
    """What is amiss with a mutant of this op; None where it was caught as it should be."""
    row = first_failure(backend, ops=[op], cases=CASES, kinds=KINDS, dtypes=dtypes)
    if row is None:
        return "it was not caught"
    named = re.match(rf"{op}\b", row.name) and row.kind in KINDS
    return None if named and not NOT_RUN.match(row.failure) else f"caught as {row.name}: {row.failure}"


def test_every_op_has_its_faults():
    assert {fault.op for fault in FAULTS} == set(OPS)
    assert len({str(fault) for fault in FAULTS}) == len(FAULTS) >= 25


@pytest.mark.parametrize("op", OPS)
def test_the_right_kernel_passes(op):
    assert first_failure(right(), ops=[op], cases=CASES, kinds=KINDS, dtypes=["float32"]) is None


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_wrong_line_is_caught(fault, tmp_path):
    assert survives(with_fault(fault, tmp_path / "package"), fault.op) is None


@pytest.mark.parametrize("what", WRAPPERS)
def test_a_spoilt_output_is_caught(what):
    wrapper, said = WRAPPERS[what], {}
    for op, name in targets(wrapper):
        mutant = with_kernel(op, wrapped(op, right().kernels[op], wrapper.spoil, name))
        said[op, name] = survives(mutant, op, wrapper.dtypes)
    assert len(said) > 30
    assert not {of: text for of, text in said.items() if text is not None}


@pytest.mark.parametrize("op", OPS)
def test_a_spoilt_input_is_caught(op):
    for name in [arg.name for arg in OPS[op].args if arg.role == "in"]:
        row = first_failure(
            with_kernel(op, touching_inputs(op, right().kernels[op], name)), ops=[op], cases=0, kinds=KINDS
        )
        assert row is not None, name
        assert "read-only" in row.failure


@pytest.mark.parametrize("what", ARRAYS)
def test_wrong_arrays_are_caught(what):
    row = first_failure(with_arrays(**ARRAYS[what]), kinds=["arrays"])
    assert row is not None
    assert row.kind == "arrays"


def test_right_arrays_pass():
    assert first_failure(right(), kinds=["arrays"]) is None


@pytest.mark.slow
@pytest.mark.parametrize("what", RUNNERS)
def test_a_wrong_walk_is_caught(what):
    row = first_failure(with_runner(RUNNERS[what]), kinds=["models"])
    assert row is not None
    assert row.kind == "models"
    assert not NOT_RUN.match(row.failure)


@pytest.mark.slow
def test_the_right_walk_passes():
    assert first_failure(with_runner(lambda right: right), kinds=["models"]) is None
