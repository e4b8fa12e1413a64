"""A group: contenders that do the same work in turn. What a suite is made of, and what its tests ask for one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from measuring.rounds import Pace, measure
from measuring.stand import Contender, Stand
from measuring.workers import Array, Failed, Worker

__all__ = ["Entry", "Group", "LeftOut", "Outcome", "Refused", "Result", "Wrong", "entries", "timed"]


PLAIN = str.maketrans({"×": "x", "→": "-"})


@dataclass(frozen=True)
class Result:
    """Seconds per unit, a number per round, and what else there is to say about the contender."""

    seconds: Array
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LeftOut:
    """A peer that cannot do this here."""

    reason: str


@dataclass(frozen=True)
class Refused:
    """A wrong answer, or nnfast itself failed: nothing of it is timed, and the test fails."""

    reason: str


Outcome: TypeAlias = Result | LeftOut | Refused
Measure: TypeAlias = Callable[["Group", Sequence[Contender], Stand], Mapping[str, Outcome]]


class Wrong(Exception):
    """The answer is not the right one."""


@dataclass(frozen=True)
class Group:
    """`measure` proves and times the contenders that are handed to it; it gives an outcome for the key of each."""

    suite: str
    section: str
    case: str
    contenders: tuple[Contender, ...]
    measure: Measure = field(repr=False)
    unit: str = "step"
    floor: Callable[[Stand], float] | None = field(default=None, repr=False)
    axis: str | None = None  # what a row of groups varies, and this one's value of it
    x: float | None = None

    @property
    def title(self) -> str:
        return f"{self.suite}: {self.section}: {self.case}"


@dataclass(frozen=True)
class Entry:
    """One contender of a group: one test, one benchmark in the record."""

    group: Group
    who: Contender

    def __str__(self) -> str:
        """Its name in the record and for `-k`: ASCII, as pytest escapes the rest."""
        return f"{self.group.section}: {self.group.case}: {self.who.key}".translate(PLAIN)


def entries(groups: Iterable[Group]) -> list[Entry]:
    return [Entry(group, who) for group in groups for who in group.contenders]


Ready: TypeAlias = Callable[[Contender, Worker], dict[str, Any]]


def timed(
    stand: Stand,
    taking: Sequence[Contender],
    ready: Ready,
    pace: Pace,
    units: float = 1,
    threads: int | None = None,
    *,
    together: bool = True,
) -> dict[str, Outcome]:
    """Make everybody `ready`, which proves the answer and gives the entry's info; then time all, interleaved.

    `units` is how many units one run holds. `ready` raises `Wrong` for a wrong answer. Getting ready is not timed, so
    some do it at the same time, unless `together` is false because `ready` itself looks at the clock.
    """

    def prepare(who: Contender) -> dict[str, Any] | LeftOut | Refused:
        try:
            return ready(who, stand.worker(who, threads))
        except Wrong as error:
            return Refused(str(error))
        except Failed as error:
            stand.dismiss(who)
            return Refused(str(error)) if who.nnfast else LeftOut(str(error))

    def load(who: Contender) -> None:
        with suppress(Failed):  # it will say so again when it is made ready
            stand.worker(who, threads).ask("load", who.module)

    with ThreadPoolExecutor(stand.settings.threads) as pool:
        list(pool.map(load, taking))
    with ThreadPoolExecutor(stand.settings.threads if together else 1) as pool:
        infos = dict(zip((who.key for who in taking), pool.map(prepare, taking), strict=True))
    workers = {who.key: stand.worker(who, threads) for who in taking if isinstance(infos[who.key], dict)}
    times = measure(workers, pace) if workers else {}
    return {key: Result(times[key] / units, info) if isinstance(info, dict) else info for key, info in infos.items()}
