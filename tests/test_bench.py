"""The benchmarks themselves work: they refuse wrong answers, measure all, and write their tables where they should."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
BENCH = ROOT / "bench"
SMALLEST = "2-64-3, batch 300"


def run(script, *arguments):
    command = [sys.executable, f"bench/{script}.py", "--quick", "--backend", "numpy", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def recorded(script, tmp_path, *arguments):
    """The record that a quick run writes, and the README with its table."""
    readme, results = tmp_path / "README.md", tmp_path / "results.json"
    shutil.copy(BENCH / "README.md", readme)
    run(script, *arguments, "--markdown", readme, "--json", results)
    return json.loads(results.read_text(encoding="utf-8")), readme.read_text(encoding="utf-8")


def test_steps_are_timed_beside_the_book(tmp_path):
    record, readme = recorded("bench_step", tmp_path, "--case", SMALLEST, "--peer", "book")
    book, numpy = record["rows"]
    assert (book["contender"], numpy["contender"]) == ("book", "numpy")
    assert book["best other"]
    assert not numpy["best other"]
    ratios = np.array(numpy["rounds"]) / np.array(book["rounds"])
    assert numpy["over best other"]["median"] == pytest.approx(np.median(ratios))
    assert numpy["floor microseconds"] > 0
    assert record["limits"]["memory bytes per second"] > 1e8
    assert f"| {SMALLEST} | the book's NumPy |" in readme
    assert readme.startswith((BENCH / "README.md").read_text(encoding="utf-8").partition("<!-- bench_step: begin")[0])


def test_ops_are_proved_and_timed(tmp_path):
    record, readme = recorded("bench_ops", tmp_path, "--case", "128×10")
    (row,) = [row for row in record["rows"] if row["nnfast"]]
    assert row["microseconds"]["median"] > row["floor microseconds"] > 0
    assert "| softmax cross-entropy with gradient, 128×10 |" in readme


def test_starts_are_timed(tmp_path):
    record, readme = recorded("bench_startup", tmp_path, "--peer", "book")
    assert {row["what"].partition(",")[0] for row in record["rows"]} == {
        "import",
        "first step after the import",
        "the sine",
    }
    assert all(row["seconds"]["median"] > 0 for row in record["rows"])
    assert "| first step after the import | nnfast, numpy |" in readme


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_is_measured(bench):
    harness, cases, memory = bench("harness"), bench("cases"), bench("bench_memory")
    case = cases.case("784-512-512-10, batch 512").short()
    with harness.Workers(1, {}) as workers:
        loader = ("nnfast.registry", "get_backend", "numpy")
        row = memory.probe(workers, case, "nnfast", "peers.nnfast_fit", ("numpy",), 1, loader)
    weights = sum(w.nbytes for w in case.weights())
    assert row["needed MB"] > 4 * weights / 1e6  # parameters, gradients, two moments
    assert row["peak MB"] > row["imports MB"] + row["needed MB"] * 0.8
    assert row["temporary kB"] > 100  # the reference makes temporaries


COMPILED = pytest.param("torch_compiled", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", ["2-64-3, batch 300", "64-128-64-10, batch 32, reshuffled"])
@pytest.mark.parametrize("peer", ["book", "scikit_learn", "torch_eager", COMPILED, "jax_loop", "nnfast_fit"])
def test_every_peer_trains_the_same(bench, peer, name):
    peers, cases, harness = bench("peers"), bench("cases"), bench("harness")
    if peer in peers.PEERS and peers.missing(peers.PEERS[peer][1]):
        pytest.skip(f"{peer} needs a package that is not installed")
    short = cases.case(name).short()
    with harness.Workers(1, {}) as workers:
        worker = workers.start()
        worker.make(f"peers.{peer}", "trainer", short, *(("numpy",) if peer == "nnfast_fit" else ()))
        worker.run(short.checked_epochs)
        assert cases.differences(worker.results(), cases.judge(short))[2]


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

    cases = bench("cases")
    short = cases.case(SMALLEST).short()
    model = cases.nnfast_model(short, "numpy")
    model.optimizer = nn.Adam(**({"learning_rate": cases.RATE} | WRONG[setting]))
    model.fit(short.X, short.y, epochs=short.checked_epochs, batch_size=300, shuffle=False, verbose=0)
    assert not cases.differences(model.get_weights(), cases.judge(short))[2]


def test_another_row_order_or_a_nan_is_refused(bench):
    cases = bench("cases")
    short = cases.case("64-128-64-10, batch 32, reshuffled").short()
    right = cases.judge(short)
    model = cases.nnfast_model(short, "numpy")
    model.fit(short.X, short.y, epochs=short.checked_epochs, batch_size=32, shuffle=False, verbose=0)
    assert not cases.differences(model.get_weights(), right)[2]
    assert not cases.differences([np.full(right.size, np.nan)], right)[2]
    assert not cases.differences([right[:-1]], right)[2]


def test_a_wrong_op_is_refused(bench):
    op_cases = bench("op_cases")
    for case in (case for case in op_cases.OPS.values() if np.prod(case.sizes) < 1e6):
        right = op_cases.expected(case)
        assert op_cases.same([a.astype(np.float32) for a in right], right)[1], case.name
        for k, array in enumerate(right):
            wrong = [*right[:k], array * 1.0001, *right[k + 1 :]]
            assert not op_cases.same(wrong, right)[1], (case.name, k)
            wrong[k] = np.where(np.arange(array.size).reshape(array.shape) == 0, np.nan, array)
            assert not op_cases.same(wrong, right)[1], (case.name, k)


def test_a_contender_that_fails_says_why(bench):
    harness = bench("harness")
    with harness.Workers(1, {}) as workers:
        with pytest.raises(harness.Failed, match=r"UnknownBackend.*'nobody'"):
            workers.start().make("peers.nnfast_fit", "trainer", bench("cases").case(SMALLEST), "nobody")
        worker = workers.start()
        with pytest.raises(harness.Failed, match="ended with status 3"):
            worker.ask("call", "os", "_exit", 3)


def test_contenders_share_threads_and_processors(bench):
    harness = bench("harness")
    with harness.Workers(1, {"EXTRA": "yes"}) as workers:
        worker = workers.start()
        environment = worker.ask("call", "os", "getenv", "OMP_NUM_THREADS"), worker.ask("call", "os", "getenv", "EXTRA")
        assert environment == ("1", "yes")
        if harness.allowed_cpus(1):
            assert sorted(worker.ask("call", "os", "sched_getaffinity", 0)) == harness.allowed_cpus(1)


def test_the_best_of_the_others_is_what_nnfast_is_compared_with(bench):
    report = bench("report")
    times = {name: np.array(values) for name, values in {"a": [3, 3], "b": [2, 4], "n": [1, 1], "c": [2, 2]}.items()}
    rows = report.compared("case", times, dict.fromkeys(times, "title"), ["n"])
    assert [row["best other"] for row in rows] == [False, False, False, True]
    assert rows[2]["over best other"]["median"] == 0.5
    assert rows[0]["over best other"] is None


def test_summary_takes_the_automatic_backend_and_goes_between_its_markers(bench, tmp_path):
    report, machine = bench("report"), bench("machine")
    titles = {"torch": "PyTorch, eager", "numpy": "nnfast, numpy", "numba": "nnfast, numba"}
    times = {"torch": np.array([8e-5]), "numpy": np.array([1e-5]), "numba": np.array([2e-5])}
    record = {
        "version": report.VERSION,
        "bench": "ops",
        "machine": machine.facts(2) | {"load before": 3.0},
        "rows": report.compared("an op", times, titles, ["numpy", "numba"], 1e-5),
    }
    (tmp_path / "ops.json").write_text(json.dumps(record))
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nafter\n")
    for _ in range(2):
        assert report.main(["--results", str(tmp_path), "--readme", str(readme)]) == 0
        text = readme.read_text()
        assert "| an op | 20.0 µs (nnfast, numba) | 80.0 µs (PyTorch, eager) | 0.25 |" in text
        assert "busy before the run" in text
        assert text.startswith("before\n<!-- bench: begin -->\n")
        assert text.endswith("\n<!-- bench: end -->\nafter\n")
        assert "old" not in text
    readme.write_text("no markers")
    with pytest.raises(SystemExit, match="expected the markers"):
        report.main(["--results", str(tmp_path), "--readme", str(readme)])
    (tmp_path / "ops.json").write_text(json.dumps(record | {"version": 1}))
    with pytest.raises(SystemExit, match="measure again"):
        report.main(["--results", str(tmp_path)])


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_company_is_timed_apart(tmp_path):
    record, readme = recorded("bench_fit", tmp_path)
    assert [r["title"] for r in record["rows"]] == ["nnfast, numpy"] * 2
    for row in record["rows"]:
        parts = [row[part]["median"] for part in ("validating", "saving", "bare")]
        assert all(seconds > 0 for seconds in parts)
        assert row["whole"]["median"] > max(parts[:2])
    assert "| 2-64-3, batch 300 | nnfast, numpy | 100 |" in readme
