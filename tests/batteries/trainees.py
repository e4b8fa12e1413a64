"""New processes that run a function of `trainee.py`, each under a watchdog, on a copy of the library's sources.

A copy, because the name of a compiled function holds a hash of the sources: an edit meanwhile would be a cold cache.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from new_process import copy_sources

SECONDS = 60  # of patience with a process
PATIENCE = 300  # with one that compiles much, maybe beside others
THREADS = 2  # to a training, unless said otherwise: bits depend on it


class Answer(NamedTuple):
    """What a trainee told; `trouble` is how it ended where it told nothing."""

    value: object = None
    warnings: tuple[str, ...] = ()
    loaded: int = 0
    compiled: int = 0
    trouble: str = ""

    def wrong(self, expected):
        """What is to be said against it, if anything."""
        if self.trouble:
            return [self.trouble]
        return [] if self.value == expected else [f"it ended with other bits: {self.value}"]


class Trainees:
    """Starts processes on a copy of the sources and of what they run, without the variables that others have set."""

    def __init__(self, folder):
        self.sources = folder / "sources"
        copy_sources(self.sources)
        tests = Path(__file__).parent.parent
        shutil.copytree(tests / "batteries", self.sources / "batteries", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(tests / "small_models.py", self.sources)

    def start(self, module, function, arguments, *, cache=None, before=(), seconds=SECONDS, **variables):
        """A process that keeps compiled functions in the folder `cache` and is ended after so many seconds.

        `before` is a command that starts a command.
        """
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "NNFAST_"))}
        environ |= {"PYTHONPATH": str(self.sources), "NNFAST_NUM_THREADS": str(THREADS)}
        if cache is not None:
            environ["NNFAST_CACHE_DIR"] = str(cache)
        environ |= {name: str(value) for name, value in variables.items()}
        code = "from batteries.trainee import main; main()"
        return subprocess.Popen(
            [*before, sys.executable, "-c", code, str(seconds), module, function, json.dumps(arguments)],
            env=environ,
            cwd=self.sources,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def ask(self, module, function, **given):
        """What the function tells; it is given what is neither for `start` nor, in capitals, a variable."""
        known = ("cache", "before", "seconds")
        options = {name: given.pop(name) for name in list(given) if name.isupper() or name in known}
        return answer_of(self.start(module, function, given, **options))


def answer_of(process):
    """Wait for the process, and not for ever."""
    try:
        out, err = process.communicate(timeout=PATIENCE + 30)
    except subprocess.TimeoutExpired:
        end(process)
        _, err = process.communicate()
        return Answer(trouble=f"it hung, and had to be killed: {err[-4000:]}")
    if process.returncode:
        return Answer(trouble=f"exit status {process.returncode}: {err[-4000:]}")
    return Answer(**json.loads(out.splitlines()[-1]))


def end(process):
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
