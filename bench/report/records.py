"""What a run measured, read back from its JSON: groups of contenders that did the same work, and their ratios.

The file is pytest-benchmark's own format, so `pytest-benchmark compare` reads it too. Each benchmark is one contender
in one group; its rounds were interleaved with those of the others, so ratios are taken round by round. Two processes of
nnfast ran in most groups: the ratio of one to the other is the group's noise.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nnfast.registry import AUTO

__all__ = ["FORMAT", "Group", "Ratio", "Run", "Side", "automatic", "load", "read"]

FORMAT = 3
T = TypeVar("T")


def automatic(mine: Mapping[str, T]) -> T | None:
    """Of nnfast's by the names of their backends: the one that it chooses by itself."""
    return next((mine[name] for name in (*AUTO, *mine) if name in mine), None)


@dataclass(frozen=True)
class Side:
    """One contender in one group."""

    name: str
    title: str
    nnfast: bool
    twin: bool  # nnfast once more in a process of its own, for the noise
    data: np.ndarray[Any, Any]  # seconds per unit, a number per round
    info: Mapping[str, Any]
    key: str  # its name in the file, the same from run to run

    @property
    def median(self) -> float:
        return float(np.median(self.data))

    @property
    def quartiles(self) -> tuple[float, float]:
        q1, q3 = np.quantile(self.data, [0.25, 0.75])
        return float(q1), float(q3)


@dataclass(frozen=True)
class Ratio:
    """One contender's time over another's: the median of the rounds, and an interval around it.

    The interval goes from the lower to the upper quartile of the rounds and is widened by the group's noise, or where
    nnfast did not run twice, by the usual noise of the run.
    """

    median: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """ "faster", "slower", or "tie" where the interval contains 1."""
        return "tie" if self.low <= 1 <= self.high else "faster" if self.high < 1 else "slower"


@dataclass(frozen=True)
class Group:
    """Contenders that did the same work in turn."""

    suite: str
    section: str
    case: str
    sides: tuple[Side, ...]
    unit: str = "s"
    floor: float | None = None  # seconds that this takes at least on this machine
    axis: str | None = None  # what a row of groups varies, "batch size" for one, and this group's value of it
    x: float | None = None
    usual_noise: float = 0.0  # the median of the run's groups, for those in which nnfast did not run twice

    def side(self, name: str) -> Side | None:
        return next((s for s in self.sides if s.name == name and not s.twin), None)

    @cached_property
    def ours(self) -> Side | None:
        """nnfast on the backend that it chooses by itself, of those that were measured."""
        mine = {s.name: s for s in self.sides if s.nnfast and not s.twin}
        return automatic(mine)

    @property
    def others(self) -> list[Side]:
        return [s for s in self.sides if not s.nnfast]

    @cached_property
    def best_other(self) -> Side | None:
        return min(self.others, key=lambda s: s.median, default=None)

    @cached_property
    def noise(self) -> float | None:
        """How far the quartiles of A against A lie from 1; None where nnfast did not run twice."""
        twin = next((s for s in self.sides if s.twin), None)
        first = None if twin is None else self.side(twin.name)
        if twin is None or first is None:
            return None
        _, q1, q3 = _rounds(twin, first)
        return max(abs(1 - q1), abs(q3 - 1))

    def ratio(self, side: Side, other: Side) -> Ratio:
        median, q1, q3 = _rounds(side, other)
        noise = self.usual_noise if self.noise is None else self.noise
        return Ratio(median, q1 / (1 + noise), q3 * (1 + noise))

    def reached(self, side: Side) -> float | None:
        """The share of the machine's limit: the floor over the time taken."""
        return None if self.floor is None else self.floor / side.median


def _rounds(side: Side, other: Side) -> tuple[float, float, float]:
    """Median and quartiles of the ratios within rounds; where one has fewer rounds, of those that both have."""
    n = min(len(side.data), len(other.data))
    q1, median, q3 = np.quantile(side.data[:n] / other.data[:n], [0.25, 0.5, 0.75])
    return float(median), float(q1), float(q3)


@dataclass(frozen=True)
class Run:
    """All that one run measured, and on what."""

    machine: Mapping[str, Any]
    limits: Mapping[str, float]
    left_out: Mapping[str, str]  # who did not take part, and why
    settings: Mapping[str, Any]
    quick: bool
    groups: tuple[Group, ...] = field(repr=False)

    def of(self, suite: str, section: str | None = None) -> list[Group]:
        return [g for g in self.groups if g.suite == suite and section in (None, g.section)]

    def sections(self, suite: str) -> list[str]:
        return list(dict.fromkeys(g.section for g in self.groups if g.suite == suite))


def load(file: Path) -> Run:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"{file} cannot be read as a record of these benchmarks: {error}") from error
    return read(content, str(file))


def read(content: Mapping[str, Any], source: str = "the record") -> Run:
    """From the content of a file that `nnfast bench --json` wrote."""
    own = content.get("nnfast") if isinstance(content, Mapping) else None
    if not isinstance(own, Mapping) or own.get("format") != FORMAT:
        raise SystemExit(f"{source} was not written by this version of these benchmarks; measure again")
    groups = tuple(_groups(content["benchmarks"]))
    noises = [group.noise for group in groups if group.noise is not None]
    usual = float(np.median(noises)) if noises else 0.0
    return Run(
        machine=content["machine_info"],
        limits=own["limits"],
        left_out=own["left out"],
        settings=own["settings"],
        quick=own["quick"],
        groups=tuple(replace(group, usual_noise=usual) for group in groups),
    )


def _groups(benchmarks: Sequence[Mapping[str, Any]]) -> Iterator[Group]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for benchmark in benchmarks:
        found.setdefault(benchmark["group"], []).append(benchmark)
    for members in found.values():
        info = members[0]["extra_info"]
        yield Group(
            suite=info["suite"],
            section=info["section"],
            case=info["case"],
            sides=tuple(_side(member) for member in members),
            unit=info["unit"],
            floor=info["floor"],
            axis=info["axis"],
            x=info["x"],
        )


def _side(benchmark: Mapping[str, Any]) -> Side:
    info = benchmark["extra_info"]
    data = np.array(benchmark["stats"]["data"], np.float64)
    return Side(info["contender"], info["title"], info["nnfast"], info["twin"], data, info, benchmark["fullname"])
