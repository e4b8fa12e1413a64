"""Who executes a job's steps follows what the clock said, and finds out when that changes."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

pytest.importorskip("numba")
pace_of_jobs = importlib.import_module("nnfast.kernels.numba_cpu.pace")
Pace, WAKE = pace_of_jobs.Pace, pace_of_jobs.WAKE


class Machine:
    """A clock, and steps that take so long; more of it until the machine has worked for `cold` seconds after a rest."""

    def __init__(self, cold=0.0, times=3.0):
        self.now, self.cold, self.times, self.warmed = 0.0, cold, times, 0.0
        self.pace = Pace(lambda: self.now)
        self.alone = self.together = 1e-3

    def rest(self, seconds):
        self.now += seconds
        self.warmed = 0.0

    def piece(self, count, by_itself):
        seconds = 0.0
        for _ in range(count):
            step = self.alone if by_itself else self.together
            seconds += step * (self.times if self.warmed < self.cold else 1)
            self.warmed += step
        seconds += 0.0 if by_itself else WAKE
        self.now += seconds
        self.pace.took(count, by_itself, seconds)
        return seconds

    def job(self, steps):
        done = self.run(steps)
        return sum(seconds for seconds, by_itself in done if by_itself) / sum(seconds for seconds, _ in done)

    def run(self, steps):
        return [(self.piece(count, by_itself), by_itself) for count, by_itself in self.pace.pieces(steps)]

    def jobs(self, steps, count):
        """The share of the time alone in the last four jobs."""
        return sum([self.job(steps) for _ in range(count)][-4:]) / 4


@pytest.mark.parametrize("steps", [3, 15, 16, 100, 10_000])
def test_the_faster_way_is_found_and_a_change_is_followed(steps):
    assert sum(count for count, _ in Machine().pace.pieces(steps)) == steps
    machine = Machine()
    machine.alone, machine.together = 2e-3, 1e-3
    assert machine.jobs(steps, 31) < 0.1
    machine.alone, machine.together = 1e-3, 3e-3
    assert machine.jobs(steps, 191) > 0.9
    machine.alone, machine.together = 2e-3, 1e-3
    assert machine.jobs(steps, 191) < 0.1


def test_short_jobs_are_not_worth_waking_others():
    machine = Machine()
    machine.alone, machine.together = 10e-6, 9e-6
    assert machine.jobs(20, 60) > 0.9  # 200 µs alone, 230 together
    machine = Machine()
    machine.alone, machine.together = 10e-6, 6e-6
    assert machine.jobs(200, 60) < 0.1


def test_one_hiccup_changes_nothing():
    machine = Machine()
    machine.alone = 2e-3
    machine.jobs(100, 20)
    machine.pace.took(100, False, 10.0)
    assert not next(machine.pace.pieces(100))[1]


@pytest.mark.parametrize("steps", [9, 30, 50])
def test_bursts_after_rests_come_back_from_a_bad_one(steps):
    """A single step, then two jobs, after rests that leave everything cold: 784-128-10 in `fit`, epoch by epoch."""
    machine = Machine(cold=2e-3)

    def burst():
        machine.rest(1.0)
        machine.job(1)
        return (machine.job(steps) + machine.job(steps)) / 2

    machine.alone, machine.together = 1.1e-3, 0.55e-3
    assert np.mean([burst() for _ in range(12)][4:]) < 0.15
    machine.together = 4e-3
    burst(), burst()
    machine.together = 0.55e-3
    assert np.mean([burst() for _ in range(12)][2:]) < 0.15


def test_a_trial_costs_little_where_the_other_way_is_bad():
    machine = Machine()
    machine.alone, machine.together = 0.1e-3, 2e-3  # more threads than processors
    machine.jobs(100, 60)
    begin = machine.now
    machine.jobs(100, 160)
    assert machine.now - begin < 160 * 100 * machine.alone * 1.1
    machine.together = 0.06e-3
    machine.jobs(100, 160)
    assert machine.jobs(100, 64) < 0.1, "what has become better is noticed"


@pytest.mark.parametrize("steps", [42, 1_000, 30_000])
def test_the_first_jobs_on_a_machine_whose_cores_are_taken(steps):
    """Two threads on one core wait for each other at every barrier, for as long as the scheduler lets them."""
    machine = Machine()
    machine.alone, machine.together = 0.1e-3, 20e-3
    begin = machine.now
    machine.jobs(steps, 1)
    few = max(steps // pace_of_jobs.FIRST, 1)
    assert machine.now - begin < (steps * machine.alone + few * machine.together) * 1.1
    begin = machine.now
    machine.jobs(steps, 9)
    trials = 4 * 1.1 * max(1, few)
    assert machine.now - begin < 9 * steps * machine.alone * 1.1 + trials * machine.together


def test_a_first_job_is_done_together_where_only_the_first_steps_are_slow():
    machine = Machine(cold=20e-3, times=3.0)
    machine.alone, machine.together = 1e-3, 0.55e-3
    done = [(count, machine.piece(count, by_itself) and by_itself) for count, by_itself in machine.pace.pieces(640)]
    assert done == [(20, True), (20, False), (600, False)]
    trials = [[by_itself for _, by_itself in machine.run(640)] for _ in range(3)]
    assert trials == [[False, True], [False], [False, True]], "what the first job found out need not be found out again"


def test_all_steps_are_done_once():
    pace = Pace()
    for steps in (1, 2, 17, 160, 7, 1000):
        assert sum(count for count, _ in pace.pieces(steps)) == steps


def test_a_trial_begins_at_a_near_pause_and_at_no_far_one():
    aside = importlib.import_module("nnfast.kernels.numba_cpu.aside")
    turns = aside.Turns(None, np.zeros((1, 1, 3)), [10, 20, 30, 130], 1, 1e-3)
    assert turns.evened([(100, True)], 0) == [(100, True)]
    assert turns.evened([(14, True), (6, False)], 0) == [(10, True), (10, False)]
    assert turns.evened([(10, True), (10, False)], 0) == [(10, True), (10, False)]
    assert turns.evened([(4, True), (6, False)], 0) == [(10, False)], "the job's begin is as good"
    assert turns.evened([(4, True), (6, False)], 20) == [(10, False)]
    assert turns.evened([(80, True), (20, False)], 30) == [(80, True), (20, False)], "the pause at 30 is far"
    assert turns.evened([(3, True), (3, False)], 137) == [(6, False)], "none is left"
