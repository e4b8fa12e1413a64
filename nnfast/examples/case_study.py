"""The CS231n case study: a linear classifier against a network with one hidden layer.

    python -m nnfast.examples.case_study [--epochs N] [--plot FILE.png]

case_study_spiral(100, 3), learning rate 1, plain gradient descent on the full set, L2 penalty λ/2·ΣW² with λ = 1e-3
(nnfast's penalty is weight_l2·ΣW², so weight_l2 is λ/2). A straight border cannot follow a spiral; a hundred hidden
ReLUs can.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

import nnfast as nn
from nnfast.examples import _common, _plots
from nnfast.text import table

LAMBDA = 1e-3
EPOCHS = {"linear": 200, "network": 10_000}
PRINTED = (0, 10, 50, 100, 150, 199, *range(1_000, 10_000, 1_000), 9_999)
EXPECTED = {  # the text gives no seed, so these are landmarks, not figures to the last digit
    "linear": ({0: "1.098", 199: "0.7635"}, "0.51"),
    "network": ({0: "1.1098", 1_000: "0.277", 2_000: "0.2026", 9_000: "0.1891"}, "0.99"),
}


def train(name: str, epochs: int | None = None, seed: int = 0, verbose: int = 1) -> _common.Trained:
    rng = np.random.RandomState(seed)
    X, y = nn.datasets.case_study_spiral(100, 3, rng)

    def dense(n_inputs: int, n_outputs: int) -> nn.Dense:
        return nn.Dense(n_inputs, n_outputs, nn.initializers.normal(0.01), weight_l2=LAMBDA / 2)

    layers: list[nn.Layer] = [dense(2, 3)] if name == "linear" else [dense(2, 100), nn.ReLU(), dense(100, 3)]
    model = nn.Model(layers, loss=nn.SoftmaxCrossEntropy(), optimizer=nn.SGD(1.0), metrics=["accuracy"], rng=rng)
    return _common.fit(model, X, y, epochs or EPOCHS[name], verbose)


def program(options: _common.Options) -> None:
    runs = {}
    for name, title in [("linear", "Linear softmax classifier, 2-3"), ("network", "Network, 2-100-3 with ReLU")]:
        runs[name] = run = train(name, options.epochs, options.seed)
        _common.show(title, run, course(name, run))
    if options.plot:
        picture(options.plot, runs)


def course(name: str, run: _common.Trained) -> str:
    """Rows of (epoch, accuracy, loss), the penalty's part of it, and what the text has."""
    h, (losses, accuracy) = run.history, EXPECTED[name]
    rows = [
        [
            f"{e:,}",
            f"{h['accuracy'][e]:.3f}",
            f"{h['loss'][e]:.4f}",
            f"{h['loss'][e] - h['data_loss'][e]:.4f}",
            losses.get(e, ""),
        ]
        for e in sorted({e for e in PRINTED if e < len(h["loss"])} | {len(h["loss"]) - 1})
    ]
    after = run.model.evaluate(run.X, run.y)["accuracy"]
    foot = f"\naccuracy after training {after:.3f} (expected {accuracy} after {EPOCHS[name]:,} epochs)"
    return table(["epoch", "accuracy", "loss", "of it penalty", "expected loss"], rows, right=(0, 1, 2, 3, 4)) + foot


@_plots.style()
def picture(file: str, runs: dict[str, _common.Trained]) -> None:
    """What both answer, and their losses."""
    fig = _plots.figure("A straight border cannot follow a spiral", 15, 5.4)
    *maps, curves = fig.subplots(1, 3, width_ratios=[1, 1, 1.15])
    for ax, (name, run) in zip(maps, runs.items(), strict=True):
        _plots.regions(ax, run.model, run.X, run.y)
        ax.set_title(f"{name.capitalize()}: accuracy {run.model.evaluate(run.X, run.y)['accuracy']:.2f}")
    for (name, run), colour in zip(runs.items(), (_plots.COLOURS[4], _plots.COLOURS[0]), strict=True):
        epochs = np.arange(1, len(run.history["loss"]) + 1)
        curves.plot(epochs, run.history["loss"], color=colour, label=name)
        curves.plot(epochs, run.history["data_loss"], color=colour, linestyle="--", linewidth=1)
    curves.plot([], [], color=_plots.GREY, linestyle="--", linewidth=1.2, label="without the penalty")
    curves.set(title="Loss", xlabel="epoch", xscale="log", ylim=(0, None))
    curves.legend(loc="lower left")
    _plots.save(fig, file)


def main(argv: Sequence[str] | None = None) -> int:
    about = "The CS231n case study: 200 epochs of a linear classifier, 10,000 of a network. --all changes nothing here."
    return _common.run("case_study", program, about, argv)


if __name__ == "__main__":
    sys.exit(main())
