"""Populations on the GPU backend, on the stand-in device: every launch is for all models, and each has its own bits.

That they are the bits of a model alone, whatever varies, `test_population.py` shows for all backends. Here is what is
the GPU's own: how many launches there are, memory, cublasLt, and what makes it go model by model.
"""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from gpu_models import joined, simulated, why_not_simulated
from population_models import SETTINGS, compare, model, rows, settings_of

import nnfast as nn
from nnfast.random import permutation, row_orders

pytestmark = pytest.mark.skipif(bool(why_not_simulated), reason=str(why_not_simulated))

runners = importlib.import_module("nnfast.kernels.cupy_gpu.runner")
cublaslt = importlib.import_module("nnfast.kernels.cupy_gpu.cublaslt")
device = importlib.import_module("nnfast.kernels.cupy_gpu.device")
gather = importlib.import_module("nnfast.kernels.cupy_gpu.gather")
many = importlib.import_module("nnfast.kernels.cupy_gpu.many")
populations = importlib.import_module("nnfast.kernels.cupy_gpu.population")
memory = importlib.import_module("nnfast.kernels.cupy_gpu.population_memory")

X, Y = rows(40)
FEW = {name: values[:2] for name, values in SETTINGS.items()}
OPTIONS = {"epochs": 2, "batch_size": 16, "verbose": 0}


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setenv("NNFAST_GPU_TUNING", "0")
    monkeypatch.setattr(device, "_told", set())
    return simulated()


def as_alone(gpu, settings=FEW, **options):
    """Train all models and each by itself, and expect the same bits."""
    population = nn.Population(lambda: model(gpu), len(settings["rng"]), settings)
    options = OPTIONS | {"validation_data": (X, Y)} | options
    compare(population, lambda k: model(gpu, **settings_of(k, settings)), lambda m, k: m.fit(X, Y, **options), X, Y)


def refuse(monkeypatch):
    """From here on nothing may be run model by model."""

    def run(self, job):
        raise AssertionError("a model by itself")

    monkeypatch.setattr(runners.CupyRunner, "run", run)


def test_files_and_answers(gpu, tmp_path):
    population = nn.Population(lambda: model(gpu), 2, rng=0)
    population.fit(X, Y, **OPTIONS)
    population.save(tmp_path / "all.nnfast")
    twin = nn.Population.load(tmp_path / "all.nnfast", backend="numpy")
    assert np.array_equal(twin.parameters, population.parameters)
    mean = population.predict(X, how="mean")
    assert type(mean) is type(gpu.zeros(1, "f4"))
    assert np.allclose(gpu.to_numpy(mean), twin.predict(X, how="mean"), atol=1e-6)
    assert np.array_equal(population.predict(X, how="vote"), twin.predict(X, how="vote"))


def test_more_models_take_no_more_launches(gpu, monkeypatch):
    refuse(monkeypatch)
    counts = []
    for models in (2, 5):
        population = nn.Population(
            lambda: model(gpu), models, {"learning_rate": [0.01 * (k + 1) for k in range(models)]}
        )
        population.fit(X, Y, **OPTIONS)
        before = gpu.fake.device.counts.kernels_run, gpu.fake.device.counts.products_run
        population.fit(X, Y, **OPTIONS)
        after = gpu.fake.device.counts.kernels_run, gpu.fake.device.counts.products_run
        counts.append(tuple(b - a for a, b in zip(before, after, strict=True)))
    assert counts[0] == counts[1]
    assert min(counts[0]) > 0


def test_row_orders_are_drawn_for_all_models_at_once(gpu, monkeypatch):
    monkeypatch.setattr(pytest.importorskip("nnfast.kernels.numba_cpu.orders"), "WORTH_LOADING", 0)
    keys, epochs = np.arange(5, dtype=np.uint64) << np.uint64(40), np.arange(5)
    drawn = [permutation(int(k), int(e), 50) for k, e in zip(keys, epochs, strict=True)]
    found = gpu.row_orders(keys, epochs, 50)
    assert found is None or np.array_equal(found, drawn)
    assert np.array_equal(row_orders(gpu, keys, epochs, 50), drawn)


