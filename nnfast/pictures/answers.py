"""Pictures of what a model answers; their public names are in `nnfast.plots`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast import validation
from nnfast._confusion import confusion_matrix as counted
from nnfast._confusion import true_classes
from nnfast.devices import fetched
from nnfast.errors import DataError, OptionError, ShapeError
from nnfast.pictures import drawing as _drawing
from nnfast.pictures.drawing import COLOURS, GREY, INK, MARKERS, Array, Size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nnfast.model import Model

__all__ = ["confusion_matrix", "decision_regions", "fit"]

MOST_POINTS = 5_000  # drawn; all of them count
MOST_NAMED = 20  # classes in a legend, and in a confusion matrix whose cells have numbers

# ---- what a classifier answers --------------------------------------------------------------------------------------


@_drawing.style()
def decision_regions(
    model: Model,
    X: Any,
    y: Any,
    *,
    resolution: int = 320,
    names: Sequence[str] | None = None,
    threshold: float = 0.5,
    file: Any = None,
    title: str | None = None,
    size: Size | None = None,
    figure: Any = None,
) -> Any:
    """What a classifier of two inputs answers in the plane, on a grid of `resolution`², and the data (X, y) on it.

    The tint mixes the classes' colours by their probabilities, so doubt is grey; outputs that are no probabilities
    (some are negative) give flat tints, the largest counting. A single output is class 1 above `threshold`. Points with
    a dark edge are classified wrongly. y: class numbers (N,), rows (N, C), or 0 and 1. `names` are the classes'.
    Raises ShapeError for a model of another number of inputs, DataError where answers are not finite.
    """
    X = _inputs(model, X, 2, "decision regions")
    resolution = validation.integer("resolution", resolution, 2)
    threshold = validation.number("threshold", threshold)
    classes = max(model.n_outputs, 2)
    truth = true_classes(validation.host_array("y", fetched("y", y, model.backend)), len(X), classes)
    names = _class_names(names, classes)
    _, score = _shares(_drawing.answers(model, X), threshold)
    right = score.argmax(axis=-1) == truth
    xs, ys, values = _drawing.plane(model, *_drawing.box_of(X), resolution)
    fig = _drawing.begin(file, figure, title, size, (7.4, 5.6))
    ax = fig.subplots()
    _drawing.paint(ax, xs, ys, *_shares(values, threshold))
    _points(ax, X, truth, right, names)
    ax.set(xlabel="X[:, 0]", ylabel="X[:, 1]", title=f"Accuracy {_percent(right.mean())}")
    ax.spines[:].set_visible(False)
    return _drawing.end(fig, file)


def _inputs(model: Model, X: Any, width: int, what: str) -> Array:
    if model.n_inputs != width:
        raise ShapeError(f"{what} need a model of {width} input{'s' * (width > 1)}; this one takes {model.n_inputs}")
    rows: Array = validation.features("X", fetched("X", X, model.backend), width, model.dtype)
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        raise DataError(f"X[{int(np.argmax(bad))}] is not finite and has no place in a picture: drop such rows first")
    return rows


def _class_names(names: Sequence[str] | None, classes: int) -> list[str]:
    if names is None:
        return [f"class {c}" for c in range(classes)]
    if isinstance(names, str) or len(names) != classes:
        raise OptionError(f"names is {names!r}; expected a list of {classes} names, one per class")
    return [str(name) for name in names]


def _shares(output: Array, threshold: float) -> tuple[Array, Array]:
    """(share, score) of the classes, (…, C) each: the tint, and what decides."""
    if output.shape[-1] == 1:
        p, over = np.clip(output, 0, 1), output - threshold
        return np.concatenate([1 - p, p], axis=-1), np.concatenate([np.zeros_like(over), over], axis=-1)
    total = output.sum(axis=-1, keepdims=True)
    if output.min() >= 0 and total.min() > 0:
        return np.asarray(output / total), output
    return np.eye(output.shape[-1])[output.argmax(axis=-1)], output


def _points(ax: Axes, X: Array, truth: Array, right: Array, names: Sequence[str]) -> None:
    from matplotlib import rcParams

    drawn = np.zeros(len(X), bool)
    drawn[np.linspace(0, len(X) - 1, min(len(X), MOST_POINTS)).astype(int)] = True
    small = (rcParams["font.size"] / _drawing.STYLE["font.size"]) ** 2  # on a small page
    size = small * float(np.clip(18_000 / drawn.sum(), 7, 34))
    for c, name in enumerate(names):
        look: dict[str, Any] = {"marker": MARKERS[c % len(MARKERS)], "color": COLOURS[c % len(COLOURS)]}
        good, wrong = ((truth == c) & drawn & chosen for chosen in (right, ~right))
        ax.scatter(X[good, 0], X[good, 1], size, edgecolors="white", linewidths=0.4, zorder=3, **look)
        ax.scatter(X[wrong, 0], X[wrong, 1], 1.5 * size, edgecolors=INK, linewidths=1.4, zorder=4, **look)
        if len(names) <= MOST_NAMED:
            ax.scatter([], [], 34 * small, edgecolors="white", linewidths=0.4, label=name, **look)
    shown = "" if drawn.all() else f"\n({drawn.sum():,} drawn)"
    ax.scatter(
        [], [], 40 * small, facecolors="none", edgecolors=INK, linewidths=1.4, label=f"wrong: {(~right).sum():,}"
    )
    ax.scatter([], [], 0, label=f"of {len(X):,} points{shown}")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.4)


def _percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.9995 or share == 1 else f"{share:.3%}"  # 99.97 % is not all


# ---- what a regression answers --------------------------------------------------------------------------------------


@_drawing.style()
def fit(
    model: Model,
    X: Any,
    y: Any,
    *,
    resolution: int = 500,
    names: Sequence[str] | None = None,
    file: Any = None,
    title: str | None = None,
    size: Size | None = None,
    figure: Any = None,
) -> Any:
    """The curve of a model of one input on `resolution` places, its data (X, y), and below what it leaves unexplained.

    Each output is a curve with its R² = 1 − Σ(y − ŷ)²/Σ(y − ȳ)² and mean absolute error; `names` are the outputs'.
    The band of the residuals is ± the mean absolute error. Of the Poisson loss, the rate eᶻ is drawn.
    Raises ShapeError for a model of another number of inputs, DataError where answers are not finite.
    """
    X = _inputs(model, X, 1, "fitted curves")
    resolution = validation.integer("resolution", resolution, 2)
    y = fetched("y", y, model.backend)
    y = validation.targets("y", y, len(X), model.n_outputs, np.dtype(np.float64))
    names = _output_names(names, model.n_outputs)
    low, high = _drawing.box_of(X, 0.02)
    grid = np.linspace(low, high, resolution)
    curve, residual = _regressed(model, grid), y - _regressed(model, X)
    fig = _drawing.begin(file, figure, title, size, (8, 6))
    above, below = fig.subplots(2, 1, sharex=True, height_ratios=[2.6, 1])
    order = np.linspace(0, len(X) - 1, min(len(X), MOST_POINTS)).astype(int)
    alpha, dot = float(np.clip(60 / len(order), 0.3, 0.8)), float(np.clip(6_000 / len(order), 6, 26))
    for i, name in enumerate(names):
        colour = COLOURS[i % len(COLOURS)]
        quality = f"R² {_r2(y[:, i], residual[:, i])}", f"MAE {np.abs(residual[:, i]).mean():.3g}"
        line = ("-", (0, (5, 1.4)), "-.", ":")[i % 4]
        points: dict[str, Any] = {"color": colour if len(names) > 1 else COLOURS[5], "linewidths": 0, "alpha": alpha}
        points |= {"marker": MARKERS[i % len(MARKERS)], "zorder": 1}
        above.scatter(X[order, 0], y[order, i], dot, **points)
        above.plot(
            grid[:, 0], curve[:, i], color=colour, linestyle=line, linewidth=2, label="\n".join([name, *quality])
        )
        below.scatter(X[order, 0], residual[order, i], dot, **(points | {"color": colour}))
    error = float(np.abs(residual).mean())
    below.axhspan(-error, error, color=GREY, alpha=0.2, linewidth=0, zorder=0)
    below.axhline(0, color=GREY, linewidth=1, zorder=0)
    if len(names) > 1:
        above.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), labelspacing=1.2)
    shown = "" if len(X) <= MOST_POINTS else f" ({MOST_POINTS:,} of {len(X):,} points)"
    above.set_title((", ".join([names[0], *quality]) if len(names) == 1 else "Data and model") + shown)
    below.set(title="Residual, and mean absolute error", xlabel="X[:, 0]", xlim=(low[0], high[0]))
    return _drawing.end(fig, file)


def _output_names(names: Sequence[str] | None, outputs: int) -> list[str]:
    if names is None:
        return ["Model"] if outputs == 1 else [f"output {i}" for i in range(outputs)]
    if isinstance(names, str) or len(names) != outputs:
        raise OptionError(f"names is {names!r}; expected a list of {outputs} names, one per output")
    return [str(name) for name in names]


def _regressed(model: Model, X: Array) -> Array:
    values = _drawing.answers(model, X)
    if not np.isfinite(values).all():
        raise DataError(
            "the model's answers are not all finite, so there is nothing to draw; has its training diverged?"
        )
    return np.exp(values) if model.loss is not None and model.loss.op == "poisson" else values


def _r2(y: Array, residual: Array) -> str:
    spread = float(np.square(y - y.mean()).sum())
    if not spread:
        return "undefined"  # the data are constant
    return f"{1 - float(np.square(residual).sum()) / spread:.4f}"


# ---- which class was taken for which --------------------------------------------------------------------------------


@_drawing.style()
def confusion_matrix(
    output: Any,
    y: Any = None,
    *,
    names: Sequence[str] | None = None,
    threshold: float = 0.5,
    file: Any = None,
    title: str | None = None,
    size: Size | None = None,
    figure: Any = None,
) -> Any:
    """A confusion matrix: rows the truth, columns the prediction, counts in the cells, the tint a row's shares.

    `output` and `y` as `nn.metrics.confusion_matrix` takes them, or its (C, C) counts alone. `names` are the classes'.
    """
    counts = _counts(output) if y is None else counted(output, y, threshold=threshold)
    classes = len(counts)
    names = _class_names(names, classes) if names is not None else [str(c) for c in range(classes)]
    side = float(np.clip(1.6 + 0.62 * classes, 4.4, 9))
    fig = _drawing.begin(file, figure, title, size, (side + 0.5, side))
    ax = fig.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if classes <= MOST_NAMED:
        _cells(ax, counts, shares, size=float(np.clip(fig.bbox.height / 72 * 13 / (classes + 2), 5, 14)))
    long = max(len(name) for name in names) > 3 and classes > 4
    every = math.ceil(classes / MOST_NAMED)
    ax.set_xticks(
        range(0, classes, every), names[::every], rotation=45 if long else 0, ha="right" if long else "center"
    )
    ax.set_yticks(range(0, classes, every), names[::every])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    right, total = int(np.trace(counts)), int(counts.sum())
    ax.set(xlabel="predicted", ylabel="true")
    ax.set_title(f"{_percent(right / total)} right: {right:,} of {total:,}")
    return _drawing.end(fig, file)


def _counts(matrix: Any) -> Array:
    counts = validation.host_array("output", matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ShapeError(f"output has shape {counts.shape}; expected a square matrix of counts, or give y= as well")
    if counts.dtype.kind == "f" or counts.min() < 0 or counts.sum() == 0:
        raise DataError("output is no matrix of counts: give whole numbers of at least 0, or outputs with y= as well")
    return counts.astype(np.int64)


def _cells(ax: Axes, counts: Array, shares: Array, size: float) -> None:
    for (i, j), count in np.ndenumerate(counts):
        colour = "white" if shares[i, j] > 0.55 else INK if count else GREY
        weight = "bold" if i == j else "normal"
        ax.text(j, i, f"{count:,}", ha="center", va="center", color=colour, fontsize=size, fontweight=weight)
