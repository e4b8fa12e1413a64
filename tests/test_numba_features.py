"""Small batches cut by features on the Numba backend: the same training as by rows, and as the reference has it."""

from __future__ import annotations

import importlib
import itertools
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from small_models import Ridge, Spy

import nnfast as nn

pytest.importorskip("numba")
modes = importlib.import_module("nnfast.kernels.numba_cpu.modes")
runner = importlib.import_module("nnfast.kernels.numba_cpu.runner")
table = importlib.import_module("nnfast.kernels.numba_cpu.table")
share_bounds = importlib.import_module("nnfast.kernels.numba_cpu.memory").share_bounds
tiles = importlib.import_module("nnfast.kernels.numba_cpu.tiles")
wrappers = importlib.import_module("nnfast.kernels.numba_cpu.wrappers")
VECTOR_BYTES = importlib.import_module("nnfast.kernels.numba_cpu.simd_width").VECTOR_BYTES
TALL = tiles.TALL
NARROW = tiles.WIDE * VECTOR_BYTES // 8  # columns of float64 for one share, where two are to have them

pytestmark = pytest.mark.skipif(not modes.COMPILED, reason="programs are walked op by op")

# Widths that are no multiple of anything; 310 columns are cut into unequal blocks by 2, 3 and 4 shares.
DEEP = {
    "a pair": (20, 310, 5),
    "a pair and a layer alone": (20, 310, 33, 5),
    "two pairs": (20, 310, 33, 310, 5),
    "two pairs and a layer alone": (20, 310, 33, 310, 33, 5),
    "a layer alone and a pair": (7, 20, 310, 5),
    "few outputs": (20, 310, 1),
}
ROWS = 100  # three batches of 33 and one of a single row
RNG = np.random.default_rng(0)
X = RNG.standard_normal((ROWS, 20))
LABELS = RNG.integers(0, 5, ROWS)
SOFT = RNG.dirichlet(np.ones(5), ROWS)
TARGETS = RNG.standard_normal((ROWS, 5))
WEIGHT = RNG.uniform(0, 2, ROWS)


@pytest.fixture(params=[2, 3, 4])
def threads(request):
    before = nn.get_num_threads()
    nn.set_num_threads(request.param)
    yield request.param
    nn.set_num_threads(before)


@pytest.fixture(autouse=True)
def _long(monkeypatch):
    """Every job counts as long, so that shares have weights in memory of their own, unless a test says otherwise."""
    monkeypatch.setattr(runner, "LONG", 1)


@pytest.fixture
def two_threads():
    before = nn.get_num_threads()
    nn.set_num_threads(2)
    yield
    nn.set_num_threads(before)


@pytest.fixture
def by_rows(monkeypatch):
    """A function after which plans are made by rows."""
    return lambda: monkeypatch.setattr(runner, "make_features_plan", lambda *given: None)


def network(
    widths=DEEP["a pair and a layer alone"],
    backend="numba",
    dtype="float64",
    activation=nn.ReLU,
    optimizer=None,
    loss=None,
    metrics=(),
    **penalties,
):
    layers = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Dense(a, b, "he_normal", **penalties), activation()]
    loss = loss or nn.SoftmaxCrossEntropy()
    return nn.Model(
        layers[:-1], loss, optimizer or nn.SGD(0.05), list(metrics), backend=backend, dtype=dtype, rng=0
    )  # fmt: skip


def train(model, x=None, y=LABELS, epochs=3, batch_size=33, **options):
    x = X if x is None else x
    x = x[:, : model.layers[0].n_inputs]
    return model.fit(x, y, epochs=epochs, batch_size=batch_size, verbose=0, **options).history


def plans(model):
    return [binding.plan for binding in model._programs.runner("train")[1]._bindings.values()]


def features(model):
    """Whether all jobs so far were cut by features; an error where some were and some not."""
    (chosen,) = {bool(plan.owned) for plan in plans(model)}
    return chosen


def same(a, b, limit=1e-9):
    np.testing.assert_allclose(a, b, rtol=limit, atol=limit)


