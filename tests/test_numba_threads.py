"""Threads of the Numba backend: how many, the team that lends them, the barrier at which they meet."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import signal
import threading
import time
import weakref
from _queue import SimpleQueue

import numpy as np
import pytest
from new_process import output_of, pinning, posix

import nnfast
from nnfast import protocol, threads
from nnfast.errors import OptionError

pytest.importorskip("numba")
barriers = importlib.import_module("nnfast.kernels.numba_cpu.barrier")
words_apart = importlib.import_module("nnfast.kernels.numba_cpu.addresses").words_apart
modes = importlib.import_module("nnfast.kernels.numba_cpu.modes")
teams = importlib.import_module("nnfast.kernels.numba_cpu.team")

PREAMBLE = """
import functools, importlib, os, sys, threading, time
import numpy as np
barriers = importlib.import_module("nnfast.kernels.numba_cpu.barrier")
words_apart = importlib.import_module("nnfast.kernels.numba_cpu.addresses").words_apart
modes = importlib.import_module("nnfast.kernels.numba_cpu.modes")
TEAM = importlib.import_module("nnfast.kernels.numba_cpu.team").TEAM
def work(n=3):
    "Who took part, after all have met."
    met, seen = threading.Barrier(n), []
    with TEAM.lend(n) as crew:
        if crew.size < n: return crew.size
        crew.run(lambda executor: (met.wait(20), seen.append(executor)))
    return sorted(seen)
def in_child(check):
    "The exit status of a forked child that runs `check`; 9 where it takes half a minute."
    child = os.fork()
    if child == 0:
        threading.Timer(30, os._exit, [9]).start()
        code = 1
        try:
            check()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def script(code: str, *arguments: object) -> str:
    return output_of(PREAMBLE + code, *arguments)


# ---- how many -------------------------------------------------------------------------------------------------------


