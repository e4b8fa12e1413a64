"""What company costs: `fit` with a progress bar, a history, validation and checkpoints against the bare loop.

    python bench/bench_fit.py [--quick] [--backend NAME] [--rounds N] [--json FILE] [--markdown FILE]

Pairs of runs of the same model in one process, which of the two comes first changing from pair to pair. "With
everything" means a bar on a terminal (a pseudo-terminal that is read and thrown away), validation every 10 epochs and a
checkpoint every 100. The writing of files is timed where it happens, the validation passes by as many of them run
straight after each other; both are taken off, and what is left over the bare loop is the price of company.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import machine
import numpy as np
from cases import case, nnfast_model
from harness import backends, options_of, parser, spread
from report import deliver

EPOCHS = {"2-64-3, batch 300": 10_000, "784-128-10, batch 128": 500}
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


def bare(model: Any, made: Any, epochs: int) -> float:
    begin = time.perf_counter()
    model.fit(made.X, made.y, epochs=epochs, batch_size=made.batch_size, verbose=0)
    return time.perf_counter() - begin


def accompanied(model: Any, made: Any, epochs: int, folder: Path) -> dict[str, float]:
    """Seconds of the same with everything, and of its parts that are timed apart."""
    import nnfast as nn

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


def passes_alone(model: Any, made: Any, passes: int) -> float:
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


def measured(name: str, backend: str, rounds: int, epochs: int) -> dict[str, Any]:
    """A row of the record."""
    made = case(name)
    model = nnfast_model(made, backend)
    alone, together = [], []
    with tempfile.TemporaryDirectory() as folder:
        accompanied(model, made, max(1, epochs // 10), Path(folder))  # compiles, loads and draws for the first time
        bare(model, made, max(1, epochs // 10))
        for turn in range(rounds):
            if turn % 2:
                alone.append(bare(model, made, epochs))
            together.append(accompanied(model, made, epochs, Path(folder)))
            if not turn % 2:
                alone.append(bare(model, made, epochs))
    whole, validating, saving = (np.array([t[part] for t in together]) for part in ("whole", "validating", "saving"))
    over = (whole - validating - saving) / np.array(alone) - 1
    return {
        "case": name,
        "title": f"nnfast, {backend}",
        "epochs": epochs,
        "bare": spread(np.array(alone)),
        "whole": spread(whole),
        "validating": spread(validating),
        "saving": spread(saving),
        "over": spread(over),
        "rounds": rounds,
    }


def main(argv: Sequence[str] | None = None) -> int:
    options = options_of(parser("What company costs a training.", rounds=21, seconds=0), argv)
    facts = machine.facts(options.threads)
    import nnfast as nn

    nn.set_num_threads(options.threads)
    rows = [
        measured(name, backend, options.rounds, max(1, epochs // (100 if options.quick else 1)))
        for name, epochs in EPOCHS.items()
        for backend in backends(options.backend)
    ]
    record = {"bench": "fit", "machine": facts, "skipped": {}, "rows": rows, "quick": options.quick}
    deliver(record | {"settings": vars(options)}, options.json, options.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
