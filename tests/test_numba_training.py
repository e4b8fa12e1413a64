"""Training on the Numba backend against the reference: the same to rounding; and what may not change a single bit."""

from __future__ import annotations

import importlib
import itertools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from new_process import output_of, posix
from small_models import WIDE_X, WIDE_Y, Spy, X, Y, classifier, fit, wide

import nnfast as nn

pytest.importorskip("numba")
modes = importlib.import_module("nnfast.kernels.numba_cpu.modes")
compiled = pytest.mark.skipif(not modes.COMPILED, reason="one of Numba's switches is set: programs are walked op by op")

THREADS = (1, 2, 3)


@pytest.fixture(params=THREADS)
def threads(request):
    before = nn.get_num_threads()
    nn.set_num_threads(request.param)
    yield request.param
    nn.set_num_threads(before)


OPTIMIZERS = {
    "sgd": lambda: nn.SGD(0.05, decay=1e-3),
    "momentum": lambda: nn.SGD(0.05, momentum=0.9),
    "nesterov": lambda: nn.SGD(0.05, momentum=0.9, nesterov=True, clip_norm=0.5),
    "adagrad": lambda: nn.Adagrad(0.05),
    "rmsprop": lambda: nn.RMSprop(0.005, decay=1e-4),
    "adam": lambda: nn.Adam(0.01, decay=1e-3, clip_norm=1.0),
    "adamw": lambda: nn.AdamW(0.01, weight_decay=0.02),
}


