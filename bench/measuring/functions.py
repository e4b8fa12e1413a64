"""Groups of contenders that make the same single call: compared with the equations, then timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cases.ops import OPS, expected, same

from measuring.groups import Group, Outcome, Wrong, timed
from measuring.rounds import Pace
from measuring.stand import Contender, Stand
from measuring.workers import Worker

__all__ = ["timed_function"]


def timed_function(
    group: Group, taking: Sequence[Contender], stand: Stand, pace: Pace, calls: int = 1
) -> dict[str, Outcome]:
    """Of the op that the group's case names: `calls` of them give the answer that is compared, in float64."""
    op = OPS[group.case]
    right = expected(op)

    def ready(who: Contender, worker: Worker) -> dict[str, Any]:
        worker.make(who.module, "subject", op, *who.args)
        worker.run(calls)
        apart, close = same(worker.results(), right)
        if not close:
            raise Wrong(f"it is {apart:.1e} from the equations")
        return {"largest difference": apart}

    return timed(stand, taking, ready, pace)
