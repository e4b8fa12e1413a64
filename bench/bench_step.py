"""Microseconds per training step: nnfast on each backend, beside what else trains such networks on a CPU.

    python bench/bench_step.py [--quick] [--case TEXT] [--backend NAME] [--peer NAME] [--json FILE] [--markdown FILE]

A step is forward, loss, backward and Adam, in float32, without metrics: the peers compute none. nnfast is timed through
`Model.fit` as everybody calls it. Before anything is timed, each contender trains a few steps from the same weights, on
the same rows in the same order, and must end where the reference in float64 does. How the clock is read: `harness.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import machine
import peers
from cases import CASES, Case, case, differences, judge, nnfast_model
from harness import Failed, Worker, Workers, backends, fresh_caches, measure, options_of, parser
from report import compared, deliver


class Contender(NamedTuple):
    title: str
    module: str  # where its `trainer` is
    args: tuple[Any, ...] = ()  # beside the case
    nnfast: bool = False


def contenders(ours: list[str], others: list[str] | None) -> tuple[dict[str, Contender], dict[str, str]]:
    """Who takes part, and who is left out with the reason."""
    taking, skipped = {}, {}
    for name, (title, package) in peers.PEERS.items():
        reason = peers.missing(package)
        if others is not None and name not in others:
            continue
        if reason is not None:
            skipped[title] = reason
        else:
            taking[name] = Contender(title, f"peers.{name}")
    taking |= {name: Contender(f"nnfast, {name}", "peers.nnfast_fit", (name,), nnfast=True) for name in ours}
    return taking, skipped


def prove(who: Contender, worker: Worker, short: Case, expected: Any) -> tuple[float, float]:
    """Train the short case; seconds that took, compiling included, and how far from the reference it ended."""
    _, making = worker.make(who.module, "trainer", short, *who.args)
    first = making + worker.run(short.checked_epochs)
    largest, typical, same = differences(worker.results(), expected)
    if not same:
        raise SystemExit(
            f"{short.name}: after {short.checked_epochs} epochs of {short.steps_per_epoch} steps {who.title} is "
            f"{largest:.1e} from the reference (99 % of the weights within {typical:.1e}); nothing was timed"
        )
    return first, largest


def floor(c: Case, limits: dict[str, float], bandwidth: float) -> float:
    """Seconds that a step takes at least, op by op; ops that are fused keep data in registers and may go below."""
    program = nnfast_model(c, "numpy").program
    flops = limits["float32 flops per second"]
    return program.floor(c.batch_size, flops_per_second=flops, bytes_per_second=bandwidth)


def working_set(c: Case) -> int:
    """Bytes that a step goes over: parameters, gradients, optimizer state, arena, and the rows of an epoch."""
    program = nnfast_model(c, "numpy").program
    numbers = program.layout.size * (2 + len(program.slots)) + program.arena_size(c.batch_size) + c.X.size
    return 4 * int(numbers)


def run_case(
    name: str, taking: dict[str, Contender], skipped: dict[str, str], options: Any, extra: dict[str, str]
) -> tuple[Case, dict[str, Any], dict[str, dict[str, float]]]:
    """One case: prove all, then time all. Gives seconds per step in each round, and more about each contender."""
    full = case(name)
    short, times, more = full.short(), {}, {}
    expected = judge(short)
    with Workers(options.threads, extra) as pool:
        workers = {}
        for key, who in taking.items():
            worker = pool.start()
            try:
                first, apart = prove(who, worker, short, expected)
                worker.make(who.module, "trainer", full, *who.args)
            except Failed as error:
                if who.nnfast:
                    raise SystemExit(f"{name}: {who.title}: {error}") from error
                skipped[f"{who.title} on {name}"] = str(error)
                continue
            workers[key] = worker
            more[key] = {"first seconds": first, "largest difference": apart}
            print(f"{name}: {who.title} ends within {apart:.1e} of the reference's weights", file=sys.stderr)
        times = measure(workers, options.rounds, options.seconds)
        for key, worker in workers.items():
            more[key]["idle cpu seconds"] = worker.idle_seconds
    return full, {key: values / full.steps_per_epoch for key, values in times.items()}, more


def main(argv: Sequence[str] | None = None) -> int:
    p = parser("Microseconds per training step, nnfast and others.", rounds=21, seconds=0.2)
    p.add_argument("--case", metavar="TEXT", help="only the cases whose names contain this")
    p.add_argument(
        "--peer", action="append", choices=peers.PEERS, help="one of several (default: all; see bench/peers)"
    )
    options = options_of(p, argv)
    ours = backends(options.backend)
    taking, skipped = contenders(ours, options.peer)
    titles = {key: who.title for key, who in taking.items()}
    facts = machine.facts(options.threads)
    measured = []
    with fresh_caches() as extra, Workers(options.threads, extra) as pool:
        meter = pool.start()  # the machine's limits, in a process with the same threads
        limits = [meter.ask("call", "machine", "limits", options.threads, options.quick)]
        for name in (name for name in CASES if (options.case or "") in name):
            full, times, more = run_case(name, taking, skipped, options, extra)
            speed = meter.ask("call", "machine", "bandwidth", working_set(full), options.threads)
            measured.append((full, times, more, speed))
            limits.append(meter.ask("call", "machine", "limits", options.threads, options.quick))
    best = {name: max(each[name] for each in limits) for name in limits[0]}
    rows = []
    for full, times, more, speed in measured:
        for row in compared(full.name, times, titles, ours, floor(full, best, speed)):
            rows.append(row | more[row["contender"]] | {"bytes per second": speed})
    record = {"bench": "step", "machine": facts, "limits": best, "skipped": skipped, "rows": rows}
    deliver(record | {"quick": options.quick, "settings": vars(options)}, options.json, options.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
