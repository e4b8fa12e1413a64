"""Saves that the system lets down: the first call fails, then the second, until one goes through."""

from __future__ import annotations

import itertools
import os
from typing import NamedTuple

import pytest

from nnfast.storage.file_format import write
from nnfast.storage.files import _Writer
from nnfast.storage.stored import content

CALLS = [n for n in ("open", "write", "fsync", "fchmod", "lseek", "replace", "rename") if hasattr(os, n)]


class Try(NamedTuple):
    """One save. `failed` is the name of the call that failed; None where there were fewer calls than that."""

    failed: str | None
    before: list[str]  # the calls that went well before
    error: BaseException | None  # that the save ended in


def failing_in_turn(prepare, save, fault, *, late=False):
    """`prepare()` and `save()` again and again, while `fault` is raised at each call of the system in turn.

    A call that fails has done nothing; if `late`, it has done its work, or written half of it.
    """
    real = {name: getattr(os, name) for name in CALLS} | {"fsync": lambda number: None}  # the disk is not on trial
    for turn in itertools.count(1):
        prepare()
        calls, error = [], None

        def instead(name, *arguments, calls=calls, turn=turn, **options):
            calls.append(name)
            if len(calls) != turn:
                return real[name](*arguments, **options)
            if late and name == "write":
                real[name](arguments[0], arguments[1][: len(arguments[1]) // 2])
            elif late and name != "open":  # whose answer nobody would have to close
                real[name](*arguments, **options)
            raise fault

        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, lambda *a, name=name, **k: instead(name, *a, **k))
            try:
                save()
            except (OSError, KeyboardInterrupt) as caught:
                error = caught
        failed = calls[turn - 1] if len(calls) >= turn else None
        yield Try(failed, calls[: turn - 1], error)
        if failed is None:
            return


def save_carelessly(model, path):
    """The same content, written straight into the file's place."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    with _Writer(number) as file:
        write(file, *content(model, None))
