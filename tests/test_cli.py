"""The command line: what it prints, where, and its exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import types

import pytest

from nnfast import cli
from nnfast.commands import COMMANDS, Command
from nnfast.commands.parsing import NotHere, Parser
from nnfast.errors import BackendUnavailable


def test_an_unknown_command_gives_the_closest(capsys):
    assert cli.main(["dmeo"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nnfast: unknown command 'dmeo'; did you mean 'demo'?")


def test_no_command_prints_help_and_is_an_error(capsys):
    assert cli.main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    for name in COMMANDS:
        assert f"\n  {name} " in err


@pytest.mark.parametrize("argv", [["--help"], ["info", "--help"], ["--version"]])
def test_help_and_version_go_to_stdout(argv, capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main(argv)
    assert "nnfast" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["info", "--jsno"], "nnfast info: unknown option '--jsno'; did you mean '--json'?"),
        (["info", "--js"], "nnfast info: unknown option '--js'; did you mean '--json'?"),
        (["parity", "--catse=3"], "nnfast parity: unknown option '--catse'; did you mean '--cases'?"),
        (["demo", "--bakcend", "numpy"], "nnfast demo: unknown option '--bakcend'; did you mean '--backend'?"),
        (["info", "--zzzzzz"], "nnfast info: unknown option '--zzzzzz' (nnfast info --help says more)"),
        (["info", "extra"], "nnfast info: there is nothing to do with the argument 'extra'"),
        (["--vresion"], "nnfast: unknown option '--vresion'; did you mean '--version'?"),
        (["warmup", "--dtype", "flaot32"], "--dtype: unknown value 'flaot32'; did you mean 'float32'?"),
        (["completion", "bsh"], "shell: unknown value 'bsh'; did you mean 'bash'?"),
        (["parity", "--cases", "-5"], "--cases: '-5' is no whole number of at least 0"),
        (["parity", "--cases", "1.5"], "--cases: '1.5' is no whole number of at least 0"),
        (["parity", "--op", "dense", "--only", "ops", "--only", "models"], "and --only models is tried as a whole"),
        (["completion"], "nnfast completion: the following arguments are required: shell"),
    ],
)
def test_a_wrong_call_gives_the_closest_and_is_exit_2(argv, words, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        cli.main(argv)
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.startswith("usage: nnfast")


@pytest.fixture
def command(monkeypatch):
    """A command `own` with an option --name, that does what the test says."""

    def make(run):
        def parser():
            made = Parser("nnfast own", "One of the tests.")
            made.add_argument("--name")
            return made

        monkeypatch.setitem(sys.modules, "own_command", types.SimpleNamespace(parser=parser, run=run))
        monkeypatch.setitem(COMMANDS, "own", Command("own_command", ""))

    return make


@pytest.mark.parametrize("status", [0, 1, 5])
def test_a_command_gets_its_options_and_gives_the_exit_code(command, status):
    seen = []
    command(lambda options: seen.append(options.name) or status)
    assert cli.main(["own", "--name", "x"]) == status
    assert seen == ["x"]


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (
            BackendUnavailable("backend 'x': no GPU"),
            1,
            "nnfast own: backend 'x': no GPU\nThe name comes from somewhere.\n",
        ),
        (NotHere("get it"), 2, "nnfast own: get it\nThe name comes from somewhere.\n"),
        (KeyboardInterrupt(), 130, "nnfast own: stopped\n"),
    ],
)
def test_an_error_of_ours_is_a_line_not_a_traceback(command, capsys, error, status, words):
    def fail(options):
        error.add_note("The name comes from somewhere.")
        raise error

    command(fail)
    assert cli.main(["own"]) == status
    assert capsys.readouterr().err == words


def test_other_errors_are_faults_and_are_seen(command):
    def fail(options):
        raise ZeroDivisionError

    command(fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["own"])


@pytest.mark.skipif(sys.platform == "win32", reason="pipes are closed otherwise there")
def test_a_reader_who_has_gone_is_no_traceback():
    """Of `nnfast completion bash | head -c 0`."""
    read, write = os.pipe()
    os.close(read)
    call = [sys.executable, "-m", "nnfast", "completion", "bash"]
    done = subprocess.run(call, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@pytest.mark.parametrize(
    ("argv", "unbuffered"), [("completion bash", ""), ("completion bash", "1"), ("info --json", ""), ("--version", "")]
)
def test_output_that_nobody_can_take_is_a_line(argv, unbuffered):
    call = [sys.executable, "-m", "nnfast", *argv.split()]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(call, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert done.stderr == f"nnfast {argv.split()[0]}: cannot write: No space left on device\n"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such shell there")
@pytest.mark.parametrize("argv", ["completion bash", "--version"])
def test_closed_output_is_a_line(argv):
    call = ["sh", "-c", f'"$0" -m nnfast {argv} >&-', sys.executable]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"nnfast {argv.split()[0]}: cannot write: standard output is closed\n"


def test_an_error_about_a_file_is_a_fault_and_is_seen(command):
    def fail(options):
        os.stat("/nowhere/at all")

    command(fail)
    with pytest.raises(FileNotFoundError):
        cli.main(["own"])


def test_python_m_nnfast_is_the_command():
    call = [sys.executable, "-m", "nnfast", "inof"]
    done = subprocess.run(call, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONUTF8": "1"})
    assert done.returncode == 2
    assert "did you mean 'info'" in done.stderr
