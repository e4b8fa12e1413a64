"""Profiles: every op with its time, times that add up, and a model that is none the wiser."""

from __future__ import annotations

import copy
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small_models import TARGETS, X, Y, classifier, regressor

import nnfast as nn
from nnfast.errors import DTypeError, NnfastError, OptionError, ShapeError, StateError
from nnfast.profiling.report import duration
from nnfast.profiling.roofline import Roofline
from nnfast.program import Cost
from nnfast.registry import get_backend
from nnfast.training.batches import make_job, prepare

QUICK = {"seconds": 0.02}
HERE = Path(__file__).parent


class Sleeper(nn.PythonLayer):
    """Passes its input on, after a nap."""

    def __init__(self, seconds=0.02):
        super().__init__()
        self.seconds, self.calls = seconds, []

    def compute(self, x, training):
        self.calls.append(len(x))
        time.sleep(self.seconds)
        return x

    def gradient(self, dy):
        return dy


@pytest.fixture(params=[1, 2])
def threads(request):
    before = nn.get_num_threads()
    nn.set_num_threads(request.param)
    yield request.param
    nn.set_num_threads(before)


def wide(backend, **settings):
    """Large enough for two shares, with parts of the gradient and one cut by inputs."""
    layers = [nn.Dense(200, 128, weight_l2=1e-4), nn.ReLU(), nn.Dropout(0.1), nn.Dense(128, 40), nn.Dense(40, 10)]
    optimizer = nn.Adam(0.01, clip_norm=1.0)
    settings = {"metrics": ["accuracy"], "backend": backend, "rng": 0} | settings
    return nn.Model(layers, loss=nn.SoftmaxCrossEntropy(), optimizer=optimizer, **settings)


def rows_for(model, count=300):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((count, model.n_inputs)).astype(np.float32)
    return x, rng.integers(0, model.n_outputs, count)


def ops(profile):
    return [row for row in profile.rows if row.place is not None]


# ---- what is measured -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 64])
def test_every_op_is_there_once_and_the_times_add_up(backend, threads, batch_size):
    model = wide(backend)
    p = model.profile(*rows_for(model), batch_size=batch_size, **QUICK)
    assert [row.place for row in ops(p)] == list(range(len(model.program.ops)))
    assert all(row.op.startswith(op.name) for row, op in zip(ops(p), model.program.ops, strict=True))
    assert sum(row.seconds for row in p.rows) == pytest.approx(p.timed, rel=1e-6)
    assert sum(row.share for row in p.rows) == pytest.approx(1, rel=1e-6)
    assert all(row.seconds >= -1e-6 * p.timed for row in p.rows)
    assert 0.02 < p.timed / p.total < 50
    assert p.steps_per_second == 1 / p.total
    worked = [row for row in ops(p) if row.bytes]  # not the penalties of strength 0
    assert sum(row.op == "penalty" for row in worked) == 1
    assert all(row.calls and row.seconds > 0 and row.roofline > 0 for row in worked)
    assert p.batch == (batch_size or 300)
    assert 1 <= p.threads <= 2


def numba_compiles():
    return importlib.import_module("nnfast.kernels.numba_cpu.modes").COMPILED


def test_idle_ops_are_named_and_cost_nothing(backend):
    p = regressor(backend=backend).profile(X, TARGETS, **QUICK)
    idle = [row for row in ops(p) if row.op in ("penalty", "clip_by_global_norm")]
    assert len(idle) == 5
    assert all((row.bytes, row.flops, row.floor, row.roofline) == (0, 0, None, None) for row in idle)
    if backend.name == "numba" and numba_compiles():
        assert not any(row.calls or row.seconds for row in idle)
        assert sum(line.endswith(" –") for line in str(p).splitlines()) == 5


def test_work_is_that_of_the_program_averaged_over_batches(backend):
    model = classifier(backend=backend)
    whole = model.profile(X, Y, **QUICK)
    full = model.program.costs(len(X))
    for row, cost in zip(ops(whole), full, strict=True):
        if row.bytes:
            assert (row.bytes, row.flops) == cost
    bench = model.profile(X, Y, batch_size=len(X) - 20, **QUICK)  # two batches, of which one is short
    halves = [model.program.costs(n) for n in (len(X) - 20, 20)]
    for row, a, b in zip(ops(bench), *halves, strict=True):
        if row.bytes:
            assert row.bytes == pytest.approx((a.bytes + b.bytes) / 2)
            assert row.flops == pytest.approx((a.flops + b.flops) / 2)


