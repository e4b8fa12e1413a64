"""Regression: a sine, and how much the starting weights matter.

    python -m nnfast.examples.regression [--all] [--epochs N] [--plot FILE.png]

sine(1000), mean squared error, Adam, the full set at each step, 10,001 epochs. "Accuracy" is the share of points within
std(y)/250 of the sine. One hidden layer finds little more than the slope; two, from weights of 0.01 times a normal
draw, never find the first bend; from 0.1 times they fit all of it.

At epoch 100 some rows differ from the book. It adds up the gradients of the biases in float32, nnfast in float64, and
for weights as small as 0.01 those sums nearly cancel, so that there rounding chose the direction of its first steps.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

import nnfast as nn
from nnfast.examples import _common, _plots

EPOCHS = 10_001


class Row(NamedTuple):
    hidden: tuple[int, ...]
    scale: float  # of the normal draw that the weights start from
    rate: float
    decay: float
    expected: _common.Expected

    def __str__(self) -> str:
        network = "-".join(str(n) for n in (1, *self.hidden, 1))
        return f"{network}, weights {self.scale}, Adam {self.rate:g}" + (
            f", decay {self.decay:g}" if self.decay else ""
        )


def _row(hidden: int, scale: float, rate: float, decay: float, *figures: tuple[float, float]) -> Row:
    return Row((64,) * hidden, scale, rate, decay, dict(zip((0, 100, 9_900, 10_000), figures, strict=True)))


ROWS = (
    _row(1, 0.01, 0.001, 0, (0.002, 0.500), (0.003, 0.346), (0.003, 0.145), (0.004, 0.145)),
    _row(2, 0.01, 0.001, 0, (0.002, 0.500), (0.003, 0.187), (0.617, 0.031), (0.620, 0.031)),
    _row(2, 0.01, 0.01, 1e-3, (0.002, 0.500), (0.027, 0.061), (0.565, 0.031), (0.564, 0.031)),
    _row(2, 0.01, 0.05, 1e-3, (0.002, 0.500), (0.087, 0.031), (0.275, 0.031), (0.229, 0.031)),
    _row(2, 0.1, 0.001, 0, (0.003, 0.496), (0.005, 0.114), (0.869, 0.000), (0.883, 0.000)),
    _row(2, 0.1, 0.01, 1e-3, (0.003, 0.496), (0.065, 0.011), (0.958, 0.000), (0.949, 0.000)),
    _row(2, 0.1, 0.05, 1e-3, (0.003, 0.496), (0.016, 0.008), (0.221, 0.000), (0.631, 0.000)),
    _row(2, 0.1, 0.005, 1e-3, (0.003, 0.496), (0.017, 0.048), (0.982, 0.000), (0.981, 0.000)),
)


def train(row: Row, epochs: int = EPOCHS, seed: int = 0, verbose: int = 1) -> _common.Trained:
    X, y = nn.datasets.sine(1000)
    rng = np.random.RandomState(seed)
    initializer = nn.initializers.normal(row.scale)
    widths = (1, *row.hidden, 1)
    layers: list[nn.Layer] = []
    for n_inputs, n_outputs in pairwise(widths):
        layers += [nn.Dense(n_inputs, n_outputs, initializer), nn.ReLU()]
    model = nn.Model(
        layers[:-1],  # no ReLU behind the output: a sine is negative half of the time
        loss=nn.MeanSquaredError(),
        optimizer=nn.Adam(row.rate, decay=row.decay),
        metrics=[nn.metrics.regression_accuracy(precision(y))],
        rng=rng,
    )
    return _common.fit(model, X, y, epochs, verbose)


def precision(y: np.ndarray) -> float:
    """How close counts as right."""
    return float(np.std(y)) / 250


def program(options: _common.Options) -> None:
    runs = []
    for row in ROWS if options.all else ROWS[-1:]:
        run = train(row, options.epochs or EPOCHS, options.seed)
        runs.append((row, run))
        expected = row.expected if options.seed == 0 else None
        _common.show(str(row), run, _common.epoch_table(run, "regression_accuracy", expected))
    if options.plot:
        (picture_all if options.all else picture)(options.plot, runs)


@_plots.style()
def picture(file: str, runs: list[tuple[Row, _common.Trained]]) -> None:
    """One run: the fitted curve, its error against the band that counts as right, loss and accuracy."""
    ((row, run),) = runs
    fig = _plots.figure(f"A sine, fitted: {row}", 13, 6.4)
    (curve, loss), (error, accuracy) = fig.subplots(2, 2, height_ratios=[1.5, 1])
    x, y, fitted = run.X[:, 0], run.y[:, 0], answers(run)
    curve.plot(x, y, color=_plots.COLOURS[5], linewidth=7, alpha=0.5, label="sin 2πx", solid_capstyle="round")
    curve.plot(x, fitted, color=_plots.COLOURS[0], linewidth=1.8, label="network")
    curve.set(title="Fitted curve", xlim=(0, 1))
    curve.legend(loc="upper right")
    band = precision(run.y)
    error.axhspan(-band, band, color=_plots.COLOURS[2], alpha=0.2, linewidth=0, label="counts as right")
    error.plot(x, fitted - y, color=_plots.COLOURS[4], linewidth=1.3)
    error.set(title="Error", xlabel="x", xlim=(0, 1))
    error.set_ylim(top=max(2.4 * band, 1.25 * np.abs(fitted - y).max()))
    error.legend(loc="upper right")
    _plots.losses(loss, run.history["loss"], _plots.COLOURS[4])
    loss.set(title="Mean squared error", yscale="log", xlabel="")
    _plots.losses(accuracy, run.history["regression_accuracy"], _plots.COLOURS[0])
    accuracy.set(title="Share of points within std(y)/250", ylim=(0, 1.02))
    _plots.save(fig, file)


@_plots.style()
def picture_all(file: str, runs: list[tuple[Row, _common.Trained]]) -> None:
    """All rows: the fitted curve of each."""
    fig = _plots.figure("One sine, eight ways to train: the starting weights decide", 16, 7.6)
    for i, ((row, run), ax) in enumerate(zip(runs, fig.subplots(2, 4, sharex=True, sharey=True).flat, strict=True)):
        x = run.X[:, 0]
        ax.plot(
            x, run.y[:, 0], color=_plots.COLOURS[5], linewidth=7, alpha=0.5, label="sin 2πx", solid_capstyle="round"
        )
        ax.plot(x, answers(run), color=_plots.COLOURS[0], linewidth=1.8, label="network")
        network, weights, adam = str(row).split(", ", 2)
        ax.set_title(f"{network}, {weights}\n{adam}")
        late = np.median(run.history["regression_accuracy"][-1000:])
        ax.annotate(f"accuracy {late:.2f}\nloss {run.history['loss'][-1]:.2g}", (0.03, -1.0), va="bottom")
        if i == 0:
            ax.legend(loc="upper right")
    fig.supxlabel("x; accuracy is the median of the last 1,000 epochs", fontsize=11)
    _plots.save(fig, file)


def answers(run: _common.Trained) -> np.ndarray:
    """The network's curve."""
    return np.asarray(run.model.backend.to_numpy(run.model.predict(run.X)))[:, 0]


def main(argv: Sequence[str] | None = None) -> int:
    about = f"Regression on a sine, {EPOCHS:,} epochs: the best set-up, or with --all eight of them."
    return _common.run("regression", program, about, argv)


if __name__ == "__main__":
    sys.exit(main())
