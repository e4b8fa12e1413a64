"""What the reports say follows from the record: ratios, ties, what got slower, and tables between their markers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

FACTS = {"nnfast": "1", "python": "CPython", "numpy": "2", "processor": "one", "cpus": 2, "threads": 2, "blas": "some"}
FACTS |= {"time": "2026-01-02 03:04", "load before": 3.0, "peers": {"torch": "9"}}


def benchmark(who, data, *, twin=False, case="a network, batch 1", suite="steps", section="networks", **info):
    nnfast = who in ("numpy", "numba")
    group = f"{suite}: {section}: {case}"
    extra = {"suite": suite, "section": section, "case": case, "unit": "step", "floor": 1e-6, "axis": None, "x": None}
    title = f"nnfast, {who}" if nnfast else who
    extra |= {"contender": who, "title": title, "nnfast": nnfast, "twin": twin, **info}
    stats = {"data": list(data), "rounds": len(data), "median": float(np.median(data))}
    return {"group": group, "fullname": f"{group}: {who}{twin}", "extra_info": extra, "stats": stats}


def record(*benchmarks, **more):
    own = {"format": 3, "quick": False, "limits": {"float32 flops per second": 2e11}, "left out": {}, "settings": {}}
    return {"machine_info": FACTS, "nnfast": own | more, "benchmarks": list(benchmarks)}


@pytest.fixture
def read(bench):
    return bench("report.records").read


def test_ratios_are_taken_within_rounds_and_against_the_best(read):
    (group,) = read(record(benchmark("a", [3, 3, 6]), benchmark("b", [2, 4, 2]), benchmark("numba", [1, 2, 1]))).groups
    assert group.best_other.name == "b"
    ratio = group.ratio(group.ours, group.best_other)
    assert (ratio.median, ratio.low, ratio.high) == (0.5, 0.5, 0.5)
    assert ratio.verdict == "faster"
    assert group.ratio(group.best_other, group.ours).verdict == "slower"
    assert group.reached(group.ours) == pytest.approx(1e-6)


def test_noise_is_that_of_nnfast_against_itself_and_makes_ties(read):
    base = np.ones(5)
    close = [benchmark("a", base), benchmark("numba", base * 0.95), benchmark("numpy", base * 3)]
    (group,) = read(record(*close)).groups
    assert group.noise is None
    assert group.ratio(group.ours, group.best_other).verdict == "faster"
    again = benchmark("numba", base * 0.95 * [0.9, 1.0, 1.0, 1.1, 1.1], twin=True)
    (group,) = read(record(*close, again)).groups
    assert group.noise == pytest.approx(0.1)
    assert group.ratio(group.ours, group.best_other).verdict == "tie"
    assert group.ours.name == "numba"
    assert not group.ours.twin


def test_quartiles_that_contain_one_are_a_tie(read):
    (group,) = read(record(benchmark("a", [1, 1, 1, 1, 1]), benchmark("numpy", [0.9, 0.9, 0.95, 1.1, 1.1]))).groups
    assert group.ratio(group.ours, group.best_other).verdict == "tie"


def test_another_format_is_refused(read, bench, tmp_path):
    with pytest.raises(SystemExit, match="measure again"):
        read(record(format=2))
    with pytest.raises(SystemExit, match="measure again"):
        read({"benchmarks": []})
    with pytest.raises(SystemExit, match="cannot be read"):
        bench("report.records").load(tmp_path / "nothing.json")


def test_what_got_slower_is_named(read, bench):
    changes = bench("report.compare").changes
    then = read(record(benchmark("a", [2.0] * 5), benchmark("numba", [1.0] * 5), benchmark("numpy", [3.0] * 5)))
    now = read(record(benchmark("a", [2.0] * 5), benchmark("numba", [1.2] * 5), benchmark("numpy", [2.0] * 5)))
    assert [(c.title, c.verdict) for c in changes(then, now)] == [
        ("nnfast, numba", "slower"),
        ("nnfast, numpy", "faster"),
    ]
    assert {c.verdict for c in changes(then, then)} == {"same"}


def test_a_slower_machine_is_not_a_slower_nnfast(read, bench):
    changes = bench("report.compare").changes
    then = read(record(benchmark("a", [2.0] * 5), benchmark("numba", [1.0] * 5)))
    now = read(record(benchmark("a", [4.0] * 5), benchmark("numba", [2.0] * 5)))
    (change,) = changes(then, now)
    assert (change.verdict, change.drift) == ("same", 2.0)
    alone = benchmark("numba", [1.0] * 5, case="nobody else"), benchmark("numba", [2.0] * 5, case="nobody else")
    with_general = changes(
        read(record(benchmark("a", [2.0] * 5), alone[0])), read(record(benchmark("a", [4.0] * 5), alone[1]))
    )
    assert [c.verdict for c in with_general] == ["same"]


def test_what_lies_within_the_noise_is_the_same(read, bench):
    changes = bench("report.compare").changes
    shaky = [0.9, 1.0, 1.1, 1.2, 1.3]
    then = read(record(benchmark("numba", shaky)))
    assert changes(then, read(record(benchmark("numba", np.multiply(shaky, 1.15)))))[0].verdict == "same"
    assert changes(then, read(record(benchmark("numba", np.multiply(shaky, 1.5)))))[0].verdict == "slower"
    steady, steadier = read(record(benchmark("numba", [1.0] * 5))), read(record(benchmark("numba", [1.02] * 5)))
    assert changes(steady, steadier)[0].verdict == "same"  # two runs differ by more than rounds do
    assert changes(steady, read(record(benchmark("numba", [1.05] * 5))))[0].verdict == "slower"


def test_the_readme_gets_generated_rows_lost_ones_included(read, bench, tmp_path):
    summary = bench("report.summary")
    won = [benchmark("a", [2e-5] * 3), benchmark("numba", [1e-5] * 3)]
    lost = [
        benchmark(who, [t] * 3, case="another", suite="ops", section="functions")
        for who, t in (("a", 1e-5), ("numba", 4e-5))
    ]
    run = read(record(*won, *lost))
    readme, bench_readme = tmp_path / "README.md", tmp_path / "bench.md"
    readme.write_text("before\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nafter\n")
    names = ["bench_machine", "bench_steps", "bench_ops", "bench_gpu"]
    bench_readme.write_text("".join(f"<!-- {name}: begin -->\n<!-- {name}: end -->\n" for name in names))
    for _ in range(2):
        summary.write(run, readme, bench_readme, tmp_path)
        text = readme.read_text()
        assert text.startswith("before\n<!-- bench: begin -->\n")
        assert text.endswith("\n<!-- bench: end -->\nafter\n")
        assert "old" not in text
    assert "| training step, a network, batch 1 | 10.0 µs (nnfast, numba) | 20.0 µs (a) | 0.50 |" in text
    assert "| another | 40.0 µs (nnfast, numba) | 10.0 µs (a) | 4.0 | **slower** |" in text
    assert "steps 1 of 1; ops 0 of 1 (0 ties, 1 lost)" in text
    assert "busy before the run" in text
    assert "| a network, batch 1 | a | 20.0 µs |" in bench_readme.read_text()
    readme.write_text("no markers")
    with pytest.raises(SystemExit, match="expected the markers"):
        summary.write(run, readme, bench_readme, tmp_path)


def test_the_tables_in_the_repository_are_those_of_its_record(bench, tmp_path):
    """No figure was typed: writing the tables once more changes nothing."""
    root = Path(__file__).parent.parent
    files = [tmp_path / "README.md", tmp_path / "bench.md"]
    for file, original in zip(files, (root / "README.md", root / "bench/README.md"), strict=True):
        file.write_text(original.read_text(encoding="utf-8"), encoding="utf-8")
    run = bench("report.records").load(root / "bench/results/cpu.json")
    assert not run.quick
    bench("report.summary").write(run, *files, root / "bench/results")
    assert files[0].read_text(encoding="utf-8") == (root / "README.md").read_text(encoding="utf-8")
    assert files[1].read_text(encoding="utf-8") == (root / "bench/README.md").read_text(encoding="utf-8")
    pages = bench("report.page").render(run), (root / "bench/results/cpu.html").read_text(encoding="utf-8")
    made, kept = (re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL) for page in pages)
    assert made == kept  # but for the drawings, which another matplotlib draws a little differently


def test_a_compact_record_keeps_all_but_digits(bench):
    content = record(benchmark("a", [1 / 3, 2 / 3]), benchmark("numba", [1.0, 2.0]))
    again = json.loads(bench("run").compact(json.loads(json.dumps(content))))
    assert again["benchmarks"][0]["stats"]["data"] == [0.3333, 0.6667]
    assert again["machine_info"] == content["machine_info"]
    assert again["nnfast"] == content["nnfast"]
    assert again["benchmarks"][1] == json.loads(json.dumps(content["benchmarks"][1]))