def test_the_slow_part_has_the_largest_share(backend):
    model = nn.Model(
        [nn.Dense(2, 8), Sleeper(), nn.Dense(8, 3)],
        loss=nn.SoftmaxCrossEntropy(),
        optimizer=nn.SGD(0.1),
        backend=backend,
        rng=0,
    )
    p = model.profile(X, Y, **QUICK)
    largest = max(p.rows, key=lambda row: row.share)
    assert (largest.op, largest.stage, largest.layer) == ("python Sleeper", "forward", "1")
    assert largest.share > 0.5
    assert largest.seconds > 0.0199
    assert largest.floor is None
    assert model.layers[1].calls == []  # it slept on the copy


@pytest.mark.parametrize("threads", [1], indirect=True)  # two wait for each other, on a busy machine above all
def test_times_tell_work_apart(backend, threads):
    """An op with a hundred times the work of another takes longer."""
    layers = [nn.Dense(256, 512), nn.Tanh(), nn.Dense(512, 2)]
    model = nn.Model(layers, loss=nn.SoftmaxCrossEntropy(), optimizer=nn.SGD(0.1), backend=backend, rng=0)
    p = model.profile(*rows_for(model, 512), **QUICK)
    forward = [row for row in p.rows if row.stage == "forward"]
    assert forward[0].size == "256×512"
    assert forward[0].seconds > 2 * forward[-1].seconds


def test_rows_that_must_be_gathered_have_their_line():
    pytest.importorskip("numba")
    if not numba_compiles():
        pytest.skip("programs are walked op by op")
    model = wide("numba")
    p = model.profile(*rows_for(model), batch_size=64, **QUICK)
    assert "gather rows" in [row.op for row in p.rows]
    assert "gather rows" not in [row.op for row in model.profile(*rows_for(model), **QUICK).rows]


def test_both_ways_of_a_large_weight_gradient_count_for_its_op(threads):
    pytest.importorskip("numba")
    model = wide("numba")
    for _ in range(2):
        p = model.profile(*rows_for(model), **QUICK)
        assert {row.op for row in p.rows if row.place is None} <= {
            "add up shares",
            "check for NaN",
            "between ops",
            "waiting",
        }


# ---- models that do not train, and others ---------------------------------------------------------------------------


def test_without_an_optimizer_it_evaluates_and_without_y_predicts(backend):
    layers = [nn.Dense(2, 8, rng=0), nn.ReLU(), nn.Dense(8, 3, rng=1)]
    model = nn.Model(layers, loss=nn.SoftmaxCrossEntropy(), metrics=["accuracy"], backend=backend)
    evaluated = model.profile(X, Y, sample_weight=np.ones(len(X)), **QUICK)
    assert evaluated.mode == "evaluate"
    assert "accuracy" in [row.op for row in evaluated.rows]
    predicted = model.profile(X, None, batch_size=16, **QUICK)
    assert (predicted.mode, predicted.batch) == ("predict", 16)
    assert [row.op for row in ops(predicted)] == ["dense relu", "dense", "softmax"]


@pytest.mark.parametrize("mode", ["perturb", "sample"])
def test_random_search_too(backend, mode):
    model = classifier(nn.RandomSearch(0.05, mode=mode), backend=backend)
    p = model.profile(X, Y, **QUICK)
    assert any(row.op.startswith("random_search_propose") for row in p.rows)


def test_rows_on_disk(backend, tmp_path):
    stored = np.memmap(tmp_path / "rows", np.float64, "w+", shape=X.shape)
    stored[...] = X
    p = classifier(backend=backend).profile(stored, Y, batch_size=32, **QUICK)
    assert (p.batch, p.mode) == (32, "train")


# ---- the model stays as it is ---------------------------------------------------------------------------------------


def everything(model):
    buffers = model._buffers
    arrays = {"parameters": buffers.parameters, "gradients": buffers.gradients, "state": buffers.state, **buffers.slots}
    values = {name: np.array(a).tobytes() for name, a in arrays.items()}
    return values, model.optimizer.steps, model._key, model._epochs, model.history


