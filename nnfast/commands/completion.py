"""`nnfast completion SHELL`: prints a script that completes commands, options and their values.

The script is made from the parsers at the moment it is asked for, so a shell that reads it when it starts knows what is
installed.

    bash    eval "$(nnfast completion bash)"        in ~/.bashrc
    zsh     source <(nnfast completion zsh)         in ~/.zshrc, after compinit
    fish    nnfast completion fish | source         in ~/.config/fish/config.fish
"""

from __future__ import annotations

import argparse

from nnfast.commands.parsing import Parser

__all__ = ["parser", "run"]

SHELLS = ("bash", "zsh", "fish")


def parser() -> Parser:
    made = Parser(
        "nnfast completion",
        "Print a script that completes commands, options, their values, backends and files.",
        epilog='in ~/.bashrc:   eval "$(nnfast completion bash)"\n'
        "in ~/.zshrc:    source <(nnfast completion zsh)    (after compinit)\n"
        "in config.fish: nnfast completion fish | source",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("shell", choices=SHELLS, help="whose script")
    return made


def run(options: argparse.Namespace) -> int:
    from nnfast.commands import completing_bash, completing_fish, completing_zsh
    from nnfast.commands.described import described

    scripts = {"bash": completing_bash.script, "zsh": completing_zsh.script, "fish": completing_fish.script}
    print(scripts[options.shell](described()), end="")
    return 0
