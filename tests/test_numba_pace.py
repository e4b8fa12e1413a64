"""Who executes a job's steps follows what the clock said, and finds out when that changes."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

pytest.importorskip("numba")
pace_of_jobs = importlib.import_module("nnfast.kernels.numba_cpu.pace")
Pace, WAKE = pace_of_jobs.Pace, pace_of_jobs.WAKE


def run(pace, steps, alone, together, jobs):
    """Jobs of so many steps on a machine where a step takes so long; the share of steps done alone in the last four."""
    done = []
    for _ in range(jobs):
        for count, by_itself in pace.pieces(steps):
            seconds = count * alone if by_itself else count * together + WAKE
            pace.took(count, by_itself, seconds)
            done.append((count, by_itself))
    last = done[-4:]
    return sum(count for count, by_itself in last if by_itself) / sum(count for count, _ in last)


@pytest.mark.parametrize("steps", [3, 15, 16, 100, 10_000])
def test_the_faster_way_is_found_and_a_change_is_followed(steps):
    pace = Pace()
    assert sum(count for count, _ in pace.pieces(steps)) == steps
    assert run(pace, steps, 2e-3, 1e-3, 14) < 0.1
    assert run(pace, steps, 1e-3, 3e-3, 60) > 0.9
    assert run(pace, steps, 2e-3, 1e-3, 60) < 0.1


def test_short_jobs_are_not_worth_waking_others():
    pace = Pace()
    assert run(pace, 20, 10e-6, 9e-6, 60) > 0.9  # 200 µs alone, 230 together
    pace = Pace()
    assert run(pace, 200, 10e-6, 6e-6, 60) < 0.1


def test_one_hiccup_changes_nothing():
    pace = Pace()
    run(pace, 100, 2e-3, 1e-3, 20)
    pace.took(100, False, 10.0)
    assert not pace.pieces(100)[-1][1]


def test_all_steps_are_done_once():
    pace = Pace()
    for steps in (1, 2, 17, 160, 7, 1000):
        assert sum(count for count, _ in pace.pieces(steps)) == steps


def test_a_trial_goes_on_to_a_near_pause_and_no_farther():
    aside = importlib.import_module("nnfast.kernels.numba_cpu.aside")
    turns = aside.Turns(None, np.zeros((1, 1, 3)), [10, 20, 30, 130], 1, 1e-3)
    assert turns.evened([(100, True)], 0) == [(100, True)]
    assert turns.evened([(6, False), (90, True)], 0) == [(10, False), (86, True)]
    assert turns.evened([(10, False), (90, True)], 0) == [(10, False), (90, True)]
    assert turns.evened([(6, False), (4, True)], 0) == [(10, False)]
    assert turns.evened([(12, False), (80, True)], 20) == [(12, False), (80, True)], "the pause at 130 is far"
    assert turns.evened([(7, False), (90, True)], 25) == [(7, False), (90, True)], "30 is within, 130 is far"
    assert turns.evened([(6, False), (90, True)], 130) == [(6, False), (90, True)], "none is left"
