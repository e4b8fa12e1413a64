"""Losses and accuracy: three numbers by hand, then a network that has learned nothing yet.

    python -m nnfast.examples.losses [--plot FILE.png]

Categorical cross-entropy is the mean of -log(probability given to the right class). An untrained network with small
weights gives every class about the same, so its loss is log(classes) and its accuracy what guessing reaches.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

import nnfast as nn
from nnfast.examples import _common, _plots
from nnfast.text import table

SOFTMAX = np.array([[0.7, 0.1, 0.2], [0.1, 0.5, 0.4], [0.02, 0.9, 0.08]])
GUESSES = np.array([[0.7, 0.2, 0.1], [0.5, 0.1, 0.4], [0.02, 0.9, 0.08]])
LABELS = np.array([0, 1, 1])


def by_hand() -> dict[str, tuple[float, float]]:
    """Each figure as {name: (ours, expected)}."""
    cross_entropy, one_hot = nn.CategoricalCrossEntropy(), np.eye(3)[LABELS]
    sure, wrong = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])  # the right class is the first
    first = np.array([0])
    rows = {
        f"loss of sample {i}": (cross_entropy.forward(SOFTMAX[i : i + 1], LABELS[i : i + 1]), expected)
        for i, expected in enumerate([0.35667494, 0.69314718, 0.10536052])
    }
    return rows | {
        "mean loss, class numbers": (cross_entropy.forward(SOFTMAX, LABELS), 0.38506088005216804),
        "mean loss, one-hot rows": (cross_entropy.forward(SOFTMAX, one_hot), 0.38506088005216804),
        "loss at probability 0 (clipped to 1e-7)": (cross_entropy.forward(wrong, first), 16.11809565095832),
        "loss at probability 1 (clipped to 1 - 1e-7)": (cross_entropy.forward(sure, first), 1.0000000494736474e-07),
        "accuracy, class numbers": (nn.metrics.accuracy(GUESSES, LABELS), 2 / 3),
        "accuracy, one-hot rows": (nn.metrics.accuracy(GUESSES, one_hot), 2 / 3),
    }


def untrained(seed: int = 0) -> tuple[nn.Model, np.ndarray, np.ndarray]:
    """The spiral and a network for it, with the weights as they were drawn."""
    rng = np.random.RandomState(seed)  # the book's stream: first the points, then the weights
    X, y = nn.datasets.spiral(100, 3, rng)
    small = nn.initializers.normal(0.01)
    layers = [nn.Dense(2, 3, small), nn.ReLU(), nn.Dense(3, 3, small), nn.Softmax()]
    return nn.Model(layers, loss=nn.CategoricalCrossEntropy(), metrics=["accuracy"], rng=rng), X, y


def program(options: _common.Options) -> None:
    rows = [[name, f"{ours:.9g}", f"{expected:.9g}"] for name, (ours, expected) in by_hand().items()]
    print("By hand\n" + table(["", "nnfast", "expected"], rows, right=(1, 2)))

    model, X, y = untrained(options.seed)
    third = model.backend.to_numpy(model.predict(X[:5]))[2]
    measured = model.evaluate(X, y)
    rows = [
        ["third row of the output", " ".join(str(p) for p in third), "0.3333329 0.33333293 0.3333342"],
        ["loss", f"{measured['loss']:.7f}", "1.0986104"],
        ["accuracy", f"{measured['accuracy']:.2f}", "0.34"],
    ]
    head, width = ["", "nnfast", "expected"], 3
    if options.seed != 0:
        head, width = head[:2], 2
    title = f"\nAn untrained network: spiral(100, 3), 2-3-3, backend {model.backend.name}, seed {options.seed}"
    print(title + "\n" + table(head, [row[:width] for row in rows]))
    if options.plot:
        picture(options.plot, model, X, y, measured)


@_plots.style()
def picture(file: str, model: nn.Model, X: np.ndarray, y: np.ndarray, measured: dict[str, float]) -> None:
    """Left: the loss of one sample against its probability. Right: what the untrained network answers, magnified."""
    fig = _plots.figure("A loss is the surprise at the right answer", 12, 5.2)
    left, right = fig.subplots(1, 2, width_ratios=[1.25, 1])
    p = np.geomspace(1e-8, 1, 500)
    each = [nn.CategoricalCrossEntropy().forward(np.array([[q, 1 - q]]), np.array([0])) for q in p]
    left.semilogx(p, each, color=_plots.COLOURS[0], linewidth=2.2)
    left.axvspan(p[0], 1e-7, color=_plots.GREY, alpha=0.15, linewidth=0)
    left.annotate("clipped\nat 1e-7", (3.2e-8, 13.2), ha="center", fontsize=10)
    for q, name in [(0.7, "0.7"), (1 / 3, "1/3: a guess among three"), (0.01, "0.01"), (1e-4, "0.0001")]:
        loss = -np.log(q)
        left.plot(q, loss, "o", color=_plots.COLOURS[4], markersize=7)
        text = f"{name}\nloss {loss:.3f}" if q < 0.1 else f"{name}, loss {loss:.3f}"
        place = {"xytext": (-16, 6 if q < 0.5 else -5), "ha": "right"} if q > 0.1 else {"xytext": (10, 2), "ha": "left"}
        left.annotate(text, (q, loss), textcoords="offset points", va="center" if q > 0.1 else "bottom", **place)
    left.set(
        title="−log p", xlabel="probability given to the right class", ylabel="loss of the sample", ylim=(-0.5, 17.5)
    )
    left.set_xlim(p[0], 1.6)

    _plots.regions(right, model, X, y, sharp=True)
    right.set_title(f"Untrained: loss {measured['loss']:.4f}, accuracy {measured['accuracy']:.2f}")
    right.set_xlabel("each class gets ⅓ everywhere, log 3 = 1.0986;\nthe tint shows which is ahead by a hair")
    _plots.save(fig, file)


def main(argv: Sequence[str] | None = None) -> int:
    about = "Loss functions. Trains nothing, so --epochs and --all change nothing here."
    return _common.run("losses", program, about, argv)


if __name__ == "__main__":
    sys.exit(main())
