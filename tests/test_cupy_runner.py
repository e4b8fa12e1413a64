"""Whole jobs on the GPU backend, run on the stand-in device: the shipped kernels, real graphs of calls, no GPU.

What they compute is held against the reference; how (copies, captures, allocations) against what a device allows.
"""

from __future__ import annotations

import importlib
import re
import warnings

import numpy as np
import pytest
from gpu_models import difference, joined, network, rows, same, simulated, why_not_simulated
from small_models import Ridge

import nnfast as nn
from nnfast.protocol import CUSTOM, OPS, OpSpec

step_of = importlib.import_module("nnfast.kernels.cupy_gpu.step")
device_of = importlib.import_module("nnfast.kernels.cupy_gpu.device")

pytestmark = pytest.mark.skipif(bool(why_not_simulated), reason=str(why_not_simulated))


@pytest.fixture(autouse=True)
def untuned(monkeypatch):
    """The library's first proposals: the same in every run."""
    monkeypatch.setenv("NNFAST_GPU_TUNING", "0")


@pytest.fixture
def gpu():
    return simulated()


def pair(gpu, dtype="float32", **options):
    """The same model on the reference and on the GPU."""
    twin = network("numpy", dtype, **options)
    return twin, twin.to(backend=gpu)


# ---- what is computed -----------------------------------------------------------------------------------------------


def test_a_hundred_free_steps_in_float64_stay_with_the_reference(gpu):
    reference, model = pair(gpu, "float64", metrics=["accuracy"])
    X, y = rows(50)
    a = reference.fit(X, y, epochs=25, batch_size=16, verbose=0)
    b = model.fit(X, y, epochs=25, batch_size=16, verbose=0)
    assert difference(reference, model) < 1e-9
    assert a.history["loss"] == pytest.approx(b.history["loss"], rel=1e-9)
    assert a.history["accuracy"] == b.history["accuracy"]


@pytest.mark.parametrize("inside", [False, True], ids=["separate", "joined"])
def test_single_steps_in_float32_from_the_same_state(gpu, monkeypatch, inside):
    reference, model = pair(gpu)
    X, y = rows(64)
    with joined(monkeypatch) if inside else monkeypatch.context():
        for _ in range(20):
            model.set_weights(reference.get_weights())
            before = reference.get_weights()
            _, g = reference.loss_and_gradient(X, y)
            _, h = model.loss_and_gradient(X, y)
            assert np.abs(g - h).max() <= 2e-6 * np.abs(g).max()
            reference.train_on_batch(X, y)
            model.train_on_batch(X, y)
            moved = max(np.abs(p - q).max() for p, q in zip(before, reference.get_weights(), strict=True))
            assert difference(reference, model) <= 0.2 * moved  # Adam divides small gradients by themselves
            assert model.optimizer.steps == reference.optimizer.steps


def test_joined_products_train_as_separate_kernels_do(gpu, monkeypatch):
    reference, model = pair(gpu, optimizer=nn.SGD(learning_rate=0.1, momentum=0.5))
    X, y = rows(70)
    reference.fit(X, y, epochs=4, batch_size=32, verbose=0)
    with joined(monkeypatch):
        model.fit(X, y, epochs=4, batch_size=32, verbose=0)
        report = model.backend_report()
    assert "cublasLt (relu_aux_bias)" in report
    assert "cublasLt (drelu_bias_grad)" in report
    assert "cublasLt (bias_grad)" in report
    assert difference(reference, model) < 1e-6


