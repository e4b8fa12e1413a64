"""Shell completion: scripts made from the parsers, run in the shells themselves where these are installed."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shutil
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from nnfast import cli, registry
from nnfast.commands import COMMANDS, Command, load
from nnfast.commands.described import described
from nnfast.commands.parsing import NotHere, Parser

SHELLS = ("bash", "zsh", "fish")

# What is typed, its last word unfinished, and all that is offered.
OFFERS = {
    "nnfast ": [*COMMANDS],
    "nnfast in": ["info", "inspect"],
    "nnfast --v": ["--version"],
    "nnfast info --": ["--help", "--json"],
    "nnfast info ": [],
    "nnfast warmup --dtype ": ["float32", "float64"],
    "nnfast warmup --dtype=float6": ["float64"],
    "nnfast warmup --backend cupy-": ["cupy-tf32"],
    "nnfast demo --quick --backend nump": ["numpy"],
    "nnfast parity --cases ": [],
    "nnfast parity --op adam": ["adam_step"],
    "nnfast parity --only arrays --only ": ["arrays", "gradients", "models", "ops"],
    "nnfast inspect a-fi": ["a-file.nnfast"],
    "nnfast inspect with": ["with space.npz"],
    "nnfast demo --out a-fi": ["a-file.nnfast"],
    "nnfast completion ": [*SHELLS],
    "nnfast bench --backends numpy,num": ["numpy,numba", "numpy,numpy"],
    "nnfast bench --compare a-fi": ["a-file.nnfast"],
    "nnfast bench --compare old.json a-fi": ["a-file.nnfast"],
    "nnfast bench --suite sta": ["startup"],
    "nnfast nonsense ": [],
}


@pytest.fixture
def script(capsys, tmp_path):
    """The script of a shell, in a file beside the files that it may offer."""

    def make(shell):
        assert cli.main(["completion", shell]) == 0
        path = tmp_path / f"script.{shell}"
        path.write_text(capsys.readouterr().out, encoding="utf-8")
        (tmp_path / "a-file.nnfast").touch()
        (tmp_path / "with space.npz").touch()
        return path

    return make


def needs(shell):
    found = None if sys.platform == "win32" else shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed here")
    return found


def lines(*command, cwd, **more):
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return sorted(done.stdout.split("\n")[:-1])


# ---- what is described ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_parser_that_says_what_each_thing_is_for(name):
    parser = load(name).parser()
    assert parser.prog == f"nnfast {name}"
    assert parser.description
    assert all(action.help for action in parser._actions)
    assert callable(load(name).run)


def test_what_a_parser_gets_is_offered_at_once(monkeypatch, capsys):
    """Nothing is written down a second time: a command, an option and a backend that are new are in every script."""

    def parser():
        made = Parser("nnfast fresh", "A new one.")
        made.add_argument("--unheard", choices=["of1", "of2"], help="it's [new]: 100 %% so")
        made.add_argument("--hidden", help=argparse.SUPPRESS)
        return made

    monkeypatch.setitem(sys.modules, "fresh_command", types.SimpleNamespace(parser=parser))
    monkeypatch.setitem(COMMANDS, "fresh", Command("fresh_command", "what nobody knew"))
    monkeypatch.setitem(registry._factories, "brand-new", "nowhere:Backend")
    monkeypatch.setitem(registry._factories, "$(touch x)", "nowhere:Backend")
    for shell in SHELLS:
        assert cli.main(["completion", shell]) == 0
        script = capsys.readouterr().out
        for word in ("fresh", "unheard", "of1", "of2", "brand-new"):
            assert word in script
        assert "hidden" not in script
        assert "touch" not in script
        assert ("100 % so" in script) == (shell != "bash")  # where options are described


def test_a_command_that_is_not_here_is_offered_without_options(monkeypatch):
    def parser():
        raise NotHere("no checkout")

    monkeypatch.setattr(load("bench"), "parser", parser)
    (bench,) = [one for one in described() if one.name == "bench"]
    assert bench.options == ()
    assert bench.argument is None


def test_two_arguments_are_more_than_the_scripts_can_tell_apart(monkeypatch):
    parser = Parser("nnfast info", "Two.")
    parser.add_argument("one")
    parser.add_argument("two")
    monkeypatch.setattr(load("info"), "parser", lambda: parser)
    with pytest.raises(NotImplementedError, match="2 arguments"):
        described()


# ---- bash -----------------------------------------------------------------------------------------------------------

BASH = """
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_nnfast
for word in "${COMPREPLY[@]}"; do echo "$word"; done
"""


def bash_words(line):
    """As bash parts them: at spaces and, as words of their own, at equals signs."""
    return line.replace("=", " = ").split(" ")


def test_bash_offers_what_is_expected(script):
    bash, path = needs("bash"), script("bash")
    assert lines(bash, "-n", path, cwd=path.parent) == []
    for line, offered in OFFERS.items():
        assert lines(bash, "-c", BASH, "bash", path, *bash_words(line), cwd=path.parent) == sorted(offered), line


def test_bash_offers_all_behind_an_equals_sign(script):
    bash, path = needs("bash"), script("bash")
    words = ["nnfast", "warmup", "--dtype", "="]
    assert lines(bash, "-c", BASH, "bash", path, *words, cwd=path.parent) == ["float32", "float64"]


def test_bash_takes_it_as_the_readme_says(tmp_path):
    bash = needs("bash")
    code = 'eval "$("$0" -m nnfast completion bash)"; complete -p nnfast'
    assert lines(bash, "-c", code, sys.executable, cwd=tmp_path) == ["complete -F _nnfast nnfast"]


# ---- fish -----------------------------------------------------------------------------------------------------------

FISH = 'source "$argv[1]"; for line in $argv[2..]; echo "> $line"; complete -C "$line"; end'


def test_fish_offers_what_is_expected(script):
    fish, path = needs("fish"), script("fish")
    call = [fish, "--no-config", "-c", FISH, path, *OFFERS]
    done = subprocess.run(
        [*map(str, call)],
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": str(path.parent)},
    )
    assert done.returncode == 0, done.stderr
    answers = dict(block.partition("\n")[::2] for block in ("\n" + done.stdout).split("\n> ")[1:])
    for line, offered in OFFERS.items():
        option = line.rpartition(" ")[2].rpartition("=")[0]
        whole = [f"{option}={word}" if option else word for word in offered]
        found = [answer.partition("\t")[0].replace("\\ ", " ") for answer in answers[line].splitlines()]
        assert sorted(filter(None, found)) == sorted(whole), line


# ---- zsh ------------------------------------------------------------------------------------------------------------

# Completion works in an interactive zsh alone; this one writes all that its functions would show into a file.
CLEAR = b"\x15"  # the key that empties the line
ZSH = """
autoload -U compinit
compinit -D -u
source script.zsh
compadd() {
    local -a hits
    if [[ " $* " != *' -'[OAD]' '* ]]; then
        builtin compadd -A hits "$@"
        print -rl -- $hits >> offered
    fi
    builtin compadd "$@"
}
probe() {
    _main_complete
    print -r -- END >> offered
}
zle -C probe complete-word probe
bindkey '^I' probe
"""


@contextlib.contextmanager
def zsh_session(zsh, folder, seconds=20.0):
    """A function that types a line and a tab, and gives what was offered."""
    offered = folder / "offered"
    handle, terminal = os.openpty()
    child = subprocess.Popen(
        [zsh, "-f", "-i"],
        cwd=folder,
        env={**os.environ, "TERM": "dumb", "HOME": str(folder)},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)

    def offers(line):
        offered.write_text("", encoding="utf-8")
        os.write(handle, CLEAR + line.encode() + b"\t")
        end = time.monotonic() + seconds
        while "END" not in offered.read_text(encoding="utf-8").split() and time.monotonic() < end:
            if select.select([handle], [], [], 0.02)[0]:
                os.read(handle, 4096)
        *words, last = offered.read_text(encoding="utf-8").splitlines()
        assert last == "END"
        return sorted(word.replace("\\ ", " ") for word in words if word)

    os.write(handle, b"source setup.zsh\n")
    try:
        yield offers
    finally:
        os.close(handle)
        child.kill()
        child.wait()


def test_zsh_offers_what_is_expected(script):
    zsh, path = needs("zsh"), script("zsh")
    assert lines(zsh, "-n", path, cwd=path.parent) == []
    (path.parent / "setup.zsh").write_text(ZSH, encoding="utf-8")
    with zsh_session(zsh, path.parent) as offers:
        for line, offered in OFFERS.items():
            words = {word.rpartition(",")[2] for word in offered}  # a list's words are parts there
            if "," in line:
                words -= {"numpy"}  # and one that was given is not offered again
            found = offers(line)
            if offered:
                assert found == sorted(words), line
            else:  # zsh shows options where there is nothing else
                assert [word for word in found if not word.startswith("-")] == [], line


def test_the_readme_and_the_help_name_each_shell():
    text = load("completion").parser().format_help()
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    for shell in SHELLS:
        assert f"nnfast completion {shell}" in text
        assert shell in readme
