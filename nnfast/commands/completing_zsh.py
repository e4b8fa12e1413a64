"""The completion script for zsh: to be sourced, or put as `_nnfast` into a folder of fpath."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from nnfast.commands.described import Described, Option, Values

__all__ = ["script"]

TEMPLATE = """\
#compdef nnfast
# Completes nnfast in zsh. Made by `nnfast completion zsh`.

_nnfast() {{
    local curcontext="$curcontext" state state_descr line
    typeset -A opt_args
    _arguments -C {top} \\
        '1:command:->command' '*::argument:->argument' && return
    case $state in
        command)
            local -a commands
            commands=(
{commands}
            )
            _describe -t commands 'command' commands ;;
        argument)
            case $line[1] in
{each}
            esac ;;
    esac
}}

if [[ $funcstack[1] == _nnfast ]]; then
    _nnfast "$@"
else
    compdef _nnfast nnfast
fi
"""


def script(line: Sequence[Described]) -> str:
    top, *commands = line
    return TEMPLATE.format(
        top=" ".join(spec for option in top.options for spec in _option(option)),
        commands="\n".join(f"                {_quoted(f'{one.name}:{one.text}')}" for one in commands),
        each="\n".join(_command(one) for one in commands if one.options or one.argument),
    )


def _command(command: Described) -> str:
    specs = [spec for option in command.options for spec in _option(option)]
    if command.argument is not None:
        specs.append(_quoted(("*" if command.argument.many else "1") + ":argument" + _action(command.argument)))
    lines = " \\\n                        ".join(specs)
    return f"                {command.name})\n                    _arguments \\\n                        {lines} ;;"


def _option(option: Option) -> Iterator[str]:
    """A spec for each name; one that has been given is not offered again, unless it may be."""
    others = "*" if option.again else f"({' '.join(option.names)})"
    for name in option.names:
        if option.values is None:
            yield _quoted(f"{others}{name}[{_escaped(option.help)}]")
            continue
        joined = "=" if name.startswith("--") else "+"
        until = "*-*:" if option.values.many else ""
        value = f":{until}{_escaped(option.metavar)}{_action(option.values)}"
        yield _quoted(f"{others}{name}{'' if until else joined}[{_escaped(option.help)}]{value}")


def _action(values: Values) -> str:
    if values.files:
        return ":_files"
    if not values.words:
        return ": "
    words = " ".join(values.words)
    return f":_values -s , name {words}" if values.commas else f":({words})"


def _escaped(text: str) -> str:
    return re.sub(r"([\[\]:\\])", r"\\\1", text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
