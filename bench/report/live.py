"""The line that a run says about each group as soon as it is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from report.records import automatic
from report.words import duration

__all__ = ["line"]


def line(group: Any, floor: float | None, outcomes: Mapping[str, Any]) -> str:
    """ "steps: networks: 2-64-3, batch 300: nnfast, numba 12.3 µs, JAX, whole loop 41.5 µs per step, 0.30x"."""
    medians = {
        who: float(np.median(outcomes[who.key].seconds))
        for who in group.contenders
        if hasattr(outcomes.get(who.key), "seconds") and not who.twin
    }
    ours = automatic({who.name: who for who in medians if who.nnfast})
    best = min((who for who in medians if not who.nnfast), key=medians.__getitem__, default=None)
    words = [f"{who.title} {duration(medians[who])}" for who in (ours, best) if who is not None]
    text = f"{group.title}: {', '.join(words) or 'nobody was timed'} per {group.unit}"
    if ours is not None and best is not None:
        text += f", {medians[ours] / medians[best]:.2f}x"
    if ours is not None and floor:
        text += f", {floor / medians[ours]:.0%} of the limit"
    return text
