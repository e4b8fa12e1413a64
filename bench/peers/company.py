"""What company costs nnfast: `fit` with a progress bar, validation and checkpoints beside the bare one.

Pairs of runs of the same model in one process, which of the two comes first changing from pair to pair. "Whole" means
with a bar on a terminal (a pseudo-terminal that is read and thrown away), validation every 10 epochs and a checkpoint
every 100. The writing of files is timed where it happens, the validation passes by as many of them run straight after
each other; the price of company is what is left over the bare run when both are taken off.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from cases.networks import Case, case, nnfast_model

import nnfast as nn
from peers.nnfast_fit import set_threads

__all__ = ["SAVED_EVERY", "VALIDATED_EVERY", "pairs"]

VALIDATED_EVERY, SAVED_EVERY = 10, 100


@contextmanager
def terminal() -> Iterator[None]:
    """Standard error on a terminal of its own, whose contents nobody sees."""
    import pty

    main, other = pty.openpty()
    kept = os.dup(2)

    def read() -> None:
        while True:
            try:
                if not os.read(main, 65536):
                    return
            except OSError:  # closed at the other end
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    os.dup2(other, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(other)
        os.close(kept)
        reader.join(5)
        os.close(main)


class Apart:
    """Seconds spent in a function, wherever it is called."""

    def __init__(self, owner: Any, name: str) -> None:
        self._owner, self._name, self._inner = owner, name, getattr(owner, name)
        self.seconds, self.calls = 0.0, 0

    def __enter__(self) -> Apart:
        setattr(self._owner, self._name, self._timed)
        return self

    def __exit__(self, *_: object) -> None:
        setattr(self._owner, self._name, self._inner)

    @property
    def _timed(self) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            begin = time.perf_counter()
            try:
                return self._inner(*args, **options)
            finally:
                self.seconds += time.perf_counter() - begin
                self.calls += 1

        return call


def bare(model: nn.Model, made: Case, epochs: int) -> float:
    begin = time.perf_counter()
    model.fit(made.X, made.y, epochs=epochs, batch_size=made.batch_size, verbose=0)
    return time.perf_counter() - begin


def accompanied(model: nn.Model, made: Case, epochs: int, folder: Path) -> dict[str, float]:
    """Seconds of the same with everything, and of its parts that are timed apart."""
    saver = nn.ModelCheckpoint(folder / "run.nnfast", every=SAVED_EVERY)
    with terminal(), Apart(nn.Model, "save") as saving:
        begin = time.perf_counter()
        model.fit(
            made.X,
            made.y,
            epochs=epochs,
            batch_size=made.batch_size,
            verbose=1,
            validation_data=(made.X, made.y),
            validation_every=VALIDATED_EVERY,
            callbacks=[saver],
        )
        whole = time.perf_counter() - begin
    passes = len(model.history.history["val_loss"])
    return {"whole": whole, "validating": passes_alone(model, made, passes), "saving": saving.seconds}


def passes_alone(model: nn.Model, made: Case, passes: int) -> float:
    """Seconds of so many passes over the validation rows in one job, without anything in between."""
    from nnfast.training.batches import make_job, normalisers, prepare_evaluation

    data = prepare_evaluation(model, made.X, made.y, None, None)
    program, runner = model._programs.runner("evaluate")
    weights = np.tile(data.batch_weights(None), passes)
    scalars = model._programs.scalars(program)
    job = make_job(model, data, scalars, steps=len(weights), normalisers=normalisers(weights))
    begin = time.perf_counter()
    model._programs.run(runner, job)
    return time.perf_counter() - begin


def pairs(name: str, backend: str, rounds: int, epochs: int) -> dict[str, list[float]]:
    """Seconds in each round: `bare`, `whole`, and of the latter's parts `validating` and `saving`."""
    set_threads()
    made = case(name)
    model = nnfast_model(made, backend)
    seconds: dict[str, list[float]] = {"bare": [], "whole": [], "validating": [], "saving": []}
    with tempfile.TemporaryDirectory() as folder:
        few = max(1, epochs // 10)  # compiles, loads and draws for the first time
        accompanied(model, made, few, Path(folder))
        bare(model, made, few)
        for turn in range(rounds):
            if turn % 2:
                seconds["bare"].append(bare(model, made, epochs))
            for part, taken in accompanied(model, made, epochs, Path(folder)).items():
                seconds[part].append(taken)
            if not turn % 2:
                seconds["bare"].append(bare(model, made, epochs))
    return seconds
