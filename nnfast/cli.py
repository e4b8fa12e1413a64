"""The command line: `nnfast COMMAND …`. Each command reads its own arguments and loads what it needs, when it runs."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence

from nnfast.commands import COMMANDS, load
from nnfast.commands.parsing import NotHere, Parser
from nnfast.errors import NnfastError, UnknownNameError

__all__ = ["main", "parser"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code: 0 all well, 1 it failed, 2 the call was wrong."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if sys.stdout is None:  # as after `>&-`
            raise OSError(errno.EBADF, "standard output is closed")
        try:
            status = _main(words)
        except SystemExit:  # --help, --version and wrong calls
            sys.stdout.flush()
            raise
        sys.stdout.flush()  # so that a reader who has gone, or a full disk, shows here
    except OSError as error:
        if error.filename is not None:  # not about the output
            raise
        if not isinstance(error, BrokenPipeError):  # `nnfast info | head`: nothing more is wanted
            print(f"{' '.join(['nnfast', *words[:1]])}: cannot write: {error.strerror or error}", file=sys.stderr)
        if sys.stdout is not None:  # what Python still has for it at its end goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _main(words: list[str]) -> int:
    if not words or words[0].startswith("-"):
        whole = parser()
        whole.parse_args(words)  # --help, --version and what is unknown end here
        whole.print_help(sys.stderr)
        return 2
    name, *arguments = words
    if name not in COMMANDS:
        print(f"nnfast: {UnknownNameError('command', name, COMMANDS)}", file=sys.stderr)
        return 2
    return _run(name, arguments)


def _run(name: str, arguments: list[str]) -> int:
    try:
        command = load(name)
        status: int = command.run(command.parser().parse_args(arguments))
    except NnfastError as error:
        print(f"nnfast {name}: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 2 if isinstance(error, NotHere) else 1
    except KeyboardInterrupt:
        print(f"nnfast {name}: stopped", file=sys.stderr)
        return 130
    return status


def parser() -> Parser:
    """What stands before a command."""
    import nnfast

    made = Parser(
        "nnfast",
        "Dense neural networks on interchangeable backends.",
        usage="nnfast [-h] [--version] COMMAND [...]",
        epilog="commands:\n"
        + "\n".join(f"  {name:11} {command.text}" for name, command in COMMANDS.items())
        + "\n\nnnfast COMMAND --help says more of one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"nnfast {nnfast.__version__}")
    return made