@pytest.fixture
def unset(monkeypatch, tmp_path):
    """As in a new process on a machine with eight CPUs and without control groups."""
    monkeypatch.setattr(threads, "_count", None)
    for name in ("NNFAST_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "CGROUPS", str(tmp_path / "cgroup"))
    monkeypatch.setattr(threads, "OWN_CGROUPS", str(tmp_path / "own"))
    return tmp_path


def test_what_was_set_holds_for_the_whole_process(unset):
    other = threading.Thread(target=nnfast.set_num_threads, args=(np.int64(3),))
    other.start()
    other.join()
    assert nnfast.get_num_threads() == 3
    assert type(nnfast.get_num_threads()) is int
    assert protocol.num_threads() == 3


@pytest.mark.parametrize("bad", [0, -1, True, 2.0, "2", None, 1.5])
def test_bad_numbers_are_refused_and_change_nothing(unset, bad):
    nnfast.set_num_threads(2)
    with pytest.raises(OptionError, match=r"^n is .*; expected a whole number of at least 1$"):
        nnfast.set_num_threads(bad)
    assert nnfast.get_num_threads() == 2


def test_the_environment_speaks_before_the_machine_and_after_the_program(unset, monkeypatch):
    monkeypatch.setenv("NNFAST_NUM_THREADS", " 5 ")
    assert nnfast.get_num_threads() == 5
    nnfast.set_num_threads(2)
    assert nnfast.get_num_threads() == 2


@pytest.mark.parametrize("name", ["NUMBA_NUM_THREADS", "OMP_NUM_THREADS"])
@pytest.mark.parametrize(("share", "count"), [("1", 1), ("3", 3), ("64", 8), ("", 8), ("two", 8), ("0", 8), ("3,2", 3)])
def test_a_share_of_the_machine_is_a_limit(unset, monkeypatch, name, share, count):
    """What joblib and Dask tell their worker processes."""
    monkeypatch.setenv(name, share)
    assert nnfast.get_num_threads() == count
    monkeypatch.setenv("NNFAST_NUM_THREADS", "5")
    monkeypatch.setattr(threads, "_count", None)
    assert nnfast.get_num_threads() == 5


@pytest.mark.parametrize("bad", ["0", "-2", "two", "1.5", "²", "0x2"])
def test_a_bad_environment_is_an_error_that_names_it(unset, monkeypatch, bad):
    monkeypatch.setenv("NNFAST_NUM_THREADS", bad)
    with pytest.raises(OptionError, match=r"variable NNFAST_NUM_THREADS is .*; expected a whole number of at least 1"):
        nnfast.get_num_threads()
    nnfast.set_num_threads(2)
    assert nnfast.get_num_threads() == 2


@pytest.mark.parametrize(
    ("own", "files", "count"),
    [
        ("", {}, 8),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "5000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "9900000 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "nonsense"}, 8),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000", "cpu.max": "400000 100000"}, 3),
        ("0::/of/the/host\n", {"cpu.max": "200000 100000"}, 2),
        ("4:cpu,cpuacct:/x\n", {"cpu/x/cpu.cfs_quota_us": "250000\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, 3),
        ("4:cpuset,cpu:/x\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ("4:cpuset:/x\n", {"cpu/x/cpu.cfs_quota_us": "100000\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_the_default_is_what_affinity_and_control_groups_leave(unset, own, files, count):
    (unset / "own").write_text(own, encoding="utf-8")
    for name, text in files.items():
        file = unset / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert nnfast.get_num_threads() == count


def test_without_affinity_the_machine_counts(unset, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert nnfast.get_num_threads() == 6


# ---- the team -------------------------------------------------------------------------------------------------------


@pytest.fixture
def team():
    return teams.Team()


def together(team, n):
    """The thread of each executor, in a job in which all have met."""
    met, who = threading.Barrier(n), {}

    def call(executor):
        met.wait(20)
        who[executor] = threading.current_thread()

    with team.lend(n) as crew:
        assert crew.size == n
        crew.run(call)
    return [who[executor] for executor in range(n)]


def test_every_executor_is_called_once_on_its_own_thread(team):
    who = together(team, 4)
    assert who[0] is threading.current_thread()
    assert len(set(who)) == 4
    assert all(thread.daemon for thread in who[1:])
    assert together(team, 4) == who, "threads are kept"
    assert together(team, 2) == who[:2]
    assert together(team, 5)[:4] == who


def test_a_run_ends_when_the_slowest_is_back(team):
    back = []

    def call(executor):
        time.sleep(0.03 * executor)
        back.append(executor)

    with team.lend(3) as crew:
        for _ in range(2):
            crew.run(call)
            assert back == [0, 1, 2]
            back.clear()


@pytest.mark.parametrize("n", [1, 0])
def test_a_crew_of_one_takes_no_thread_and_no_lock(team, n):
    called = []
    with team.lend(n) as crew, team.lend(2) as other:
        assert (crew.size, other.size) == (1, 2)
        crew.run(called.append)
    assert called == [0]


def test_errors_come_out_lowest_executor_first_and_the_threads_live_on(team):
    before = together(team, 4)
    for failing, raised in (({3}, 3), ({1, 2}, 1), ({0, 3}, 0)):

        def call(executor, failing=failing):
            if executor in failing:
                raise LookupError(executor)

        with pytest.raises(LookupError, match=f"^{raised}$"), team.lend(4) as crew:
            crew.run(call)
    assert together(team, 4) == before


def test_a_job_inside_a_job_runs_alone(team):
    sizes = {}

    def call(executor):
        with team.lend(3) as inner:
            inner.run(lambda number: sizes.setdefault(executor, (inner.size, number)))

    with team.lend(3) as crew:
        crew.run(call)
    assert sizes == dict.fromkeys(range(3), (1, 0))


def test_eight_threads_share_one_team(team):
    sizes, wrong = [], []

    def client():
        for _ in range(200):
            with team.lend(3) as crew:
                seen = []
                crew.run(seen.append)
                if sorted(seen) != list(range(crew.size)):
                    wrong.append(seen)
                sizes.append(crew.size)

    clients = [threading.Thread(target=client) for _ in range(8)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join(60)
    assert wrong == []
    assert len(sizes) == 1600
    assert set(sizes) <= {1, 3}
    assert 3 in sizes
    together(team, 3)


@pytest.mark.parametrize("possible", [0, 1])
def test_without_new_threads_the_caller_is_alone(team, monkeypatch, possible):
    def start(thread, left=[possible]):  # noqa: B006
        if left[0] == 0:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        return real(thread)

    real = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    for _ in range(2):
        with team.lend(3) as crew:
            assert crew.size == 1
    monkeypatch.undo()
    together(team, 3)


def test_a_finished_job_keeps_nothing_alive(team):
    class Arrays:
        def __call__(self, executor):
            pass

    arrays = Arrays()
    gone = weakref.ref(arrays)
    with team.lend(3) as crew:
        crew.run(arrays)
    del arrays
    for _ in range(200):
        if gone() is None:
            break
        time.sleep(0.01)  # a pool thread may be on its way back to sleep
    assert gone() is None


# ---- interrupts -----------------------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("when", ["in the share of the caller", "while the caller waits"])
def test_an_interrupt_waits_for_the_others(team, when, request):
    # A shell that starts pytest in the background has it ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    back = []

    def call(executor):
        if executor == 0 and when == "in the share of the caller":
            signal.raise_signal(signal.SIGINT)
        if executor == 1:
            time.sleep(0.05)
            if when == "while the caller waits":
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            back.append(executor)

    with pytest.raises(KeyboardInterrupt), team.lend(3) as crew:
        crew.run(call)
    assert back == [1]
    together(team, 3)


@pytest.mark.parametrize("before", [True, False])
def test_an_interrupt_while_the_others_are_woken_leaves_nobody_waiting(team, before):
    class Interrupted:
        """An inbox during whose first use Ctrl-C comes."""

        def __init__(self, inbox: SimpleQueue) -> None:
            self.inbox = inbox
            self.used = 0

        def put(self, job):
            self.used += 1
            if not (before and self.used == 1):
                self.inbox.put(job)
            if self.used == 1:
                raise KeyboardInterrupt

    together(team, 4)
    team._inboxes[1] = Interrupted(team._inboxes[1])
    met, called = threading.Barrier(4), []
    with pytest.raises(KeyboardInterrupt), team.lend(4) as crew:
        crew.run(lambda executor: (met.wait(20), called.append(executor)))
    assert sorted(called) == [0, 1, 2, 3]
    together(team, 4)


# ---- forks and exits ------------------------------------------------------------------------------------------------


@posix
def test_a_forked_child_has_a_team_of_its_own():
    code = """
def check():
    assert work() == [0, 1, 2]
assert work() == [0, 1, 2]
print([in_child(check) for _ in range(5)], work())
"""
    assert script(code) == "[0, 0, 0, 0, 0] [0, 1, 2]"


@posix
def test_a_fork_while_the_team_is_at_work_leaves_the_child_free():
    code = """
inside, leave = threading.Event(), threading.Event()
def job(executor):
    inside.set()
    leave.wait(20)
def client():
    with TEAM.lend(3) as crew: crew.run(job)
def check():
    assert work() == [0, 1, 2]
thread = threading.Thread(target=client)
thread.start()
inside.wait(20)
busy = work()
children = [in_child(check) for _ in range(5)]
leave.set()
thread.join(20)
print(busy, children, work())
"""
    assert script(code) == "1 [0, 0, 0, 0, 0] [0, 1, 2]"


@posix
def test_a_crew_lent_before_a_fork_is_refused_in_the_child():
    code = """
def check():
    try:
        crew.run(print)
    except RuntimeError as error:
        assert "before a fork" in str(error)
    else:
        raise AssertionError
    crew.__exit__(None, None, None)
    assert work() == [0, 1, 2]
with TEAM.lend(3) as crew:
    children = in_child(check)
    crew.run(lambda executor: None)
print(children, work())
"""
    assert script(code) == "0 [0, 1, 2]"


@pytest.mark.parametrize("busy", [False, True])
def test_pool_threads_hold_up_no_exit(busy):
    code = """
inside = threading.Event()
def job(executor):
    inside.set()
    while True: time.sleep(0.01)
def client():
    with TEAM.lend(3) as crew: crew.run(job)
work()
if sys.argv[1] == "True":
    threading.Thread(target=client, daemon=True).start()
    inside.wait(20)
print("done")
"""
    assert script(code, busy) == "done"


# ---- the barrier ----------------------------------------------------------------------------------------------------


barrier = barriers.barrier


def _meet(state, n, rounds, seen, executor):
    """Each round, every executor writes its number and then looks at those of all others; counts what is wrong."""
    for r in range(rounds):
        seen[executor * 16] = r
        barrier(state, n, 2 * r + 1)
        for other in range(n):
            if seen[other * 16] != r:
                seen[executor * 16 + 1] += 1
        barrier(state, n, 2 * r + 2)


meet = modes.jit(_meet)
ROUNDS = 200 if modes.PLAIN else 50_000


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_barrier_over_a_hundred_thousand_phases(team, n):
    state, seen = words_apart(1), np.zeros(16 * n, np.int64)
    rounds = ROUNDS if n < 4 else ROUNDS // 2
    with team.lend(n) as crew:
        assert crew.size == n
        crew.run(functools.partial(meet, state, n, rounds, seen))
    assert seen.reshape(n, 16)[:, :2].tolist() == [[rounds - 1, 0]] * n
    assert state[0] == 2 * rounds * n


def test_the_barrier_waits_for_who_comes_late(team):
    """Long enough to get through spinning and yielding, to sleeping."""
    state, order = words_apart(1), []
    barriers.barrier(words_apart(1), 1, 1)  # compiled before the clock runs

    def call(executor):
        if executor == 2:
            time.sleep(0.1)
            order.append("late")
        barriers.barrier(state, 3, 1)
        order.append("through")

    with team.lend(3) as crew:
        crew.run(call)
    assert order == ["late", "through", "through", "through"]


def test_the_counter_lies_alone_in_its_cache_line():
    for _ in range(20):
        state = words_apart(1)
        assert state.dtype == np.int64
        assert state.ctypes.data % 128 == 0
        around = state.base
        while around.base is not None:
            around = around.base
        assert around.ctypes.data + around.nbytes >= state.ctypes.data + 128  # so nothing else is in that line
        assert not state.any()


@pinning
@pytest.mark.parametrize(("n", "rounds", "busy"), [(2, 10_000, 0), (4, 5_000, 0), (4, 100, 2)])
def test_the_barrier_on_one_cpu(n, rounds, busy):
    """All executors on one CPU, and in the last case two other processes that want it for themselves."""
    code = f"""
import subprocess
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
barrier = barriers.barrier
{inspect.getsource(_meet)}
meet = modes.jit(_meet)
meet(words_apart(1), 1, 1, np.zeros(16, np.int64), 0)
n, rounds, busy = map(int, sys.argv[1:])
rounds = 20 if modes.PLAIN else rounds
busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
state, seen = words_apart(1), np.zeros(16 * n, np.int64)
try:
    with TEAM.lend(n) as crew:
        crew.run(functools.partial(meet, state, crew.size, rounds, seen))
finally:
    for process in busy: process.kill()
print(crew.size, seen.reshape(n, 16)[:, 1].tolist(), state[0] == 2 * rounds * n)
"""
    assert script(code, n, rounds, busy) == f"{n} {[0] * n} True"
