"""The demo: three tasks on every backend, one table, one picture. `python -m nnfast demo`, or `make demo`.

    digits   scikit-learn's handwritten digits, a quarter of them held out      64-128-64-10, dropout, batches of 32
    spiral   three arms of the book's spiral, tested on a second one            2-64-3, full batch
    sine     one period, tested between the points it was trained on            1-64-64-1, full batch

The reference backend always runs, because the others are measured against it.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import nnfast as nn
from nnfast.commands.parsing import BACKEND, FILE, Parser
from nnfast.examples import _common

__all__ = ["Outcome", "Task", "main", "parser", "run"]

REFERENCE = "numpy"
NEEDED = {"rich": "rich", "matplotlib": "matplotlib", "sklearn": "scikit-learn"}  # module: distribution
DIGITS_ACCURACY = 0.96
AGREEMENT = 1e-4  # from the same weights, of predictions and, relative to the largest, of gradients; float32


@dataclass(frozen=True)
class Task:
    """What to train, on what, and what to test it on. `build` gives a fresh model for a backend."""

    name: str
    network: str
    build: Callable[[str], nn.Model]
    train: tuple[Any, Any]
    test: tuple[Any, Any]
    epochs: int
    batch_size: int | None = None


@dataclass(frozen=True)
class Outcome:
    """One task trained on one backend."""

    task: Task
    backend: str
    model: nn.Model
    losses: list[float]
    seconds: float
    predictions: Any  # for the test part
    accuracy: float | None
    difference: tuple[float, float] | None = None  # from the reference: predictions, gradient

    @property
    def loss(self) -> float:
        """The median of the last epochs: one of them may be an outlier."""
        return float(np.median(self.losses[-20:]))


def digits(quick: bool) -> Task:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(images / 16, labels, test_size=0.25, stratify=labels, random_state=0)

    def build(backend: str) -> nn.Model:
        layers: list[nn.Layer] = [nn.Dense(64, 128, "he_normal"), nn.ReLU(), nn.Dropout(0.2)]
        layers += [nn.Dense(128, 64, "he_normal"), nn.ReLU(), nn.Dropout(0.2), nn.Dense(64, 10)]
        adam = nn.Adam(0.002, decay=1e-3)
        return nn.Model(layers, nn.SoftmaxCrossEntropy(), adam, ["accuracy"], backend=backend, rng=0)

    return Task("digits", "64-128-64-10", build, (X, y), (X_test, y_test), 15 if quick else 100, batch_size=32)


def spiral(quick: bool) -> Task:
    rng = np.random.default_rng(0)
    train, test = nn.datasets.spiral(100, 3, rng), nn.datasets.spiral(100, 3, rng)

    def build(backend: str) -> nn.Model:
        layers = [nn.Dense(2, 64, "he_normal"), nn.ReLU(), nn.Dense(64, 3)]
        adam = nn.Adam(0.05, decay=1e-3)  # at a rate that does not fall, Adam jumps now and then, maybe at the end
        return nn.Model(layers, nn.SoftmaxCrossEntropy(), adam, ["accuracy"], backend=backend, rng=0)

    return Task("spiral", "2-64-3", build, train, test, 300 if quick else 5_000)


def sine(quick: bool) -> Task:
    X, y = nn.datasets.sine(1000)
    between = X[:-1] + 0.0005

    def build(backend: str) -> nn.Model:
        start = nn.initializers.normal(0.1)
        layers = [nn.Dense(1, 64, start), nn.ReLU(), nn.Dense(64, 64, start), nn.ReLU(), nn.Dense(64, 1, start)]
        return nn.Model(layers, nn.MeanSquaredError(), nn.Adam(0.005, decay=1e-3), backend=backend, rng=0)

    test = (between, np.sin(2 * np.pi * between))
    return Task("sine", "1-64-64-1", build, (X, y), test, 200 if quick else 10_000)


def train(task: Task, backend: str, reference: Outcome | None) -> Outcome:
    """Train the task on a backend, and compare it with the reference's outcome where there is one."""
    X, y = task.train
    warm_up = task.build(backend)  # whatever has to be compiled is compiled here
    warm_up.fit(X, y, epochs=1, batch_size=task.batch_size, verbose=0)
    model = task.build(backend)
    begin = time.perf_counter()
    history = model.fit(X, y, epochs=task.epochs, batch_size=task.batch_size, verbose=1).history
    seconds = time.perf_counter() - begin
    accuracy = model.evaluate(*task.test).get("accuracy")
    predictions = _on_host(model, model.predict(task.test[0]))
    difference = None if reference is None else compare(task, reference.model, backend)
    return Outcome(task, backend, model, history["loss"], seconds, predictions, accuracy, difference)


def compare(task: Task, trained: nn.Model, backend: str) -> tuple[float, float]:
    """How far this backend lies from the reference in (predictions, gradient), given the same weights.

    The ends of two trainings would tell nothing, since rounding alone sends them different ways. Predictions are from
    the reference's trained weights. The gradient is that of the first step, relative to its largest element: at the end
    of a training its terms cancel, and what is left is rounding.
    """
    predictions = [_on_host(m, m.predict(task.test[0])) for m in (trained, trained.to(backend=backend))]
    gradients = [m.loss_and_gradient(*task.train)[1] for m in (task.build(REFERENCE), task.build(backend))]
    apart = [float(np.abs(b - a).max()) for a, b in (predictions, gradients)]
    return apart[0], apart[1] / float(np.abs(gradients[0]).max())


