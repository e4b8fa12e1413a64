"""The benchmarks themselves work: they refuse wrong answers, take turns, measure every suite, and write their files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
SMALLEST = "2-64-3, batch 300"
SHUFFLED = "64-128-64-10, batch 32, reshuffled"


def nnfast_bench(*arguments, **options):
    command = [sys.executable, "-m", "nnfast", "bench", *map(str, arguments)]
    # A worker of pytest-xdist would tell pytest-benchmark so, and it measures nothing there.
    given = options.pop("env", os.environ)
    options = {"cwd": ROOT, "env": {k: v for k, v in given.items() if not k.startswith("PYTEST_XDIST")}} | options
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


# ---- the whole command ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A quick run of everything with the reference backend and those peers that every checkout has."""
    folder = tmp_path_factory.mktemp("bench")
    done = nnfast_bench("--quick", "--json", folder / "run.json", "--html", folder / "run.html")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads((folder / "run.json").read_text(encoding="utf-8")), folder


def test_every_suite_is_timed_on_every_backend(quick, bench):
    from nnfast.testing import CASES

    _, content, folder = quick
    run = bench("report.records").load(folder / "run.json")
    suites = {*bench("measuring.stand").SUITES} - (set() if Path("/proc/self/status").exists() else {"memory"})
    assert {group.suite for group in run.groups} == suites
    assert run.quick
    backends = {"numpy", "numba"} & {side.name for group in run.groups for side in group.sides}
    assert "numpy" in backends
    for group in run.of("steps"):
        assert {side.name for side in group.sides if side.nnfast} == backends, group.case
        assert "book" in {side.name for side in group.sides} or group.axis
        assert group.noise is not None
        assert group.floor > 0
    assert {group.sides[0].info["op"] for group in run.of("ops", "kernels")} == set(CASES)
    assert all((side.data > 0).all() for group in run.groups for side in group.sides)
    assert content["machine_info"]["threads"] == run.settings["threads"] >= 1
    limits = [name for name in run.limits if "per second" in name]
    assert len(limits) == 3
    assert all(run.limits[name] > 1e8 for name in limits)
    assert run.limits["seconds to wake a thread and hear of it"] > 1e-7


def test_the_record_is_pytest_benchmarks_own(quick):
    """Its fields, so that its own commands read the file; the data are the rounds, and the statistics are theirs."""
    _, content, folder = quick
    for benchmark in content["benchmarks"]:
        assert benchmark["stats"]["rounds"] == len(benchmark["stats"]["data"])
        assert benchmark["stats"]["median"] == pytest.approx(np.median(benchmark["stats"]["data"]), rel=1e-3)
    names = Counter(benchmark["fullname"] for benchmark in content["benchmarks"])
    assert max(names.values()) == 1
    listed = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", str(folder / "run.json"), "--columns=median"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert listed.returncode == 0, listed.stderr
    assert "one prediction, 8-64-64-4" in listed.stdout


def test_the_terminal_and_the_page_show_it(quick):
    out, content, folder = quick
    assert "steps: networks" in out
    assert "A quick run" in out
    page = (folder / "run.html").read_text(encoding="utf-8")
    for case in {b["extra_info"]["case"] for b in content["benchmarks"] if b["extra_info"]["section"] == "networks"}:
        assert case in page
    assert re.search(r'(src|href)="http', page) is None  # nothing from elsewhere
    assert "<svg" in page


def test_memory_counts_what_the_program_needs(quick):
    found = [b["extra_info"] for b in quick[1]["benchmarks"] if b["extra_info"]["suite"] == "memory"]
    if not found:
        pytest.skip("memory is read from /proc")
    (row,) = [info["memory"] for info in found if info["contender"] == "numpy"]
    weights = 4 * (784 * 128 + 128 + 128 * 10 + 10)
    assert row["needed MB"] > 4 * weights / 1e6  # parameters, gradients, two moments
    assert row["peak MB"] > row["imports MB"] + row["needed MB"] * 0.8
    assert row["temporary kB"] > 100  # the reference makes temporaries


def test_two_records_are_compared_without_measuring(quick, tmp_path):
    """The rounds of both are made up: a quick run's own are as noisy as the machine is busy."""
    _, content, _ = quick
    for name, factor in {"then": 1, "now": 9}.items():
        record = json.loads(json.dumps(content))
        for benchmark in record["benchmarks"]:
            slower = benchmark["extra_info"]["nnfast"] and benchmark["group"].endswith(SMALLEST)
            benchmark["stats"]["data"] = [1e-3 * (factor if slower else 1)] * benchmark["stats"]["rounds"]
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    then, now = tmp_path / "then.json", tmp_path / "now.json"
    same = nnfast_bench("--compare", then, then)
    assert same.returncode == 0, same.stderr
    assert "0 of" in same.stdout
    worse = nnfast_bench("--compare", then, now)
    assert worse.returncode == 1
    assert re.search(rf"steps: networks: {SMALLEST} +nnfast, numpy", worse.stdout)
    better = nnfast_bench("--compare", now, then)
    assert better.returncode == 0, better.stdout
    assert re.search(r"^[1-9]\d* of \d+ became faster", better.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--suite", "everything"), "unknown value 'everything'"),
        (("--peers", "nobody", "--quick"), "expected some of book"),
        (("--backends", "nobody", "--quick"), "nobody"),
        (("--threads", "10000", "--quick"), "this process may use"),
        (("--json", "no/such/folder/x.json"), "there is no folder"),
        (("--compare", "pyproject.toml"), "cannot be read as a record"),
    ],
)
def test_a_wrong_call_says_why(arguments, words):
    done = nnfast_bench(*arguments)
    assert done.returncode == (1 if arguments[0] == "--compare" else 2), done.stdout
    assert words in done.stderr + done.stdout


