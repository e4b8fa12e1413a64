"""Our own backends before `nnfast.testing`, one test for each of its trials; and its command, report and plugin."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import nnfast as nn
from nnfast import registry, testing
from nnfast.cli import main
from nnfast.errors import BackendUnavailable, DTypeError, OptionError, UnknownNameError
from nnfast.registry import get_backend
from nnfast.testing import CASES, DTYPES, check_backend
from nnfast.testing.report import CASES_EACH, KINDS
from nnfast.testing.trials import trials_of

REFERENCE = get_backend("numpy")


def available(name):
    try:
        return get_backend(name)
    except BackendUnavailable:
        return None


def trials():
    for name in ("numpy", "numba"):
        backend = available(name)
        if backend is not None:
            options = {"cases": CASES_EACH, "thorough": False, "ops": None, "kinds": KINDS, "dtypes": DTYPES}
            for trial in trials_of(backend, REFERENCE, **options):
                yield pytest.param(trial, id=f"{name}: {trial}")


@pytest.mark.parametrize("trial", list(trials()))
def test_backend(trial):
    assert sum(1 for _ in trial.run()) > 0


# ---- what is tried ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", CASES)
def test_every_op_gets_its_hostile_numbers(op):
    tried = 0
    for usual, planted in testing.hostile_calls(CASES[op], np.float32):
        tried += len(planted)
        for each in planted:
            changed = [name for name, a in each.call.arrays.items() if not same(a, usual.arrays[name])]
            assert changed in ([], [each.name])
    assert tried >= 60


def same(a, b):
    return a is b or np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


@pytest.mark.parametrize("op", CASES)
def test_generated_cases_differ_and_come_again(op):
    calls = [testing.generated_call(CASES[op], "float32", number) for number in range(200)]
    assert len({str(call) for call in calls}) > 50
    again = testing.generated_call(CASES[op], "float32", 17)
    assert str(again) == str(calls[17])
    assert all(same(a, calls[17].arrays[name]) for name, a in again.arrays.items() if a is not None)
    rows = [call.arrays[call.spec.args[0].name].shape[0] for call in calls]
    assert min(rows) == 0
    assert min(n for n in rows if n) <= 3
    assert max(rows) > 100


# ---- the report ------------------------------------------------------------------------------------------------------


class Wrong:
    """The reference, with a ReLU that is off by one part in 10⁵, and training steps with it."""

    name = "wrong"

    def __getattr__(self, name):
        return getattr(REFERENCE, name)

    def kernel(self, op):
        def relu(x, y):
            y[...] = np.maximum(x, 0) * np.asarray(1.00001, x.dtype)

        return relu if op == "relu" else REFERENCE.kernel(op)


def test_a_report_says_who_erred_and_how_to_see_it_again():
    seen = []
    report = check_backend(Wrong(), ops=["relu", "tanh"], kinds=["ops"], cases=20, on_row=seen.append)
    assert tuple(seen) == report.rows
    assert [(row.name, row.dtype, row.passed) for row in report.rows] == [
        ("relu", "float32", False),
        ("relu", "float64", False),
        ("tanh", "float32", True),
        ("tanh", "float64", True),
    ]
    assert not report.passed
    lines = str(report).split("\n")
    assert sum("FAILED" in line for line in lines) == 3
    assert any(line.startswith("relu float32: relu(x[") and "is allowed" in line for line in lines)
    assert "2 of 4 rows FAILED" in lines[-1]
    assert report.rows[2].cases > 150
    assert 0 < report.rows[2].worst.share <= 1


def test_a_generated_case_that_fails_names_its_number():
    (row,) = check_backend(Wrong(), ops=["relu"], kinds=["ops"], dtypes=["float32"]).rows
    number = next(n for n in range(20) if testing.generated_call(CASES["relu"], "float32", n).arrays["x"].max() > 1)
    with pytest.raises(AssertionError) as caught:
        testing.check_generated(Wrong(), REFERENCE, CASES["relu"], "float32", number)
    assert caught.value.__notes__ == [f"this was case {number} of relu in float32"]
    assert "is allowed" in row.failure


def test_an_exception_is_a_failure_too():
    class Raises(Wrong):
        def kernel(self, op):
            def relu(x, y):
                raise RuntimeError("lost the device")

            return relu

    (row,) = check_backend(Raises(), ops=["relu"], kinds=["ops"], dtypes=["float32"]).rows
    assert "RuntimeError: lost the device" in row.failure
    assert row.cases == 1


def test_what_does_not_exist_cannot_be_tried():
    with pytest.raises(UnknownNameError, match="relu"):
        check_backend("numpy", ops=["rélu"])
    with pytest.raises(OptionError, match="kinds"):
        check_backend("numpy", kinds=["everything"])
    with pytest.raises(nn.errors.UnknownBackend):
        check_backend("numpyy")
    with pytest.raises(OptionError, match="cases is -1; expected a whole number of at least 0"):
        check_backend("numpy", cases=-1)
    with pytest.raises(DTypeError, match="dtype is 'f2'"):
        check_backend("numpy", dtypes=["f2"])
    for nothing in ({"kinds": []}, {"ops": ["accuracy"], "kinds": ["gradients"]}, {"dtypes": (), "kinds": ["ops"]}):
        with pytest.raises(OptionError, match="there is nothing to try"):
            check_backend("numpy", **nothing)


def test_dtypes_may_be_written_in_any_way():
    rows = check_backend("numpy", ops=["relu"], kinds=["ops"], dtypes=[np.float32, ">f8"], cases=0).rows
    assert [(row.dtype, row.passed) for row in rows] == [("float32", True), ("float64", True)]


# ---- the command and the plugin --------------------------------------------------------------------------------------


def test_the_command_prints_a_table_and_says_whether_all_is_well(capsys, monkeypatch):
    assert main(["parity", "--backend", "numpy", "--op", "relu", "--op", "adam_step", "--cases", "5"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "all agree" in said.out
    assert [line.split()[0] for line in said.out.split("\n")[2:6]] == ["relu", "relu", "adam_step", "adam_step"]
    assert "relu, gradient" in said.out
    monkeypatch.setitem(registry._instances, "wrong", Wrong())
    assert main(["parity", "--backend", "wrong", "--op", "relu", "--cases", "5"]) == 1
    assert "rows FAILED" in capsys.readouterr().out
    assert main(["parity", "--backend", "nobody"]) == 1
    assert main(["parity", "--op", "nothing"]) == 1
    assert "nothing" in capsys.readouterr().err


def pytest_run(folder, *arguments):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    settings = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_ADDOPTS", "PYTEST_XDIST"))}
    done = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_plugin_adds_the_trials_of_a_backend(tmp_path):
    (tmp_path / "test_own.py").write_text("def test_mine(nnfast_backend):\n    assert nnfast_backend.name == 'numpy'\n")
    some = "test_mine or (relu and float32 and not leaky) or outputs"
    status, said = pytest_run(tmp_path, "--nnfast-backend", "numpy", "--nnfast-cases", "3", "-k", some, "-vv")
    assert status == 0, said
    for name in ("test_mine", "test_backend[relu float32]", "test_backend[training: outputs float64]"):
        assert f"{name} PASSED" in said
    status, said = pytest_run(tmp_path, "--nnfast-backend", "numpy", "--nnfast-cases", "-3")
    assert status != 0
    assert "--nnfast-cases is -3; expected a whole number of at least 0" in said
    status, said = pytest_run(tmp_path, "-rs")
    assert status == 0, said
    assert "1 skipped" in said
    assert "no --nnfast-backend was given" in said


def test_the_plugin_reports_a_backend_that_errs(tmp_path):
    (tmp_path / "conftest.py").write_text(
        "import numpy as np, nnfast as nn\n"
        "class Backend(type(nn.get_backend('numpy'))):\n"
        "    name = 'halved'\n"
        "    def kernel(self, op):\n"
        "        return (lambda x, y: np.copyto(y, np.maximum(x, 0) / 2)) if op == 'relu' else super().kernel(op)\n"
        "nn.register_backend('halved', Backend)\n"
    )
    status, said = pytest_run(tmp_path, "--nnfast-backend", "halved", "--nnfast-cases", "3", "-k", "relu and float32")
    assert status == 1, said
    assert "test_backend[relu float32]" in said
    assert "is allowed" in said