@pytest.mark.parametrize("make", [nn.Adam, nn.RandomSearch, lambda: nn.SGD(0.1, momentum=0.9)])
def test_the_model_is_untouched_and_trains_on_as_if_nothing_had_been(backend, make):
    model = classifier(make(), backend=backend)
    model.fit(X, Y, epochs=2, verbose=0)
    twin = copy.deepcopy(model)
    before = everything(model)
    model.profile(X, Y, sample_weight=np.linspace(0, 1, len(X)), **QUICK)
    assert everything(model) == before
    assert np.random.default_rng(0).random() == np.random.default_rng(0).random()
    for m in (model, twin):
        m.fit(X, Y, epochs=3, verbose=0)
    np.testing.assert_array_equal(model.parameters, twin.parameters)


def test_a_fresh_model_has_no_more_arrays_afterwards(backend):
    model = classifier(backend=backend)
    model.profile(X, Y, batch_size=32, **QUICK)
    assert model._buffers.slots == {}
    assert model._programs._compiled == {}
    assert model.optimizer.steps == 0


def test_from_within_a_training(backend):
    seen = []

    def look(model, epoch, logs):
        seen.append(model.profile(X, Y, **QUICK))

    plain, watched = classifier(backend=backend), classifier(backend=backend)
    plain.fit(X, Y, epochs=2, batch_size=32, verbose=0)
    watched.fit(X, Y, epochs=2, batch_size=32, verbose=0, callbacks=[look])
    assert len(seen) == 2
    np.testing.assert_array_equal(plain.parameters, watched.parameters)


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"X": X[:, :1]}, ShapeError, "X"),
        ({"y": Y[:-1]}, ShapeError, "y"),
        ({"y": None}, DTypeError, "y is None"),
        ({"y": Y + 5}, NnfastError, "y"),
        ({"batch_size": 0}, OptionError, "batch_size"),
        ({"seconds": 0}, OptionError, "seconds"),
        ({"seconds": "long"}, OptionError, "seconds"),
        ({"sample_weight": [1.0]}, ShapeError, "sample_weight"),
    ],
)
def test_what_cannot_be_measured_is_said_before_any_work(backend, monkeypatch, change, error, words):
    monkeypatch.setattr("nnfast.profiling.measuring._Bench._run", lambda *_: pytest.fail("it has begun to work"))
    arguments = {"X": X, "y": Y} | QUICK | change
    with pytest.raises(error, match=words):
        classifier(backend=backend).profile(arguments.pop("X"), arguments.pop("y"), **arguments)


def test_what_the_model_lacks_is_said(backend):
    bare = nn.Model([nn.Dense(2, 3, rng=0)], backend=backend)
    with pytest.raises(StateError, match="y=None"):
        bare.profile(X, Y)
    with pytest.raises(OptionError, match="without y"):
        bare.profile(X, None, sample_weight=np.ones(len(X)))
    with pytest.raises(OptionError, match="batch_size"):
        classifier(nn.RandomSearch(), backend=backend).profile(X, Y, batch_size=10)


def test_a_runner_runs_on_as_before(backend):
    model = classifier(backend=backend)
    data = prepare(model, X, Y, None, 30)
    program, runner = model._programs.runner("train")
    settings = {"steps": 8, "learning_rates": np.full(8, 0.01)}

    def sums():
        return runner.run(make_job(copy.deepcopy(model), data, model._programs.scalars(program), **settings)).sums

    before = sums()
    job = make_job(copy.deepcopy(model), data, model._programs.scalars(program), **settings)
    lines, seconds, threads = runner.profile(job)
    assert job.done == 8
    assert 0 < sum(t for _, t in lines) <= seconds * (1 + 1e-9)
    assert threads >= 1
    np.testing.assert_array_equal(sums(), before)
    if backend.name == "numpy":
        assert all(kernel.__qualname__ != "ReferenceRunner._timed.<locals>.call" for kernel, *_ in runner._plan)


# ---- backends that cannot time their ops ----------------------------------------------------------------------------


