"""`nnfast inspect FILE`: what is inside a file, read without trusting it."""

from __future__ import annotations

import argparse

from nnfast.commands.parsing import FILE, Parser

__all__ = ["parser", "run"]


def parser() -> Parser:
    made = Parser("nnfast inspect", "What is inside a file; 1 if it is damaged.")
    made.add_argument("file", type=FILE, help="written by model.save or save_weights, or any .safetensors or .npz")
    return made


def run(options: argparse.Namespace) -> int:
    from nnfast.checkpoint import examine

    text, sound = examine(options.file)
    print(text)
    return 0 if sound else 1