@pytest.mark.parametrize(
    "options",
    [
        {"loss": nn.MeanSquaredError(), "layers": [nn.Dense(5, 8), nn.Tanh(), nn.Dense(8, 3)]},
        {"optimizer": nn.SGD(learning_rate=0.1, momentum=0.9, nesterov=True, clip_norm=0.3)},
        {
            "optimizer": nn.RMSprop(learning_rate=0.01),
            "layers": [nn.Dense(5, 8, weight_l2=1e-3), nn.ReLU(), nn.Dense(8, 3)],
        },
        {"layers": [Ridge(5, 8), nn.Tanh(), Ridge(8, 3)]},
        {
            "optimizer": nn.Adagrad(learning_rate=0.1),
            "layers": [nn.Dense(5, 8), nn.Dropout(0.3), nn.GELU(), nn.Dense(8, 3)],
        },
        {
            "optimizer": nn.AdamW(learning_rate=0.01),
            "layers": [nn.Dense(5, 8), nn.Softplus(), nn.Dropout(0.5), nn.Dense(8, 3)],
        },
        {"loss": nn.SigmoidBinaryCrossEntropy(), "metrics": ["binary_accuracy"]},
        {"loss": nn.Huber(0.5), "metrics": ["r2", "mean_absolute_error"]},
        {"layers": [nn.Dense(5, 6), nn.SiLU(), nn.Dense(6, 6, bias_l1=1e-3), nn.ELU(), nn.Dense(6, 3)]},
    ],
    ids=["mse", "clip", "penalty", "penalty by batch", "dropout-gelu", "adamw-dropout", "bce", "huber-r2", "silu-elu"],
)
def test_every_kind_of_part_trains_as_on_the_reference(gpu, options):
    # Parts belong to one model: take copies, so that this test can be run again.
    import copy

    reference, model = pair(gpu, "float64", **copy.deepcopy(options))
    X, y = rows(41)
    if not isinstance(options.get("loss", nn.SoftmaxCrossEntropy()), nn.SoftmaxCrossEntropy):
        y = np.random.default_rng(1).uniform(0, 1, (41, 3))
    weights = np.random.default_rng(2).uniform(0.5, 2, 41)
    a = reference.fit(X, y, epochs=4, batch_size=16, sample_weight=weights, verbose=0)
    b = model.fit(X, y, epochs=4, batch_size=16, sample_weight=weights, verbose=0)
    assert difference(reference, model) < 1e-10
    for name, values in a.history.items():
        assert b.history[name] == pytest.approx(values, rel=1e-9), name
    one, other = reference.evaluate(X, y, sample_weight=weights), model.evaluate(X, y, sample_weight=weights)
    assert one == pytest.approx(other, rel=1e-9)


def test_labels_as_rows_and_a_last_short_batch(gpu):
    reference, model = pair(gpu, "float64")
    X, y = rows(33)
    for m in (reference, model):
        m.fit(X, np.eye(3)[y], epochs=3, batch_size=10, verbose=0)
    assert difference(reference, model) < 1e-11


def test_a_frozen_layer_stays_and_passes_gradients_down(gpu):
    reference, model = pair(gpu, "float64")
    X, y = rows(30)
    for m in (reference, model):
        m.layers[2].trainable = False
        m.fit(X, y, epochs=3, batch_size=8, verbose=0)
    assert difference(reference, model) < 1e-11


@pytest.mark.parametrize("mode", ["perturb", "sample"])
def test_random_search_finds_the_same(gpu, mode):
    layers = [nn.Dense(5, 4), nn.ReLU(), nn.Dense(4, 3)]
    reference, model = pair(gpu, "float64", layers=layers, optimizer=nn.RandomSearch(mode=mode))
    X, y = rows(20)
    a = reference.fit(X, y, epochs=30, verbose=0)
    b = model.fit(X, y, epochs=30, verbose=0)
    assert a.history["loss"] == pytest.approx(b.history["loss"], rel=1e-9)
    assert difference(reference, model) < 1e-9


def test_prediction_in_batches_in_one_and_by_a_predictor(gpu):
    reference, model = pair(gpu, "float64")
    X, _ = rows(50)
    want = reference.predict(X)
    for size in (None, 7, 50, 64):
        assert np.abs(gpu.to_numpy(model.predict(X, size)) - want).max() < 1e-14
    one = model.predictor()
    for x in X[:5]:
        assert np.abs(gpu.to_numpy(one(x[None])) - reference.predict(x[None])).max() < 1e-14


def test_validation_in_the_midst_of_a_job(gpu):
    reference, model = pair(gpu, "float64", metrics=["accuracy"])
    X, y = rows(48)
    given = {"validation_data": (X[:17], y[:17]), "epochs": 6, "batch_size": 16, "verbose": 0}
    a, b = reference.fit(X, y, **given), model.fit(X, y, **given)
    assert a.history["val_loss"] == pytest.approx(b.history["val_loss"], rel=1e-10)
    assert a.history["val_accuracy"] == b.history["val_accuracy"]


