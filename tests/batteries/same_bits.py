"""Where the same bits are promised: the same machine, versions, backend and number of threads, in float32.

As a program it prints the marks of all runs with some numbers of threads, for comparison with those of other processes:

    python -m batteries.same_bits 1 2 4
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from small_models import WIDE_X, WIDE_Y, classifier, wide
from small_models import X as SPIRAL
from small_models import Y as CLASSES

import nnfast as nn
from batteries import Figure
from batteries.child import answer_of, usable_backends
from batteries.program_tasks import search_tasks, training_tasks
from batteries.tally import Tally
from nnfast.testing.models import Task
from nnfast.testing.parity import NONE

__all__ = ["marks", "same_bits"]

EPOCHS = 30
THREADS = (1, 2, 4)
BUSY = 2  # processes that do nothing but keep a CPU each


def same_bits(thorough: bool) -> Iterator[Figure]:
    epochs = EPOCHS * (10 if thorough else 1)
    here = marks(THREADS, epochs)
    yield _compared("in a second process", here, epochs)
    with _busy(BUSY):
        yield _compared(f"beside {BUSY} busy processes", here, epochs)
    with tempfile.TemporaryDirectory() as folder:
        figure = _compared("from a cold cache", here, epochs, NNFAST_CACHE_DIR=folder)
        kept = sum(1 for file in Path(folder).rglob("*") if file.is_file())
        if not kept and "numba" in usable_backends():
            figure = figure._replace(failures=(*figure.failures, "nothing was compiled into the empty folder"))
        yield figure._replace(said=f"{figure.said}; {kept} files written")
    yield _re_entered(epochs)


def _compared(how, here, epochs, **environment) -> Figure:
    """The marks of a process of its own, beside ours."""
    there = answer_of("batteries.same_bits", epochs, *THREADS, seconds=600, **environment)
    tally = Tally(f"the same bits {how}")
    for name in here.keys() | there.keys():
        tally.add(name, _same, here.get(name), there.get(name))
    return tally.figure(f"{len(THREADS)} numbers of threads")


def _same(one, two):
    assert one == two, f"{two}, expected {one}"
    return NONE


@contextlib.contextmanager
def _busy(count):
    code = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
    crowd = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
    try:
        yield
    finally:
        for process in crowd:
            process.kill()
            process.wait()


# ---- runs and their marks --------------------------------------------------------------------------------------------


def tasks(backend: str) -> list[Task]:
    """The programs, and what they lack: batches, row orders, dropout, and widths of which the work is cut otherwise."""
    whole = {task.name: task for task in training_tasks(every_row=False) + search_tasks(every_row=False)}
    chosen = ["optimizers: Adam", "optimizers: SGD, rate 1, decay 1e-3, momentum", "regression", "case_study: network"]
    chosen += ["random_search: vertical, perturb"]
    found = [next(task for name, task in whole.items() if name.startswith(start)) for start in chosen]
    found.append(Task("batches", classifier, SPIRAL, CLASSES, 32))
    found.append(Task("wide", wide, WIDE_X, WIDE_Y, 50))
    if backend == "numba":
        from test_numba_features import DEEP, LABELS, X, network

        deep = DEEP["two pairs and a layer alone"]
        found.append(Task("by features", lambda **where: network(deep, **where), X, LABELS, 33))
    return found


def marks(threads, epochs: int) -> dict[str, str]:
    """{run: a mark of its bits} on every backend, with each of these numbers of threads."""
    found = {}
    for backend, count in ((b, n) for b in usable_backends() for n in threads):
        with _threads(count):
            for task in tasks(backend):
                found[f"{task.name}, {backend}, {count} threads"] = _mark(*_fitted(task, backend, epochs))
    return found


@contextlib.contextmanager
def _threads(count):
    before = nn.get_num_threads()
    nn.set_num_threads(count)
    try:
        yield
    finally:
        nn.set_num_threads(before)


def _made(task, backend):
    return task.make(backend=backend, dtype="float32")


def _fit(model, task, epochs, **options):
    return model.fit(task.X, task.y, batch_size=task.batch_size, epochs=epochs, verbose=0, **options).history["loss"]


def _fitted(task, backend, epochs, **options):
    model = _made(task, backend)
    return model, _fit(model, task, epochs, **options)


def _mark(model, losses) -> str:
    return hashlib.sha256(model.parameters.tobytes() + np.array(losses).tobytes()).hexdigest()


# ---- however often Python is re-entered ------------------------------------------------------------------------------


def _re_entered(epochs) -> Figure:
    tally = Tally("the same bits however often Python is re-entered")
    for backend, count in ((b, n) for b in usable_backends() for n in THREADS):
        with _threads(count):
            for task in tasks(backend):
                whole, name = _mark(*_fitted(task, backend, epochs)), f"{task.name}, {backend}, {count} threads"
                for how, run in PATTERNS.items():
                    if task.name.startswith("random_search") and how in NEED_GRADIENTS:
                        continue
                    tally.add(f"{name}, {how}", _same_as, whole, run, task, backend, epochs)
                if not task.name.startswith("random_search"):
                    tally.add(f"{name}, step by step", _step_by_step, task, backend, epochs)
    return tally.figure(f"{len(PATTERNS) + 1} patterns")


def _same_as(whole, run, task, backend, epochs):
    return _same(whole, _mark(*run(task, backend, epochs)))


def _with_callbacks(task, backend, epochs):
    return _fitted(task, backend, epochs, callbacks=[lambda model, epoch, logs: None])


def _epoch_by_epoch(task, backend, epochs):
    model = _made(task, backend)
    return model, [loss for _ in range(epochs) for loss in _fit(model, task, 1)]


def _with_questions(task, backend, epochs):
    """Two fits, and in between the model is asked."""
    model = _made(task, backend)
    losses = _fit(model, task, epochs // 2)
    model.evaluate(task.X, task.y)
    model.predict(task.X)
    return model, losses + _fit(model, task, epochs - epochs // 2)


def _with_a_hook(task, backend, epochs):
    return _fitted(task, backend, epochs, on_gradients=lambda flat: None)


PATTERNS = {
    "callbacks every epoch": _with_callbacks,
    "fits of one epoch": _epoch_by_epoch,
    "questions in between": _with_questions,
    "a hook at every step": _with_a_hook,
}
NEED_GRADIENTS = {"a hook at every step"}


def _step_by_step(task, backend, epochs):
    """`train_on_batch` on slices is `fit` in the order of the rows."""
    whole, _ = _fitted(task, backend, epochs, shuffle=False)
    model, size = _made(task, backend), task.batch_size
    for _ in range(epochs):
        for first in range(0, len(task.X), size):
            model.train_on_batch(task.X[first : first + size], task.y[first : first + size])
    return _same(_mark(whole, []), _mark(model, []))


def main() -> None:
    epochs, *threads = map(int, sys.argv[1:])
    print(json.dumps(marks(threads, epochs)))


if __name__ == "__main__":
    main()
