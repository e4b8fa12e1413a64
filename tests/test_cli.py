"""The command line: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types

import numpy as np
import pytest

import nnfast
from nnfast import cli, registry
from nnfast.errors import BackendUnavailable


def test_info_is_a_table(capsys):
    assert cli.main(["info"]) == 0
    out, err = capsys.readouterr()
    head, backends, packages = (block.splitlines() for block in out.split("\n\n"))
    assert head[0].split() == ["nnfast", nnfast.__version__]
    assert head[2].split() == ["numpy", np.__version__]
    assert [line.split() for line in backends[:2]] == [["backends"], ["numpy", "available"]]
    assert packages[0] == "packages"
    assert packages[1].split(maxsplit=1) == ["numba", cli._version("numba") or "not installed"]
    assert err == ""


def test_info_gives_reasons_and_json(capsys, monkeypatch):
    monkeypatch.setattr(registry, "_factories", {**registry._factories, "odd": "no_such_module_anywhere:Backend"})
    monkeypatch.setenv("NNFAST_BACKEND", "numpy")
    assert cli.main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["backends"]["numpy"] == "available"
    assert "No module named 'no_such_module_anywhere'" in facts["backends"]["odd"]
    assert facts["NNFAST_BACKEND"] == "numpy"
    assert facts["cpus"] >= 1
    assert facts["blas"]
    assert facts["packages"]["numba"] == cli._version("numba")


def test_packages_that_are_missing_are_named(capsys, monkeypatch):
    monkeypatch.setattr(cli, "PACKAGES", ("no-such-distribution",))
    cli.main(["info"])
    assert "no-such-distribution  not installed" in capsys.readouterr().out


def test_info_does_without_threadpoolctl(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert cli._blas()
    assert "threads" not in cli._blas()


def test_an_unknown_command_gives_the_closest(capsys):
    assert cli.main(["dmeo"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nnfast: unknown command 'dmeo'; did you mean 'demo'?")


def test_no_command_prints_help_and_is_an_error(capsys):
    assert cli.main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    for name in cli.COMMANDS:
        assert f"\n  {name} " in err


@pytest.mark.parametrize("argv", [["--help"], ["info", "--help"], ["--version"]])
def test_help_and_version_go_to_stdout(argv, capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main(argv)
    assert "nnfast" in capsys.readouterr().out


def test_a_wrong_option_is_exit_2():
    with pytest.raises(SystemExit, match=r"^2$"):
        cli.main(["info", "--jsno"])


@pytest.mark.parametrize("argv", [[], ["--help"], ["--epochs", "3", "--backend", "numpy"], ["-q", "--", "x"]])
def test_demo_gets_its_arguments(argv, monkeypatch):
    seen = []
    module = types.ModuleType("nnfast.examples.demo")
    module.main = seen.append
    monkeypatch.setitem(sys.modules, "nnfast.examples.demo", module)
    assert cli.main(["demo", *argv]) == 0
    assert seen == [argv]


def test_an_error_of_ours_is_a_line_not_a_traceback(capsys, monkeypatch):
    def fail(argv):
        error = BackendUnavailable("backend 'x': no GPU")
        error.add_note("The name comes from somewhere.")
        raise error

    monkeypatch.setitem(cli.COMMANDS, "fail", (fail, ""))
    assert cli.main(["fail"]) == 1
    assert capsys.readouterr().err == "nnfast fail: backend 'x': no GPU\nThe name comes from somewhere.\n"


def test_python_m_nnfast_is_the_command():
    call = [sys.executable, "-m", "nnfast", "inof"]
    done = subprocess.run(call, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONUTF8": "1"})
    assert done.returncode == 2
    assert "did you mean 'info'" in done.stderr
