"""Memory of a training run: the peak of the whole process, and what a step takes anew once all is warm. Linux only.

784-512-512-10, batch 512, float32, Adam; a fresh process each, from warm caches. "Imports" is the process with its
libraries imported, "loaded" after it trained a network of the same kind with eight units (what is loaded on first use
has then come too), "data" the rows that it was handed, "needed" parameters, gradients, optimizer state and arena of the
Program. "Temporary" is the most that Python and NumPy held at once, beyond what they held before, during further
epochs, "growth" by how much the process grew over them. The rounds are seconds per step, for what they are worth here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import peers
import pytest
from cases.networks import Case, case, judge, needed
from measuring import memory_probe
from measuring.groups import Entry, Group, LeftOut, Outcome, Refused, Result, Wrong
from measuring.stand import Contender, Stand
from measuring.trainings import prove
from measuring.workers import Failed, Worker, Workers

SUITE = "memory"
CASE, QUICK_CASE = "784-512-512-10, batch 512", "784-128-10, batch 128"
PEERS = ("book", "scikit_learn", "torch_eager", "jax_loop")
EPOCHS = 4
PROBE = "measuring.memory_probe"


def groups(stand: Stand) -> Iterator[Group]:
    taking = tuple(stand.contenders(ours="nnfast_fit", kind="train", twin=False, only=PEERS))
    yield Group(SUITE, "a training run", QUICK_CASE if stand.settings.quick else CASE, taking, measure)


def measure(group: Group, taking: Sequence[Contender], stand: Stand) -> Mapping[str, Outcome]:
    made = case(group.case)
    expected = judge(made.short())
    outcomes: dict[str, Outcome] = {}
    for who in taking:
        with Workers(stand.settings.threads, stand.caches | {"NUMBA_NRT_STATS": "1"}) as workers:
            try:
                outcomes[who.key] = probe(workers, made, who, 2 if stand.settings.quick else EPOCHS, expected)
            except Wrong as error:
                outcomes[who.key] = Refused(str(error))
            except Failed as error:
                outcomes[who.key] = (Refused if who.nnfast else LeftOut)(str(error))
    return outcomes


def probe(workers: Workers, made: Case, who: Contender, epochs: int, expected: Any) -> Result:
    """One run in a fresh process."""
    compiler = workers.start()  # its compilers take memory that no later process needs
    for each in (tiny(), made):
        compiler.make(who.module, "trainer", each, *who.args)
        compiler.run(1)
    prove(who, compiler, made.short(), expected)
    worker = workers.start()
    worker.ask("call", PROBE, "imported", *_loader(who))
    imports = worker.ask("call", PROBE, "imported", who.module)
    loaded = _trained(worker, who, tiny(), 1)
    before = worker.ask("call", PROBE, "peak")
    worker.make(who.module, "trainer", made, *who.args)
    seconds = [worker.run(1) / made.steps_per_epoch for _ in range(epochs)]
    peak = worker.ask("call", PROBE, "peak")
    extra = worker.ask("probe", PROBE, "allocations", epochs) if who.nnfast else {}
    data, need = made.X.nbytes + made.y.nbytes, needed(made)
    memory = {
        "peak MB": max(peak, before) / 1e6,
        "imports MB": imports / 1e6,
        "loaded MB": loaded / 1e6,
        "data MB": data / 1e6,
        "needed MB": need / 1e6,
        "above imports/needed": (peak - imports - data) / need,
        "above loaded/needed": (peak - loaded - data) / need,
        "temporary kB": extra["temporary"] / 1e3 if extra else None,
        "growth kB": extra["grown"] / 1e3 if extra else None,
        "arrays made by compiled code": extra.get("numba"),
    }
    return Result(np.array(seconds[1:]), {"memory": memory})


def _loader(who: Contender) -> tuple[str, ...]:
    if who.nnfast:
        return "nnfast.registry", "get_backend", *who.args
    return (peers.named(who.name).packages[-1],)


def _trained(worker: Worker, who: Contender, small: Case, epochs: int) -> int:
    """Bytes resident once the process has trained a small network."""
    worker.make(who.module, "trainer", small, *who.args)
    worker.run(epochs)
    return int(worker.ask("call", PROBE, "resident"))


def tiny() -> Case:
    """As many layers and the same loss, but next to no memory."""
    rows = np.random.default_rng(0).random((16, 8), dtype=np.float32)
    return Case("8-8-8-10, batch 8", (8, 8, 8, 10), "softmax", 8, False, rows, np.arange(16) % 10)


@pytest.mark.skipif(not memory_probe.STATUS.exists(), reason="memory is read from /proc, which only Linux has")
def test_memory(entry: Entry, measured: Any) -> None:
    measured(entry)