def test_accumulated_batches_are_one_large_one(gpu):
    reference, model = pair(gpu, "float64")
    X, y = rows(40)
    for m in (reference, model):
        m.fit(X, y, epochs=3, batch_size=7, accumulate=3, verbose=0)
    assert difference(reference, model) < 1e-11


def test_tf32_rounds_its_inputs_and_nothing_else():
    backend = simulated("CupyTF32Backend")
    reference, model = pair(backend)
    X, y = rows(64)
    loss, g = reference.loss_and_gradient(X, y)
    other, h = model.loss_and_gradient(X, y)
    assert 1e-6 < np.abs(g - h).max() / np.abs(g).max() < 2e-2
    assert loss == pytest.approx(other, rel=1e-2)
    double = network(backend, "float64")
    assert (
        np.abs(double.loss_and_gradient(X, y)[1] - network("numpy", "float64").loss_and_gradient(X, y)[1]).max() < 1e-14
    )


# ---- the same bits, however it is launched --------------------------------------------------------------------------


def trained(steps_of_jobs, backend=None, **options):
    """A model after single jobs of so many steps each."""
    model = network(backend or simulated(), **options)
    X, y = rows(70)
    data = X.astype(model.dtype)
    for steps in steps_of_jobs:
        model.fit(data, y, epochs=steps, batch_size=32, verbose=0)
    return model


@pytest.mark.parametrize("inside", [False, True], ids=["separate", "joined"])
def test_graphs_give_the_bits_of_single_launches(monkeypatch, inside):
    with joined(monkeypatch) if inside else monkeypatch.context():
        whole = trained([40])
        pieces = trained([1, 2, 3, 34])
        with monkeypatch.context() as patch:
            patch.setattr(step_of, "GROUPS", ())
            plain = trained([40])
    assert whole.backend.fake.counts.snapshot().graph_launches > 0
    assert plain.backend.fake.counts.snapshot().graph_launches == 0
    assert same(whole, plain)
    assert same(whole, pieces)


def test_cuts_and_hooks_give_the_bits_of_graphs():
    seen = []
    hooked = network(simulated())
    X, y = rows(70)
    hooked.fit(X, y, epochs=3, batch_size=32, on_gradients=lambda g: seen.append(float(abs(g).max())), verbose=0)
    assert same(hooked, trained([3]))
    assert len(seen) == 9
    assert all(size > 0 for size in seen)


def test_twenty_runs_give_the_same_bits():
    first = trained([5])
    assert all(same(first, trained([5])) for _ in range(19))


def test_without_cublaslt_products_go_through_cupy_and_nothing_is_captured(capsys, monkeypatch):
    monkeypatch.setattr(device_of, "_told", set())
    X, y = rows(70)
    backend = simulated(cublaslt="/nowhere/libcublasLt.so")
    model, reference = network(backend, "float64"), network("numpy", "float64")
    for m in (model, reference):
        m.fit(X, y, epochs=3, batch_size=32, verbose=0)
    assert difference(model, reference) < 1e-11
    assert backend.fake.counts.snapshot().graph_launches == 0
    said = capsys.readouterr().err
    assert "cupy.matmul" in said
    assert said.count("one kernel at a time") == 1
    assert "CuPy" in model.backend_report()


def test_a_failing_capture_falls_back_and_says_so_once(capsys, monkeypatch):
    monkeypatch.setattr(device_of, "_told", set())
    backend = simulated()
    stream = type(backend.fake.cuda.Stream(non_blocking=True))

    def refuse(self, mode=None):
        raise RuntimeError("captures are out of order today")

    monkeypatch.setattr(stream, "begin_capture", refuse)
    model = trained([5, 5], backend)
    monkeypatch.undo()
    monkeypatch.setenv("NNFAST_GPU_TUNING", "0")
    assert same(model, trained([10]))
    assert capsys.readouterr().err.count("captures are out of order today") == 1


