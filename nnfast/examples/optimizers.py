"""Optimizers: one spiral, one network, eight ways down the slope.

    python -m nnfast.examples.optimizers [--all] [--epochs N] [--plot FILE.png]

spiral(100, 3), Dense(2, 64) - ReLU - Dense(64, 3), softmax cross-entropy, the full set at each step, 10,001 epochs.
Plain gradient descent creeps; the decaying rate calms it and, too strong, starves it; momentum carries it through. The
last three scale the step of each weight by the gradients it has seen.

All of these paths are chaotic in float32: a change of one weight's last bit is a different path a few hundred epochs
later. Adam at this high rate also jumps now and then, and finds back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import nnfast as nn
from nnfast.examples import _common, _plots

EPOCHS = 10_001


class Run(NamedTuple):
    optimizer: Callable[[], nn.optimizers.Optimizer]
    expected: _common.Expected


RUNS = {
    "SGD, rate 1": Run(
        lambda: nn.SGD(1.0), {0: (0.360, 1.099), 100: (0.400, 1.087), 200: (0.417, 1.077), 10_000: (0.610, 0.845)}
    ),
    "SGD, rate 0.85": Run(lambda: nn.SGD(0.85), {0: (0.360, 1.099), 100: (0.403, 1.091)}),
    "SGD, rate 1, decay 1e-2": Run(
        lambda: nn.SGD(1.0, decay=1e-2),
        {100: (0.403, 1.095), 200: (0.397, 1.084), 1_000: (0.417, 1.077), 10_000: (0.397, 1.072)},
    ),
    "SGD, rate 1, decay 1e-3": Run(
        lambda: nn.SGD(1.0, decay=1e-3),
        {100: (0.400, 1.088), 200: (0.423, 1.078), 1_000: (0.440, 1.063), 10_000: (0.677, 0.761)},
    ),
    "SGD, rate 1, decay 1e-3, momentum 0.9": Run(
        lambda: nn.SGD(1.0, decay=1e-3, momentum=0.9),
        {100: (0.443, 1.053), 200: (0.460, 1.000), 1_000: (0.790, 0.439), 10_000: (0.910, 0.266)},
    ),
    "Adagrad, rate 1, decay 1e-4": Run(lambda: nn.Adagrad(1.0, decay=1e-4), {}),
    "RMSprop, rate 0.02, decay 1e-5, rho 0.999": Run(lambda: nn.RMSprop(0.02, decay=1e-5, rho=0.999), {}),
    "Adam, rate 0.05, decay 5e-7": Run(lambda: nn.Adam(0.05, decay=5e-7), {}),
}


def train(name: str, epochs: int = EPOCHS, seed: int = 0, verbose: int = 1) -> _common.Trained:
    rng = np.random.RandomState(seed)  # the book's stream: first the points, then the weights
    X, y = nn.datasets.spiral(100, 3, rng)
    small = nn.initializers.normal(0.01)
    model = nn.Model(
        [nn.Dense(2, 64, small), nn.ReLU(), nn.Dense(64, 3, small)],
        loss=nn.SoftmaxCrossEntropy(),
        optimizer=RUNS[name].optimizer(),
        metrics=["accuracy"],
        rng=rng,
    )
    return _common.fit(model, X, y, epochs, verbose)


def program(options: _common.Options) -> None:
    runs = {}
    for name, row in RUNS.items() if options.all else [next(iter(RUNS.items()))]:
        runs[name] = run = train(name, options.epochs or EPOCHS, options.seed)
        expected = row.expected if options.seed == 0 else None
        _common.show(name, run, _common.epoch_table(run, "accuracy", expected))
    if options.plot:
        (picture_all if options.all else picture)(options.plot, runs)


@_plots.style()
def picture(file: str, runs: dict[str, _common.Trained]) -> None:
    """One run: its loss, its accuracy, and what the network answers at the end."""
    ((name, run),) = runs.items()
    fig = _plots.figure(f"{name}: {len(run.history['loss']):,} epochs on the spiral", 12, 5.6)
    grid = fig.add_gridspec(2, 2, width_ratios=[1.25, 1])
    top = fig.add_subplot(grid[0, 0])
    below = fig.add_subplot(grid[1, 0], sharex=top)
    _plots.losses(top, run.history["loss"], _plots.COLOURS[4])
    _plots.losses(below, run.history["accuracy"], _plots.COLOURS[0])
    top.set(title="Loss", xlabel="", ylim=(0, None))
    top.tick_params(labelbottom=False)
    below.set(title="Accuracy", ylim=(0, 1))
    map_ = fig.add_subplot(grid[:, 1])
    _plots.regions(map_, run.model, run.X, run.y)
    map_.set_title(f"After the last epoch: accuracy {run.model.evaluate(run.X, run.y)['accuracy']:.2f}")
    _plots.save(fig, file)


@_plots.style()
def picture_all(file: str, runs: dict[str, _common.Trained]) -> None:
    """All runs: the loss curves in one panel, and what each network answers at the end."""
    fig = _plots.figure("One spiral, eight optimizers", 14, 12.5)
    panels: Any = fig.subfigures(2, 1, height_ratios=[1, 1.75])
    above, below = panels
    curves = above.subplots()
    for i, (name, run) in enumerate(runs.items()):
        _plots.losses(curves, run.history["loss"], _plots.COLOURS[i], name, faint=False)
    curves.set(title="Loss (median of short stretches)", yscale="log")
    curves.set_yticks([0.1, 0.2, 0.5, 1.0], labels=["0.1", "0.2", "0.5", "1"])
    curves.minorticks_off()
    curves.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    for (name, run), ax in zip(runs.items(), below.subplots(2, 4).flat, strict=True):
        _plots.regions(ax, run.model, run.X, run.y)
        optimizer, _, settings = name.partition(", ")
        ax.set_title(f"{optimizer}: accuracy {np.median(run.history['accuracy'][-100:]):.2f}\n{settings}", fontsize=11)
    below.supxlabel("accuracy: median of the last 100 epochs", fontsize=10)
    _plots.save(fig, file)


def main(argv: Sequence[str] | None = None) -> int:
    about = f"Optimizers on the spiral, {EPOCHS:,} epochs: plain gradient descent, or with --all eight ways."
    return _common.run("optimizers", program, about, argv)


if __name__ == "__main__":
    sys.exit(main())