def agree(make, y=LABELS, limit=1e-9, **options):
    """The reference and this backend, in float64, to rounding."""
    ends = []
    for backend in ("numpy", "numba"):
        model = make(backend)
        ends.append((train(model, y=y, **options), model.parameters))
    assert features(model)
    (a, p), (b, q) = ends
    same(q, p, limit)
    assert a.keys() == b.keys()
    for column in a:
        same(b[column], a[column], limit)


# ---- the same training ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", DEEP.values(), ids=DEEP)
def test_all_depths_agree_with_the_reference(widths, threads):
    loss, y = (nn.MeanSquaredError, TARGETS[:, :1]) if widths[-1] == 1 else (nn.SoftmaxCrossEntropy, LABELS)
    agree(lambda backend: network(widths, backend, loss=loss(), optimizer=nn.Adam(0.01)), y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("widths", DEEP.values(), ids=DEEP)
def test_gradients_are_those_of_the_plan_by_rows(widths, dtype, threads, by_rows):
    ends = []
    for _ in range(2):
        loss, optimizer = nn.MeanSquaredError(), nn.SGD(0.0)
        model, seen = network(widths, dtype=dtype, activation=nn.Tanh, optimizer=optimizer, loss=loss), []
        train(model, y=TARGETS[:, : widths[-1]], epochs=1, on_gradients=lambda g, seen=seen: seen.append(g.copy()))
        ends.append(seen)
        assert features(model) is (len(ends) == 1)
        by_rows()
    assert len(ends[0]) == len(ends[1]) == 4
    for a, b in zip(*ends, strict=True):
        assert np.abs(a - b).max() <= 20 * np.finfo(dtype).eps * np.abs(b).max()


OPTIMIZERS = {
    "sgd": lambda: nn.SGD(0.05, decay=1e-3),
    "momentum": lambda: nn.SGD(0.05, momentum=0.9),
    "nesterov": lambda: nn.SGD(0.05, momentum=0.9, nesterov=True),
    "adagrad": lambda: nn.Adagrad(0.05),
    "rmsprop": lambda: nn.RMSprop(0.005, decay=1e-4),
    "adam": lambda: nn.Adam(0.01, decay=1e-3),
    "adamw": lambda: nn.AdamW(0.01, weight_decay=0.02),
    "adamw without biases": lambda: nn.AdamW(0.01, weight_decay=0.02, decay_biases=False),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_all_optimizers_agree(optimizer, threads):
    agree(lambda backend: network(backend=backend, optimizer=optimizer()), epochs=8)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Softplus, nn.Sigmoid, nn.Tanh, None])
@pytest.mark.parametrize("depth", ["a pair", "two pairs and a layer alone"])
def test_all_activations_agree(activation, depth, two_threads):
    def make(backend):
        layers = []
        for a, b in itertools.pairwise(DEEP[depth]):
            layers += [nn.Dense(a, b), *([activation()] if activation else [])]
        return nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.Adam(0.003), backend=backend, dtype="float64", rng=0)

    agree(make)


LOSSES = [
    (nn.SoftmaxCrossEntropy, LABELS, ["accuracy"]),
    (lambda: nn.SoftmaxCrossEntropy(label_smoothing=0.1), np.eye(5)[LABELS], ["accuracy"]),
    (nn.SoftmaxCrossEntropy, SOFT, []),
    (nn.MeanSquaredError, TARGETS, ["r2", "mean_absolute_error"]),
    (nn.MeanAbsoluteError, TARGETS, []),
    (nn.Huber, TARGETS, []),
    (nn.Poisson, np.abs(TARGETS), []),
    (nn.SigmoidBinaryCrossEntropy, np.round(SOFT), ["binary_accuracy"]),
]


@pytest.mark.parametrize(("loss", "y", "metrics"), LOSSES)
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_all_losses_agree(loss, y, metrics, weight, threads):
    agree(lambda backend: network(backend=backend, loss=loss(), metrics=metrics), y, sample_weight=weight)


def test_penalties_agree(threads):
    strengths = {"weight_l1": 1e-3, "weight_l2": 2e-3, "bias_l1": 3e-3, "bias_l2": 4e-3}
    agree(lambda backend: network(DEEP["two pairs and a layer alone"], backend, **strengths))


