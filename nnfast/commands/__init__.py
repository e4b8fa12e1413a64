"""The commands of `nnfast COMMAND …`: one module each, loaded when it is asked for.

Such a module has `parser()`, all that the command line and shell completion know of it, and `run(options)`, which gives
the exit code. Either may raise `NnfastError`: exit code 1, or 2 for `NotHere`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["COMMANDS", "Command", "load"]


class Command(NamedTuple):
    """Where a command is, and what it is for."""

    module: str
    text: str


COMMANDS: dict[str, Command] = {
    "demo": Command("nnfast.examples.demo", "train on every backend, compare them, draw a picture"),
    "inspect": Command("nnfast.commands.inspect", "what is inside a file of a model or of weights"),
    "warmup": Command("nnfast.commands.warmup", "compile the kernels of a backend ahead"),
    "info": Command("nnfast.commands.info", "the machine, versions and backends; what is wrong, and what mends it"),
    "parity": Command("nnfast.commands.parity", "prove that a backend agrees with the reference"),
    "bench": Command(
        "nnfast.commands.bench", "time nnfast beside other libraries and the machine's limits (needs the checkout)"
    ),
    "completion": Command("nnfast.commands.completion", "a script that lets bash, zsh or fish complete all of this"),
}


def load(name: str) -> Any:
    """The module of a command."""
    from importlib import import_module

    return import_module(COMMANDS[name].module)