def test_without_the_checkout_it_says_so(tmp_path):
    shutil.copytree(ROOT / "nnfast", tmp_path / "nnfast", ignore=shutil.ignore_patterns("__pycache__"))
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from nnfast.cli import main; sys.exit(main(['bench']))"
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Get the checkout" in done.stderr


# ---- wrong answers --------------------------------------------------------------------------------------------------


def wrong_worker(bench, results):
    """A contender that trains in no time, and gives these results."""

    class Worker:
        def make(self, *args):
            return 0.0, 0.0

        def run(self, count):
            return 1e-3

        def results(self):
            return results

    return Worker()


def test_a_training_that_ends_elsewhere_is_not_timed(bench):
    networks, trainings, groups, stand = (
        bench(name) for name in ("cases.networks", "measuring.trainings", "measuring.groups", "measuring.stand")
    )
    short = networks.case(SMALLEST).short()
    who = stand.Contender("other", "another library", "peers.other")
    right = networks.judge(short)
    trainings.prove(who, wrong_worker(bench, [right]), short, right)
    with pytest.raises(groups.Wrong, match="from the reference"):
        trainings.prove(who, wrong_worker(bench, [right * 1.01]), short, right)


@pytest.mark.parametrize("strict", [True, False])
def test_a_kernel_that_is_wrong_is_not_timed(bench, strict, monkeypatch):
    from nnfast.registry import get_backend

    monkeypatch.syspath_prepend(str(ROOT / "bench/suites"))
    kernels, groups, ops = bench("cases.kernels"), bench("measuring.groups"), bench("bench_ops")
    for each in kernels.kernel_cases(("small",)):
        answer = ops._answer(each)
        call = each.call()
        call(get_backend("numpy").kernel(each.op))
        for arg, got in call.args("out", "inout"):
            ops._hold(answer, arg.name, got, strict=strict)
            wrong = got * got.dtype.type(1.01) + got.dtype.type(0.01)
            with pytest.raises(groups.Wrong):
                ops._hold(answer, arg.name, wrong, strict=strict)


WRONG = {
    "learning_rate": {"learning_rate": 1.001e-3},
    "decay": {"decay": 1e-4},
    "beta_1": {"beta_1": 0.901},
    "beta_2": {"beta_2": 0.998},
    "epsilon": {"epsilon": 1e-8},
}


@pytest.mark.parametrize("setting", WRONG)
def test_another_training_is_refused(bench, setting):
    import nnfast as nn

    cases = bench("cases.networks")
    short = cases.case(SMALLEST).short()
    model = cases.nnfast_model(short, "numpy")
    model.optimizer = nn.Adam(**({"learning_rate": cases.RATE} | WRONG[setting]))
    model.fit(short.X, short.y, epochs=short.checked_epochs, batch_size=300, shuffle=False, verbose=0)
    assert not cases.differences(model.get_weights(), cases.judge(short))[2]


def test_another_row_order_or_a_nan_is_refused(bench):
    cases = bench("cases.networks")
    short = cases.case(SHUFFLED).short()
    right = cases.judge(short)
    model = cases.nnfast_model(short, "numpy")
    model.fit(short.X, short.y, epochs=short.checked_epochs, batch_size=32, shuffle=False, verbose=0)
    assert not cases.differences(model.get_weights(), right)[2]
    assert not cases.differences([np.full(right.size, np.nan)], right)[2]
    assert not cases.differences([right[:-1]], right)[2]


def test_a_wrong_function_is_refused(bench):
    ops = bench("cases.ops")
    for case in (case for case in ops.OPS.values() if np.prod(case.sizes) < 1e6):
        right = ops.expected(case)
        assert ops.same([a.astype(np.float32) for a in right], right)[1], case.name
        for k, array in enumerate(right):
            wrong = [*right[:k], array * 1.0001, *right[k + 1 :]]
            assert not ops.same(wrong, right)[1], (case.name, k)
            wrong[k] = np.where(np.arange(array.size).reshape(array.shape) == 0, np.nan, array)
            assert not ops.same(wrong, right)[1], (case.name, k)


@pytest.mark.parametrize(
    ("name", "figure", "other"), [("losses", "0.35667494", "0.35667495"), ("optimizers", "1.077", "1.087")]
)
def test_a_program_that_prints_something_else_is_refused(bench, name, figure, other):
    program = bench("cases.programs").PROGRAMS[name]
    ours, book = (
        subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
        for command in (program.nnfast_command("numpy", quick=True), program.book_command(quick=True))
    )
    assert figure in ours
    assert program.check(ours, book, quick=True) == []
    assert program.check(ours.replace(figure, other), book, quick=True)
    assert program.check("", book, quick=True)


