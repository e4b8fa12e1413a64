"""The picture of a history; `nnfast.plots.history` is the public name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.errors import DataError, DTypeError, OptionError, UnknownNameError
from nnfast.history import History
from nnfast.pictures import drawing as _drawing
from nnfast.pictures.drawing import COLOURS, INK, Array, Size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["history"]

TRAINING = {"color": COLOURS[0], "linestyle": "-"}
VALIDATION = {"color": COLOURS[4], "linestyle": (0, (5, 1.4))}  # dashed, for greyscale
MANY = 1_000  # epochs from which a curve is drawn as medians of short stretches, with every epoch faintly behind
LOG_RATIO = 20  # of the largest to the smallest value from which an axis is logarithmic


@_drawing.style()
def history(
    history: History,
    *,
    names: Sequence[str] | None = None,
    file: Any = None,
    title: str | None = None,
    log: bool | str = "auto",
    size: Size | None = None,
    figure: Any = None,
) -> Any:
    """Loss, each metric, and the learning rate where recorded, over the epochs; validation where it was measured.

    A dotted line marks the epoch of the lowest validation loss, and each panel says what validation gave there. `names`
    chooses panels ("loss", "accuracy"); `log` is a logarithmic loss axis: True, False, or "auto", where the losses
    differ by more than 20 times. Long curves are drawn as medians, with every epoch faintly behind them.
    Raises DataError where no epoch is recorded, UnknownNameError for a name that is not.
    """
    if not isinstance(history, History):
        raise DTypeError(f"history is {history!r}; expected the History that model.fit(…) returns")
    if log not in (True, False, "auto"):
        raise UnknownNameError("log", log, ["auto", "True", "False"])
    panels = _panels(history, names)
    rows, columns = _grid(len(panels))
    fig = _drawing.begin(file, figure, title or _headline(history), size, (1 + 4.7 * columns, 1.3 + 3.1 * rows))
    best = _best(history)
    axes = list(fig.subplots(rows, columns, squeeze=False).flat)
    for ax, (panel, curves) in zip(axes, panels.items(), strict=False):
        _course(ax, history, panel, curves, best)
        if panel in ("loss", "learning_rate"):
            _logarithmic(ax, [history.history[name] for name in curves], log if panel == "loss" else "auto")
    for ax in axes[len(panels) :]:
        ax.remove()
    _legend(fig, axes[: len(panels)])
    return _drawing.end(fig, file)


def _legend(fig: Any, axes: Sequence[Axes]) -> None:
    """One for all panels, below them, in as many columns as fit."""
    from matplotlib import rcParams

    found = {text: line for ax in axes for line, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    letters = fig.bbox.width / fig.figure.dpi * 72 / (0.6 * float(rcParams["legend.fontsize"]))
    longest = max(len(text) for text in found) + 7
    columns = max(1, min(len(found), int(letters / longest)))
    fig.legend(list(found.values()), list(found), loc="outside lower center", ncols=columns)


def _headline(history: History) -> str:
    """How many epochs, and whether there were to be more."""
    done, planned = history.epochs, history.planned
    text = f"Training: {done:,} epoch{'s' if done > 1 else ''}"
    return text if planned is None or planned <= done else f"{text} of {planned:,}, stopped early"


def _panels(history: History, names: Sequence[str] | None) -> dict[str, list[str]]:
    """The curves of each panel: a value and its validation together, the losses in one panel, the rate last."""
    panels: dict[str, list[str]] = {}
    for name, column in history.history.items():
        if column:
            base = name.removeprefix("val_")
            if name != "val_data_loss":  # as far below its loss as that of the training
                panels.setdefault("loss" if base == "data_loss" else base, []).append(name)
    if not panels:
        raise DataError("the history holds no epoch yet, so there is nothing to draw; call model.fit(…) first")
    if "learning_rate" in panels:
        panels["learning_rate"] = panels.pop("learning_rate")
    if names is None:
        return panels
    if isinstance(names, str) or not names:
        raise DTypeError(f"names is {names!r}; expected a list of names: {sorted(panels)}")
    for name in names:
        if name not in panels:
            raise UnknownNameError("name of a panel", name, panels)
    return {name: panels[name] for name in names}


def _grid(panels: int) -> tuple[int, int]:
    columns = panels if panels <= 3 else 2 if panels == 4 else 3
    return math.ceil(panels / columns), columns


def _best(history: History) -> int | None:
    """The epoch of the lowest validation loss, where there is one."""
    measured = np.asarray(history.history.get("val_loss", []))
    return history.best("val_loss", "min")[0] if np.isfinite(measured).any() else None


def _course(ax: Axes, history: History, panel: str, curves: Sequence[str], best: int | None) -> None:
    from matplotlib.ticker import MaxNLocator

    for name in curves:
        look: dict[str, Any] = VALIDATION if name.startswith("val_") else TRAINING
        label = "validation" if name.startswith("val_") else "training"
        if name == "data_loss":
            look, label = look | {"linewidth": 0.9, "alpha": 0.7}, "training, without the penalty"
        _curve(ax, np.asarray(history.epochs_of(name)), np.asarray(history.history[name], np.float64), label, look)
    words = {"r2": "R²"}.get(panel, panel.replace("_", " "))
    ax.set(title=words[:1].upper() + words[1:], xlabel="epoch")
    if best is not None:
        ax.axvline(best, color=INK, linestyle=":", linewidth=1.2, label=f"lowest validation loss: epoch {best:,}")
        _best_value(ax, history, f"val_{panel}", best)
    margin = 0.02 * (history.epochs - 1) or 0.5
    ax.set_xlim(1 - margin, history.epochs + margin)
    if history.epochs == 1:
        ax.set_xticks([1])
    else:
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        ax.xaxis.set_major_formatter("{x:,.0f}")


def _best_value(ax: Axes, history: History, name: str, best: int) -> None:
    """What validation gave in that epoch, as a dot, and beside the title where there is room."""
    from matplotlib import rcParams

    epochs = list(history.epochs_of(name)) if name in history.history else []
    if best in epochs and math.isfinite(value := history.history[name][epochs.index(best)]):
        ax.plot(best, value, "o", markersize=6, color=VALIDATION["color"], markeredgecolor=INK)
        words, size = f"validation {value:#.4g}", rcParams["font.size"]
        if ax.get_window_extent().width / ax.figure.dpi * 72 > 0.62 * size * (
            1.2 * len(ax.get_title("left")) + len(words)
        ):
            ax.set_title(words, loc="right", fontsize="small", fontweight="normal")


def _curve(ax: Axes, epochs: Array, values: Array, label: str, look: dict[str, Any]) -> None:
    if len(values) > MANY:
        faint: dict[str, Any] = {"color": look["color"], "alpha": 0.2, "linewidth": 0.6}
        ax.plot(epochs, values, **faint)
        at, values = _drawing.trend(values)
        epochs = np.interp(at, np.arange(len(epochs)), epochs)
    marker = "o" if len(values) <= 40 else ""
    ax.plot(epochs, values, marker=marker, markersize=4, label=label, **({"linewidth": 1.8} | look))


def _logarithmic(ax: Axes, columns: Sequence[Sequence[float]], log: bool | str) -> None:
    values = np.concatenate([np.asarray(c, np.float64) for c in columns])
    values = values[np.isfinite(values)]
    positive = values.size > 0 and values.min() > 0
    if log is True and not positive:
        raise OptionError("log=True needs losses above 0, and this history has others; use log=False")
    if log is True or (log == "auto" and positive and values.max() > LOG_RATIO * values.min()):
        ax.set_yscale("log")
    elif positive:
        ax.set_ylim(bottom=0)