def test_steps_are_graphs(gpu):
    population = nn.Population(lambda: model(gpu), 2, rng=0)
    population.fit(X, Y, epochs=2, batch_size=2, verbose=0)
    launched = gpu.fake.device.counts.launches
    population.fit(X, Y, epochs=2, batch_size=2, verbose=0)  # 40 steps, of which the host launches none
    assert gpu.fake.device.counts.launches == launched


def test_relu_inside_the_products(gpu, monkeypatch):
    monkeypatch.delenv("NNFAST_GPU_TUNING")
    with joined(monkeypatch):
        as_alone(gpu)


def test_products_that_the_library_refuses_for_many_are_made_without_epilogues(gpu, monkeypatch, capsys):
    monkeypatch.delenv("NNFAST_GPU_TUNING")
    proposed = cublaslt.Matmul.algorithms

    def algorithms(self, limit=8, workspace=cublaslt.WORKSPACE):
        many = self.product.epilogue and self.product.apart != cublaslt.ALONE
        return [] if many else proposed(self, limit, workspace)

    monkeypatch.setattr(cublaslt.Matmul, "algorithms", algorithms)
    fits = cublaslt.Matmul.fits
    monkeypatch.setattr(cublaslt.Matmul, "fits", lambda self, *a: None if self.product.epilogue else fits(self, *a))
    with joined(monkeypatch):
        population = nn.Population(lambda: model(gpu), 2, rng=0)
        refuse(monkeypatch)
        population.fit(X, Y, **OPTIONS)
    assert "refuses a product for many models" in capsys.readouterr().err
    twin = nn.Population(lambda: model("numpy"), 2, rng=0)
    twin.fit(X, Y, **OPTIONS)
    assert np.allclose(twin.parameters, population.parameters, atol=1e-5)


def test_an_algorithm_that_does_not_go_for_many_is_replaced(gpu, monkeypatch):
    refuse(monkeypatch)
    monkeypatch.setattr(cublaslt.Matmul, "fits", lambda self, *a: None)
    population = nn.Population(lambda: model(gpu), 3, rng=0)
    population.fit(X, Y, **OPTIONS)
    twin = nn.Population(lambda: model("numpy"), 3, rng=0)
    twin.fit(X, Y, **OPTIONS)
    assert np.allclose(twin.parameters, population.parameters, atol=1e-5)


def test_no_products_for_many_at_all(gpu, monkeypatch, capsys):
    proposed = cublaslt.Matmul.algorithms
    monkeypatch.setattr(cublaslt.Matmul, "fits", lambda self, *a: None)
    monkeypatch.setattr(
        cublaslt.Matmul, "algorithms", lambda s, *a, **k: [] if s.product.apart.models > 1 else proposed(s, *a, **k)
    )
    as_alone(gpu)
    assert "run one after the other" in capsys.readouterr().err


