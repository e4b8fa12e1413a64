"""The picture of a population; `nnfast.plots.population` is the public name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.errors import DataError, DTypeError, OptionError, UnknownNameError
from nnfast.pictures import drawing as _drawing
from nnfast.pictures.drawing import COLOURS, GREY, INK, Array, Size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nnfast.population import Population

__all__ = ["population"]

LOG_RATIO = 20  # of the largest to the smallest value from which an axis is logarithmic
PARTS = 8  # of the range of what varies: of each the median is drawn


@_drawing.style()
def population(
    population: Population,
    name: str,
    *,
    score: str | None = None,
    file: Any = None,
    title: str | None = None,
    log: bool | str = "auto",
    size: Size | None = None,
    figure: Any = None,
) -> Any:
    """A dot per model: its `score` over the value of `name`, one of those that vary; the best is marked.

    `score` is a name of the history; by default "val_loss" where there is validation, else "loss": of the weights that
    each model holds now. A line joins the medians of an eighth of the models each, where there are enough. `log` are
    logarithmic axes: True, False, or "auto", axis by axis, where values differ by more than 20 times. A cross at
    the upper edge is a model whose score is not finite. Raises UnknownNameError for a name that does not vary,
    DataError where nothing is measured or no score is finite, DTypeError where the values are no numbers.
    """
    from nnfast.population import Population

    if not isinstance(population, Population):
        raise DTypeError(f"population is {population!r}; expected an nnfast.Population")
    if log not in (True, False, "auto"):
        raise UnknownNameError("log", log, ["auto", "True", "False"])
    if name not in population.values:
        raise UnknownNameError("name of what varies", name, population.values)
    if not population.history.history:
        raise DataError("no model is trained yet, so there is nothing to draw; call population.fit(…) first")
    shown = population._watched(score)
    x, y = _numbers(name, population.values[name]), population.scores(shown)
    finite = np.isfinite(y)
    if not finite.any():
        raise DataError(f"{shown!r} is finite in none of the models, so there is nothing to draw")
    fig = _drawing.begin(file, figure, title or f"{population.n:,} models", size, (7.5, 4.6))
    ax = fig.subplots()
    _dots(ax, x, y, finite, population.ranking(shown)[0])
    ax.set(xlabel=name.replace("_", " "), ylabel=shown.replace("_", " "))
    _scale(ax, "x", x, log)
    _scale(ax, "y", y[finite], log)
    return _drawing.end(fig, file)


def _numbers(name: str, values: tuple[Any, ...]) -> Array:
    """What varies as numbers; "no limit" (None) is none."""
    if any(isinstance(v, bool) or not isinstance(v, int | float | np.number) for v in values):
        raise DTypeError(f"the values of {name!r} are not all numbers, so they have no place on an axis")
    return np.asarray(values, np.float64)


def _dots(ax: Axes, x: Array, y: Array, finite: Array, best: int) -> None:
    alpha = float(np.clip(60 / len(x), 0.35, 0.9))
    size = float(np.clip(4_000 / len(x), 10, 40))
    ax.scatter(x[finite], y[finite], size, color=COLOURS[0], alpha=alpha, linewidths=0)
    if not finite.all():
        top = np.full((~finite).sum(), float(y[finite].max()))
        ax.scatter(x[~finite], top, 24, marker="x", color=COLOURS[4], label=f"not finite: {len(top):,}")
    order = np.argsort(x[finite], kind="stable")
    if len(order) >= 4 * PARTS and len(np.unique(x)) >= PARTS:
        parts = np.array_split(order, PARTS)
        middles = [(np.median(x[finite][part]), np.median(y[finite][part])) for part in parts]
        ax.plot(*zip(*middles, strict=True), color=GREY, linewidth=1.6, label="median")
    said = f"best: {x[best]:.4g}, score {y[best]:.4g}"
    ax.scatter(x[best], y[best], 90, marker="o", facecolors="none", edgecolors=INK, linewidths=1.4, label=said)
    ax.legend()


def _scale(ax: Axes, which: str, values: Array, log: bool | str) -> None:
    positive = values.min() > 0
    if log is True and not positive:
        raise OptionError(
            f"log=True needs values above 0 on both axes, and those of {which} hold others; use log=False"
        )
    if log is True or (log == "auto" and positive and values.max() > LOG_RATIO * values.min()):
        ax.set(**{f"{which}scale": "log"})
