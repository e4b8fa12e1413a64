"""Training steps: forward, loss, backward and Adam in float32, without metrics, as the peers compute none.

Six networks with everybody, then batch sizes and widths with those who came near in them. nnfast is timed through
`Model.fit` as everybody calls it. Before anything is timed, each contender trains a few steps from the same weights, on
the same rows in the same order, and must end where the reference in float64 does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cases.networks import NETWORKS, name_of
from measuring.groups import Entry, Group
from measuring.stand import Stand
from measuring.trainings import training

SUITE = "steps"
QUICK = ("2-64-3, batch 300", "64-128-64-10, batch 32, reshuffled")
# The others compile for seconds or minutes each, or never came near in the six networks; --peers asks for them.
SWEPT = ("scikit_learn", "torch_eager", "jax_loop")
SOME = {"tinygrad_jit": ("2-64-3, batch 300", "784-128-10, batch 128")}  # both, and its networks
BATCHES, BATCHED = (1, 8, 64, 512, 4096), (784, 128, 10)
WIDTHS, WIDE_BATCH = (16, 64, 256, 1024, 2048), 128


def groups(stand: Stand) -> Iterator[Group]:
    quick = stand.settings.quick
    everybody = stand.contenders(ours="nnfast_fit", kind="train")
    pace = stand.settings.pace(7, 0.05, 8.0)
    for name in QUICK if quick else NETWORKS:
        taking = [who for who in everybody if stand.settings.peers or name in SOME.get(who.name, (name,))]
        yield training(SUITE, "networks", name, taking, pace)
    some = stand.contenders(ours="nnfast_fit", kind="train", only=SWEPT)
    pace = stand.settings.pace(5, 0.03, 3.5)
    for batch in BATCHES[2:3] if quick else BATCHES:
        yield training(SUITE, "batch size", name_of(BATCHED, batch), some, pace, axis="batch size", x=batch)
    for width in WIDTHS[:1] if quick else WIDTHS:
        name = name_of((64, width, width, 10), WIDE_BATCH)
        yield training(SUITE, "width", name, some, pace, axis="width", x=width)


def test_steps(entry: Entry, measured: Any) -> None:
    measured(entry)