def test_penalties_by_batch_agree(threads):
    def make(backend):
        layers = [Ridge(20, 310, "he_normal"), nn.ReLU(), Ridge(310, 5, "he_normal")]
        return nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.SGD(0.05), backend=backend, dtype="float64", rng=0)

    agree(make, sample_weight=WEIGHT)


@pytest.mark.parametrize("batch_size", [None, 40, 16, 1])
@pytest.mark.parametrize("shuffle", [True, False])
def test_all_batches_agree(batch_size, shuffle, threads):
    """Single rows at a rate that keeps 640 features stable: at 0.05 a last bit grows to 1e-9 within 300 steps."""

    def make(backend):
        return network((20, 640, 5), backend, optimizer=nn.SGD(0.05 if batch_size != 1 else 0.01))

    agree(make, batch_size=batch_size, shuffle=shuffle)


@pytest.mark.parametrize("frozen", [[0], [1], [2], [4], [0, 1], [3, 4], [0, 1, 2, 3], [1, 2]])
def test_frozen_layers_agree(frozen, two_threads):
    def make(backend):
        model = network(DEEP["two pairs and a layer alone"], backend, optimizer=nn.Adam(0.01))
        for i in frozen:
            model.layers[2 * i].trainable = False
        return model

    agree(make)


def test_resynchronised_steps(two_threads):
    """In float32, both sides from the same state: never more than rounding apart."""
    judge, tried = (network(backend=b, dtype="float32", activation=nn.Tanh) for b in ("numpy", "numba"))
    x = X.astype(np.float32)
    eps = np.finfo(np.float32).eps
    for i in range(500):
        rows = slice(i % 60, i % 60 + 33)
        tried.parameters = judge.parameters
        before = judge.parameters.copy()
        a = judge.train_on_batch(x[rows], LABELS[rows])
        b = tried.train_on_batch(x[rows], LABELS[rows])
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
        limit = 50 * eps * np.abs(judge.parameters - before).max() + eps * np.abs(before)
        assert (np.abs(tried.parameters - judge.parameters) <= limit).all()
    assert features(tried)


def test_what_is_not_finite_is_noticed(threads):
    for at in (3, 40, 99):
        x = X.copy()
        x[at, 7] = np.inf
        model = network()
        with pytest.warns(nn.errors.NonFiniteWarning, match="since epoch 1"):
            train(model, x, epochs=1)
        assert features(model)


