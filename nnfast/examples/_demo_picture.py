"""The demo's picture: decision regions, fitted curve, loss curves, and digits as they were read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.examples import _plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

    from nnfast.examples.demo import Outcome

__all__ = ["draw"]

WRONG = 6  # misread digits shown, at most
STYLES = ("-", "--", ":", "-.")  # of the backends, in the loss curves


@_plots.style()
def draw(outcomes: Sequence[Outcome], file: str) -> None:
    """One page: the first backend's answers, and all backends' losses and times."""
    backends = list(dict.fromkeys(o.backend for o in outcomes))
    first = {o.task.name: o for o in outcomes if o.backend == backends[0]}
    fig = _plots.figure(f"nnfast: three networks trained on {', '.join(backends)}", 15.5, 9.4)
    panels: Any = fig.subfigures(2, 1, height_ratios=[1.45, 1])
    above, below = panels
    spiral, sine, losses = above.subplots(1, 3, width_ratios=[1.12, 1, 1])
    _spiral(spiral, first["spiral"])
    _sine(sine, first["sine"])
    _losses(losses, outcomes, backends)
    if len(backends) == 1:
        _digits(below, first["digits"], columns=12)
    else:
        left, right = below.subfigures(1, 2, width_ratios=[2.1, 1])
        _digits(left, first["digits"], columns=8)
        _seconds(right.subplots(), outcomes, backends)
    _plots.save(fig, file)


def _spiral(ax: Axes, o: Outcome) -> None:
    _plots.regions(ax, o.model, *o.task.train, points=24)
    ax.set_title(f"Spiral: {o.accuracy:.0%} of a second spiral right")
    ax.set_xlabel("background: the network's answer")


def _sine(ax: Axes, o: Outcome) -> None:
    x, y = o.task.test
    ax.plot(x, y, color=_plots.COLOURS[5], linewidth=8, alpha=0.5, label="sin 2πx", solid_capstyle="round")
    ax.plot(x, o.predictions, color=_plots.COLOURS[0], linewidth=2, label="network")
    worst = np.abs(o.predictions - y).max()
    ax.set(title=f"Sine: largest error {worst:.1g}", xlabel="x", xlim=(-0.02, 1.02))
    ax.legend(loc="upper right")


def _losses(ax: Axes, outcomes: Sequence[Outcome], backends: Sequence[str]) -> None:
    """Loss over the share of the training done, so that 100 and 8,000 epochs share one axis."""
    tasks = list(dict.fromkeys(o.task.name for o in outcomes))
    for o in outcomes:
        epochs, course = _plots.trend(o.losses, 120)
        colour, style = _plots.COLOURS[(0, 4, 2)[tasks.index(o.task.name)]], STYLES[backends.index(o.backend) % 4]
        label = f"{o.task.name}, {len(o.losses):,} epochs" if o.backend == backends[0] else None
        ax.plot((epochs + 1) / len(o.losses), course, color=colour, linestyle=style, linewidth=2, label=label)
    for i, backend in enumerate(backends if len(backends) > 1 else []):
        ax.plot([], [], color=_plots.GREY, linestyle=STYLES[i % 4], label=backend)
    ax.set(title="Training loss (median of short stretches)", yscale="log", xlabel="share of the training", xlim=(0, 1))
    ax.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    ax.legend(loc="best")


def _digits(fig: SubFigure, o: Outcome, columns: int) -> None:
    """The first digits of the test part with what was read, then some of those misread."""
    images, labels = o.task.test
    read = o.predictions.argmax(axis=1)
    misread = np.flatnonzero(read != labels)
    shown = [*np.flatnonzero(read == labels)[: 2 * columns - len(misread[:WRONG])], *misread[:WRONG]]
    title = f"Digits: {o.accuracy:.1%} of {len(labels)} held-out ones read right; in orange, {len(misread[:WRONG])} "
    fig.suptitle(title + f"of the {len(misread)} misread", fontsize=12, x=0.012, ha="left")
    axes = list(fig.subplots(2, columns).flat)
    for ax in axes:
        ax.set_axis_off()
    for ax, i in zip(axes, shown, strict=False):
        wrong = read[i] != labels[i]
        ax.imshow(images[i].reshape(8, 8), cmap="gray_r", interpolation="nearest")
        text = f"{read[i]}, is {labels[i]}" if wrong else str(read[i])
        ax.set_title(text, loc="center", color=_plots.COLOURS[4] if wrong else _plots.INK, fontsize=13)


def _seconds(ax: Axes, outcomes: Sequence[Outcome], backends: Sequence[str]) -> None:
    """How long each backend took, per task."""
    tasks = list(dict.fromkeys(o.task.name for o in outcomes))
    height = 0.8 / len(backends)
    for o in outcomes:
        at = tasks.index(o.task.name) + (backends.index(o.backend) - (len(backends) - 1) / 2) * height
        colour = _plots.COLOURS[backends.index(o.backend) % len(_plots.COLOURS)]
        ax.barh(at, o.seconds, height * 0.9, color=colour)
        ax.annotate(
            f"{o.backend}, {o.seconds:.2g} s",
            (o.seconds, at),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
        )
    ax.set_yticks(range(len(tasks)), labels=tasks)
    ax.invert_yaxis()
    ax.set_title("Seconds of training")
    ax.margins(x=0.45)  # room for the names
    ax.set_xlim(left=0)
