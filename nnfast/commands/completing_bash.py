"""The completion script for bash, 3.2 (that of macOS) and later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nnfast.commands.described import Described, Values

__all__ = ["script"]

# Bash parts words at "=", so in `--dtype=fl` the word before is "=", and the option stands before that.
TEMPLATE = """\
# Completes nnfast in bash. Made by `nnfast completion bash`.

_nnfast_add() {{
    local word
    while IFS= read -r word; do
        COMPREPLY+=("$word")
    done
}}

_nnfast_words() {{
    _nnfast_add < <(compgen -W "$1" -- "$cur")
}}

_nnfast_list() {{
    local given=
    [[ $cur == *,* ]] && given="${{cur%,*}},"
    _nnfast_add < <(compgen -P "$given" -W "$1" -- "${{cur#"$given"}}")
}}

_nnfast_files() {{
    compopt -o filenames 2>/dev/null
    _nnfast_add < <(compgen -f -- "$cur")
}}

_nnfast() {{
    local cur="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" command="${{COMP_WORDS[1]}}"
    local last= i
    COMPREPLY=()
    if (( COMP_CWORD == 1 )); then
        case "$cur" in
            -*) _nnfast_words "{options}" ;;
            *) _nnfast_words "{commands}" ;;
        esac
        return
    fi
    if [[ $cur == "=" ]]; then
        cur=
    elif [[ $before == "=" ]]; then
        before="${{COMP_WORDS[COMP_CWORD-2]}}"
    fi
    for (( i = COMP_CWORD - 1; i > 1; i-- )); do
        if [[ ${{COMP_WORDS[i]}} == -* ]]; then
            last="${{COMP_WORDS[i]}}"
            break
        fi
    done
    case "$command $before" in
{values}
    esac
    case "$cur" in
        -*)
            case "$command" in
{each}
            esac
            return ;;
    esac
    case "$command $last" in
{many}
    esac
    case "$command" in
{arguments}
    esac
}}

complete -F _nnfast nnfast
"""


def script(line: Sequence[Described]) -> str:
    top, *commands = line
    return TEMPLATE.format(
        options=_names(top),
        commands=" ".join(command.name for command in commands),
        values="\n".join(_after_options(commands, many=False)),
        many="\n".join(_after_options(commands, many=True)),
        each="\n".join(f'                {one.name}) _nnfast_words "{_names(one)}" ;;' for one in commands),
        arguments="\n".join(
            f"        {one.name}) {_offer(one.argument)} ;;" for one in commands if one.argument is not None
        ),
    )


def _names(command: Described) -> str:
    return " ".join(name for option in command.options for name in option.names)


def _after_options(commands: Sequence[Described], *, many: bool) -> Iterator[str]:
    """Branches for the word behind an option; with `many`, for all words until the next option."""
    for command in commands:
        for option in command.options:
            if option.values is not None and (option.values.many or not many):
                pattern = "|".join(f'"{command.name} {name}"' for name in option.names)
                yield f"        {pattern}) {_offer(option.values)}; return ;;"


def _offer(values: Values) -> str:
    if values.files:
        return "_nnfast_files"
    if not values.words:
        return ":"
    return f'_nnfast_{"list" if values.commas else "words"} "{" ".join(values.words)}"'