def test_a_runner_without_clocks_has_its_kernels_timed_one_by_one():
    class Runner:
        def __init__(self, inner):
            self.program, self.run, self.report = inner.program, inner.run, inner.report

    class Mine(type(get_backend("numpy"))):
        name = "mine"

        def compile(self, program):
            return Runner(super().compile(program))

    p = classifier(backend=Mine()).profile(X, Y, **QUICK)
    assert p.one_by_one
    assert "'mine' cannot time" in str(p)
    assert all(row.seconds > 0 for row in ops(p))


def test_a_device_has_no_roofline_of_this_machine():
    class Elsewhere(type(get_backend("numpy"))):
        name, device = "elsewhere", "moon"

    p = classifier(backend=Elsewhere()).profile(X, Y, **QUICK)
    assert p.machine is None
    assert p.roofline is None
    assert "Roofline" not in str(p)
    assert p.to_dict()["machine"] is None


def test_without_compilation_too():
    pytest.importorskip("numba")
    code = (
        "import sys; sys.path.insert(0, 'tests'); from small_models import X, Y, classifier;"
        "p = classifier(backend='numba').profile(X[:30], Y[:30], seconds=0.02);"
        "assert all(row.seconds > 0 for row in p.rows if row.stage == 'forward'); print(p)"
    )
    settings = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "adam_step" in done.stdout


# ---- table, dictionary, picture -------------------------------------------------------------------------------------


def test_table_and_dictionary_agree(backend):
    p = classifier(backend=backend).profile(X, Y, batch_size=50, **QUICK)
    data = json.loads(json.dumps(p.to_dict()))
    assert data["seconds_per_step"] == p.total
    assert len(data["ops"]) == len(p.rows)
    lines = str(p).splitlines()
    body = lines[3 : 3 + len(p.rows)]
    for line, op, row in zip(body, data["ops"], p.rows, strict=True):
        assert op["op"] == row.op
        assert op["op"] in line
        if op["calls"]:
            assert duration(op["seconds"]) in line
        if op["roofline"] is not None:
            assert op["roofline"] == pytest.approx(op["floor"] / op["seconds"])
    assert p.title in lines[0]
    assert duration(p.total) in lines[0]
    assert duration(p.timed) in lines[4 + len(p.rows)]
    assert data["machine"]["flops_per_second"] >= data["machine"]["flops_per_second_of_one_core"] * 0.5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (2.5e-8, "25 ns"), (1e-6, "1.00 µs"), (1.234e-5, "12.3 µs"), (0.5, "500 ms"), (12.0, "12.0 s")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_roofline_takes_the_longer_of_computing_and_moving():
    machine = Roofline(2, "float32", 50.0, 100.0, ((10, 40.0), (100, 20.0), (1000, 5.0)))
    assert machine.seconds(Cost(20, 1000)) == 10.0
    assert machine.bound(Cost(20, 1000)) == "compute"
    assert machine.seconds(Cost(20, 10)) == 0.5  # two cores hold twice the smallest working set
    assert machine.seconds(Cost(21, 10)) == 21 / 20
    assert machine.seconds(Cost(5000, 10)) == 1000.0
    assert machine.bound(Cost(5000, 10)) == "memory"
    assert machine.bound(Cost(0, 0)) == ""


@pytest.mark.parametrize("hidden", [1, 9])
def test_the_picture(backend, tmp_path, hidden):
    pytest.importorskip("matplotlib")
    layers = [layer for _ in range(hidden) for layer in (nn.Dense(2, 2, rng=0), nn.ReLU())] + [nn.Dense(2, 3, rng=0)]
    model = nn.Model(layers, loss=nn.SoftmaxCrossEntropy(), optimizer=nn.SGD(0.1), backend=backend)
    p = model.profile(X, Y, **QUICK)
    fig = p.plot(tmp_path / "profile.png")
    shown = [row for row in p.rows if row.calls]
    ax = fig.axes[0]
    assert len(ax.get_yticklabels()) == len(shown)
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the step reads downwards
    widths = [bar.get_width() for bar in ax.patches if bar.get_alpha() is not None]
    assert widths == pytest.approx([max(row.seconds, 0) for row in shown])
    assert (tmp_path / "profile.png").stat().st_size > 10_000
    with pytest.raises(OptionError, match="must end in"):
        p.plot("profile.doc")
