"""What all pictures share, those of `nnfast.plots` and those of the examples: page, type, colours, the tinted plane.

Matplotlib is loaded by the functions that need it. Its settings are changed within `style` only, its backend never.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.errors import DataError, DTypeError, OptionError
from nnfast.validation import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nnfast.model import Model

__all__ = [
    "COLOURS",
    "GREY",
    "INK",
    "MARKERS",
    "answers",
    "begin",
    "box_of",
    "check_file",
    "end",
    "figure",
    "paint",
    "plane",
    "save",
    "style",
    "trend",
]

Array = np.ndarray[Any, np.dtype[Any]]
Size = tuple[float, float]  # width, height, in inches

# Okabe and Ito's colours, told apart by colour-blind readers too; yellow is left out, being too light on white. Two of
# Paul Tol's follow, for ten classes. Colours repeat after 10, markers after 11, so pairs of them after 110.
COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#7F7F7F"),
    *("#882255", "#999933"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
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
# Of these families the user's own settings are put aside too: a dark style would leave dark type on a dark ground.
FAMILIES = ("axes", "figure", "grid", "image", "legend", "lines", "patch", "savefig", "scatter", "xtick", "ytick")


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Within it matplotlib draws as we do; afterwards its settings are the user's again. Also a decorator."""
    try:
        import matplotlib as mpl
        import matplotlib.figure
        from cycler import cycler
    except ImportError as error:
        raise ImportError(
            f"drawing needs matplotlib ({error}); install it with `pip install 'nnfast[plot]'`"
        ) from error
    standard = {k: v for k, v in mpl.rcParamsDefault.items() if k.partition(".")[0] in FAMILIES}
    with mpl.rc_context(standard | STYLE | {"axes.prop_cycle": cycler(color=COLOURS)}):
        yield


def figure(title: str | None, width: float, height: float) -> Figure:
    """An empty figure, laid out so that nothing overlaps. Call it, and draw on it, within `style`."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from nnfast.pictures.figure import Picture

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12, wspace=0.03, hspace=0.04)
    fig = Picture(figsize=(width, height), layout=layout)
    if title:
        fig.suptitle(title, x=0.012, ha="left")
    return fig


def begin(file: Any, canvas: Any, title: str | None, size: Size | None, standard: Size) -> Any:
    """The figure to draw on: `canvas`, or a new one. Everything is checked first. Call it within `style`.

    On a smaller page than `standard` the type is smaller, so that as much fits on it.
    """
    check_file(file)
    if size is not None:
        if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 2:
            raise OptionError(f"size is {size!r}; expected (width, height) in inches")
        size = number("size[0]", size[0], 1, 100), number("size[1]", size[1], 1, 100)
    if canvas is None:
        _scale_type(size or standard, standard)
        return figure(title, *(size or standard))
    if not hasattr(canvas, "subfigures"):
        raise DTypeError(f"figure is {canvas!r}; expected a matplotlib Figure or SubFigure")
    _scale_type((canvas.bbox.width / canvas.figure.dpi, canvas.bbox.height / canvas.figure.dpi), standard)
    if canvas.figure.get_layout_engine() is None:
        canvas.figure.set_layout_engine("constrained")  # what stands beside the axes needs it
    if title:
        canvas.suptitle(title, x=0.012, ha="left", fontsize="large")
    return canvas


def _scale_type(size: Size, standard: Size) -> None:
    import matplotlib as mpl

    scale = float(np.clip(min(size[0] / standard[0], size[1] / standard[1]) ** 0.5, 0.6, 1))
    sizes = ("font.size", "axes.titlesize", "axes.labelsize", "legend.fontsize", "figure.titlesize")
    mpl.rcParams.update({name: scale * STYLE[name] for name in sizes})


def end(canvas: Any, file: Any) -> Any:
    """Settle what matplotlib would look up only when it draws, which may be outside `style`; write the file."""
    import matplotlib as mpl

    for ax in canvas.axes:
        ax.tick_params(which="both", color=GREY, labelcolor=INK, labelsize=0.9 * mpl.rcParams["font.size"])
    if file is not None:
        save(canvas, file)
    return canvas


def check_file(file: Any) -> None:
    """Raise OptionError if a picture cannot be written there, before any work is done for it."""
    if file is None:
        return
    from matplotlib.backend_bases import FigureCanvasBase

    name = os.fspath(file)
    known = sorted(f".{kind}" for kind in FigureCanvasBase.get_supported_filetypes())
    if os.path.splitext(name)[1].lower() not in known:
        raise OptionError(f"file is {name!r}; the name must end in one of {', '.join(known)}")
    folder = os.path.dirname(os.path.abspath(name))
    if not os.path.isdir(folder):
        raise OptionError(f"file is {name!r}; the folder {folder} does not exist")


def save(fig: Any, file: Any) -> None:
    """Write the whole figure, also where `fig` is a part of one."""
    fig.figure.savefig(file, dpi=STYLE["savefig.dpi"])


def trend(values: Sequence[float] | Array, parts: int = 200) -> tuple[Array, Array]:
    """(positions, medians) over at most `parts` stretches of equal length: the course of a curve without its spikes."""
    ends = np.unique(np.linspace(0, len(values), min(parts, len(values)) + 1).astype(int))
    middles = (ends[:-1] + ends[1:] - 1) / 2
    return middles, np.array([np.median(values[a:b]) for a, b in pairwise(ends)])


# ---- what a model of two inputs answers -----------------------------------------------------------------------------


def answers(model: Model, X: Any) -> Array:
    """What the model predicts, in float64 on the host."""
    return np.asarray(model.backend.to_numpy(model.predict(X)), dtype=np.float64)


def box_of(X: Array, margin: float = 0.08) -> tuple[Array, Array]:
    """The corners of a box around all points, a little larger; never flat."""
    low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
    span = np.where(high > low, high - low, np.maximum(np.abs(low), 1))
    return low - margin * span, high + margin * span


def plane(model: Model, low: Array, high: Array, resolution: int) -> tuple[Array, Array, Array]:
    """(xs, ys, answers) on a grid of resolution², answers of shape (ys, xs, outputs)."""
    xs, ys = (np.linspace(low[i], high[i], resolution) for i in (0, 1))
    grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    values = answers(model, grid)
    if not np.isfinite(values).all():
        raise DataError(
            "the model's answers are not all finite, so there is nothing to draw; has its training diverged?"
        )
    return xs, ys, values.reshape(len(ys), len(xs), -1)


def paint(ax: Axes, xs: Array, ys: Array, share: Array, score: Array) -> None:
    """The classes' colours mixed by `share` (ys, xs, C); white borders where another class gets the highest `score`."""
    rgb = _rgb(share.shape[-1])
    tint = 1 - 0.45 * (1 - share @ rgb)  # lightened, so that the points stand out
    extent = (xs[0], xs[-1], ys[0], ys[-1])
    ax.imshow(tint, origin="lower", extent=extent, aspect="auto", interpolation="bilinear")
    winner = score.argmax(axis=-1)
    for c in range(score.shape[-1]):
        if 0 < (winner == c).mean() < 1:
            others = np.delete(score, c, axis=-1).max(axis=-1)
            ax.contour(xs, ys, score[..., c] - others, levels=[0], colors="white", linewidths=1.4)
    ax.set(xlim=extent[:2], ylim=extent[2:])


def _rgb(classes: int) -> Array:
    from matplotlib.colors import to_rgb

    return np.array([to_rgb(COLOURS[c % len(COLOURS)]) for c in range(classes)])
