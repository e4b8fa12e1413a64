"""Random search: learning without gradients, and where that ends.

    python -m nnfast.examples.random_search [--all] [--epochs N] [--plot FILE.png]

A network of 21 parameters, Dense(2, 3) - ReLU - Dense(3, 3), and one random candidate per epoch, judged on the whole
set. "sample" draws all parameters anew each time and keeps the best; "perturb" adds noise to the best so far and undoes
what does not help. Three vertical bands give in to the second; the spiral (`--all`) gives in to neither. The book's
billion candidates are `--epochs 1000000000`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import nnfast as nn
from nnfast.examples import _common, _plots
from nnfast.progress import Progress
from nnfast.text import table

EPOCHS = 10_000
LONG = 5_000_000  # candidates of one fit at most: its history has a few numbers for each
PRINTED = (1, 10, 100, 1_000, 2_000, 5_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
RUNS = {  # (data set, mode): what to expect after 10,000 candidates
    ("vertical", "sample"): "loss near 1.096 (1.095 after 100,000; 1.0911305 after the book's billion, here 1.0921984)",
    ("vertical", "perturb"): "loss about 0.17, accuracy about 0.93",
    ("spiral", "sample"): "nothing: 1.0986 is what guessing gives",
    ("spiral", "perturb"): "stalls near loss 1.08, accuracy 0.39 to 0.42",
}


def build(data: str, mode: str, seed: int) -> tuple[nn.Model, Any, Any]:
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
    return model, X, y


def train(data: str, mode: str, epochs: int = EPOCHS, seed: int = 0, verbose: int = 1) -> _common.Trained:
    return _common.fit(*build(data, mode, seed), epochs, verbose)


def program(options: _common.Options) -> None:
    runs = {}
    epochs = options.epochs or EPOCHS
    for data, mode in RUNS:
        if data == "vertical" or options.all:
            title = f"{data}(100, 3), mode={mode!r}: {RUNS[data, mode]}"
            if epochs > LONG:
                long_search(title, data, mode, epochs, options.seed)
                continue
            runs[data, mode] = run = train(data, mode, epochs, options.seed)
            _common.show(title, run, best_so_far(run))
    if options.plot and runs:
        picture(options.plot, runs)


def long_search(title: str, data: str, mode: str, epochs: int, seed: int) -> None:
    """A search whose history would fill the memory: many fits that go on from each other, under one progress bar.

    A line is printed when as many candidates are tried, so that something is there to read after an hour, or a Ctrl-C.
    """
    model, X, y = build(data, mode, seed)
    print(f"\n{title}\n{'candidates':>13}  accuracy  best loss    seconds", flush=True)
    begin, done = time.perf_counter(), 0
    with Progress.of(1, epochs) as progress:
        for stop in sorted({n for n in (*PRINTED, *range(LONG, epochs, LONG)) if n < epochs} | {epochs}):
            logs = {k: v[-1] for k, v in model.fit(X, y, epochs=stop - done, verbose=0).history.items()}
            done = stop
            progress.update(done, logs, {})
            if done in PRINTED or done == epochs:
                row = f"{done:13,}  {logs['accuracy']:8.3f}  {logs['loss']:9.7f}  {time.perf_counter() - begin:9.1f}"
                print(row, flush=True)


def best_so_far(run: _common.Trained) -> str:
    losses, accuracies = run.history["loss"], run.history["accuracy"]
    counts = sorted({n for n in PRINTED if n < len(losses)} | {len(losses)})
    rows = [[f"{n:,}", f"{accuracies[n - 1]:.3f}", f"{losses[n - 1]:.4f}"] for n in counts]
    return table(["candidates", "accuracy", "best loss"], rows, right=(0, 1, 2))


@_plots.style()
def picture(file: str, runs: dict[tuple[str, str], _common.Trained]) -> None:
    """The best loss so far, and what the best network of the perturbing search answers."""
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
