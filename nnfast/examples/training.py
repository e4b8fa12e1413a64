"""Training as it is done: data held out for validation, a schedule, early stopping, and pictures of what came of it.

    python -m nnfast.examples.training [--epochs N] [--plot FILE.png]

A noisy spiral of three arms, 2-64-64-3 in batches of 32: a fifth of the points is set aside, the learning rate warms up
and then follows a cosine, and training stops when the validation loss has not fallen for 60 epochs, with the weights
that were best. A second spiral, seen by nobody, judges. Then a noisy sine, 1-64-64-1, at a rate that goes up and down
once; it is judged by the sine without the noise.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import nnfast as nn
from nnfast.callbacks import EarlyStopping
from nnfast.examples import _common, _plots
from nnfast.history import History
from nnfast.metrics import confusion_matrix, r2
from nnfast.schedules import CosineDecay, OneCycle
from nnfast.text import table

EPOCHS = {"spiral": 400, "sine": 600}
BATCH, HELD_OUT, PATIENCE = 32, 0.2, 60
NOISE = 0.15  # of the sine, standard deviation


@dataclass(frozen=True)
class Spiral:
    """The trained classifier, the course of its training, and the spiral that judges it."""

    model: nn.Model
    history: History
    stopping: EarlyStopping
    test: tuple[Any, Any]


@dataclass(frozen=True)
class Sine:
    """The trained curve, its noisy data, and its R² against the sine without the noise."""

    model: nn.Model
    data: tuple[Any, Any]
    r2: float


def spiral(epochs: int = EPOCHS["spiral"], seed: int = 0, verbose: int = 1) -> Spiral:
    rng = np.random.RandomState(seed)
    X, y = nn.datasets.spiral(400, 3, rng)
    test = nn.datasets.spiral(400, 3, rng)
    steps = epochs * -(-round(len(X) * (1 - HELD_OUT)) // BATCH)
    adam = nn.Adam(CosineDecay(0.01, steps, warmup=steps // 20))
    wide = [nn.Dense(n, 64, "he_normal", weight_l2=1e-4) for n in (2, 64)]
    model = nn.Model(
        [wide[0], nn.ReLU(), wide[1], nn.ReLU(), nn.Dense(64, 3)],
        loss=nn.SoftmaxCrossEntropy(),
        optimizer=adam,
        metrics=["accuracy"],
        rng=rng,
    )
    stopping, rates = EarlyStopping(patience=PATIENCE, restore_best=True), []

    def record_rate(model: nn.Model, epoch: int, logs: dict[str, float]) -> None:
        rates.append(adam.current_learning_rate)

    history = model.fit(
        X,
        y,
        epochs=epochs,
        batch_size=BATCH,
        validation_split=HELD_OUT,
        callbacks=[stopping, record_rate],
        verbose=verbose,
    )
    history.history["learning_rate"] = rates
    return Spiral(model, history, stopping, test)


def sine(epochs: int = EPOCHS["sine"], seed: int = 0, verbose: int = 1) -> Sine:
    rng = np.random.RandomState(seed)
    X, truth = nn.datasets.sine(300)
    y = truth + NOISE * rng.standard_normal(truth.shape)
    model = nn.Model(
        [nn.Dense(1, 64, "he_normal"), nn.Tanh(), nn.Dense(64, 64), nn.Tanh(), nn.Dense(64, 1)],
        loss=nn.MeanSquaredError(),
        optimizer=nn.Adam(OneCycle(0.01, epochs)),
        metrics=["r2"],
        rng=rng,
    )
    model.fit(X, y, epochs=epochs, verbose=verbose)
    return Sine(model, (X, y), r2(on_host(model, X), truth))


def on_host(model: nn.Model, X: Any) -> np.ndarray[Any, Any]:
    return np.asarray(model.backend.to_numpy(model.predict(X)), np.float64)


def program(options: _common.Options) -> None:
    classes = spiral(options.epochs or EPOCHS["spiral"], options.seed)
    print(f"\nSpiral: {classes.history.epochs} of {classes.history.planned} epochs on {classes.model.backend.name}")
    print(course(classes))
    print("\nWhich arm (row) was taken for which (column), of the second spiral:")
    X, y = classes.test
    counts = confusion_matrix(on_host(classes.model, X), y, n_classes=3)
    head = ["", *(str(c) for c in range(3))]
    print(table(head, [[str(c), *(str(n) for n in row)] for c, row in enumerate(counts)], right=(1, 2, 3)))
    curve = sine(options.epochs or EPOCHS["sine"], options.seed)
    print(f"\nSine: R² {curve.r2:.4f} against the sine without its noise", flush=True)
    if options.plot:
        picture(options.plot, classes, curve)


def course(run: Spiral) -> str:
    """Rows of some epochs, the best and the last among them, and the verdict of the second spiral."""
    columns, best = run.history.to_dict(), run.stopping.best_epoch
    names = ["loss", "val_loss", "accuracy", "val_accuracy", "learning_rate"]
    chosen = {1, 10, 20, 50, *range(100, run.history.epochs, 100), best, run.history.epochs}
    rows = [
        [f"{e}", *(f"{columns[name][e - 1]:.4f}" for name in names), "best" if e == best else ""]
        for e in sorted(e for e in chosen if 1 <= e <= run.history.epochs)
    ]
    test = run.model.evaluate(*run.test)
    verdict = f"a second spiral: accuracy {test['accuracy']:.3f}, loss {test['loss']:.4f}"
    return table(["epoch", *(name.replace("_", " ") for name in names), ""], rows, right=range(6)) + "\n" + verdict


@_plots.style()
def picture(file: str, classes: Spiral, curve: Sine) -> None:
    """One page: the course of the training, what the classifier answers and mistakes, the curve through the sine."""
    from nnfast import plots

    fig = _plots.figure(None, 16, 10.4)
    parts: Any = fig.subfigures(2, 1, height_ratios=[1, 1.25], hspace=0.04)
    above, below = parts
    plots.history(classes.history, figure=above)
    left, middle, right = below.subfigures(1, 3, width_ratios=[1.3, 0.92, 1.1], wspace=0.03)
    names = ["first arm", "second arm", "third arm"]
    plots.decision_regions(classes.model, *classes.test, figure=left, title="A second spiral", names=names)
    outputs = on_host(classes.model, classes.test[0])
    plots.confusion_matrix(
        outputs, classes.test[1], figure=middle, title="Its arms", names=["first", "second", "third"]
    )
    plots.fit(curve.model, *curve.data, figure=right, title="A noisy sine")
    _plots.save(fig, file)


def main(argv: Sequence[str] | None = None) -> int:
    about = "Validation, a schedule, early stopping, on a spiral and a sine. --all changes nothing here."
    return _common.run("training", program, about, argv)


if __name__ == "__main__":
    sys.exit(main())
