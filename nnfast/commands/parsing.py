"""How commands read their arguments: argparse, with nearest names in its errors and words for shell completion.

What may stand for an argument is in its parser: `choices`, or as `type` one of `FILE`, `COUNT`, `BACKEND` and other
`Names`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from nnfast.errors import NnfastError, UnknownNameError

__all__ = ["BACKEND", "BACKENDS", "COUNT", "FILE", "Names", "NotHere", "Parser", "closest"]


class NotHere(NnfastError):
    """A command that cannot run in this installation at all; the message says what it needs."""


class Names:
    """A `type` of arguments: any text, and the names that a shell may offer, as they are when it asks.

    With `commas` one argument may hold several. Whether a name exists is left to what uses it, which knows more.
    """

    def __init__(self, known: Callable[[], Iterable[str]], *, commas: bool = False) -> None:
        self.known = known
        self.commas = commas

    def __call__(self, text: str) -> str:
        return text


def FILE(text: str) -> str:
    """A `type` of arguments: the name of a file."""
    return text


def COUNT(text: str) -> int:
    """A `type` of arguments: a whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 0")
    return int(text)


def _backends() -> list[str]:
    from nnfast.registry import backend_names

    return [*backend_names(), "auto"]


BACKEND = Names(_backends)
BACKENDS = Names(_backends, commas=True)


class Parser(argparse.ArgumentParser):
    """Options are written out in full, so that a new one breaks no script; what is not known gets the nearest."""

    def __init__(self, prog: str, description: str, **more: Any) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False, **more)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            word = unknown[0]
            if not word.startswith("-"):
                self.error(f"there is nothing to do with the argument {word!r}")
            name = word.partition("=")[0]
            self.error(f"unknown option {name!r}{closest(name, self._option_string_actions)}")
        return options

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help says more)\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """argparse's own, with the closest choice."""
        if action.choices is not None and value not in action.choices:
            error = UnknownNameError("value", value, map(str, action.choices))
            raise argparse.ArgumentError(action, str(error))


def closest(word: str, known: Iterable[str]) -> str:
    """`; did you mean '…'?`, or nothing where no name is near. One that begins with the word is nearest of all."""
    import difflib

    known = sorted(known)
    longer = [name for name in known if len(word.strip("-")) > 1 and name.startswith(word)]
    near = longer or difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