def _on_host(model: nn.Model, values: Any) -> np.ndarray[Any, Any]:
    return np.asarray(model.backend.to_numpy(values))


def run_all(backends: Sequence[str], tasks: Sequence[Task], say: Callable[[str], None]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for backend in backends:
        for task in tasks:
            rows = f"{len(task.train[0]):,} samples, {task.epochs:,} epochs"
            rows += "" if task.batch_size is None else f" in batches of {task.batch_size}"
            say(f"[bold]{backend}[/bold]  {task.name}: {task.network}, {rows}")
            reference = next((o for o in outcomes if o.task is task), None)
            outcomes.append(train(task, backend, reference))
    return outcomes


def show(outcomes: Sequence[Outcome]) -> None:
    """The table, on stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title="[bold]Three tasks, every backend", title_justify="left", pad_edge=False)
    table.add_column("backend")
    table.add_column("task")
    for name in ("seconds", "speed-up", "loss", "test\naccuracy", "largest\ndifference"):
        table.add_column(name, justify="right", no_wrap=True)
    base = {o.task.name: o.seconds for o in outcomes if o.backend == REFERENCE}
    for i, o in enumerate(outcomes):
        first = i == 0 or outcomes[i - 1].backend != o.backend
        if first and i:
            table.add_section()
        speed = f"{base[o.task.name] / o.seconds:.1f}x" if o.backend != REFERENCE else "1"
        apart = "reference" if o.difference is None else f"{max(o.difference):.1e}"
        accuracy = "" if o.accuracy is None else f"{o.accuracy:.3f}"
        table.add_row(
            o.backend if first else "", o.task.name, f"{o.seconds:.2f}", speed, f"{o.loss:.2g}", accuracy, apart
        )
    console = Console()
    if not console.is_terminal:
        console.width = 100
    console.print(table)
    console.print(
        "Seconds: after a warm-up epoch. Loss: median of the last 20 epochs. Difference: from the reference, given the "
        "same weights; of predictions, or of the gradient relative to its largest element.",
        style="dim",
        highlight=False,
    )


def complaints(outcomes: Sequence[Outcome]) -> list[str]:
    """What is not as it should be."""
    found = []
    for o in outcomes:
        if o.task.name == "digits" and o.accuracy is not None and o.accuracy < DIGITS_ACCURACY:
            found.append(f"{o.backend}: digits test accuracy {o.accuracy:.3f}, at least {DIGITS_ACCURACY} expected")
        if o.difference is not None and not max(o.difference) <= AGREEMENT:
            found.append(f"{o.backend}: {o.task.name} differs from the reference by {max(o.difference):.1e}")
    return found


def _backends(named: Sequence[str] | None) -> list[str]:
    """The reference, then those asked for, or all that work here."""
    wanted = named if named else [name for name, works in nn.available_backends().items() if works]
    for name in wanted:
        nn.get_backend(name)  # raises BackendUnavailable, with the reason
    return list(dict.fromkeys([REFERENCE, *(nn.get_backend(name).name for name in wanted)]))


def _missing() -> list[str]:
    missing = []
    for module, distribution in NEEDED.items():
        try:
            importlib.import_module(module)
        except ImportError:
            missing.append(distribution)
    return missing


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser().parse_args(argv))


def parser() -> Parser:
    made = Parser("nnfast demo", "Train three tasks on every backend and compare.")
    made.add_argument(
        "--backend", action="append", type=BACKEND, metavar="NAME", help="one of several (default: all that work)"
    )
    made.add_argument(
        "--out", default="nnfast-demo.png", type=FILE, metavar="FILE", help="the picture (default: %(default)s)"
    )
    made.add_argument("--quick", action="store_true", help="a few seconds per backend, with worse results")
    return made


def run(options: argparse.Namespace) -> int:
    missing = _missing()
    if missing:
        print(f"nnfast demo needs {', '.join(missing)}; install it with `pip install nnfast[demo]`", file=sys.stderr)
        return 2
    try:
        _common.check_plot(options.out, "--out")
        return _demo(_backends(options.backend), options.quick, options.out)
    except (nn.BackendUnavailable, _common.PlotError) as error:
        print(f"nnfast demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("nnfast demo: stopped", file=sys.stderr)
        return 130


def _demo(backends: Sequence[str], quick: bool, out: str) -> int:
    from rich.console import Console

    from nnfast.examples import _demo_picture

    stderr = Console(stderr=True, highlight=False)
    outcomes = run_all(backends, [digits(quick), spiral(quick), sine(quick)], stderr.print)
    show(outcomes)
    _demo_picture.draw(outcomes, out)
    print(f"The picture: {out}")
    wrong = complaints(outcomes)
    for line in wrong:
        print(f"nnfast demo: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