# Free-running in float64: the same training, to rounding.


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_float64_runs_agree_for_100_steps(name, threads):
    runs = {}
    for backend in ("numpy", "numba"):
        model = classifier(OPTIMIZERS[name](), backend=backend, dtype="float64")
        runs[backend] = fit(model, epochs=25), model.parameters  # 4 batches each, the last one short
    (ha, pa), (hb, pb) = runs["numpy"], runs["numba"]
    np.testing.assert_allclose(pb, pa, rtol=1e-9, atol=1e-9)
    for column in ha:
        np.testing.assert_allclose(hb[column], ha[column], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("batch_size", [None, 150, 64, 33, 16, 1])
def test_every_way_of_splitting_is_the_same_training(batch_size, threads):
    runs = {}
    weight = np.random.default_rng(2).uniform(0, 2, 150)
    for backend in ("numpy", "numba"):
        model = wide(backend, dtype="float64")
        history = fit(model, WIDE_X, WIDE_Y, epochs=3, batch_size=batch_size, sample_weight=weight)
        runs[backend] = history, model.parameters, model.evaluate(WIDE_X, WIDE_Y), model.predict(WIDE_X)
    a, b = runs["numpy"], runs["numba"]
    np.testing.assert_allclose(b[1], a[1], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(b[3], a[3], rtol=1e-9, atol=1e-9)
    assert b[2] == pytest.approx(a[2], rel=1e-9)
    for column in a[0]:
        np.testing.assert_allclose(b[0][column], a[0][column], rtol=1e-9, atol=1e-9)


def test_regression_and_other_losses_agree(threads):
    rng = np.random.default_rng(3)
    Xr, Yr = rng.standard_normal((70, 5)), rng.uniform(0.1, 0.9, (70, 3))
    losses = [nn.MeanSquaredError, nn.MeanAbsoluteError, nn.Huber, nn.Poisson, nn.SigmoidBinaryCrossEntropy]
    for loss in losses:
        ends = []
        for backend in ("numpy", "numba"):
            layers = [nn.Dense(5, 33), nn.ELU(), nn.Dense(33, 3)]
            model = nn.Model(layers, loss(), nn.Adam(0.01), ["r2"], backend=backend, dtype="float64", rng=0)
            ends.append((fit(model, Xr, Yr, epochs=20), model.parameters))
        np.testing.assert_allclose(ends[1][1], ends[0][1], rtol=1e-9, atol=1e-9, err_msg=str(loss))
        for column in ends[0][0]:
            np.testing.assert_allclose(ends[1][0][column], ends[0][0][column], rtol=1e-8, atol=1e-9)


# Re-synchronised: every step starts from the reference's state.


def test_a_thousand_resynchronised_steps():
    """One step at a time in float32, both sides from the same state: never more than rounding apart."""
    judge, tried = (classifier(nn.Adam(0.02, decay=1e-3), backend=b) for b in ("numpy", "numba"))
    for model in (judge, tried):
        model.train_on_batch(X, Y)  # makes the slots
    worst = 0.0
    for _ in range(1_000):
        tried.parameters = judge.parameters
        for name, slot in judge._buffers.slots.items():
            tried._buffers.slots[name][...] = slot
        before = judge.parameters.copy()
        a, b = judge.train_on_batch(X, Y), tried.train_on_batch(X, Y)
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
        step = np.abs(judge.parameters - before).max()
        worst = max(worst, float(np.abs(tried.parameters - judge.parameters).max() / step))
    assert worst < 2e-2  # of the largest change: Adam divides small gradients, which are mostly rounding, by their size


def test_float32_runs_end_in_the_same_band():
    ends = [fit(classifier(backend=b), epochs=300) for b in ("numpy", "numba")]
    late = [np.mean(history["loss"][-50:]) for history in ends]
    assert late[1] == pytest.approx(late[0], rel=0.15)
    assert abs(np.mean(ends[0]["accuracy"][-50:]) - np.mean(ends[1]["accuracy"][-50:])) < 0.04


def test_fused_is_unfused():
    ends = []
    for fuse in (True, False):
        model = wide(dtype="float64")
        model._programs.fuse = fuse
        fit(model, WIDE_X, WIDE_Y, epochs=3, batch_size=50)
        ends.append(model.parameters)
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-10, atol=1e-12)


# The same bits.


def bits(model, epochs=4, batch_size=50):
    fit(model, WIDE_X, WIDE_Y, epochs=epochs, batch_size=batch_size)
    return model.parameters.tobytes()


def test_bits_do_not_depend_on_how_often_python_was_re_entered(threads):
    whole = bits(wide())
    parts = wide()
    for _ in range(4):
        fit(parts, WIDE_X, WIDE_Y, epochs=1, batch_size=50)
    assert parts.parameters.tobytes() == whole
    watched = wide()
    fit(watched, WIDE_X, WIDE_Y, epochs=4, batch_size=50, on_gradients=lambda flat: None)
    assert watched.parameters.tobytes() == whole


def test_bits_do_not_depend_on_contention(threads):
    alone = bits(wide())
    ends = {}

    def train(i):
        ends[i] = bits(wide())

    crowd = [threading.Thread(target=train, args=(i,)) for i in range(6)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(60)
    assert len(ends) == 6
    assert set(ends.values()) == {alone}


def test_bits_are_those_of_another_process():
    code = (
        "import sys, hashlib; sys.path.insert(0, sys.argv[1]); import nnfast as nn; nn.set_num_threads(2);"
        "from test_numba_training import bits, wide; print(hashlib.sha256(bits(wide())).hexdigest())"
    )
    here = os.path.dirname(__file__)
    ends = {
        subprocess.run([sys.executable, "-c", code, here], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(ends) == 1


@posix
def test_training_goes_on_after_a_fork(threads):
    """In a process of its own: JAX, where another test has begun with it, warns of every fork of its process."""
    code = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import nnfast as nn
from test_numba_training import bits, wide
nn.set_num_threads(int(sys.argv[2]))
alone, model = bits(wide()), wide()
child = os.fork()
if not child:
    signal.alarm(50)  # rather than hang
    os._exit(0 if bits(model) == alone else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), bits(model) == alone)
"""
    assert output_of(code, os.path.dirname(__file__), threads) == "0 True"


# What plain Python does in between.


@compiled
def test_python_layers_and_hooks_cut_the_step_and_change_nothing(threads):
    spy = Spy()
    plain, cut = wide(dtype="float64"), None
    layers = [nn.Dense(64, 256, "he_normal", weight_l2=1e-4, bias_l1=1e-4), nn.ReLU(), spy, nn.Dropout(0.2)]
    layers += [nn.Dense(256, 40, "he_normal"), nn.Tanh(), nn.Dense(40, 10)]
    settings = {"backend": "numba", "dtype": "float64", "rng": 0}
    cut = nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.Adam(0.003, decay=1e-3), ["accuracy"], **settings)
    cut.set_weights(plain.get_weights())
    norms = []
    history = fit(cut, WIDE_X, WIDE_Y, batch_size=70, shuffle=False, on_gradients=lambda g: norms.append(abs(g).max()))
    assert "plain Python" in cut.backend_report()
    assert "compiled" in cut.backend_report()
    assert len(norms) == 18
    assert min(norms) > 0
    assert [len(x) for x in spy.seen[:3]] == [70, 70, 10]
    assert len(history["loss"]) == 6


def test_on_gradients_may_change_the_gradient(threads):
    model = wide()
    start = model.parameters.copy()

    def freeze(flat):
        flat[...] = 0

    fit(model, WIDE_X, WIDE_Y, epochs=1, batch_size=50, on_gradients=freeze)
    np.testing.assert_array_equal(model.parameters, start)


def test_an_error_in_a_hook_counts_the_steps_before_it():
    model = wide()
    seen = []

    def fail(flat):
        seen.append(1)
        if len(seen) == 3:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        fit(model, WIDE_X, WIDE_Y, epochs=5, batch_size=50, on_gradients=fail)
    assert model.optimizer.steps == 2


# What changes between jobs.


def test_numbers_and_arrays_may_change_between_fits():
    ends = []
    for backend in ("numpy", "numba"):
        model = wide(backend, dtype="float64")
        fit(model, WIDE_X, WIDE_Y, epochs=2, batch_size=50)
        model.layers[0].weight_l2, model.layers[0].bias_l1 = 0.0, 0.0  # their ops fall out of the plan
        model.layers[2].rate = 0.5
        model.optimizer.learning_rate = 0.02
        fit(model, WIDE_X[:90], np.eye(10)[WIDE_Y[:90]], epochs=2, batch_size=64)
        model.layers[0].trainable = False
        fit(model, WIDE_X, WIDE_Y, epochs=2)
        model.optimizer = nn.SGD(0.01, momentum=0.9)
        fit(model, WIDE_X, WIDE_Y, epochs=2, batch_size=100)
        ends.append(model.parameters)
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-9, atol=1e-9)


def test_a_loss_that_is_not_finite_is_noticed():
    model = wide()
    bad = WIDE_X.copy()
    bad[70, 3] = np.inf
    with pytest.warns(nn.errors.NonFiniteWarning, match="since epoch 1"):
        fit(model, bad, WIDE_Y, epochs=2, batch_size=50)


def test_a_gradient_that_is_not_finite_is_noticed(threads):
    model = wide()

    def spoil(flat):
        flat[-300] = np.nan

    with pytest.warns(nn.errors.NonFiniteWarning, match="since epoch 1"):
        fit(model, WIDE_X, WIDE_Y, epochs=1, batch_size=50, on_gradients=spoil)


def test_a_step_allocates_nothing_that_stays():
    import tracemalloc

    model = wide()
    fit(model, WIDE_X, WIDE_Y, epochs=20, batch_size=50)
    tracemalloc.start()
    fit(model, WIDE_X, WIDE_Y, epochs=20, batch_size=50)
    before = tracemalloc.get_traced_memory()[0]
    fit(model, WIDE_X, WIDE_Y, epochs=20, batch_size=50)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 20_000


# Random search.


@pytest.mark.parametrize("mode", ["perturb", "sample"])
def test_random_search_is_that_of_the_reference(mode, threads):
    ends = []
    for backend in ("numpy", "numba"):
        layers = [nn.Dense(2, 3), nn.ReLU(), nn.Dense(3, 3)]
        search = nn.RandomSearch(0.3, mode)
        model = nn.Model(
            layers, nn.SoftmaxCrossEntropy(), search, ["accuracy"], backend=backend, dtype="float64", rng=0
        )
        ends.append((fit(model, epochs=400, batch_size=None), model.parameters))
    np.testing.assert_allclose(ends[1][1], ends[0][1], rtol=1e-9, atol=1e-9)
    for column in ends[0][0]:
        np.testing.assert_allclose(ends[1][0][column], ends[0][0][column], rtol=1e-9, atol=1e-9)
    assert (np.diff(ends[1][0]["loss"]) <= 0).all()


def test_threads_change_nothing_in_a_random_search():
    ends = []
    for n in THREADS:
        before = nn.get_num_threads()
        nn.set_num_threads(n)
        layers = [nn.Dense(2, 3), nn.ReLU(), nn.Dense(3, 3)]
        model = nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.RandomSearch(0.3, "sample"), backend="numba", rng=0)
        history = fit(model, epochs=3_000, batch_size=None)
        nn.set_num_threads(before)
        ends.append((model.parameters.tobytes(), tuple(history["loss"])))
    assert len(set(ends)) == 1


# The predictor.


def test_the_predictor_answers_as_predict_does():
    model = wide()
    one, many = model.predictor(), model.predictor(batch=33)
    want = model.predict(WIDE_X)
    np.testing.assert_allclose(many(WIDE_X[:33]), want[:33], rtol=1e-5, atol=1e-6)
    first = one(WIDE_X[:1])
    second = one(WIDE_X[1:2])
    assert first is not second
    np.testing.assert_allclose(np.concatenate([first, second]), want[:2], rtol=1e-5, atol=1e-6)
    out = np.full((1, 10), np.nan, np.float32)
    assert one(WIDE_X[2:3].astype(np.float64), out=out) is out
    np.testing.assert_allclose(out, want[2:3], rtol=1e-5, atol=1e-6)
    fit(model, WIDE_X, WIDE_Y, epochs=1)
    np.testing.assert_allclose(one(WIDE_X[:1]), model.predict(WIDE_X[:1]), rtol=1e-5, atol=1e-6)


def test_the_predictor_sees_numbers_of_the_layers():
    model = nn.Model([nn.Dense(3, 5), nn.LeakyReLU(0.1)], backend="numba", rng=0)
    predict, x = model.predictor(), np.float32([[1, -2, 3]])
    np.testing.assert_array_equal(predict(x), model.predict(x))
    model.layers[1].alpha = 0.5
    np.testing.assert_array_equal(predict(x), model.predict(x))


def test_eager_layers_and_large_calls_split_their_work(threads):
    rng = np.random.default_rng(0)
    p, g = rng.standard_normal((2, 300_001)).astype(np.float32)
    m, v = np.zeros_like(p), np.zeros_like(p)
    mine, ref = [a.copy() for a in (p, m, v)], [a.copy() for a in (p, m, v)]
    nn.functional.adam_step(mine[0], g, mine[1], mine[2], step=1, learning_rate=0.1, backend="numba")
    nn.functional.adam_step(ref[0], g, ref[1], ref[2], step=1, learning_rate=0.1, backend="numpy")
    np.testing.assert_allclose(mine[0], ref[0], rtol=1e-5, atol=1e-6)
    z, y = rng.standard_normal((1_001, 200)), rng.integers(0, 200, 1_001)
    a, b = (nn.functional.softmax_cross_entropy(z, y, backend=who) for who in ("numpy", "numba"))
    assert b[0] == pytest.approx(a[0], rel=1e-12)
    np.testing.assert_allclose(b[1], a[1], rtol=1e-12, atol=1e-15)
    x, w, dy = rng.standard_normal((900, 300)), rng.standard_normal((300, 200)), rng.standard_normal((900, 200))
    for got, want in zip(
        *(nn.functional.dense_backward(x, w, dy, backend=who) for who in ("numba", "numpy")), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


def test_a_predictor_of_several_threads_meets_at_its_barriers_every_time():
    """Rows that need each other make the shares wait; a second call must wait as the first did."""
    before = nn.get_num_threads()
    nn.set_num_threads(2)
    rng = np.random.default_rng(0)
    widths = (65, 163, 69, 231, 40)
    layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Dense(a, b), nn.GELU())]
    model = nn.Model(layers, backend="numba", dtype="float64", rng=0)
    predict = model.predictor(batch=2_000)
    for _ in range(20):
        x = rng.standard_normal((2_000, 65))
        got = predict(x)
        np.testing.assert_allclose(got, model.predict(x, batch_size=2_000), rtol=1e-9, atol=1e-12)
    nn.set_num_threads(before)


@compiled
def test_more_threads_than_candidates_for_them():
    """4481 candidates for 70 threads are 65 for each but the last, who has none."""
    before = nn.get_num_threads()
    ends = []
    for threads, epochs in ((1, 4_482), (70, 4_482)):
        nn.set_num_threads(threads)
        layers = [nn.Dense(2, 3), nn.ReLU(), nn.Dense(3, 3)]
        model = nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.RandomSearch(0.3, "sample"), backend="numba", rng=0)
        fit(model, epochs=1, batch_size=None)
        program, runner = model._programs.runner("train")
        scalars, steps = model._programs.scalars(program), epochs - 1
        job = nn.protocol.Job(
            model._buffers, X, Y, steps=steps, normalisers=np.full(steps, float(len(X))), first_step=2, scalars=scalars
        )
        result = runner.run(job)
        ends.append((model.parameters.tobytes(), result.sums.tobytes()))
    nn.set_num_threads(before)
    assert ends[0] == ends[1]


def _half(g):
    g[...] *= 0.5


def _half_body(g):
    for i in range(g.size):
        g[i] *= 0.5


def _more(x, dy, dw):
    dw += x.T @ dy


def _more_body(x, dy, dw):
    for n in range(x.shape[0]):
        for i in range(x.shape[1]):
            for o in range(dy.shape[1]):
                dw[i, o] += x[n, i] * dy[n, o]


@pytest.mark.parametrize("body", [True, False])
@pytest.mark.parametrize("hidden", [40, 300])  # a weight gradient in parts, and one cut by inputs
def test_own_ops_that_change_a_gradient_see_all_of_it(hidden, body, threads):
    half, more = (f"test_{name}_{body}" for name in ("half", "more"))
    if half not in nn.protocol.OPS:
        bodies = (_half_body, _more_body) if body else (None, None)
        nn.register_op(nn.OpSpec(half, "g[P]!"), reference=_half, numba=bodies[0])
        signature = "x[N,I] dy[N,O] dw[I,O]!"
        nn.register_op(nn.OpSpec(more, signature, by_rows=True), reference=_more, numba=bodies[1])

    class Changed(nn.Dense):
        def lower(self, b):
            x = b.x
            super().lower(b)
            b.backward(more, x, b.dy, b.gradient("weights"))
            b.backward(half, b.gradient("weights", flat=True))
            b.backward(half, b.gradient("biases", flat=True))

    ends = []
    for backend in ("numpy", "numba"):
        layers = [Changed(64, hidden, weight_l2=1e-3), nn.GELU(), Changed(hidden, 10)]
        model = nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.SGD(0.1), backend=backend, dtype="float64", rng=0)
        fit(model, WIDE_X, WIDE_Y, epochs=2, batch_size=70)
        ends.append(model.parameters)
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-9, atol=1e-9)


@compiled
def test_a_copied_predictor_has_its_own_memory():
    import copy
    import pickle

    model = wide()
    want = model.predict(WIDE_X[:140])
    for batch in (1, 140):
        predict = model.predictor(batch)
        for twin in (copy.deepcopy(predict), pickle.loads(pickle.dumps(predict))):
            np.testing.assert_allclose(twin(WIDE_X[:batch]), want[:batch], rtol=1e-5, atol=1e-6)
    _, runner = model._programs.runner("predict")
    with pytest.raises(TypeError, match="addresses"):
        copy.deepcopy(runner)


def talkative(x, y):
    print("rows", x.shape[0])
    y[...] = x


@compiled
@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("hopeless", lambda x, y: undefined_name(x), "[^\x1b]*undefined"),  # noqa: F821
        ("talkative", talkative, "it uses Python objects"),
    ],
)
def test_an_own_body_that_does_not_compile_is_named(name, body, reason):
    spec = nn.OpSpec(name, "x[N,I] -> y[N,I]")

    def reference(x, y):
        y[...] = x

    nn.register_op(spec, reference=reference, numba=body)

    class Hopeless(nn.Layer):
        def lower(self, b):
            b.forward(name, b.x, b.output(b.x.width))

    model = nn.Model([nn.Dense(2, 3), Hopeless()], backend="numba", rng=0)
    try:
        with pytest.raises(nn.errors.OptionError, match=f"op {name!r}: its numba body does not compile: {reason}"):
            model.predict(X)
    finally:
        del nn.protocol.OPS[name], nn.protocol.CUSTOM[name]


@compiled
@pytest.mark.parametrize("kind", ["plain", "hooked", "in Python"])
def test_the_first_job_of_a_training_is_as_long_as_one_may_expect(kind, monkeypatch):
    """One step where nobody can tell what it takes: with hooks, and with layers in plain Python."""

    class Half(nn.PythonLayer):
        def compute(self, x, training):
            return x / 2

        def gradient(self, dy):
            return dy / 2

    layers = [nn.Dense(2, 16), Half() if kind == "in Python" else nn.ReLU(), nn.Dense(16, 3)]
    model = nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.Adam(), backend="numba", rng=0)
    steps, run = [], model._programs.run
    monkeypatch.setattr(model._programs, "run", lambda runner, job: steps.append(job.steps) or run(runner, job))
    hook = (lambda flat: None) if kind == "hooked" else None
    x, y = np.ones((64, 2)), np.arange(64) % 3
    model.fit(x, y, epochs=5, batch_size=16, verbose=0, on_gradients=hook)
    assert sum(steps) == 20
    assert steps[0] == (20 if kind == "plain" else 1)


# ---- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("backend", "kept"), [("numpy", "_bound"), ("numba", "_bindings")])
def test_batches_of_ever_new_sizes_are_not_all_remembered(backend, kept):
    made = nn.Model([nn.Dense(3, 4), nn.ReLU(), nn.Dense(4, 2)], nn.SoftmaxCrossEntropy(), backend=backend, rng=0)
    rows = np.random.default_rng(0).standard_normal((400, 3)).astype(np.float32)
    outputs = {n: made.predict(rows[:n]) for n in range(400, 0, -1)}  # memory that grows forgets too
    runner = made._programs.runner("predict")[1]
    assert 100 < len(getattr(runner, kept)) <= 256
    for n in (1, 7, 399):  # forgotten and made anew, and one still known
        np.testing.assert_array_equal(made.predict(rows[:n]), outputs[n])


def test_after_warming_up_nothing_is_left_to_compile():
    """In a process of its own: here much is compiled already."""
    code = """
import importlib
import numpy as np, nnfast as nn
cache = importlib.import_module("nnfast.kernels.numba_cpu.cache")
nn.set_num_threads(2)
names = [*nn.get_backend("numba").warm_up("float32")]
assert len(set(names)) == len(names)
assert not {"interpreter", "population", "row orders"} & set(nn.get_backend("numba").warm_up("float32"))
before = cache.statistics().misses
X, y = np.random.default_rng(0).normal(size=(320, 64)).astype(np.float32), np.arange(320) % 10
def build():
    layers = [nn.Dense(64, 128, weight_l2=1e-4), nn.ReLU(), nn.Dense(128, 64), nn.ReLU(), nn.Dense(64, 10)]
    return nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.Adam(1e-3), ["accuracy"], rng=0, backend="numba")
model = build()
model.fit(X, y, epochs=40, batch_size=32, verbose=0)
kinds = {type(b.plan.owned and 1) for b in model._programs.runner("train")[1]._bindings.values()}
assert kinds == {int}, "by features, in pieces"
nn.Population(build, 3, rng=0).fit(X, y, epochs=2, batch_size=32, verbose=0)
assert cache.statistics().misses == before
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
