"""Groups of contenders that train the same network: proved on its first steps, then timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cases.networks import TYPICAL, Case, case, differences, judge, needed, program

from measuring.groups import Group, Outcome, Wrong, timed
from measuring.rounds import Pace
from measuring.stand import Contender, Stand
from measuring.workers import Worker

__all__ = ["prove", "training"]


def training(
    suite: str,
    section: str,
    name: str,
    contenders: Sequence[Contender],
    pace: Pace,
    *,
    axis: str | None = None,
    x: float | None = None,
    threads: int | None = None,
    unit: str = "step",
) -> Group:
    """`name` is a case of `cases.networks`; `unit` is "step" or "epoch"."""

    def measure(group: Group, taking: Sequence[Contender], stand: Stand) -> Mapping[str, Outcome]:
        full = case(name)
        short = full.short()
        expected = judge(short)

        def ready(who: Contender, worker: Worker) -> dict[str, Any]:
            info = prove(who, worker, short, expected)
            if full.rows > short.rows:
                worker.make(who.module, "trainer", full, *who.args)
            return info

        units = full.steps_per_epoch if unit == "step" else 1
        return timed(stand, taking, ready, pace, units, threads, together=axis is not None)

    def floor(stand: Stand) -> float:
        made = case(name)
        return _step_floor(made, stand) * (1 if unit == "step" else made.steps_per_epoch)

    title = name if threads is None else f"{name}, {threads} thread{'s' * (threads > 1)}"
    limit = None if threads is not None else floor  # the machine's limits are those of all threads
    return Group(suite, section, title, tuple(contenders), measure, unit, limit, axis, x)


def prove(who: Contender, worker: Worker, short: Case, expected: Any) -> dict[str, Any]:
    """Train the short case; seconds that took, compiling included, and how far from the reference it ended."""
    _, making = worker.make(who.module, "trainer", short, *who.args)
    first = making + worker.run(short.checked_epochs)
    largest, close, same = differences(worker.results(), expected)
    if not same:
        raise Wrong(
            f"after {short.checked_epochs} epochs of {short.steps_per_epoch} steps its weights are {largest:.1e} from "
            f"the reference's ({close:.1%} of them within {TYPICAL:.0e})"
        )
    return {"first": first, "largest difference": largest}


def _step_floor(c: Case, stand: Stand) -> float:
    """At the bandwidth of the step's working set: parameters, gradients, slots, arena, an epoch's rows."""
    return stand.step_floor(program(c), c.batch_size, needed(c) + 4 * c.X.size)
