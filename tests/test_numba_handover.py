"""Jobs in boxes: every executor runs each job once, whether its thread is awake, asleep, or on its way to either."""

from __future__ import annotations

import importlib
import signal
import threading
import time

import numpy as np
import pytest
from new_process import output_of, pinning, posix

pytest.importorskip("numba")
modes = importlib.import_module("nnfast.kernels.numba_cpu.modes")
pytestmark = pytest.mark.skipif(not modes.COMPILED, reason="compiled code only")

PREAMBLE = """
import importlib, os, sys, threading, time
import numba, numpy as np
def part(name): return importlib.import_module(f"nnfast.kernels.numba_cpu.{name}")
handover, teams, words_apart = part("handover"), part("team"), part("addresses").words_apart
barrier, carray, at_address = part("barrier").barrier, numba.carray, part("pointers").at_address
@numba.cfunc(handover.SIGNATURE, nopython=True, nogil=True)
def count(base, executors, executor):
    "Adds one to the word of this executor, has all meet in the middle, notes who saw anything else."
    words = carray(base, (2048,))
    state = carray(at_address(words[0], numba.int64), (1,))
    words[16 + 16 * executor] += 1
    barrier(state, executors, 1)
    for other in range(executors):
        if words[16 + 16 * other] != words[16 + 16 * executor]:
            words[1] += 1
    barrier(state, executors, 2)
class Counting:
    "A team, and how many jobs each of its executors has done."
    def __init__(self, n):
        self.team, self.n = teams.Team(), n
        self.state, self.words = words_apart(1), np.zeros(2048, np.int64)
        self.words[0] = self.state.ctypes.data
    def run(self):
        self.state[0] = 0
        assert self.team.enter(self.n, count.address, self.words.ctypes.data)
    @property
    def done(self):
        assert self.words[1] == 0, "somebody was ahead, or behind"
        return self.words[16 : 16 + 16 * self.n : 16].tolist()
"""
if modes.COMPILED:
    space: dict = {}
    exec(PREAMBLE, space)
    Counting, handover, count_address = space["Counting"], space["handover"], space["count"].address


def script(code: str, *arguments: object) -> str:
    return output_of(PREAMBLE + code, *arguments)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_each_executor_does_each_job_once(n, rng):
    jobs = Counting(n)
    gaps = rng.choice([0.0, 0.0, 0.0, 1e-4, 3e-4, 5e-4, 2e-3], 2000)
    for gap in gaps:
        jobs.run()
        if gap:
            until = time.perf_counter() + gap
            while time.perf_counter() < until:  # a sleep would take longer
                pass
    assert jobs.done == [2000] * n


def states(jobs):
    return [int(jobs.team.boxes._words[i * handover.WORDS + handover.STATE]) for i in range(1, jobs.n)]


def wait_for_sleep(jobs):
    until = time.monotonic() + 20
    while states(jobs) != [handover.SLEEPING] * (jobs.n - 1):
        assert time.monotonic() < until
        time.sleep(0.005)


def test_who_was_not_called_for_a_while_sleeps_and_is_woken():
    jobs = Counting(3)
    for again in range(3):
        jobs.run()
        wait_for_sleep(jobs)
        assert jobs.done == [again + 1] * 3


def test_who_is_awake_is_not_woken():
    jobs = Counting(2)
    jobs.run()
    woken = []
    real = jobs.team._inboxes[0]

    class Inbox:
        def put(self, wake):
            woken.append(wake)
            real.put(wake)

    jobs.team._inboxes[0] = Inbox()
    for _ in range(200):  # bursts: other programs may keep a thread from its processor during any of them
        woken.clear()
        for _ in range(20):
            jobs.run()
        if len(woken) < 10:
            break
    else:
        pytest.fail("a thread that had work a moment ago is never about")


def test_a_thread_on_the_processor_of_the_leader_moves_first():
    jobs = Counting(2)
    for _ in range(50):
        jobs.run()
        words = jobs.team.boxes._words
        words[handover.WORDS + handover.CPU] = words[handover.CPU]
    assert jobs.done == [50, 50]


def test_other_calls_run_on_the_same_threads():
    jobs, seen = Counting(3), []
    for _ in range(20):
        jobs.run()
        with jobs.team.lend(3) as crew:
            crew.run(lambda executor: seen.append((executor, threading.current_thread().name)))
    assert jobs.done == [20] * 3
    assert sorted(set(seen)) == [(0, threading.current_thread().name), (1, "nnfast-1"), (2, "nnfast-2")]
    assert len(seen) == 60


