"""Who has which colour, mark and dash on the page, the same in every plot, and the colours' names in page.css."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from report.records import Group, Run, Side

__all__ = ["COLOURS", "Look", "Looks"]

# Libraries that a contender's name may begin with: a colour each, so that all ways of PyTorch are seen to be PyTorch.
FAMILIES = {
    "book": "grey",
    "scikit": "ochre",
    "sklearn": "ochre",
    "torch": "red",
    "jax": "green",
    "keras": "purple",
    "tinygrad": "pink",
    "onnx": "olive",
}
SPARE = ("brown", "slate")
MARKERS = ("o", "s", "^", "D", "v", "P")
SIGNS = dict(zip(MARKERS, "●■▲◆▼✚", strict=True))
DASHES = ("-", (0, (4, 1.6)), (0, (1.4, 1.4)), (0, (6, 1.6, 1.4, 1.6)))

# Matplotlib draws in these colours; the SVG then names the variable of page.css instead. Each hex occurs nowhere else.
NAMES = ["ink", "soft", "grid", "paper", "nnfast", "nnfast-soft", "slower-ground"]
NAMES += [*dict.fromkeys(FAMILIES.values()), *SPARE]
COLOURS = {name: f"#{0x10 + k:02x}0b0c" for k, name in enumerate(NAMES)}


@dataclass(frozen=True)
class Look:
    """How one contender is drawn."""

    name: str  # of the colour
    marker: str = "o"
    dash: str | tuple[int, tuple[float, ...]] = "-"

    @property
    def colour(self) -> str:
        """For matplotlib."""
        return COLOURS[self.name]

    @property
    def sign(self) -> str:
        """For running text."""
        return SIGNS[self.marker]


class Looks:
    """The looks of all contenders of a run."""

    def __init__(self, run: Run) -> None:
        self._looks: dict[str, Look] = {}
        members: dict[str, int] = {}
        for side in _everybody(run.groups):
            if side.name in self._looks or side.nnfast:
                continue
            colour = next((c for start, c in FAMILIES.items() if side.name.startswith(start)), None)
            colour = colour or SPARE[len(members) % len(SPARE)]
            k = members[colour] = members.get(colour, -1) + 1
            self._looks[side.name] = Look(colour, MARKERS[k % len(MARKERS)], DASHES[k % len(DASHES)])

    def of(self, side: Side, group: Group) -> Look:
        """nnfast's own backend stands out; its others are paler."""
        if side.nnfast:
            ours = group.ours is not None and group.ours.name == side.name
            return Look("nnfast") if ours else Look("nnfast-soft", "s", DASHES[1])
        return self._looks[side.name]


def _everybody(groups: Iterable[Group]) -> Iterable[Side]:
    return (side for group in groups for side in group.sides)
