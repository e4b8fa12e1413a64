"""Contenders in processes of their own, so that no library's allocator, streams or crash disturbs another.

A process serves one library and holds several subjects by name. Its answer has a time limit; who does not keep it is
ended, and counts as failed from then on.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import sys
import time
from typing import Any

__all__ = ["Failed", "Worker"]


class Failed(Exception):
    """A contender could not do what it was asked."""


class Worker:
    """The parent's end: `make`, `run`, `ask`, `drop`. `environment` is set before anything is imported."""

    def __init__(self, **environment: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, environment))
        self._process.start()
        other.close()

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def make(self, key: str, module: str, function: str, *args: Any, limit: float) -> None:
        self._ask(limit, "make", key, module, function, *args)

    def run(self, key: str, count: int, *, warm: int = 0, limit: float) -> float:
        """Seconds for `count` steps, after some that do not count."""
        return float(self._ask(limit, "run", key, warm, count))

    def ask(self, key: str, method: str, *args: Any, limit: float) -> Any:
        """What a method of the subject returns."""
        return self._ask(limit, "ask", key, method, *args)

    def drop(self, key: str, *, limit: float = 20.0) -> None:
        self._ask(limit, "drop", key)

    def close(self) -> None:
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()

    def _ask(self, limit: float, *request: Any) -> Any:
        if not self._process.is_alive():
            raise Failed(f"its process has ended with status {self._process.exitcode}")
        try:
            self._pipe.send(request)
            if not self._pipe.poll(max(limit, 0.0)):
                self.close()
                raise Failed(f"no answer to {request[0]!r} within {limit:.0f} s")
            worked, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(5)
            raise Failed(f"its process ended with status {self._process.exitcode}") from error
        if not worked:
            raise Failed(answer)
        return answer


def _serve(pipe: Any, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    os.dup2(2, 1)  # what libraries print is not the table
    from gpu_parts.checkout import open_checkout

    open_checkout(simulator=environment.get("GPU_BENCH_SIMULATED") == "1")
    subjects: dict[str, Any] = {}
    while True:
        try:
            name, *args = pipe.recv()
        except EOFError:
            return
        try:
            answer = (True, _answer(subjects, name, *args))
        except Exception as error:  # anything may go wrong in somebody else's library; the parent decides
            words = " ".join(str(error).split())
            answer = (False, f"{type(error).__name__}: {words[:500]}")
        pipe.send(answer)
        sys.stderr.flush()


def _answer(subjects: dict[str, Any], name: str, key: str, *args: Any) -> Any:
    if name == "make":
        module, function, *rest = args
        subjects[key] = getattr(importlib.import_module(module), function)(*rest)
        return None
    if name == "drop":
        subject = subjects.pop(key, None)
        if subject is not None:
            subject.drop()
        gc.collect()
        return None
    if name == "run":
        warm, count = args
        if warm:  # it may be the first to use the device after another process
            subjects[key].run(warm)
        begin = time.perf_counter()
        subjects[key].run(count)
        return time.perf_counter() - begin
    method, *rest = args
    return getattr(subjects[key], method)(*rest)
