"""The completion script for fish, 3.0 and later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nnfast.commands.described import Described, Option, Values

__all__ = ["script"]

HEAD = """\
# Completes nnfast in fish. Made by `nnfast completion fish`.

function __nnfast_list --description 'Words behind those that an argument holds already, with commas between them'
    set -l given (commandline -ct | string replace -r '^--[^=]*=' '' | string replace -r '[^,]*$' '')
    for word in $argv
        echo "$given$word"
    end
end

complete -c nnfast -e
complete -c nnfast -f
"""


def script(line: Sequence[Described]) -> str:
    top, *commands = line
    lines = [_option("__fish_use_subcommand", option) for option in top.options]
    for command in commands:
        lines.append(f"complete -c nnfast -n __fish_use_subcommand -a {command.name} -d {_quoted(command.text)}")
    for command in commands:
        lines += _command(command)
    return HEAD + "\n".join(lines) + "\n"


def _command(command: Described) -> Iterator[str]:
    inside = f"__fish_seen_subcommand_from {command.name}"
    for option in command.options:
        yield _option(inside, option)
        if option.values is not None and option.values.many:  # fish itself knows of the first word behind an option
            name = next(name[2:] for name in option.names if name.startswith("--"))
            more = f"{inside}; and __fish_contains_opt {name}"
            yield f"complete -c nnfast -n {_quoted(more)}{_values(option.values)}"
    if command.argument is not None:
        yield f"complete -c nnfast -n {_quoted(inside)}{_values(command.argument)}"


def _option(condition: str, option: Option) -> str:
    names = "".join(f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}" for name in option.names)
    values = "" if option.values is None else f"{' -r' if option.values.files else ' -x'}{_values(option.values)}"
    return f"complete -c nnfast -n {_quoted(condition)}{names} -d {_quoted(option.help)}{values}"


def _values(values: Values) -> str:
    if values.files:
        return " -F"
    words = " ".join(values.words)
    if not words:
        return ""
    return f" -a {_quoted(f'(__nnfast_list {words})')}" if values.commas else f" -a {_quoted(words)}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
