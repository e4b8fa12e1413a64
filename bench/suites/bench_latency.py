"""Latency: one row through a network that is trained already, as a control loop asks for it.

The rounds give the time per call with everything warm and nothing between two calls. Then every call is timed alone,
which costs some tens of nanoseconds each, for the percentiles: what one call in a hundred or in a thousand takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from cases.ops import OPS
from measuring.functions import timed_function
from measuring.groups import Entry, Group, Outcome, Result
from measuring.stand import Contender, Stand

SUITE = "latency"
CALLS = 10_000  # of each contender
PERCENTILES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9}


def groups(stand: Stand) -> Iterator[Group]:
    taking = tuple(stand.contenders(ours="nnfast_ops", kind="predict"))
    for name, op in OPS.items():
        if op.kind == "predict_one":
            floor = lambda stand, op=op: stand.floor(op.flops, op.bytes)  # noqa: E731
            yield Group(SUITE, "one row", name, taking, measure, "call", floor)


def measure(group: Group, taking: Sequence[Contender], stand: Stand) -> Mapping[str, Outcome]:
    outcomes = timed_function(group, taking, stand, stand.settings.pace(9, 0.05, 10.0))
    for who in taking:
        outcome = outcomes[who.key]
        if isinstance(outcome, Result) and not who.twin:
            count = CALLS // 100 if stand.settings.quick else CALLS
            alone = stand.worker(who).ask("latencies", count)
            outcomes[who.key] = Result(outcome.seconds, {**outcome.info, "latency": percentiles(alone)})
    return outcomes


def percentiles(seconds: Any) -> dict[str, float]:
    found = {name: float(np.percentile(seconds, q)) for name, q in PERCENTILES.items()}
    return found | {"max": float(np.max(seconds)), "calls": len(seconds)}


def test_latency(entry: Entry, measured: Any) -> None:
    measured(entry)