COMPILED = pytest.param("torch_compiled", marks=pytest.mark.slow)
TRAINERS = ["book", "scikit_learn", "torch_eager", COMPILED, "jax_step", "jax_loop", "keras_jax", "tinygrad_jit"]


@pytest.mark.parametrize("name", [SMALLEST, SHUFFLED])
@pytest.mark.parametrize("peer", [*TRAINERS, "nnfast_fit"])
def test_every_peer_trains_the_same(bench, peer, name):
    peers, cases, workers = bench("peers"), bench("cases.networks"), bench("measuring.workers")
    if peer != "nnfast_fit" and peers.named(peer).missing():
        pytest.skip(peers.named(peer).missing())
    short = cases.case(name).short()
    with workers.Workers(1, {}) as crew:
        worker = crew.start()
        worker.make(f"peers.{peer}", "trainer", short, *(("numpy",) if peer == "nnfast_fit" else ()))
        worker.run(short.checked_epochs)
        assert cases.differences(worker.results(), cases.judge(short))[2]


# ---- contenders and rounds ------------------------------------------------------------------------------------------


def test_a_contender_that_fails_says_why(bench):
    workers = bench("measuring.workers")
    with workers.Workers(1, {}) as crew:
        with pytest.raises(workers.Failed, match=r"UnknownBackend.*'nobody'"):
            crew.start().make("peers.nnfast_fit", "trainer", bench("cases.networks").case(SMALLEST), "nobody")
        worker = crew.start()
        with pytest.raises(workers.Failed, match="ended with status 3"):
            worker.ask("call", "os", "_exit", 3)


def test_contenders_share_threads_and_processors(bench):
    workers = bench("measuring.workers")
    with workers.Workers(1, {"EXTRA": "yes"}) as crew:
        worker = crew.start()
        environment = worker.ask("call", "os", "getenv", "OMP_NUM_THREADS"), worker.ask("call", "os", "getenv", "EXTRA")
        assert environment == ("1", "yes")
        if workers.allowed_cpus(1):
            assert sorted(worker.ask("call", "os", "sched_getaffinity", 0)) == workers.allowed_cpus(1)


def test_the_load_is_what_the_processors_do_while_it_is_measured(bench, monkeypatch):
    machine = bench("measuring.machine")
    ticks = iter([(1000, 9000), (1050, 9200)])  # a quarter of the time of four processors
    monkeypatch.setattr(machine, "_ticks", lambda: next(ticks))
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 4)
    assert machine.load(0) == 1.0
    monkeypatch.undo()
    if Path("/proc/stat").exists():
        assert 0 <= machine.load(0.2) <= os.cpu_count()

    def nowhere():
        raise FileNotFoundError("/proc/stat")

    monkeypatch.setattr(machine, "_ticks", nowhere)
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (0.5, 2.0, 3.0), raising=False)
    assert machine.load(0) == 0.5


def test_rounds_are_interleaved_and_divided_by_their_runs(bench):
    rounds = bench("measuring.rounds")
    turns = []

    class Worker:
        def __init__(self, name, seconds):
            self.name, self.seconds = name, seconds

        def run(self, count, warm=0):
            turns.append((self.name, count, warm))
            return self.seconds * count

        def settle(self):
            assert turns[-1][0] == self.name  # at the end of its own turn
            turns.append(self.name)

    workers = {name: Worker(name, seconds) for name, seconds in (("fast", 1e-4), ("slow", 1e-2))}
    found = rounds.measure(workers, rounds.Pace(4, 0.02))
    assert found["fast"] == pytest.approx([1e-4] * 4)
    assert found["slow"] == pytest.approx([1e-2] * 4)
    kept = [turn for turn in turns if not isinstance(turn, str)][-8:]
    assert [name for name, *_ in kept] == ["fast", "slow", "slow", "fast"] * 2  # in turn, neither always second
    assert {name: numbers for name, *numbers in kept} == {"fast": [200, 50], "slow": [2, 0]}
    assert turns[-1] == turns[-2][0]


def test_a_contender_is_waited_for_while_its_threads_spin(bench, monkeypatch):
    workers = bench("measuring.workers")
    worker = object.__new__(workers.Worker)
    now, looks = [0.0], []
    monkeypatch.setattr(workers.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(
        workers.time, "sleep", lambda seconds: (now.__setitem__(0, now[0] + seconds), looks.append(seconds))
    )
    for spinning, rest in ((0, [0.003]), (2, [0.003, 0.01, 0.01]), (1000, None)):
        looks.clear()
        burnt = iter([*[0.009] * spinning, 0.0])
        worker.ask = lambda request, burnt=burnt: next(burnt)
        worker.settle()
        assert looks == rest or (rest is None and sum(looks) == pytest.approx(workers.LONGEST_SPIN, abs=0.02))