# ---- what a step may do ---------------------------------------------------------------------------------------------


def test_a_warm_job_allocates_nothing_and_reads_the_loss_once(gpu):
    model = network(gpu)
    X, y = rows(96)
    X = X.astype(np.float32)
    model.fit(X, y, epochs=80, batch_size=32, shuffle=False, verbose=0)
    run = model._programs.runner("train")[1]
    job = held_job(model, X, y, steps=120, batch_size=32)
    run.run(job)
    gpu.fake.counts.reset()
    run.run(job)
    counted = gpu.fake.counts.snapshot()
    assert counted.allocations == 0
    assert counted.captured == 0
    assert counted.d2h == 2  # sums, and the step that was not finite
    assert counted.h2d == 2  # the job's numbers, and its tables
    assert counted.launches == 0
    assert counted.graph_launches == 120 // 32 + 120 % 32 // 4


def held_job(model, X, y, steps, batch_size=0, **fields):
    from nnfast.protocol import Job

    backend = model.backend
    program, _ = model._programs.runner("train")
    x, labels = backend.asarray(X.astype(model.dtype)), backend.asarray(y.astype(np.int64))
    job = Job(model._buffers, x, labels, key=model._key, batch_size=batch_size, steps=steps)
    job.scalars = model._programs.scalars(program)
    job.learning_rates = np.full(steps, 0.01)
    for name, value in fields.items():
        setattr(job, name, value)
    return job


def test_rates_seeds_and_strengths_change_without_a_new_capture(gpu):
    layers = [nn.Dense(5, 9, weight_l2=1e-3), nn.ReLU(), nn.Dropout(0.2), nn.Dense(9, 3)]
    model = network(gpu, layers=layers, optimizer=nn.SGD(learning_rate=0.1, momentum=0.5, clip_norm=1.0))
    X, y = rows(64)
    data = X.astype(np.float32)
    model.fit(data, y, epochs=9, batch_size=32, verbose=0)
    gpu.fake.counts.reset()
    model.optimizer.learning_rate = nn.schedules.cosine(0.3, 100) if hasattr(nn.schedules, "cosine") else 0.3
    model.optimizer.momentum = 0.9
    model.optimizer.clip_norm = 0.1
    model.layers[0].weight_l2 = 1e-2
    model.layers[2].rate = 0.5
    model._key += 1
    model.fit(data, y, epochs=9, batch_size=32, verbose=0)
    assert gpu.fake.counts.snapshot().captured == 0


def test_a_penalty_that_comes_and_goes(gpu):
    reference, model = pair(gpu, "float64")
    X, y = rows(40)
    for strength in (0.0, 1e-2, 0.0, 1e-3):
        for m in (reference, model):
            m.layers[0].weight_l2 = strength
            m.fit(X, y, epochs=2, batch_size=16, verbose=0)
        assert difference(reference, model) < 1e-11


def test_data_read_where_it_lies_is_not_copied(gpu):
    """Whole-batch training over the same rows: no gather, and the same result as with one."""
    reference, model = pair(gpu, "float64")
    X, y = rows(40)
    for m in (reference, model):
        m.fit(X, y, epochs=8, verbose=0)
    assert difference(reference, model) < 1e-10


def test_other_rows_of_the_same_number_need_no_other_plan(gpu):
    """A single step on rows that were never seen copies them; only what comes again is read where it lies."""
    model = network(gpu)
    kept = [gpu.asarray(rows(20, seed=seed)[0].astype(np.float32)) for seed in range(6)]
    answers = [gpu.to_numpy(model.predict(x)) for x in kept]
    runner = model._programs.runner("predict")[1]
    assert len(runner._steps) == 1
    reference = network("numpy")
    for seed, answer in enumerate(answers):
        assert np.abs(answer - reference.predict(rows(20, seed=seed)[0])).max() < 1e-6


