"""The whole command line as data, read from its parsers: commands, options, what may stand for a value."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import NamedTuple

from nnfast.commands import COMMANDS, load
from nnfast.commands.parsing import FILE, Names, NotHere

__all__ = ["Described", "Option", "Values", "described"]

PLAIN = re.compile(
    r"[\w.+@/-]+", re.ASCII
)  # all that scripts offer; other names would have to be quoted for each shell


class Values(NamedTuple):
    """What may stand for an argument: words, files, or anything."""

    words: tuple[str, ...] = ()
    files: bool = False
    commas: bool = False  # several words in one argument
    many: bool = False  # several arguments


class Option(NamedTuple):
    """An option by all its names; `values` is None where it takes none."""

    names: tuple[str, ...]
    help: str
    metavar: str
    values: Values | None
    again: bool


class Described(NamedTuple):
    """A command, or with an empty name what stands before one; `argument` is None where it takes options alone."""

    name: str
    text: str
    options: tuple[Option, ...]
    argument: Values | None


def described() -> list[Described]:
    """What stands before a command, then each of them; of one that is not here, its name alone."""
    from nnfast.cli import parser

    found = [_described("", "", parser())]
    for name, command in COMMANDS.items():
        try:
            found.append(_described(name, command.text, load(name).parser()))
        except NotHere:
            found.append(Described(name, command.text, (), None))
    return found


def _described(name: str, text: str, parser: argparse.ArgumentParser) -> Described:
    actions = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    options = tuple(_option(action) for action in actions if action.option_strings)
    arguments = [_values(action) for action in actions if not action.option_strings]
    if len(arguments) > 1:
        raise NotImplementedError(f"nnfast {name} has {len(arguments)} arguments; the scripts complete one")
    return Described(name, text, options, arguments[0] if arguments else None)


def _option(action: argparse.Action) -> Option:
    return Option(
        tuple(action.option_strings),
        (action.help or "") % {**vars(action), "prog": "nnfast"},
        str(action.metavar or action.dest.upper()),
        None if action.nargs == 0 else _values(action),
        isinstance(action, argparse._AppendAction),
    )


def _values(action: argparse.Action) -> Values:
    many = action.nargs in ("+", "*")
    if action.choices is not None:
        return Values(_plain(action.choices), many=many)
    if isinstance(action.type, Names):
        return Values(_plain(action.type.known()), commas=action.type.commas, many=many)
    return Values(files=action.type in (FILE, Path), many=many)


def _plain(words: object) -> tuple[str, ...]:
    return tuple(word for word in map(str, words) if PLAIN.fullmatch(word))  # type: ignore[call-overload]
