"""The GPU benchmark runs from beginning to end on a simulated device, and what it writes says what it stands on.

No GPU code runs in here, and nothing is measured.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
BENCH = ROOT / "bench"
PARTS = {
    "probe": ["facts", "products"],
    "parity": ["ops float32", "ops float64", "training", "processes"],
    "measure": ["kernels", "steps", "predictions", "populations"],
}


def run(*arguments, check=True, cwd=ROOT, script="bench/gpu.py", options=()):
    command = [sys.executable, *options, str(script), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    assert not check or done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """A record of the simulated device, and what was printed."""
    from simulator.build import unavailable

    if reason := unavailable():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("record")
    done = run("--simulated", "--out", folder, "--seconds", 500)
    return json.loads((folder / "gpu-simulated.json").read_text(encoding="utf-8")), done, folder


@pytest.mark.slow
def test_every_step_of_every_part_works(simulated):
    record, _, _ = simulated
    assert {part: list(sections) for part, sections in record["parts"].items()} == PARTS
    for part, sections in record["parts"].items():
        for name, content in sections.items():
            assert content["steps"], f"{part}, {name} did nothing"
            for step, entry in content["steps"].items():
                assert "found" in entry, f"{part}, {name}, {step}: {entry}"


@pytest.mark.slow
def test_a_simulated_record_says_so_and_has_no_table(simulated):
    record, done, folder = simulated
    assert record["simulated"] is True
    assert "no GPU code ran" in record["banner"]
    assert "no GPU code ran" in record["device"]
    assert "no GPU code ran" in done.stdout
    assert not list(folder.glob("*.md"))
    refused = run("--table", folder / "gpu-simulated.json", check=False)
    assert refused.returncode != 0
    assert "no GPU code ran" in refused.stderr
    assert run("--table", folder).stdout.startswith("Not measured yet.")


@pytest.mark.slow
def test_populations_train_alike(simulated):
    (entry,) = simulated[0]["parts"]["measure"]["populations"]["steps"].values()
    contenders = entry["found"]["contenders"]
    assert set(contenders) == {"nnfast", "nnfast, fit", "nnfast, model by model"}
    assert all(c["losses apart"] < 1e-5 and c["losses"][-1] < c["losses"][0] for c in contenders.values())


@pytest.mark.slow
def test_all_of_ours_train_alike(simulated):
    trainings = simulated[0]["parts"]["measure"]["steps"]["steps"]
    assert len(trainings) == 2
    for entry in trainings.values():
        contenders = entry["found"]["contenders"]
        assert set(contenders) == {"nnfast", "nnfast, fit", "nnfast, a job per step"}
        assert all(c["losses apart"] < 1e-5 and c["losses"][-1] < c["losses"][0] for c in contenders.values())
        assert all(min(c["microseconds"]) > 0 for c in contenders.values())
        assert contenders["nnfast"]["told"]["in a graph"]


def test_a_fault_costs_its_own_step_only(bench, tmp_path):
    section_module = bench("gpu_parts.section")
    section = section_module.Section(tmp_path / "record.json", 100)
    assert section.step("first", lambda: {"a": np.float32(0.5), "b": [np.int64(3), float("nan")]}) is not None
    assert section.step("bad", lambda: 1 / 0) is None
    section.step("last", lambda: True)
    late = section_module.Section(tmp_path / "late.json", 0)
    late.step("never", lambda: True)
    steps = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))["steps"]
    assert steps["first"]["found"] == {"a": 0.5, "b": [3, "nan"]}
    assert "ZeroDivisionError" in steps["bad"]["error"]
    assert steps["last"]["found"] is True
    assert "skipped" in json.loads((tmp_path / "late.json").read_text(encoding="utf-8"))["steps"]["never"]


def test_a_contender_that_dies_or_sleeps_is_left_out(bench):
    workers = bench("gpu_parts.workers")
    worker = workers.Worker()
    try:
        with pytest.raises(workers.Failed, match="ModuleNotFoundError"):
            worker.make("a", "not_there", "maker", limit=60)
        with pytest.raises(workers.Failed, match="status 3"):
            worker.make("b", "os", "_exit", 3, limit=60)
        with pytest.raises(workers.Failed, match="has ended"):
            worker.run("b", 1, limit=60)
        assert not worker.alive
    finally:
        worker.close()
    worker = workers.Worker()
    try:
        with pytest.raises(workers.Failed, match="no answer"):
            worker.make("c", "time", "sleep", 100, limit=0.5)
    finally:
        worker.close()


def test_the_checkout_works_without_an_installation(tmp_path):
    """A plain copy, on a Python that has NumPy and no nnfast: `-S` leaves out what was installed."""
    copy = tmp_path / "copy"
    for folder in ("nnfast", "kernels", "bench"):
        ignored = shutil.ignore_patterns("__pycache__", "results", ".mypy_cache")
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    program = (
        "import sys; sys.path[:0] = [{bench!r}]; sys.path.append({numpy!r}); import gpu_parts.checkout as c;"
        "c.open_checkout(); import nnfast, nnfast.kernels.reference as r;"
        "print(nnfast.__file__, r.__file__, len(c.fingerprint()))"
    ).format(bench=str(copy / "bench"), numpy=str(Path(np.__file__).parent.parent))
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    package, reference, digits = done.stdout.split()
    assert Path(package).is_relative_to(copy)
    assert Path(reference).is_relative_to(copy / "kernels")
    assert digits == "16"


def made_up():
    """A record in the form of a real one; the device and all numbers are made up for this test."""
    spread = {"median": 2.0, "q1": 1.0, "q3": 3.0}
    timed = {"microseconds": spread, "of the copy": {"median": 0.5}}
    kernels = {
        "bias + ReLU, 1x1": {"found": {"bytes": 10, "cold": timed, "warm": timed}},
        "bad": {"error": "x\nOops: y"},
    }
    told = {"flops": [100, 0], "bytes": [0, 40], "report": []}

    def training(network, precision, hand):
        contenders = {
            "nnfast": {"ours": True, "losses": [1.0], "losses apart": 0.0, "microseconds": [4.0, 4.0], "told": told},
            "PyTorch, step captured by hand": {
                "ours": False, "losses": [1.0], "losses apart": 0.0, "microseconds": [hand, hand]
            },
            "JAX, whole loop": {"ours": False, "failed": "there is no JAX"},
        }  # fmt: skip
        bound = "launches" if "128" in network else "products"
        return {"found": {"network": network, "precision": precision, "bound": bound, "contenders": contenders}}

    limits = {"copy": {"best": 1e7}, "fp32": {"best": 5e7}, "tf32": {"best": 5e7}}
    steps = {
        "a": training("784-512-256-10, batch 128", "fp32", 8.0),
        "b": training("784-1024-1024-10, batch 1024", "tf32", 4.0),
    }
    return {
        "bench": "gpu", "version": 1, "simulated": False, "device": "Made Up 9000", "sources": "0" * 16,
        "parts": {
            "probe": {"facts": {"seconds": 1, "steps": {"limits": {"found": limits}}}},
            "measure": {
                "kernels": {"seconds": 1, "steps": kernels},
                "steps": {"seconds": 1, "steps": steps},
            },
        },
    }  # fmt: skip


def test_tables_are_made_from_records(bench, tmp_path):
    table = bench("gpu_parts.table")
    record = made_up()
    text = table.table(record)
    assert "| bias + ReLU: share of a copy's bandwidth | at least 0.80 | 0.50 | missed |" in text
    assert "time over that of PyTorch, step captured by hand | at most 0.60 | 0.50 | reached |" in text
    assert "1024, tf32: time over that of PyTorch, step captured by hand | at most 0.95 | 1.00 | missed |" in text
    assert "PyTorch, eager | at most 0.15 |  | not measured |" in text
    # 100 operations at 5e7/s are 2 µs, 40 bytes at 1e7/s are 4 µs: 6 of 4
    assert "| 784-512-256-10, batch 128 | fp32 | nnfast | 4.00 | 4.00 to 4.00 |  | 150% | 0.0e+00 |" in text
    assert "| PyTorch, step captured by hand | 8.00 | 8.00 to 8.00 | 0.50 (0.50 to 0.50) |" in text
    assert "| JAX, whole loop | failed |" in text
    assert "- measure, kernels, bad: `Oops: y`" in text
    assert "- JAX, whole loop: there is no JAX" in text
    (tmp_path / "gpu-made-up.json").write_text(json.dumps(record), encoding="utf-8")
    assert table.of_results(tmp_path) == text
    assert table.of_results(tmp_path / "empty").startswith("Not measured yet.")
    assert "0.50, missed" in table.summary(record)


def test_without_a_gpu_it_says_why(tmp_path):
    if importlib.util.find_spec("cupy"):
        pytest.skip("there is a CuPy, and perhaps a GPU")
    done = run("--out", tmp_path, "--only", "probe", "--seconds", 60, check=False)
    assert done.returncode == 1
    assert (
        "failed: probe, products: RuntimeError: the GPU backend cannot work here: CuPy is not installed" in done.stdout
    )
    record = json.loads((tmp_path / "gpu-unknown.json").read_text(encoding="utf-8"))
    assert all("Traceback" in section["error"] for section in record["parts"]["probe"].values())
    assert not list(tmp_path.glob("*.md"))
    assert run("--table", tmp_path).stdout.startswith("Not measured yet.")


def test_names_and_parts(bench, tmp_path):
    spec = importlib.util.spec_from_file_location("gpu_command", BENCH / "gpu.py")
    gpu = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gpu)
    assert gpu.slug("NVIDIA H200") == "h200"
    assert gpu.slug(None) == "unknown"
    assert gpu.slug("NVIDIA H200", simulated=True) == "simulated"
    record = made_up()
    first = dict(record, parts={"probe": record["parts"]["probe"]})
    second = dict(record, parts={"measure": record["parts"]["measure"]})
    file = gpu._write(tmp_path, first)
    gpu._write(tmp_path, second)
    assert set(json.loads(file.read_text(encoding="utf-8"))["parts"]) == {"probe", "measure"}
    gpu._write(tmp_path, dict(second, sources="1" * 16))
    assert set(json.loads(file.read_text(encoding="utf-8"))["parts"]) == {"measure"}
    assert run("--out", tmp_path, "--only", "everything", check=False).returncode == 2


@pytest.mark.parametrize("maker", ["eager", "one_step", "loop"])
def test_peers_train_as_nnfast_does(bench, maker):
    module, package = ("torch_steps", "torch") if maker == "eager" else ("jax_steps", "jax")
    pytest.importorskip(package)
    import nnfast as nn

    networks, peers = bench("gpu_parts.networks"), bench(f"gpu_parts.{module}")
    case = networks.TINY
    subject = getattr(peers, maker)(case.name, "fp32", "cpu")
    losses = subject.losses(20)
    subject.run(3)
    subject.drop()
    layers = [nn.Dense(5, 6, "zeros"), nn.ReLU(), nn.Dense(6, 3, "zeros")]
    model = nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.Adam(0.001), backend="numpy", dtype="float64")
    model.set_weights(case.weights())
    expected = model.fit(*case.data(), epochs=20, verbose=0).history["loss"]
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


def test_the_captured_step_of_pytorch_begins_where_all_begin(bench, monkeypatch):
    """With a capture that does nothing but run: the warm-up is undone, state and gradients are as documented."""
    torch = pytest.importorskip("torch")
    networks, peers = bench("gpu_parts.networks"), bench("gpu_parts.torch_steps")
    replays = []

    class Stream:
        wait_stream = synchronize = lambda self, *other: None

    graph = type("CUDAGraph", (), {"replay": lambda self: replays.append(self)})
    for name, stub in {
        "Stream": Stream,
        "current_stream": Stream,
        "stream": contextlib.nullcontext,
        "graph": contextlib.nullcontext,
        "CUDAGraph": graph,
        "synchronize": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stub)
    eager = peers.eager(networks.TINY.name, "fp32", "cpu").losses(4)
    captured = peers.graph(networks.TINY.name, "fp32", "cpu", 4)
    assert captured.losses(4) == eager
    captured.run(8)
    assert len(replays) == 3
    assert all(int(state["step"]) == 4 for state in captured.optimizer.state.values())