def test_work_of_the_caller_comes_first(gpu):
    """Rows that the caller's stream has not made yet: the job waits for them."""
    fake = gpu.fake
    model, reference = network(gpu), network("numpy")
    X, y = rows(64)
    stream = fake.cuda.Stream(non_blocking=True)
    with stream:
        x = gpu.asarray(X.astype(np.float32))
        late = x * 2.0 - x
        run = model._programs.runner("train")[1]
        job = held_job(model, X, y, steps=3)
        job.x = late
        result = run.run(job)
    other = held_job(reference, X, y, steps=3)
    assert result.sums == pytest.approx(reference._programs.runner("train")[1].run(other).sums, rel=1e-4)


@pytest.mark.parametrize("inside", [False, True], ids=["separate", "joined"])
def test_a_value_that_is_not_finite_is_noted(monkeypatch, inside):
    """Also where cublasLt's ReLU makes 0 of NaN, which hides it from the loss."""
    X, y = rows(64)
    X = X.astype(np.float32)
    X[40, 2] = np.nan
    model = network(simulated())
    with joined(monkeypatch) if inside else monkeypatch.context():
        run = model._programs.runner("train")[1]
        assert run.run(held_job(model, X, y, steps=4, batch_size=16)).nonfinite == 2
    fresh = network(simulated())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = fresh._programs.runner("train")[1]
        assert run.run(held_job(fresh, np.nan_to_num(X), y, steps=4, batch_size=16)).nonfinite == -1


def test_inference_keeps_nan(gpu, monkeypatch):
    model = network(gpu)
    X, y = rows(8)
    X[3, 1] = np.nan
    with joined(monkeypatch):
        out = gpu.to_numpy(model.predict(X))
        loss = model.evaluate(X, y)["loss"]
    assert np.isnan(out[3]).all()
    assert np.isfinite(np.delete(out, 3, axis=0)).all()
    assert np.isnan(loss)


# ---- Python in the midst of a step ----------------------------------------------------------------------------------


class Cube(nn.PythonLayer):
    def compute(self, x, training):
        self.x = x
        return x * x * x

    def gradient(self, dy):
        return self.x * self.x * dy * 3.0


def test_plain_python_cuts_the_step_and_gets_device_arrays(gpu):
    layers = [nn.Dense(5, 7), nn.Tanh(), Cube(), nn.Dense(7, 3)]
    reference, model = pair(gpu, "float64", layers=layers)
    X, y = rows(30)
    for m in (reference, model):
        m.fit(X, y, epochs=3, batch_size=8, verbose=0)
    assert difference(reference, model) < 1e-11
    assert isinstance(model.layers[2].x, gpu.fake.ndarray)
    assert "plain Python" in model.backend_report()


@pytest.fixture(params=["reference", "cuda"])
def own_op(request, gpu):
    """An op of the user's own, y = a·x², with a CUDA version or without."""
    name = f"own_square_{request.param}"

    def forward(x, y, *, a):
        y[...] = a * x * x

    def backward(x, dy, dx, *, a):
        dx[...] = 2 * a * x * dy

    given = {"cuda": forward} if request.param == "cuda" else {}
    back = {"cuda": backward} if request.param == "cuda" else {}
    nn.register_op(OpSpec(name, "x[N,I] -> y[N,I]", scalars=["a"]), reference=forward, **given)
    nn.register_op(OpSpec(f"{name}_backward", "x[N,I] dy[N,I] -> dx[N,I]", scalars=["a"]), reference=backward, **back)
    yield name
    for op in (name, f"{name}_backward"):
        del OPS[op], CUSTOM[op]


def test_an_op_of_ones_own_runs_as_it_can(gpu, own_op):
    class Square(nn.Layer):
        scalars = ("a",)
        a = 0.5

        def lower(self, b):
            y = b.output(b.x.width)
            b.forward(own_op, b.x, y)
            b.backward(f"{own_op}_backward", b.x, b.dy, b.dx)

    layers = [nn.Dense(5, 7), Square(), nn.Dense(7, 3)]
    reference, model = pair(gpu, "float64", layers=layers)
    X, y = rows(30)
    for m in (reference, model):
        m.fit(X, y, epochs=3, batch_size=8, verbose=0)
    assert difference(reference, model) < 1e-11
    assert ("copied there and back" in model.backend_report()) == own_op.endswith("reference")


