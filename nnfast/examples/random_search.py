"""Random search: learning without gradients, and where that ends.

    python -m nnfast.examples.random_search [--all] [--epochs N] [--plot FILE.png]

A network of 21 parameters, Dense(2, 3) - ReLU - Dense(3, 3), and one random candidate per epoch, judged on the whole
set. "sample" draws all parameters anew each time and keeps the best; "perturb" adds noise to the best so far and undoes
what does not help. Three vertical bands give in to the second. The spiral (`--all`) gives in to neither.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

import nnfast as nn
from nnfast.examples import _common
from nnfast.text import table

EPOCHS = 10_000
PRINTED = (1, 10, 100, 1_000, 2_000, 5_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
RUNS = {  # (data set, mode): what to expect after 10,000 candidates
    ("vertical", "sample"): "loss near 1.096 (1.095 after 100,000; 1.0911305 after a billion)",
    ("vertical", "perturb"): "loss about 0.17, accuracy about 0.93",
    ("spiral", "sample"): "nothing: 1.0986 is what guessing gives",
    ("spiral", "perturb"): "stalls near loss 1.08, accuracy 0.39 to 0.42",
}


def train(data: str, mode: str, epochs: int = EPOCHS, seed: int = 0, verbose: int = 1) -> _common.Trained:
    rng = np.random.RandomState(seed)
    X, y = getattr(nn.datasets, data)(100, 3, rng)
    small = nn.initializers.normal(0.01)
    model = nn.Model(
        [nn.Dense(2, 3, small), nn.ReLU(), nn.Dense(3, 3, small)],
        loss=nn.SoftmaxCrossEntropy(),
        optimizer=nn.RandomSearch(scale=0.05, mode=mode),
        metrics=["accuracy"],
        rng=rng,
    )
    return _common.fit(model, X, y, epochs, verbose)


def program(options: _common.Options) -> None:
    runs = {}
    for data, mode in RUNS:
        if data == "vertical" or options.all:
            runs[data, mode] = run = train(data, mode, options.epochs or EPOCHS, options.seed)
            _common.show(f"{data}(100, 3), mode={mode!r}: {RUNS[data, mode]}", run, best_so_far(run))
    if options.plot:
        picture(options.plot, runs)


def best_so_far(run: _common.Trained) -> str:
    losses, accuracies = run.history["loss"], run.history["accuracy"]
    counts = sorted({n for n in PRINTED if n < len(losses)} | {len(losses)})
    rows = [[f"{n:,}", f"{accuracies[n - 1]:.3f}", f"{losses[n - 1]:.4f}"] for n in counts]
    return table(["candidates", "accuracy", "best loss"], rows, right=(0, 1, 2))


def picture(file: str, runs: dict[tuple[str, str], _common.Trained]) -> None:
    """The best loss so far, and what the best network of the perturbing search answers."""
    from nnfast.examples import _plots

    maps = [key for key in runs if key[1] == "perturb"]
    fig = _plots.figure("Random search: how far chance alone gets", 6.6 + 4.6 * len(maps), 5.2)
    left, *right = fig.subplots(1, 1 + len(maps), width_ratios=[1.35, *[1] * len(maps)])
    for i, ((data, mode), run) in enumerate(runs.items()):
        losses = run.history["loss"]
        label = f"{mode}, {data}" if len(runs) > 2 else mode
        left.step(
            np.arange(1, len(losses) + 1), losses, where="post", color=_plots.COLOURS[i], label=label, linewidth=2
        )
    left.axhline(np.log(3), color=_plots.GREY, linestyle=":", linewidth=1.2, zorder=0)
    left.annotate("guessing", (1.1, np.log(3)), xytext=(0, 5), textcoords="offset points", color=_plots.GREY)
    left.set(title="Best loss so far", xlabel="candidates tried", ylabel="loss", xscale="log", ylim=(0, 1.25))
    left.legend(loc="lower left")
    for ax, key in zip(right, maps, strict=True):
        run = runs[key]
        _plots.regions(ax, run.model, run.X, run.y)
        ax.set_title(f"perturb, {key[0]}: accuracy {run.history['accuracy'][-1]:.2f}")
    _plots.save(fig, file)


def main(argv: Sequence[str] | None = None) -> int:
    about = f"Random search, {EPOCHS:,} candidates in each mode; --epochs sets their number, --all adds the spiral."
    return _common.run("random_search", program, about, argv)


if __name__ == "__main__":
    sys.exit(main())