def test_one_gradient_that_is_not_finite_is_noticed(threads):
    """Whoever owns it."""
    model = network(optimizer=nn.SGD(0.0))
    blocks = model.program.layout.blocks
    for place in [b.offset + i for b in blocks for i in (0, b.size // 3, b.size - 1)]:
        model = network(optimizer=nn.SGD(0.0))

        def spoil(flat, place=place):
            flat[place] = np.nan

        with pytest.warns(nn.errors.NonFiniteWarning):
            train(model, epochs=1, on_gradients=spoil)


# ---- when ------------------------------------------------------------------------------------------------------------


def test_pieces_are_all_parameters_once(threads):
    for widths in DEEP.values():
        model = network(widths, loss=nn.MeanSquaredError())
        train(model, y=TARGETS[:, : widths[-1]], epochs=1)
        layout = model.program.layout
        owners = np.zeros(layout.size, int)
        for plan in plans(model):
            assert len(plan.owned) == threads
            owners[...] = 0
            for pieces, apart in zip(plan.owned, plan.apart, strict=True):
                assert pieces
                assert apart
                for offset, size in pieces + apart:
                    assert size > 0
                    owners[offset : offset + size] += 1
            for block in layout.blocks:
                assert (owners[block.offset : block.offset + block.size] == 1).all()
            assert owners.sum() == layout.n_parameters


@pytest.mark.parametrize(
    "model",
    [
        lambda: network((20, 310)),
        lambda: network((20, NARROW, 1)),
        lambda: network((20, 310, 310, 310)),
        lambda: network(optimizer=nn.SGD(0.05, clip_norm=1.0)),
        lambda: network(activation=nn.GELU),
        lambda: network(activation=lambda: nn.Dropout(0.1)),
        lambda: network(activation=Spy),
    ],
    ids=["one layer", "narrow", "wide exchange", "limit", "activation apart", "dropout", "plain Python"],
)
def test_others_stay_by_rows(model, two_threads):
    model = model()
    train(model, y=LABELS % model.layers[-1].n_outputs, epochs=1, batch_size=64)
    assert not features(model)


def test_large_batches_stay_by_rows(two_threads):
    model = network()
    train(model, epochs=1, batch_size=33)
    assert features(model)
    model = network()
    x, y = np.tile(X, (10, 1)), np.tile(LABELS, 10)
    train(model, x, y, epochs=1, batch_size=1_000)
    assert not features(model)


def accesses(plan, step, t):
    """What share t reads or writes of memory that others may reach too: (space, first, last + 1, whether it writes)."""
    op = step.own[t] if step.own else step.op
    if step.split == "once" and t:
        return
    for k, (arg, b) in enumerate(zip(table.spec_of(op.name).args, op.args, strict=True)):
        if b is None or b.space not in ("exchange", "parameters", "gradients", "m", "v"):
            continue
        if op.name == "dense_backward" and arg.name == "w" and op.args[5] is None:
            continue  # looked at for its shape alone
        spans = [(b.offset, b.offset + int(np.prod([n for n in b.shape if not isinstance(n, str)])))]
        if step.split == "pieces":
            spans = [(max(low, spans[0][0]), min(low + n, spans[0][1])) for low, n in plan.owned[t]]
        elif step.split == "inputs" and k == 2:
            low, high = share_bounds(b.shape[0], len(plan.owned), TALL)[t]
            spans = [(b.offset + low * b.shape[1], b.offset + high * b.shape[1])]
        yield from ((b.space, low, high, arg.role != "in") for low, high in spans if low < high)


@pytest.mark.parametrize("widths", DEEP.values(), ids=DEEP)
def test_between_barriers_nobody_touches_what_another_writes(widths, threads):
    model = network(widths, loss=nn.MeanSquaredError(), optimizer=nn.Adam(0.01))
    train(model, y=TARGETS[:, : widths[-1]], epochs=1)
    assert features(model)
    plan, seen = plans(model)[0], []
    compared = 0
    for step in plan.instructions * 2:  # the next step may begin where this one ends
        if step.op.name == "barrier":
            seen = []
            continue
        new = [(t, *access) for t in range(threads) for access in accesses(plan, step, t)]
        for (t, space, low, high, writes), (u, other, start, end, wrote) in itertools.product(new, seen + new):
            compared += t != u
            clash = t != u and space == other and low < end and start < high and (writes or wrote)
            assert not clash, (step.op.name, space, t, u)
        seen += new
    assert compared


# ---- the same bits ---------------------------------------------------------------------------------------------------


def bits(model=None, **options):
    model = model or network(DEEP["two pairs and a layer alone"], dtype="float32", optimizer=nn.Adam(0.01))
    losses = train(model, epochs=4, **options)["loss"]
    assert features(model)
    return model.parameters.tobytes(), tuple(losses)


def test_bits_do_not_depend_on_who_runs_a_share(threads, monkeypatch):
    real, ends = runner.execute, set()
    for alone in (True, False):
        monkeypatch.setattr(runner, "execute", lambda h, n, *, alone=alone, __=None: real(h, n, alone=alone))
        monkeypatch.setattr(runner, "AWAKE", -1.0)
        ends |= {bits() for _ in range(5)}
    assert len(ends) == 1


def test_bits_do_not_depend_on_how_often_python_was_re_entered(threads):
    whole = bits()
    assert bits(on_gradients=lambda flat: None) == whole
    parts = network(DEEP["two pairs and a layer alone"], dtype="float32", optimizer=nn.Adam(0.01))
    for _ in range(4):
        train(parts, epochs=1)
    assert parts.parameters.tobytes() == whole[0]


def test_bits_do_not_depend_on_where_weights_lie_meanwhile(threads, monkeypatch):
    ends = set()
    for long in (1, 1_000):
        monkeypatch.setattr(runner, "LONG", long)
        ends.add(bits())
    assert len(ends) == 1


def test_gradients_and_slots_are_back_after_a_long_job(two_threads):
    ends = []
    for backend in ("numpy", "numba"):
        model = network(backend=backend, optimizer=nn.Adam(0.01))
        train(model)
        ends.append((model.layers[0].dweights, *(model._buffers.slots[name] for name in ("m", "v"))))
    assert features(model)
    for a, b in zip(*ends, strict=True):
        same(a, b)


def test_an_error_in_a_long_job_leaves_weights_in_their_place(two_threads, monkeypatch):
    """As Ctrl-C does, which is heard when the steps are done."""
    model, whole = network(), network()
    real = runner.execute

    def interrupted(*given, **options):
        real(*given, **options)
        raise KeyboardInterrupt

    train(whole, epochs=1, batch_size=None)
    monkeypatch.setattr(runner, "execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(model, epochs=1, batch_size=None)
    assert features(model)
    assert model.parameters.tobytes() == whole.parameters.tobytes()


def test_bits_do_not_depend_on_contention(threads):
    alone, ends = bits(), {}

    def work(i):
        ends[i] = bits()

    crowd = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(60)
    assert set(ends) == set(range(6))
    assert set(ends.values()) == {alone}


def test_bits_are_those_of_another_process():
    code = (
        "import sys, hashlib; sys.path.insert(0, sys.argv[1]); import nnfast as nn; nn.set_num_threads(2);"
        "from test_numba_features import bits; print(hashlib.sha256(repr(bits()).encode()).hexdigest())"
    )
    here = str(Path(__file__).parent)
    ends = {
        subprocess.run([sys.executable, "-c", code, here], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(ends) == 1


def test_memory_of_other_jobs_is_not_in_the_way(two_threads, by_rows):
    """By features and by rows in turn, with batches that grow: every job finds what it needs."""
    ends, x, y = [], np.tile(X, (2, 1)), np.tile(LABELS, 2)
    for wanted in ({True, False}, {False}):
        model, chosen = network(), set()
        for size, rows in ((8, 20), (33, 100), (200, 200), (8, 20), (50, 100)):
            train(model, x[:rows], y[:rows], batch_size=size, epochs=2)
            model.evaluate(x, y)
            model.predict(x)
            chosen |= {bool(plan.owned) for plan in plans(model)}
        assert chosen == wanted
        ends.append(model.parameters)
        by_rows()
    same(*ends)


# ---- updates in pieces -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adam_step", "sgd_step", "penalty", "check"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pieces_change_what_they_name_and_nothing_else(name, dtype, rng):
    import ctypes

    function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)
    spec = table.spec_of(name)
    attributes = (("nesterov", False),) if name == "sgd_step" else ()
    compiled = function(table.address(name, dtype, attributes, pieces=True))
    flats = [np.abs(rng.standard_normal(500)).astype(dtype) if arg.shape else np.zeros(1) for arg in spec.args]
    if name == "sgd_step":
        flats[2] = None
    pieces = np.array([(3, 64), (100, 1), (101, 0), (130, 37), (400, 100)])
    numbers = np.array([table.number_bits(s, 3 if s == "step" else 0.25) for s in spec.scalars] or [0])
    body = wrappers.body_of(name, attributes)
    want = [None if a is None else a.copy() for a in flats]
    for first, size in pieces:
        cut = slice(first, first + size)
        own = [np.empty(0, dtype) if a is None else a[cut] if a.size == 500 else a for a in want]
        body(*own, *(3 if s == "step" else 0.25 for s in spec.scalars))
    arrays = np.array([0 if a is None else a.ctypes.data for a in flats])
    dims = np.array([len(pieces), pieces.ctypes.data])
    context = np.zeros(32, np.int64)
    compiled(*(a.ctypes.data for a in (arrays, dims, numbers, context)))
    for got, expected in zip(flats, want, strict=True):
        assert got is expected or got.tobytes() == expected.tobytes()
