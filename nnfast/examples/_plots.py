"""What the programs' pictures share beyond the style of `nnfast.plots`: bare decision regions, and loss curves.

Draw within `style`, as the functions that it decorates do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import nnfast as nn
from nnfast.pictures.drawing import COLOURS, GREY, INK, MARKERS, box_of, figure, paint, plane, save, style, trend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "FORMATS", "GREY", "INK", "figure", "losses", "regions", "save", "style", "trend", "unavailable"]

FORMATS = (".png", ".pdf", ".svg")


def unavailable() -> str | None:
    """Why nothing can be drawn here, with the fix; None if all is well."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        return f"drawing needs matplotlib ({error}); install it with `pip install nnfast[plot]`"
    return None


def regions(ax: Axes, model: nn.Model, X: Any, y: Any, *, sharp: bool = False, points: float = 18) -> None:
    """What the model answers everywhere: the classes' colours, mixed by probability, borders white, the data on top.

    With `sharp` the likeliest class takes all, by however little. `points` is their size; 0 leaves them out.
    """
    X = np.asarray(X)
    xs, ys, p = plane(model, *box_of(X), 320)
    paint(ax, xs, ys, np.eye(p.shape[-1])[p.argmax(axis=-1)] if sharp else p, p)
    if points:
        for c in range(p.shape[-1]):
            rows = np.asarray(y) == c
            marker: dict[str, Any] = {"marker": MARKERS[c], "edgecolors": "white", "color": COLOURS[c]}
            ax.scatter(X[rows, 0], X[rows, 1], points, linewidths=0.4, zorder=3, **marker)
    ax.set(xticks=[], yticks=[])
    ax.set_box_aspect(1)
    ax.spines[:].set_visible(False)


def losses(ax: Axes, values: Sequence[float], colour: str, label: str | None = None, *, faint: bool = True) -> None:
    """A loss curve: its median over short stretches, and every epoch faintly behind it."""
    if faint:
        ax.plot(values, color=colour, alpha=0.25, linewidth=0.7)
    ax.plot(*trend(values), color=colour, label=label)
    ax.set_xlabel("epoch")
    ax.set_xlim(0, max(len(values) - 1, 1))