def test_without_cublaslt_it_goes_model_by_model(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("NNFAST_GPU_TUNING", "0")
    as_alone(simulated(cublaslt=str(tmp_path / "none.so")))
    assert "one kernel at a time" in capsys.readouterr().err


@pytest.mark.parametrize("models", [1, 2])
def test_little_memory_takes_a_few_models_at_a_time(gpu, monkeypatch, models):
    """As few as that; and nothing is planned or allocated anew in later jobs."""
    population = nn.Population(lambda: model(gpu), 5, rng=0)
    population.fit(X, Y, **OPTIONS)  # once, to know how large a block is
    block = population._runner("train")[1].population()._blocks.room.size
    made, planned = [], []
    make, plan = memory.Blocks.make, populations.PopulationRunner._planned
    monkeypatch.setattr(memory, "_free", lambda cupy: 2 * models * (block + 3_000))
    monkeypatch.setattr(memory.Blocks, "make", lambda self, *a: (made.append(a), make(self, *a)))
    monkeypatch.setattr(
        populations.PopulationRunner, "_planned", lambda self, *a: (planned.append(a), plan(self, *a))[1]
    )
    as_alone(gpu, SETTINGS)
    population = nn.Population(lambda: model(gpu), 5, rng=0)
    population.fit(X, Y, **OPTIONS)
    assert population._runner("train")[1].population()._blocks.models == models
    before = len(made), len(planned)
    population.fit(X, Y, **OPTIONS)
    assert (len(made), len(planned)) == before


def test_memory_bounds_how_many_there_are_at_a_time(gpu, monkeypatch):
    blocks = memory.Blocks(gpu.fake)
    monkeypatch.setattr(memory, "_free", lambda cupy: 40_000)
    assert not blocks.fit({"parameters": 1000, "arena": 300}, 100)
    blocks.make({"parameters": 1000, "arena": 300}, 100, 64)
    assert blocks.room.size == 1024 + 512
    assert blocks.models == 20_000 // (1536 + 64)
    assert blocks.fit({"parameters": 900}, 5)
    assert blocks.fit({"parameters": 900}, 100), "there is no memory for more"
    assert not blocks.fit({"parameters": 900}, 101)
    assert blocks.address("arena", 3) - blocks.address("arena", 0) == 3 * 1536
    assert blocks.address("arena", 0) % 256 == 0
    assert not blocks.fit({"parameters": 1000, "x": 3}, 5)
    blocks.make({"parameters": 1000, "x": 3}, 5, 64)
    assert blocks.room.size == 1024 + 512 + 256, "what was asked for once stays"
    blocks.make({"parameters": 1 << 20}, 5, 64)
    assert blocks.models == 1, "one model is always tried"


def test_the_limit_of_the_pool_counts(gpu):
    pool = gpu.fake.get_default_memory_pool()
    try:
        pool.set_limit(size=pool.used_bytes() + 400_000)
        as_alone(gpu)
    finally:
        pool.set_limit(size=0)


def test_out_of_memory_is_not_the_end(gpu, monkeypatch, capsys):
    """Half as many are tried; where one is too many, it goes model by model; and later there may be room again."""
    full = gpu.fake.cuda.memory.OutOfMemoryError
    asked = []

    class Scarce:
        """CuPy with room for so many bytes at once."""

        def __init__(self, most):
            self.most = most

        def __getattr__(self, name):
            return getattr(gpu.fake, name)

        def empty(self, size, dtype):
            asked.append(size)
            if size > self.most:
                raise full(f"Out of memory allocating {size:,} bytes")
            return gpu.fake.empty(size, dtype)

    blocks = memory.Blocks(Scarce(1024 * 3))
    blocks.make({"parameters": 1000}, 16, 0)
    assert asked == [0, 0, *(1024 * n for n in (16, 8, 4, 2))]
    assert blocks.models == 2
    with pytest.raises(full):
        blocks.make({"parameters": 5000}, 16, 0)
    assert not blocks.fit({"parameters": 10}, 1), "what was there is gone"
    blocks.make({"parameters": 1000}, 16, 0)
    assert blocks.models == 2

    population = nn.Population(lambda: model(gpu), 3, rng=0)
    twin = nn.Population(lambda: model(gpu), 3, rng=0)
    for one in (population, twin):
        one.fit(X, Y, **OPTIONS)
    with monkeypatch.context() as patch:
        patch.setattr(memory.Blocks, "fit", lambda *a: False)
        patch.setattr(memory.Blocks, "make", lambda *a: (_ for _ in ()).throw(full("none")))
        population.fit(X, Y, **OPTIONS)
    assert "no memory to run models of a population at once" in capsys.readouterr().err
    population.fit(X, Y, **OPTIONS)
    for _ in range(2):
        twin.fit(X, Y, **OPTIONS)
    assert np.array_equal(population.parameters, twin.parameters)


def test_products_that_fail_when_they_are_run(gpu, monkeypatch, capsys):
    """Another algorithm is taken; where all fail, it goes model by model, and that is not tried again."""
    run, failing = cublaslt.Matmul.run, [1]

    def fails(self, algorithm, workspace, stream):
        if self.product.apart.models > 1 and failing[0]:
            failing[0] -= 1
            raise cublaslt.CublasLtError("cublasLtMatmul", 15)
        run(self, algorithm, workspace, stream)

    monkeypatch.setattr(cublaslt.Matmul, "run", fails)
    as_alone(gpu)
    assert "sums may round otherwise" in capsys.readouterr().err
    failing[0] = 10**6
    as_alone(simulated())
    left = failing[0]
    assert "run one after the other" in capsys.readouterr().err
    population = nn.Population(lambda: model(gpu), 2, rng=0)
    population.fit(X, Y, **OPTIONS)
    tried = left - failing[0]
    population.fit(X, Y, **OPTIONS)
    assert left - failing[0] == tried


def test_one_model_is_no_crowd(gpu, monkeypatch):
    as_alone(gpu, {name: values[:1] for name, values in SETTINGS.items()})
    refuse(monkeypatch)
    population = nn.Population(lambda: model(gpu), 1, rng=0)
    population.fit(X, Y, **OPTIONS)
    steps = population._runner("train")[1].population()._steps.values()
    assert all(call.args.ndim == 0 for step in steps for call in step.plan.calls if hasattr(call, "args"))


def test_more_models_than_one_grid_has(gpu, monkeypatch):
    monkeypatch.setattr(populations, "MOST_MODELS", 2)
    as_alone(gpu, SETTINGS)


def test_few_plans_serve_many_numbers_of_models():
    numbers = [many.rounded(n) for n in range(1, 2000)]
    assert all(n <= r <= n + n // 8 for n, r in enumerate(numbers, 1))
    assert len(set(numbers)) < 80
    assert numbers[:16] == list(range(1, 17))


def test_a_step_that_cannot_be_captured(gpu, monkeypatch, capsys):
    step = importlib.import_module("nnfast.kernels.cupy_gpu.step")

    def captured(*given):
        raise RuntimeError("no capture today")

    monkeypatch.setattr(step, "captured", captured)
    as_alone(gpu)
    assert "not as a graph: RuntimeError: no capture today" in capsys.readouterr().err


@pytest.mark.parametrize("at", [0, 1, 3])
def test_an_interrupt_leaves_steps_that_are_whole(gpu, monkeypatch, at):
    """Before the first stretch of steps, or after one or three: what was counted is what was made."""
    population, straight = (nn.Population(lambda: model(gpu), 3, rng=0) for _ in range(2))
    for one in (population, straight):
        one.fit(X, Y, **OPTIONS)
    step, calls = importlib.import_module("nnfast.kernels.cupy_gpu.step").Step, []
    run = step.run

    def interrupted(self, count):
        if len(calls) == at:
            raise KeyboardInterrupt
        calls.append(count)
        run(self, count)

    with monkeypatch.context() as patch:
        patch.setattr(step, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            population.fit(X, Y, **OPTIONS)
    made = sum(calls)
    assert (population._members.steps == straight._members.steps + made).all()

    models = [straight[k] for k in range(3)]
    for k, one in enumerate(models):
        order = [permutation(int(one._key), 2 + e, len(X)) for e in range(2)]
        for s in range(made):
            epoch, batch = divmod(s, 3)
            chosen = order[epoch][16 * batch : 16 * batch + 16]
            one.train_on_batch(X[chosen], Y[chosen])
        assert np.allclose(flat(one), flat(population[k]), atol=1e-6), k


def flat(one):
    return np.concatenate([w.ravel() for w in one.get_weights()])


def test_a_model_that_diverges_leaves_the_others_alone(gpu):
    settings = {"rng": [0, 1, 2], "learning_rate": [0.01, 1e30, 0.01]}
    population = nn.Population(lambda: model(gpu), 3, settings)
    with pytest.warns(nn.errors.NonFiniteWarning, match=r"1 of 3 models \(1\)"):
        population.fit(X, Y, epochs=4, batch_size=16, verbose=0)
    for k in (0, 2):
        alone = model(gpu, **settings_of(k, settings))
        alone.fit(X, Y, epochs=4, batch_size=16, verbose=0)
        assert np.array_equal(flat(alone), flat(population[k]))


def test_whole_sets_are_read_where_they_lie(gpu, monkeypatch):
    refuse(monkeypatch)
    population = nn.Population(lambda: model(gpu), 2, rng=0)
    copied, begin = [], gather.begin_step

    def noted(e, job, step, x, *more, **options):
        copied.append(x is not None)
        begin(e, job, step, x, *more, **options)

    monkeypatch.setattr(gather, "begin_step", noted)
    population.fit(gpu.asarray(X), gpu.asarray(Y), epochs=9, batch_size=None, shuffle=False, verbose=0)
    assert copied == [True, True, False, False], "the first job of one step copies them, all others do not"
    twin = nn.Population(lambda: model("numpy"), 2, rng=0)
    twin.fit(X, Y, epochs=9, batch_size=None, shuffle=False, verbose=0)
    assert np.allclose(twin.parameters, population.parameters, atol=1e-5)