def test_more_executors_than_boxes_are_none():
    with Counting(2).team.lend(handover.MOST + 1) as crew:
        assert crew.size == 1


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("heard", [True, False])
def test_an_interrupt_while_others_are_woken_ends_no_job_halfway(at, heard):
    jobs = Counting(4)
    jobs.run()
    wait_for_sleep(jobs)
    real = list(jobs.team._inboxes)

    class Interrupted:
        def __init__(self, inbox):
            self.inbox, self.used = inbox, False

        def put(self, wake):
            first, self.used = not self.used, True
            if heard or not first:
                self.inbox.put(wake)
            if first:
                raise KeyboardInterrupt

    jobs.team._inboxes[at - 1] = Interrupted(real[at - 1])
    with pytest.raises(KeyboardInterrupt):
        jobs.run()
    assert jobs.done == [2] * 4
    jobs.run()
    assert jobs.done == [3] * 4


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a clock that interrupts")
@pytest.mark.parametrize("n", [2, 3])
def test_interrupts_at_any_moment(n, usual_ctrl_c):
    """Every fraction of a millisecond, between any two instructions: no job is lost, done twice, or the last."""
    jobs = Counting(n)
    jobs.run()
    armed, interrupted = [False], 0

    def press(*_):
        if armed[0]:
            armed[0] = False  # once per attempt: what follows on an interrupt is not under test
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, press)
    signal.setitimer(signal.ITIMER_REAL, 2e-4, 2e-4)
    try:
        until = time.monotonic() + 60
        while interrupted < 2000 and time.monotonic() < until:
            try:
                armed[0] = True
                while True:
                    jobs.state[0] = 0
                    jobs.team.enter(n, count_address, jobs.words.ctypes.data)
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 100
    before = jobs.done
    assert len(set(before)) == 1
    jobs.run()  # nobody has kept the team
    assert jobs.done == [before[0] + 1] * n


def test_one_leads_at_a_time():
    """Four threads want the team: each is led, or told that it is not, and every job that began was done by all."""
    jobs = [Counting(3) for _ in range(4)]
    for other in jobs[1:]:
        other.team = jobs[0].team
    led = [0] * 4

    def client(i):
        for _ in range(300):
            jobs[i].state[0] = 0
            led[i] += jobs[i].team.enter(3, count_address, jobs[i].words.ctypes.data)

    clients = [threading.Thread(target=client, args=(i,)) for i in range(4)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join(60)
    assert [j.done for j in jobs] == [[n] * 3 for n in led]
    assert sum(led) > 0


def test_who_holds_the_team_keeps_others_from_leading():
    jobs = Counting(3)
    jobs.run()
    with jobs.team.lend(3) as crew:
        assert crew.size == 3
        assert not jobs.team.enter(3, count_address, jobs.words.ctypes.data)
        crew.run(lambda executor: None)
    assert jobs.done == [1] * 3
    jobs.run()
    assert jobs.done == [2] * 3


def test_a_thread_that_cannot_be_moved_does_its_share(monkeypatch):
    jobs = Counting(3)

    def refused(taken):
        raise MemoryError

    monkeypatch.setattr(space["teams"], "spread", refused)
    for _ in range(20):
        jobs.run()
        words = jobs.team.boxes._words
        words[handover.WORDS + handover.CPU] = words[handover.CPU]
    assert jobs.done == [20] * 3


@posix
def test_a_forked_child_has_boxes_of_its_own():
    code = """
jobs = Counting(3)
teams.TEAM, team = jobs.team, teams.TEAM
os.register_at_fork(after_in_child=jobs.team.forget)
jobs.run()
for _ in range(5):
    child = os.fork()
    if child == 0:
        threading.Timer(30, os._exit, [9]).start()
        jobs.run()
        os._exit(0 if jobs.done == [2, 2, 2] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
jobs.run()
print(jobs.done)
"""
    assert script(code) == "[2, 2, 2]"


def test_a_process_may_end_while_threads_linger():
    for _ in range(5):
        assert script("jobs = Counting(3)\njobs.run()\nprint(jobs.done)") == "[1, 1, 1]"


@pinning
@pytest.mark.parametrize("busy", [0, 1])
def test_all_on_one_processor(busy):
    code = """
import subprocess
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(int(sys.argv[1]))]
try:
    jobs = Counting(3)
    for _ in range(100): jobs.run()
finally:
    for process in busy: process.kill()
print(jobs.done)
"""
    assert script(code, busy) == "[100, 100, 100]"


def test_memory_of_boxes_is_its_own_cache_lines():
    words = Counting(2).team.boxes._words
    assert words.ctypes.data % 128 == 0
    assert words.dtype == np.int64
    assert len(words) == handover.MOST * handover.WORDS
