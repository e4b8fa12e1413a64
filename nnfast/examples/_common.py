"""What the programs share: their options, the choice of backend, their tables."""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import nnfast as nn
from nnfast.text import table

__all__ = [
    "PRINTED",
    "Expected",
    "Options",
    "PlotError",
    "Trained",
    "check_plot",
    "epoch_table",
    "fit",
    "positive",
    "run",
    "show",
]

# Epochs, counted from 0, at which a table has a row; the last epoch of a run is added.
PRINTED = (0, 100, 200, 500, *range(1_000, 10_000, 1_000), 9_900, 10_000)

Expected = Mapping[int, tuple[float, float]]  # epoch: (accuracy, loss)


@dataclass(frozen=True)
class Options:
    """What the command line asked for. `epochs` is None where the program's own number holds."""

    epochs: int | None = None
    seed: int = 0
    all: bool = False
    plot: str | None = None


@dataclass(frozen=True)
class Trained:
    """A training run: the model as it ended, its data, and what every epoch measured."""

    model: nn.Model
    X: Any
    y: Any
    history: dict[str, list[float]]
    seconds: float


def run(name: str, program: Callable[[Options], None], about: str, argv: Sequence[str] | None = None) -> int:
    """Read the options, choose the backend, run the program; gives the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m nnfast.examples.{name}", description=about)
    parser.add_argument("--backend", metavar="NAME", help="who computes: numpy, numba, cupy, auto (default: auto)")
    parser.add_argument("--epochs", type=positive, metavar="N", help="train for N epochs, whatever the program says")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of NumPy's RandomState (default: 0)")
    parser.add_argument("--all", action="store_true", help="every row of the program's table")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the picture into this file")
    given = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks the rule of a table gets "?" in its place
    try:
        if given.plot is not None:
            check_plot(given.plot)  # before the training, not after it
        with nn.use_backend(given.backend or nn.get_backend()):
            program(Options(given.epochs, given.seed, given.all, given.plot))
    except (nn.BackendUnavailable, PlotError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: stopped", file=sys.stderr)
        return 130
    return 0


class PlotError(Exception):
    """The picture cannot be drawn."""


def check_plot(file: str, option: str = "--plot") -> None:
    """Raise PlotError if this file cannot be drawn, before any work is done for it."""
    from nnfast.examples import _plots

    reason = _plots.unavailable()
    if reason is not None:
        raise PlotError(reason)
    if Path(file).suffix.lower() not in _plots.FORMATS:
        raise PlotError(f"{option} {file}: the name must end in {', '.join(_plots.FORMATS)}")
    if not Path(file).absolute().parent.is_dir():
        raise PlotError(f"{option} {file}: the folder {Path(file).absolute().parent} does not exist")


def positive(text: str) -> int:
    """An option's number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def seed(text: str) -> int:
    """An option's seed, as RandomState takes it."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2**32 - 1")
    return int(text)


def fit(model: nn.Model, X: Any, y: Any, epochs: int, verbose: int = 1) -> Trained:
    """Train on the whole set at once; progress goes to stderr."""
    begin = time.perf_counter()
    history = model.fit(X, y, epochs=epochs, verbose=verbose).history
    return Trained(model, X, y, history, time.perf_counter() - begin)


def show(title: str, run: Trained, body: str) -> None:
    """A headed table on stdout."""
    epochs, backend = len(run.history["loss"]), run.model.backend.name
    print(f"\n{title}\n{epochs:,} epochs on {backend} in {run.seconds:.1f} s\n{body}", flush=True)


def epoch_table(run: Trained, metric: str, expected: Expected | None = None) -> str:
    """Rows of (epoch, accuracy, loss, learning rate), beside the expected figures where there are any.

    Epochs count from 0, and an epoch's figures are from before its update, so the rate is that of the update before.
    """
    losses, accuracies = run.history["loss"], run.history[metric]
    optimizer = run.model.optimizer
    assert optimizer is not None
    rates = optimizer.learning_rates(0, len(losses))
    head = ["epoch", "accuracy", "loss", "learning rate"]
    if expected:
        head += ["expected accuracy", "loss"]
    rows = []
    for e in sorted({e for e in PRINTED if e < len(losses)} | {len(losses) - 1}):
        row = [f"{e:,}", f"{accuracies[e]:.3f}", _loss(losses[e]), f"{rates[max(e - 1, 0)]:.6g}"]
        if expected:
            row += [f"{figure:.3f}" for figure in expected[e]] if e in expected else ["", ""]
        rows.append(row)
    best = int(np.argmin(losses))
    return table(head, rows, right=range(6)) + f"\nlowest loss {losses[best]:.3g}, at epoch {best:,}"


def _loss(value: float) -> str:
    """Three decimals, as the book prints; more where they would all be 0."""
    return f"{value:.3f}" if not 0 < value < 0.0005 else f"{value:.0e}"
