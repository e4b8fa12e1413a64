"""Populations: many networks of one structure at a time, each with its own weights, over the same rows.

Beside JAX's `vmap` over its whole loop, PyTorch's `torch.func`, and scikit-learn under joblib: time per step of the
whole population, then with one thread and more. Before anything is timed each contender trains six models, which must
end where the reference in float64 does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cases.networks import differences, program
from cases.populations import PopulationCase, judge, named
from measuring.groups import Entry, Group, Outcome, Wrong, timed
from measuring.rounds import Pace
from measuring.stand import Contender, Stand
from measuring.workers import Worker

SUITE = "population"
FRESH = True  # at the end of the suite before, every process holds a network of gigabytes
CASES = ("256 × 2-64-3, batch 300", "1024 × 8-32-32-2, batch 64, 256 rows")
QUICK = ("8 × 2-64-3, batch 300",)
FEW = "16 × 2-64-3, batch 300"  # with everybody
SLOW = ("numpy", "scikit_joblib")  # one model after the other, or sent to and fro: with hundreds, seconds per step


def groups(stand: Stand) -> Iterator[Group]:
    quick = stand.settings.quick
    everybody = stand.contenders(ours="nnfast_population", kind="population")
    for name in QUICK if quick else (*CASES, FEW):
        taking = [who for who in everybody if quick or name == FEW or who.name not in SLOW]
        yield group("networks", name, taking, stand.settings.pace(7, 0.1, 8.0))
    ours = [who for who in everybody if who.nnfast and not who.twin and (quick or who.name not in SLOW)]
    for name in QUICK if quick else CASES:
        for n in range(1, stand.settings.threads + 1):
            yield group("threads", name, ours, stand.settings.pace(7, 0.1, 3.0), n)


def group(section: str, name: str, contenders: Sequence[Contender], pace: Pace, threads: int | None = None) -> Group:
    """One population, trained by these; with `threads`, by so many of them."""

    def measure(group: Group, taking: Sequence[Contender], stand: Stand) -> Mapping[str, Outcome]:
        made = named(name)
        short = made.short()
        expected = judge(short)

        def ready(who: Contender, worker: Worker) -> dict[str, Any]:
            info = prove(who, worker, short, expected)
            worker.make(who.module, "trainer", made, *who.args)
            return info

        return timed(stand, taking, ready, pace, made.one.steps_per_epoch, threads, together=threads is not None)

    def floor(stand: Stand) -> float:
        made = named(name)
        return made.n * stand.step_floor(program(made.one), made.one.batch_size, made.needed)

    title = name if threads is None else f"{name}, {threads} thread{'s' * (threads > 1)}"
    limit, axis = (floor, None) if threads is None else (None, "threads")
    return Group(SUITE, section, title, tuple(contenders), measure, "step", limit, axis, threads)


def prove(who: Contender, worker: Worker, short: PopulationCase, expected: Any) -> dict[str, Any]:
    """Train a few models; seconds that took, compiling included, and how far from the reference they ended."""
    _, making = worker.make(who.module, "trainer", short, *who.args)
    first = making + worker.run(short.one.checked_epochs)
    largest, close, same = differences(worker.results(), expected)
    if not same:
        raise Wrong(f"its weights are {largest:.1e} from the reference's ({close:.1%} of them close)")
    return {"first": first, "largest difference": largest}


def test_population(entry: Entry, measured: Any) -> None:
    measured(entry)
