"""Scaling: cost against threads, rows (10³ to 10⁷) and parameters (10³ to 10⁸), each swept alone.

The same training in everybody, proved on its first steps as in the other suites. "rows" is an epoch of a small network
over ever more data, "parameters" a step of ever wider ones, "threads" a large and a small network on 1 to n threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cases.networks import name_of
from measuring.groups import Entry, Group
from measuring.stand import Stand
from measuring.trainings import training

SUITE = "scaling"
PEERS = ("scikit_learn", "torch_eager", "jax_loop")
THREADED = ("784-512-512-10, batch 512", "64-128-64-10, batch 32, reshuffled")
ROWS, ROWS_WIDTHS, ROWS_BATCH = (1_000, 10_000, 100_000, 1_000_000, 10_000_000), (8, 32, 1), 1_000
# Widths of two hidden layers, so that there are about 10³, 10⁴, … 10⁸ parameters.
WIDTHS = {1_000: 24, 10_000: 92, 100_000: 308, 1_000_000: 992, 10_000_000: 3_154, 100_000_000: 9_992}
PARAMETERS_BATCH = 64
# From so many rows or parameters on these are left out: one round would take minutes.
TOO_MANY_ROWS = {"scikit_learn": 1_000_000, "torch_eager": 10_000_000, "numpy": 10_000_000}
TOO_MANY_PARAMETERS = {"scikit_learn": 100_000_000, "numpy": 100_000_000}


def groups(stand: Stand) -> Iterator[Group]:
    quick = stand.settings.quick
    taking = stand.contenders(ours="nnfast_fit", kind="train", twin=False, only=PEERS)
    pace = stand.settings.pace(5, 0.03, 2.0)
    for name in THREADED[1:] if quick else THREADED:
        for n in range(1, stand.settings.threads + 1):
            yield training(SUITE, "threads", name, taking, pace, axis="threads", x=n, threads=n)
    for rows in ROWS[:1] if quick else ROWS:
        some = [who for who in taking if rows < TOO_MANY_ROWS.get(who.name, rows + 1)]
        name = name_of(ROWS_WIDTHS, ROWS_BATCH, rows)
        yield training(SUITE, "rows", name, some, pace, axis="rows", x=rows, unit="epoch")
    for n, width in list(WIDTHS.items())[: 1 if quick else None]:
        some = [who for who in taking if n < TOO_MANY_PARAMETERS.get(who.name, n + 1)]
        name = name_of((8, width, width, 4), PARAMETERS_BATCH, PARAMETERS_BATCH)
        yield training(SUITE, "parameters", name, some, pace, axis="parameters", x=n)


def test_scaling(entry: Entry, measured: Any) -> None:
    measured(entry)
