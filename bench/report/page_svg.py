"""Matplotlib's figures as SVG inside a page: type and colours are the page's, light and dark.

One unit of a figure is one CSS pixel at its natural width, which is that of a phone; wider columns enlarge it.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, Literal

from matplotlib import rc_context, rcParamsDefault
from matplotlib.figure import Figure

from report.page_looks import COLOURS
from report.words import duration, short

__all__ = ["BIG", "SMALL", "WIDTH", "Canvas", "room", "seconds_ticks", "span", "steps_ticks", "style"]

WIDTH = 344.0
BIG, SMALL = 11.5, 10.5  # type
SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nnfast",
    "path.simplify": False,
    "font.family": "DejaVu Sans",
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Within it matplotlib draws as we do, whatever the user's own settings are."""
    with rc_context({k: v for k, v in rcParamsDefault.items() if k != "backend"} | SETTINGS):
        yield


class Canvas:
    """A figure with one pair of axes, so many pixels away from its left, bottom, right and top edge."""

    def __init__(self, height: float, left: float = 8, bottom: float = 26, right: float = 10, top: float = 8) -> None:
        self.height, self.left, self.bottom = height, left, bottom
        self.wide, self.high = WIDTH - left - right, height - bottom - top
        self.figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
        place = (left / WIDTH, bottom / height, self.wide / WIDTH, self.high / height)
        self.axes = self.figure.add_axes(place)
        self.axes.patch.set_visible(False)
        for spine in self.axes.spines.values():
            spine.set_visible(False)
        self.axes.tick_params(which="both", length=0, labelsize=SMALL, labelcolor=COLOURS["soft"], pad=4)
        self.axes.minorticks_off()
        self.axes.set_axisbelow(True)

    def text(self, x: float, y: float, words: str, colour: str = "ink", **options: Any) -> None:
        """Words at a pixel, from the figure's lower left corner."""
        options.setdefault("fontsize", BIG)
        options.setdefault("va", "center")
        self.figure.text(x / WIDTH, y / self.height, words, color=COLOURS[colour], **options)

    def at_x(self, value: float) -> float:
        """The pixel of a value on the x axis, from the figure's left."""
        return float(self.axes.transData.transform((value, self.axes.get_ylim()[0]))[0])

    def at_y(self, value: float) -> float:
        return float(self.axes.transData.transform((self.axes.get_xlim()[0], value))[1])

    def grid(self, axis: Literal["x", "y", "both"]) -> None:
        self.axes.grid(axis=axis, which="major", color=COLOURS["grid"], linewidth=1)

    def log(self, axis: str, low: float, high: float, ticks: Sequence[tuple[float, str]]) -> None:
        """A logarithmic axis with these ticks and none else."""
        getattr(self.axes, f"set_{axis}scale")("log")
        getattr(self.axes, f"set_{axis}lim")(low, high)
        getattr(self.axes, f"set_{axis}ticks")([at for at, _ in ticks], labels=[words for _, words in ticks])
        self.axes.minorticks_off()

    def svg(self, name: str, words: str) -> str:
        """`name` is no other figure's on the page; `words` say what is to be seen."""
        buffer = io.StringIO()
        self.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        return _clean(buffer.getvalue(), name, words)


def _clean(text: str, name: str, words: str) -> str:
    """From matplotlib's file to an element of the page."""
    view = re.search(r'viewBox="([^"]+)"', text)
    assert view is not None
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.S)
    body = re.sub(r'<defs>\s*<style type="text/css">.*?</style>\s*</defs>', "", body, flags=re.S)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', body))
    body = re.sub(r'(<\w+) id="([^"]+)"', lambda m: m[0] if m[2] in used else m[1], body)
    body = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", body).replace("xlink:href", "href")
    for colour, code in COLOURS.items():
        body = body.replace(code, f"var(--{colour})")
    body = re.sub(r"font: (?:(\d+|bold) )?([\d.]+)px [^;\"]+", _font, body)
    body = re.sub(r"stroke-linejoin: miter;? ?|stroke-linecap: butt;? ?|; (?=\")", "", body)
    body = re.sub(r"(\d+\.\d{2})\d+", r"\1", body)
    body = re.sub(r"<g>\s*</g>", "", re.sub(r"\s*\n\s*", "\n", body))
    said = escape(words, quote=True)
    return f'<svg viewBox="{view[1]}" role="img" aria-label="{said}" focusable="false">{body.strip()}</svg>'


def _font(match: re.Match[str]) -> str:
    weight = f"font-weight: {match[1]}; " if match[1] else ""
    return f"{weight}font-size: {match[2]}px"


def room(words: Sequence[str], size: float = BIG) -> float:
    """Pixels that the longest of some words takes, in about, whatever the reader's fonts are."""
    return max((len(w) for w in words), default=0) * 0.56 * size


def span(values: Sequence[float], pixels: float, before: float, after: float) -> tuple[float, float]:
    """The ends of a logarithmic axis with so many pixels to spare at either end."""
    low, high = min(values), max(values)
    if high < 1.3 * low:
        low, high = low / 1.15, high * 1.15
    per_pixel = math.log(high / low) / (pixels - before - after)
    return low * math.exp(-before * per_pixel), high * math.exp(after * per_pixel)


def steps_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers on a logarithmic axis: powers of ten, or 1-2-5 where there would be only one."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in ((1, 2, 5), (1, 3), (1,)):
        found = [d * 10.0**k for k in range(first, last + 1) for d in digits]
        found = [value for value in found if low <= value <= high]
        if len(found) <= most:
            return found
    return found[:: math.ceil(len(found) / most)]


def seconds_ticks(low: float, high: float, most: int = 5) -> list[tuple[float, str]]:
    return [(value, _round_seconds(value)) for value in steps_ticks(low, high, most)]


def _round_seconds(value: float) -> str:
    amount, unit = duration(value * (1 + 1e-9)).split(" ")
    return f"{short(round(float(amount.replace(',', '')), 3))} {unit}"