def test_a_hook_may_change_the_gradient(gpu):
    reference, model = pair(gpu, "float64")
    X, y = rows(30)

    def halve(g):
        g *= 0.5

    for m in (reference, model):
        m.fit(X, y, epochs=3, batch_size=8, on_gradients=halve, verbose=0)
    assert difference(reference, model) < 1e-11


def test_a_hook_that_fails_leaves_the_stream_usable(gpu):
    model = network(gpu)
    X, y = rows(30)
    calls = []

    def fail(g):
        calls.append(1)
        if len(calls) == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        model.fit(X, y, epochs=3, batch_size=8, on_gradients=fail, verbose=0)
    assert model.optimizer.steps == 2
    model.fit(X, y, epochs=1, batch_size=8, verbose=0)


@pytest.mark.parametrize("launches", [0, 1, 2, 3])
def test_an_interrupt_between_graphs_counts_what_was_done(gpu, monkeypatch, launches):
    """Ctrl-C while graphs are put on the stream: the device has made more steps than the host has returned from."""
    model, whole = network(gpu), network(simulated())
    X, y = rows(64)
    graph = gpu.fake.cuda.Graph
    usual, made = graph.launch, []

    def launch(self, stream=None):
        if len(made) == launches:
            raise KeyboardInterrupt
        made.append(1)
        usual(self, stream)

    run = model._programs.runner("train")[1]
    job = held_job(model, X, y, steps=70, batch_size=16)
    with monkeypatch.context() as patch:
        patch.setattr(graph, "launch", launch)
        with pytest.raises(KeyboardInterrupt):
            run.run(job)
    assert 0 < job.done < 70
    other = whole._programs.runner("train")[1]
    other.run(held_job(whole, X, y, steps=job.done, batch_size=16))
    assert same(model, whole)


def test_a_trial_that_fails_is_out_of_the_race(monkeypatch, tmp_path):
    """Too little memory for the workspace of most algorithms: those that need none are left."""
    monkeypatch.setenv("NNFAST_GPU_TUNING", "1")
    monkeypatch.setenv("NNFAST_CACHE_DIR", str(tmp_path))
    memory = importlib.import_module("nnfast.kernels.cupy_gpu.memory").Memory
    usual = memory.workspace

    def short(self, nbytes):
        if nbytes:
            raise MemoryError
        return usual(self, nbytes)

    monkeypatch.setattr(memory, "workspace", short)
    assert difference(trained([3]), trained([3], "numpy")) < 1e-4


def test_a_profile_names_every_op(gpu):
    model = network(gpu)
    X, y = rows(64)
    told = model.profile(X.astype(np.float32), y, batch_size=32, seconds=0.05)
    assert "dense" in str(told)
    before = network(gpu)
    assert same(model, before)


# ---- measuring ------------------------------------------------------------------------------------------------------


def test_a_tuned_run_keeps_its_choices_and_gives_their_bits(monkeypatch, tmp_path):
    monkeypatch.setenv("NNFAST_GPU_TUNING", "1")
    monkeypatch.setenv("NNFAST_CACHE_DIR", str(tmp_path))
    first = trained([3])
    files = list(tmp_path.glob("gpu-*.json"))
    assert len(files) == 1
    content = files[0].read_text()
    again = trained([3])
    assert same(first, again)
    assert files[0].read_text() == content
    reference = trained([3], "numpy")
    assert difference(first, reference) < 1e-4


# ---- ahead ----------------------------------------------------------------------------------------------------------


def test_kernels_can_be_compiled_ahead(gpu, capsys, monkeypatch):
    from nnfast import cli, registry

    monkeypatch.setattr(registry, "_instances", registry._instances | {"cupy": gpu})
    assert cli.main(["warmup", "--backend", "cupy"]) == 0
    assert re.match(r"\d\d+ kernels ready in .* s; CuPy keeps them in ", capsys.readouterr().out)
    assert cli.main(["warmup", "--backend", "numpy"]) == 2
    assert "compiles nothing" in capsys.readouterr().err
    assert cli.main(["warmup", "--backend", "no-such"]) == 1
    assert "unknown backend" in capsys.readouterr().err
