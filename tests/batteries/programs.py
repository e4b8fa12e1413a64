"""The reference programs, another backend beside the reference as long as their paths allow, and the same bits again.

Training is chaotic: the last bit of a weight decides where a long run goes. So a program is compared step by step, each
from the reference's state; free-running in float64 while rounding stays small; and at its end with what the reference
itself does when last bits of its weights are changed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import nnfast as nn
from batteries import Figure
from batteries.child import usable_backends
from batteries.program_tasks import search_tasks, training_tasks
from batteries.same_bits import same_bits
from batteries.stepwise import check_search, check_steps
from batteries.tally import Tally
from nnfast.examples import case_study, optimizers, random_search, regression
from nnfast.testing.models import Task
from nnfast.testing.parity import NONE, Error
from nnfast.testing.trainings import check_free_run

__all__ = ["battery"]

STEPS, FREE_STEPS = 1_000, 100


def battery(thorough: bool) -> Iterator[Figure]:
    if "numba" in usable_backends():
        yield from _compared(nn.get_backend("numba"), nn.get_backend("numpy"), thorough)
    else:
        yield Figure("numba beside numpy", 0, skipped="numba is not there")
    yield from same_bits(thorough)


def _compared(tried, judge, thorough) -> Iterator[Figure]:
    tasks, searches = training_tasks(every_row=thorough), search_tasks(every_row=thorough)
    tally = Tally("float32, each step from the reference's state")
    for task in tasks:
        tally.add(task.name, check_steps, tried, judge, task, STEPS)
    for task in searches:
        tally.add(task.name, check_search, tried, judge, task, STEPS)
    yield tally.figure(f"{STEPS:,} steps each")
    tally = Tally("float64, free-running")
    for task in tasks + searches:
        tally.add(task.name, check_free_run, tried, judge, task, FREE_STEPS)
    yield tally.figure(f"{FREE_STEPS} steps each")
    tally = Tally("float32, where a long run ends")
    for task in tasks + searches:
        program = task.name.split(":")[0]
        if program in EPOCHS:
            tally.add(task.name, check_end, tried, judge, task, EPOCHS[program][thorough])
    yield tally.figure(f"{RUNS[0]} to {RUNS[-1]} runs of each side")


# ---- where a run ends ------------------------------------------------------------------------------------------------

RUNS = (3, 6, 12)  # of each side draw a band; more where those of few lie apart
EPOCHS = {  # program: (short, thorough)
    "optimizers": (1_001, optimizers.EPOCHS),
    "regression": (301, regression.EPOCHS),
    "case_study": (1_001, case_study.EPOCHS["network"]),
    "random_search": (1_000, random_search.EPOCHS),
}
SLACK = {"loss": 0.02, "accuracy": 0.02, "regression_accuracy": 0.05}  # of the loss; of 1 in accuracies


def check_end(tried, judge, task: Task, epochs: int) -> Error:
    """Medians of the last tenth of all epochs: the bands of both sides meet, or lie no further apart than half of
    what their widths come to, and a little. Few chaotic runs of one side may well miss few of the other, so more are
    asked before that is called an error."""
    mine, theirs = [], []
    for runs in RUNS:
        for ends, backend in ((mine, tried), (theirs, judge)):
            ends += [_end(task, backend, epochs, nudge) for nudge in range(len(ends), runs)]
        worst, apart = _beside(mine, theirs)
        if not apart:
            return worst
    raise AssertionError(f"after {epochs:,} epochs, {RUNS[-1]} runs of each side: {'; '.join(apart)}")


def _beside(mine, theirs) -> tuple[Error, list[str]]:
    """The gap between both bands that comes nearest to what is allowed, and what is too wide."""
    worst, apart = NONE, []
    for name in mine[0]:
        (low, high), (its_low, its_high) = (
            (min(values), max(values)) for values in ([end[name] for end in ends] for ends in (mine, theirs))
        )
        gap = max(low - its_high, its_low - high, 0.0)
        allowed = (high - low + its_high - its_low) / 2 + SLACK[name] * (its_high if name == "loss" else 1)
        if not gap <= allowed:  # also where one is NaN
            apart.append(
                f"late {name} {low:.4g} to {high:.4g}, the reference's {its_low:.4g} to {its_high:.4g}; "
                f"{gap:.3g} apart where {allowed:.3g} is allowed"
            )
        worst = max(worst, Error(float(gap), float(allowed)), key=lambda e: e.share)
    return worst, apart


def _end(task: Task, backend, epochs: int, nudge: int):
    """Late loss and accuracy of a float32 run; in all but the first, each weight begins one rounding up or down.

    A single weight would not do: a first step of Adagrad or Adam is as long for all gradients, and swallows that.
    """
    model = task.make(backend=backend, dtype="float32")
    if nudge:
        flat = model.parameters
        towards = np.random.default_rng(nudge).choice(np.array([-np.inf, np.inf], np.float32), flat.size)
        model.parameters = np.where(flat == 0, flat, np.nextafter(flat, towards))
    history = model.fit(task.X, task.y, epochs=epochs, verbose=0).history
    return {name: np.median(history[name][-(epochs // 10) :]) for name in history if name in SLACK}
