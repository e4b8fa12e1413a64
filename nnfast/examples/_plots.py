"""What the pictures share: size, type, colours, and the panels that several of them have.

Matplotlib is loaded here and nowhere else, by the functions that need it. Figures are made without pyplot, so that no
window system is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

import nnfast as nn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "FORMATS", "GREY", "INK", "figure", "losses", "regions", "save", "trend", "unavailable"]

FORMATS = (".png", ".pdf", ".svg")

# Okabe and Ito's colours, told apart by colour-blind readers too; yellow is left out, being too light on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P")
INK = "#222222"
GREY = "#8A8A8A"

STYLE: dict[str, Any] = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": None,  # filled in below, once matplotlib is there
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 1.6,
    "figure.titlesize": 16,
    "figure.titleweight": "bold",
    "savefig.dpi": 150,
}


def unavailable() -> str | None:
    """Why nothing can be drawn here, with the fix; None if all is well."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        return f"drawing needs matplotlib ({error}); install it with `pip install nnfast[plot]`"
    return None


def figure(title: str, width: float, height: float) -> Figure:
    """An empty figure in our style, laid out so that nothing overlaps."""
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    mpl.rcParams.update(STYLE | {"axes.prop_cycle": cycler(color=COLOURS)})
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12, wspace=0.03, hspace=0.04)
    fig = Figure(figsize=(width, height), layout=layout)
    fig.suptitle(title, x=0.012, ha="left")
    return fig


def save(fig: Figure, file: str) -> None:
    fig.savefig(file)


def regions(ax: Axes, model: nn.Model, X: Any, y: Any, *, sharp: bool = False, points: float = 18) -> None:
    """What the model answers everywhere: the classes' colours, mixed by probability, borders white, the data on top.

    With `sharp` the likeliest class takes all, by however little. `points` is their size; 0 leaves them out.
    """
    X, margin = np.asarray(X), 0.08
    span = X.max(axis=0) - X.min(axis=0)
    low, high = X.min(axis=0) - margin * span, X.max(axis=0) + margin * span
    xs, ys = (np.linspace(low[i], high[i], 320) for i in (0, 1))
    grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    p = np.asarray(model.backend.to_numpy(model.predict(grid)), dtype=np.float64).reshape(len(ys), len(xs), -1)
    share = np.eye(p.shape[-1])[p.argmax(axis=-1)] if sharp else p
    tint = 1 - 0.45 * (1 - share @ _rgb(COLOURS[: p.shape[-1]]))  # lightened, so that the points stand out
    ax.imshow(tint, origin="lower", extent=(low[0], high[0], low[1], high[1]), aspect="auto", interpolation="bilinear")
    winner = p.argmax(axis=-1)
    for c in range(p.shape[-1]):
        if 0 < (winner == c).mean() < 1:
            others = np.delete(p, c, axis=-1).max(axis=-1)
            ax.contour(xs, ys, p[..., c] - others, levels=[0], colors="white", linewidths=1.4)
    if points:
        for c in range(p.shape[-1]):
            rows = np.asarray(y) == c
            marker: dict[str, Any] = {"marker": MARKERS[c], "edgecolors": "white", "color": COLOURS[c]}
            ax.scatter(X[rows, 0], X[rows, 1], points, linewidths=0.4, zorder=3, **marker)
    ax.set(xticks=[], yticks=[], xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    ax.set_box_aspect(1)
    ax.spines[:].set_visible(False)


def _rgb(colours: Sequence[str]) -> np.ndarray[Any, Any]:
    from matplotlib.colors import to_rgb

    return np.array([to_rgb(c) for c in colours])


def trend(values: Sequence[float], parts: int = 200) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(epochs, medians) over at most `parts` stretches of equal length: the course of a curve without its spikes."""
    ends = np.unique(np.linspace(0, len(values), min(parts, len(values)) + 1).astype(int))
    middles = (ends[:-1] + ends[1:] - 1) / 2
    return middles, np.array([np.median(values[a:b]) for a, b in pairwise(ends)])


def losses(ax: Axes, values: Sequence[float], colour: str, label: str | None = None, *, faint: bool = True) -> None:
    """A loss curve: its median over short stretches, and every epoch faintly behind it."""
    if faint:
        ax.plot(values, color=colour, alpha=0.25, linewidth=0.7)
    ax.plot(*trend(values), color=colour, label=label)
    ax.set_xlabel("epoch")
    ax.set_xlim(0, max(len(values) - 1, 1))
