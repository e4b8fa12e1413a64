"""Parts of your own in plain Python: a layer, a loss, a metric, a schedule, and what each of them costs.

    python -m nnfast.examples.own_parts [--backend NAME] [--epochs N]

Each is one or two methods on NumPy arrays, and each imitates a part of nnfast, so that the two can be compared:

    Swish           nn.SiLU                   y = x·σ(x)
    CrossEntropy    nn.SoftmaxCrossEntropy    −log softmax(z) at the true class
    Hits            "accuracy"                whether the largest output is the true class
    cooling         decay=1e-3 of nn.Adam     0.02/(1 + 1e-3·t) after t steps

Layer, loss and metric cut the compiled step: a compiled backend comes back to Python there, twice for a layer, and what
is written in Python takes the time that NumPy takes. A metric that is measured in validation alone and a schedule cut
nothing. `tests/test_own_parts_example.py` holds each against what it imitates. For full speed: `own_op`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import nnfast as nn
from nnfast.examples import _common
from nnfast.metrics import PythonMetric
from nnfast.text import table

EPOCHS = 2_000
ROUNDS = 5  # of all variants in turn; the fastest of each counts


class Swish(nn.PythonLayer):
    """y = x·σ(x) (Ramachandran, Zoph & Le 2017); dx = dy·(σ + y·(1 − σ))."""

    def compute(self, x: Any, training: bool) -> Any:
        self.sigmoid = 1 / (1 + np.exp(-x))
        self.y = x * self.sigmoid
        return self.y

    def gradient(self, dy: Any) -> Any:
        return dy * (self.sigmoid + self.y * (1 - self.sigmoid))


class CrossEntropy(nn.PythonLoss):
    """−log p of the true class, p = softmax(z); the slope is p, less 1 at the true class."""

    targets = "label"

    def compute(self, output: Any, y: Any) -> Any:
        e = np.exp(output - output.max(axis=1, keepdims=True))
        self.p = e / e.sum(axis=1, keepdims=True)
        return -np.log(self.p[np.arange(len(y)), y])

    def gradient(self, output: Any, y: Any) -> Any:
        slope = self.p.copy()
        slope[np.arange(len(y)), y] -= 1
        return slope


class Hits(PythonMetric):
    """1 where the largest output is the true class."""

    targets = "label"

    def compute(self, output: Any, y: Any) -> Any:
        return output.argmax(axis=1) == y


class ValidatedHits(Hits):
    """The same, measured in validation and by `evaluate` alone."""

    in_training = False


def cooling(step: int) -> float:
    return 0.02 / (1 + 1e-3 * step)


# What is of one's own: (layer, loss, metric, schedule).
VARIANTS: dict[str, tuple[bool, bool, type[Hits] | None, bool]] = {
    "nothing": (False, False, None, False),
    "the layer": (True, False, None, False),
    "the loss": (False, True, None, False),
    "the metric": (False, False, Hits, False),
    "the metric, in validation only": (False, False, ValidatedHits, False),
    "the schedule": (False, False, None, True),
    "all four": (True, True, Hits, True),
}


def build(variant: str, seed: int = 0, **settings: Any) -> nn.Model:
    """2-64-3 with the parts that this variant names."""
    layer, loss, metric, schedule = VARIANTS[variant]
    return nn.Model(
        [nn.Dense(2, 64), Swish() if layer else nn.SiLU(), nn.Dense(64, 3)],
        CrossEntropy() if loss else nn.SoftmaxCrossEntropy(),
        nn.Adam(cooling) if schedule else nn.Adam(0.02, decay=1e-3),
        [metric("accuracy") if metric else "accuracy"],
        rng=seed,
        **settings,
    )


def race(models: Sequence[nn.Model], X: Any, y: Any, epochs: int) -> list[float]:
    """Train all for so many epochs, a share of them each in turn; seconds per step of each one's fastest share."""
    best = [np.inf] * len(models)
    for share in [len(part) for part in np.array_split(np.arange(epochs), min(ROUNDS, epochs))]:
        for i, model in enumerate(models):
            begin = time.perf_counter()
            model.fit(X, y, epochs=share, verbose=0)
            best[i] = min(best[i], (time.perf_counter() - begin) / share)
    return best


def cuts(model: nn.Model) -> int:
    """How often a step returns to plain Python."""
    return model.backend_report().count("cuts the program")


def program(options: _common.Options) -> None:
    epochs = options.epochs or EPOCHS
    X, y = nn.datasets.spiral(100, 3, options.seed)
    models = [build(variant, options.seed) for variant in VARIANTS]
    seconds = race(models, X, y, epochs)
    rows = []
    for variant, model, took in zip(VARIANTS, models, seconds, strict=True):
        end = model.evaluate(X, y)
        figures = [f"{took * 1e6:.1f}", f"{(took - seconds[0]) * 1e6:+.1f}", str(cuts(model))]
        rows.append([variant, *figures, f"{end['loss']:.4f}", f"{end['accuracy']:.3f}"])
    print(f"\nspiral(100, 3), 2-64-3, {epochs:,} epochs on {models[0].backend.name}")
    head = ["written in plain Python", "µs per step", "more", "cuts per step", "loss", "accuracy"]
    print(table(head, rows, right=range(1, 6)))


def main(argv: Sequence[str] | None = None) -> int:
    about = f"A layer, a loss, a metric and a schedule in plain Python: {EPOCHS:,} epochs of the spiral, and the cost."
    return _common.run("own_parts", program, about, argv)


if __name__ == "__main__":
    sys.exit(main())
