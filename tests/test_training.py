"""Training: the same run twice gives the same bits, fit reports what it should, callbacks get their turn."""

from __future__ import annotations

import io
import os
import sys
import threading

import numpy as np
import pytest
from new_process import output_of, posix
from small_models import TARGETS, Ridge, Spy, X, Y, classifier, fit, regressor

import nnfast as nn
from nnfast.errors import NonFiniteWarning
from nnfast.random import permutation, row_orders
from nnfast.training.tally import Tally

# ---- reproducibility ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [nn.SGD, nn.Adagrad, nn.RMSprop, nn.Adam, nn.AdamW])
def test_same_run_twice_gives_the_same_bits(optimizer):
    one, two = (classifier(optimizer(0.02, clip_norm=1.0)) for _ in range(2))
    assert fit(one) == fit(two)
    np.testing.assert_array_equal(one.parameters, two.parameters)


def test_where_jobs_are_cut_changes_nothing(monkeypatch):
    whole = classifier()
    expected = fit(whole)
    monkeypatch.setattr("nnfast.training.run.JOB_SECONDS", 0.0)  # one step per job
    single = classifier()
    assert fit(single) == expected
    np.testing.assert_array_equal(single.parameters, whole.parameters)


def test_values_do_not_depend_on_how_many_epochs_come_at_once():
    """Where jobs are cut depends on how long they take, so the history would hold that in its last bits."""
    rng = np.random.default_rng(0)
    sums, weights, rows = rng.random((33 * 7, 2)), rng.random(33 * 7), rng.integers(1, 60, 7)
    whole = Tally((), (), rows, penalized=True).add(sums, weights)
    for cut in (1, 7, 14, 100):
        pieces = Tally((), (), rows, penalized=True)
        found = [pieces.add(sums[i : i + cut], weights[i : i + cut]) for i in range(0, len(sums), cut)]
        for name, column in whole.items():
            np.testing.assert_array_equal(np.concatenate([values[name] for values in found if values]), column)


def test_training_in_pieces_is_training_at_once():
    whole, pieces = classifier(), classifier()
    expected = fit(whole, epochs=6)
    got = [fit(pieces, epochs=n)["loss"] for n in (1, 2, 3)]
    assert [value for part in got for value in part] == expected["loss"]


def test_other_seed_other_weights_and_order():
    assert fit(classifier(rng=1)) != fit(classifier(rng=0))


def test_shuffling_reorders_and_needs_batches():
    shuffled, ordered = classifier(), classifier()
    assert fit(shuffled, shuffle=True) != fit(ordered, shuffle=False)
    one, two = classifier(), classifier()
    assert fit(one, shuffle=True, batch_size=None) == fit(two, shuffle=False, batch_size=1000)


@pytest.mark.parametrize("seconds", [0.1, 0.003, 0.0])
def test_row_orders_are_the_same_whoever_draws_them_and_however_many_at_once(backend, monkeypatch, seconds):
    drawn = []

    def drawing(*given):
        drawn.append(row_orders(*given))
        return drawn[-1]

    with monkeypatch.context() as numpys:
        numpys.setattr("nnfast.training.orders.row_orders", lambda backend, *given: row_orders(None, *given))
        expected = fit(classifier(backend=backend), epochs=20)
    monkeypatch.setattr("nnfast.training.orders.row_orders", drawing)
    monkeypatch.setattr("nnfast.training.run.JOB_SECONDS", seconds)
    if backend == "numba":
        monkeypatch.setattr("nnfast.kernels.numba_cpu.orders.WORTH_LOADING", 0)
    model = classifier(backend=backend)
    assert fit(model, epochs=20) == expected
    np.testing.assert_array_equal(np.concatenate(drawn), [permutation(model._key, e, len(X)) for e in range(20)])


def test_every_row_is_used_once_per_epoch():
    spy = Spy()
    model = nn.Model([spy, nn.Dense(1, 1)], nn.MeanSquaredError(), nn.SGD(0.0), backend="numpy", rng=0)
    rows = np.arange(23, dtype=np.float32).reshape(-1, 1)
    fit(model, rows, rows, epochs=2, batch_size=5)
    assert [len(b) for b in spy.seen] == [5, 5, 5, 5, 3] * 2
    first, second = np.concatenate(spy.seen[:5]), np.concatenate(spy.seen[5:])
    assert not np.array_equal(first, second)
    for epoch in (first, second):
        np.testing.assert_array_equal(np.sort(epoch, axis=0), rows)


# ---- what fit reports -----------------------------------------------------------------------------------------------


def test_history_is_the_mean_of_batches_before_their_update():
    model, twin = regressor(), regressor()
    history = fit(model, X, TARGETS, epochs=1, batch_size=50, shuffle=False)
    losses = [twin.train_on_batch(X[i : i + 50], TARGETS[i : i + 50])["loss"] for i in (0, 50, 100)]
    assert history["loss"][0] == pytest.approx(np.average(losses, weights=[50, 50, 20]), rel=1e-12)
    assert len(fit(model, X, TARGETS, epochs=4)["loss"]) == 4


def test_penalty_is_in_the_loss_and_data_loss_beside_it():
    model = classifier()
    before = model.evaluate(X, Y)
    assert before["loss"] == pytest.approx(before["data_loss"] + model.layers[0].penalty(), rel=1e-6)
    assert set(fit(model)) == {"loss", "data_loss", "accuracy"}
    assert set(fit(regressor(), X, TARGETS)) == {"loss", "r2"}


def test_sample_weights_are_repetitions():
    counts = np.arange(len(X)) % 3
    repeated = np.repeat(np.arange(len(X)), counts)
    weighted, plain = regressor(dtype="float64"), regressor(dtype="float64")
    value, gradient = weighted.loss_and_gradient(X, TARGETS, sample_weight=counts)
    expected, reference = plain.loss_and_gradient(X[repeated], TARGETS[repeated])
    assert value == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(gradient, reference, rtol=1e-9, atol=1e-14)
    one = weighted.evaluate(X, TARGETS, sample_weight=counts, batch_size=17)
    two = plain.evaluate(X[repeated], TARGETS[repeated], batch_size=11)
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-12)
    assert one["r2"] == pytest.approx(two["r2"], rel=1e-9)


def test_batch_with_only_zero_weights_does_no_harm():
    w = np.ones(len(X))
    w[:32] = 0
    model = classifier()
    history = fit(model, sample_weight=w, shuffle=False)
    assert np.isfinite(history["loss"]).all()
    assert np.isfinite(model.parameters).all()


def test_r2_over_batches_is_that_of_the_whole_even_far_from_zero():
    model = nn.Model([nn.Dense(2, 2)], nn.MeanSquaredError(), metrics=["r2"], backend="numpy", dtype="float64", rng=0)
    y = 1e6 + X @ np.array([[1.0, 2.0], [3.0, -1.0]])
    model.set_weights([np.array([[1.1, 2.0], [3.0, -1.0]]), np.full(2, 1e6)])
    residual = ((model.predict(X) - y) ** 2).sum(axis=0)
    expected = (1 - residual / ((y - y.mean(axis=0)) ** 2).sum(axis=0)).mean()
    assert model.evaluate(X, y, batch_size=7)["r2"] == pytest.approx(expected, rel=1e-6)


def test_validation_is_measured_and_changes_nothing():
    plain, watched = classifier(), classifier()
    expected = fit(plain)
    history = fit(watched, validation_data=(X[:50], Y[:50]), validation_every=2)
    assert {k: v for k, v in history.items() if not k.startswith("val_")} == expected
    assert len(history["val_loss"]) == 3
    assert history["val_accuracy"][-1] == watched.evaluate(X[:50], Y[:50])["accuracy"]


def test_evaluate_and_predict_advance_nothing():
    one, two = classifier(), classifier()
    fit(one, epochs=2)
    one.evaluate(X, Y)
    one.predict(X)
    one.loss_and_gradient(X, Y, training=True)
    fit(one, epochs=2)
    fit(two, epochs=2)
    fit(two, epochs=2)
    np.testing.assert_array_equal(one.parameters, two.parameters)


def test_zero_epochs_do_nothing():
    model = classifier()
    before = model.parameters.copy()
    assert fit(model, epochs=0) == {"loss": [], "data_loss": [], "accuracy": []}
    np.testing.assert_array_equal(model.parameters, before)


def test_nan_in_the_data_warns_once_and_propagates():
    model = regressor()
    bad = X.copy()
    bad[3] = np.nan
    with pytest.warns(NonFiniteWarning, match="epoch 1") as seen:
        history = fit(model, bad, TARGETS)
    assert len(seen) == 1
    assert np.isnan(history["loss"][-1])


@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_the_warning_names_the_epoch(monkeypatch, seconds):
    monkeypatch.setattr("nnfast.training.run.JOB_SECONDS", seconds)
    calls = []

    def spoil(flat):
        calls.append(1)
        if len(calls) == 7:  # the first of the third epoch's three steps
            flat[0] = np.nan

    with pytest.warns(NonFiniteWarning, match="epoch 3") as seen:
        fit(classifier(), batch_size=50, on_gradients=spoil)
    assert len(seen) == 1


@pytest.mark.parametrize("more", [{}, {"accumulate": 2}, {"validation_split": 0.2}], ids=str)
def test_the_warning_points_to_the_callers_line(more):
    bad = X.copy()
    bad[3] = np.nan
    with pytest.warns(NonFiniteWarning) as seen:
        regressor().fit(bad, TARGETS, batch_size=20, verbose=0, **more)
    assert [w.filename for w in seen] == [__file__]
    with pytest.warns(NonFiniteWarning) as seen:
        regressor().fit(lambda: iter([(bad, TARGETS)]), epochs=1, verbose=0)
    assert [w.filename for w in seen] == [__file__]


class OneRank:
    """A communicator of one process, as mpi4py has them."""

    def Get_rank(self):
        return 0

    def Get_size(self):
        return 1

    def Dup(self):
        return self

    def Free(self): ...

    def Abort(self, code): ...

    def Bcast(self, array, root=0): ...

    def Allreduce(self, given, taken): ...

    def Allgather(self, given, taken):
        taken[0] = given


@pytest.mark.parametrize(("accumulate", "epoch"), [(1, 5), (3, 6)])
@pytest.mark.parametrize("comm", [None, OneRank()], ids=["alone", "one rank"])
def test_ranks_warn_of_the_same_epoch_from_the_callers_line(accumulate, epoch, comm):
    """With up to 3 batches per update, the 4 batches of an epoch are two updates: of 3, and of 1."""
    per_epoch = 2 if accumulate == 3 else 4

    def explodes(step):
        return 1e30 if step >= 4 * per_epoch else 1e-6  # so that the update after the next has a gradient of inf

    rows = np.random.default_rng(0).standard_normal((256, 3)).astype(np.float32)
    model = nn.Model([nn.Dense(3, 1)], nn.MeanSquaredError(), nn.SGD(explodes), backend="numpy", rng=0)
    with pytest.warns(NonFiniteWarning, match=f"since epoch {epoch}") as seen:
        model.fit(rows, rows[:, :1], epochs=12, batch_size=64, accumulate=accumulate, verbose=0, comm=comm)
    assert [w.filename for w in seen] == [__file__]


def test_verbose_levels_write_where_they_say(capsys):
    fit(classifier(), verbose=0)
    assert capsys.readouterr() == ("", "")
    fit(classifier(), verbose=2, epochs=3)
    out, err = capsys.readouterr()
    assert [line.split()[1] for line in out.splitlines()] == ["1/3", "2/3", "3/3"]
    assert err == ""
    fit(classifier(), verbose=1)
    assert capsys.readouterr().out == ""


def test_lines_of_an_epoch_hold_only_what_it_measured(capsys):
    fit(classifier(), verbose=2, epochs=4, validation_data=(X, Y), validation_every=2)
    lines = capsys.readouterr().out.splitlines()
    assert ["val_loss" in line for line in lines] == [False, True, False, True]


def test_progress_bar_on_a_terminal(monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setattr("nnfast.progress.BAR_AFTER", 0)

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    fit(classifier(), verbose=1)
    assert "6/6" in sys.stderr.getvalue()


# ---- random search --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["sample", "perturb"])
def test_random_search_holds_the_best_and_never_gets_worse(mode):
    V, v = nn.datasets.vertical(30, 3, 0)
    layers = [nn.Dense(2, 3, nn.initializers.normal(0.01)), nn.ReLU(), nn.Dense(3, 3, nn.initializers.normal(0.01))]
    settings = {"loss": nn.SoftmaxCrossEntropy(), "metrics": ["accuracy"], "backend": "numpy", "rng": 0}
    model = nn.Model(layers, optimizer=nn.RandomSearch(0.05, mode), **settings)
    history = fit(model, V, v, epochs=200, batch_size=None)
    assert (np.diff(history["loss"]) <= 0).all()
    measured = model.evaluate(V, v)
    assert measured["loss"] == pytest.approx(history["loss"][-1], rel=1e-6)
    assert measured["accuracy"] == history["accuracy"][-1]
    again = fit(model, V[::2], v[::2], epochs=20, batch_size=None)  # other data: its loss is measured anew
    assert again["loss"][-1] <= model.to().evaluate(V[::2], v[::2])["loss"] + 1e-6


def test_random_search_leaves_frozen_layers_and_padding_alone():
    layers = [nn.Dense(2, 3), nn.ReLU(), nn.Dense(3, 3)]
    model = nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.RandomSearch(0.5), backend="numpy", rng=0)
    layers[0].trainable = False
    before = layers[0].weights.copy()
    fit(model, epochs=50, batch_size=None)
    np.testing.assert_array_equal(layers[0].weights, before)
    assert np.count_nonzero(model.parameters) <= model.n_parameters


def test_steps_before_a_hook_raised_are_counted():
    calls = []

    def third_raises(flat):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("enough")

    model, twin = classifier(), classifier()
    with pytest.raises(RuntimeError, match="enough"):
        fit(model, epochs=5, batch_size=None, on_gradients=third_raises)
    fit(twin, epochs=2, batch_size=None)
    assert model.optimizer.steps == 2
    np.testing.assert_array_equal(model.parameters, twin.parameters)
    assert fit(model, epochs=3, batch_size=None) == fit(twin, epochs=3, batch_size=None)


def test_random_search_starts_from_what_is_there():
    V, v = nn.datasets.vertical(30, 3, 0)
    trained = nn.Model([nn.Dense(2, 3)], nn.SoftmaxCrossEntropy(), nn.Adam(0.1), backend="numpy", rng=0)
    fit(trained, V, v, epochs=300, batch_size=None)
    before = trained.evaluate(V, v)["loss"]
    trained.optimizer = nn.RandomSearch(5.0, "perturb")
    fit(trained, V, v, epochs=5, batch_size=None)
    assert trained.evaluate(V, v)["loss"] <= before + 1e-7
    assert not any(op.stage == "backward" for op in trained.program.ops)


# ---- metrics --------------------------------------------------------------------------------------------------------


def test_metrics_of_a_logit_loss_measure_probabilities():
    y = (X[:, :1] > 0).astype(float)
    names = [
        "r2",
        "mean_absolute_error",
        nn.metrics.regression_accuracy(0.3),
        nn.metrics.regression_accuracy(0.1, "near"),
    ]
    model = nn.Model([nn.Dense(2, 1)], nn.SigmoidBinaryCrossEntropy(), metrics=names, backend="numpy", rng=0)
    measured = model.evaluate(X, y)
    p = model.predict(X)
    assert measured["mean_absolute_error"] == pytest.approx(nn.metrics.mean_absolute_error(p, y), rel=1e-6)
    assert measured["r2"] == pytest.approx(nn.metrics.r2(p, y), rel=1e-5)
    assert measured["near"] == nn.metrics.regression_accuracy(0.1)(p, y)
    heads = [op.name for op in model._programs.lower("evaluate").ops].count("sigmoid")
    assert heads == 1


def test_r2_of_a_constant_target_is_0_or_1():
    y = np.full((len(X), 1), 0.1)
    model = nn.Model([nn.Dense(2, 1)], nn.MeanSquaredError(), metrics=["r2"], backend="numpy", dtype="float64", rng=0)
    assert model.evaluate(X, y, batch_size=7)["r2"] == 0
    model.set_weights([np.zeros((2, 1)), np.array([0.1])])
    assert model.evaluate(X, y, batch_size=7)["r2"] == 1


def test_threads_share_a_model_for_prediction():
    model = classifier()
    inputs = [np.random.default_rng(i).standard_normal((50 + i, 2)) for i in range(4)]
    expected = [model.predict(x) for x in inputs]
    wrong = []

    def ask(i):
        for _ in range(100):
            if not np.array_equal(model.predict(inputs[i]), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_steps_by_several_threads_are_numbered_one_by_one():
    model = nn.Model([nn.Dense(2, 3)], nn.SoftmaxCrossEntropy(), nn.SGD(0.1, decay=1.0), backend="numpy", rng=0)
    twin = model.to()
    threads = [threading.Thread(target=lambda: [model.train_on_batch(X, Y) for _ in range(20)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(60):
        twin.train_on_batch(X, Y)
    assert model.optimizer.steps == 60
    np.testing.assert_array_equal(model.parameters, twin.parameters)


def test_of_two_threads_that_fit_one_model_one_is_refused(monkeypatch):
    """At whatever moment the second one comes: here while the first prepares its data."""
    model, twin, refused = classifier(), classifier(), []
    prepare = nn.training.fit.prepare

    def second():
        try:
            fit(model)
        except nn.errors.StateError as error:
            refused.append(str(error))

    def interrupted(*arguments, **options):
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=second)
            thread.start()
            thread.join(20)
        return prepare(*arguments, **options)

    monkeypatch.setattr("nnfast.training.fit.prepare", interrupted)
    history = fit(model)
    assert len(refused) == 1
    assert "fitted already" in refused[0]
    monkeypatch.undo()
    assert history == fit(twin)
    np.testing.assert_array_equal(model.parameters, twin.parameters)
    fit(model)  # nobody has kept the model


@posix
@pytest.mark.parametrize("call", ["fit", "predict"])
def test_a_forked_child_does_not_wait_for_a_thread_that_it_has_not(call):
    """A model that another thread was changing says so; one that it was asking answers."""
    code = """
import os, signal, sys, threading
sys.path.insert(0, sys.argv[1])
from small_models import X, Y, nn
class Slow(nn.PythonLayer):
    def compute(self, x, training):
        inside.set()
        leave.wait(20)
        return x
    def gradient(self, dy):
        return dy
inside, leave = threading.Event(), threading.Event()
model = nn.Model([nn.Dense(2, 3), Slow()], nn.SoftmaxCrossEntropy(), nn.SGD(0.1), backend="numpy", rng=0)
calls = {"fit": lambda: model.fit(X, Y, verbose=0), "predict": lambda: model.predict(X)}
thread = threading.Thread(target=calls[sys.argv[2]])
thread.start()
inside.wait(20)
child = os.fork()
leave.set()
if child:
    thread.join()
    print(model.optimizer.steps, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
else:
    signal.alarm(30)  # rather than hang
    for call in calls.values():
        try:
            call()
        except nn.errors.StateError as error:
            assert "when the process was forked" in str(error)
            os._exit(3)
    os._exit(0)
"""
    assert output_of(code, os.path.dirname(__file__), call) == {"fit": "1 3", "predict": "0 0"}[call]


def test_measuring_takes_batches_that_stay_small():
    from nnfast.training.batches import evaluation_rows

    narrow = nn.Model([nn.Dense(2, 4)], backend="numpy")
    wide = nn.Model([nn.Dense(2, 3000), nn.Dense(3000, 2)], backend="numpy")
    widest = nn.Model([nn.Dense(2, 30000), nn.Dense(30000, 2)], backend="numpy")
    assert evaluation_rows(narrow.program) == 4096
    assert evaluation_rows(wide.program) == 2**20 // wide.program.arena_columns
    assert evaluation_rows(widest.program) == 64


def test_binary_accuracy_of_one_hot_rows_measures_probabilities():
    y = np.eye(3)[Y]
    model = classifier(metrics=["binary_accuracy"])
    fit(model, y=y, epochs=20)
    measured = nn.metrics.binary_accuracy(model.predict(X), y)
    assert model.evaluate(X, y)["binary_accuracy"] == pytest.approx(measured, rel=1e-12)


def test_an_own_loss_with_a_head_is_measured_on_its_predictions():
    class Square(nn.PythonLoss):
        head = "sigmoid"

        def compute(self, output, y):
            return ((output - y) ** 2).sum(axis=1)

        def gradient(self, output, y):
            return 2 * (output - y)

    y = np.eye(3)[Y]
    model = classifier(loss=Square(), metrics=["mean_absolute_error"])
    expected = nn.metrics.mean_absolute_error(model.predict(X), y)
    assert model.evaluate(X, y)["mean_absolute_error"] == pytest.approx(expected, rel=1e-6)


def test_weighted_shuffled_batches_are_the_steps_one_by_one():
    w = np.linspace(0.1, 3, len(X))
    fitted, stepped = regressor(dtype="float64"), regressor(dtype="float64")
    history = fit(fitted, X, TARGETS, epochs=3, sample_weight=w)
    losses, weights = np.empty((3, 4)), np.empty((3, 4))
    for epoch in range(3):
        order = permutation(stepped._key, epoch, len(X))
        for i, rows in enumerate(np.split(order, [32, 64, 96])):
            weights[epoch, i] = w[rows].sum()
            losses[epoch, i] = stepped.train_on_batch(X[rows], TARGETS[rows], sample_weight=w[rows])["loss"]
    np.testing.assert_allclose(fitted.parameters, stepped.parameters, rtol=1e-9)
    np.testing.assert_allclose(history["loss"], (losses * weights).sum(axis=1) / weights.sum(axis=1), rtol=1e-9)


def test_penalty_is_averaged_over_samples():
    def model():
        layers = [nn.Dense(2, 1, weight_l2=0.5)]
        return nn.Model(layers, nn.MeanSquaredError(), nn.SGD(0.3), backend="numpy", dtype="float64", rng=0)

    fitted, stepped = model(), model()
    history = fit(fitted, X, TARGETS, epochs=1, batch_size=50, shuffle=False)
    losses = [stepped.train_on_batch(X[i : i + 50], TARGETS[i : i + 50])["loss"] for i in (0, 50, 100)]
    assert history["loss"][0] == pytest.approx(np.average(losses, weights=[50, 50, 20]), rel=1e-12)


@pytest.mark.parametrize("backend", [name for name in ("numpy", "numba") if nn.available_backends()[name]])
def test_a_penalty_by_batch_is_divided_as_the_loss_is(backend):
    model = nn.Model([Ridge(2, 1)], nn.MeanSquaredError(), nn.SGD(0.3), backend=backend, dtype="float64", rng=0)
    w, b = (np.array(a) for a in model.get_weights())
    sample_weight = np.random.default_rng(0).uniform(0, 2, len(X))
    history = fit(model, X, TARGETS, epochs=2, batch_size=50, shuffle=False, sample_weight=sample_weight)
    penalties = []
    for part in [slice(0, 50), slice(50, 100), slice(100, 120)] * 2:
        x, weight = X[part].astype(np.float64), sample_weight[part, None]
        penalties.append((0.01 * abs(w).sum() + 0.5 * (w**2).sum()) / weight.sum())
        dz = 2 * weight * (x @ w + b - TARGETS[part])
        slope = 0.01 * np.sign(w) + w
        w, b = w - 0.3 * (x.T @ dz + slope) / weight.sum(), b - 0.3 * dz.sum(axis=0) / weight.sum()
    np.testing.assert_allclose(model.layers[0].weights, w, rtol=1e-12)
    np.testing.assert_allclose(model.layers[0].biases, b, rtol=1e-12)
    expected = np.average(np.reshape(penalties, (2, 3)), axis=1, weights=[50, 50, 20])
    np.testing.assert_allclose(np.subtract(history["loss"], history["data_loss"]), expected, rtol=1e-9)


@pytest.mark.parametrize("rate", [0.5, lambda step: 0.5 / (1 + step)])
def test_fit_single_steps_and_steps_by_hand_share_one_clock(rate):
    fitted, single, stepped = (classifier(nn.SGD(rate, decay=0.5)) for _ in range(3))
    for model in (fitted, single, stepped):
        model.layers[2].rate = 0
    fit(fitted, epochs=5, batch_size=None)
    for _ in range(5):
        single.train_on_batch(X, Y)
        stepped.loss_and_gradient(X, Y)
        stepped.optimizer.step(stepped.layers)
    np.testing.assert_array_equal(single.parameters, fitted.parameters)
    np.testing.assert_array_equal(stepped.parameters, fitted.parameters)


def test_validation_is_measured_after_the_last_epoch_too():
    history = fit(classifier(), epochs=7, validation_data=(X, Y), validation_every=3)
    assert len(history["val_loss"]) == 3  # after 3, 6 and 7


def test_validation_takes_weights():
    model = classifier()
    w = np.linspace(0, 3, len(X))
    history = fit(model, validation_data=(X, Y, w))
    measured = model.evaluate(X, Y, sample_weight=w)
    assert history["val_loss"][-1] == measured["loss"] != model.evaluate(X, Y)["loss"]


def test_logs_and_words_are_those_of_the_epoch(capsys):
    seen = {}

    class Watch(nn.Callback):
        every = 40

        def on_epoch(self, model, epoch, logs):
            seen[epoch] = logs["loss"]

    model = regressor()
    history = fit(model, X, TARGETS, epochs=100, batch_size=None, callbacks=[Watch()])
    assert seen == {epoch: history["loss"][epoch - 1] for epoch in (40, 80, 100)}
    assert f"loss={history['loss'][-1]:.4g}" in repr(model.history)
    fit(model, X, TARGETS, epochs=2, verbose=2, validation_data=(X, TARGETS))
    assert all("val_loss" in line and "val_r2" in line for line in capsys.readouterr().out.splitlines())


def test_an_epoch_broken_off_is_not_shuffled_again():
    def second_raises(flat):
        if len(broken.seen) == 2:
            raise RuntimeError("enough")

    rows = np.arange(23, dtype=np.float32).reshape(-1, 1)
    whole, broken = Spy(), Spy()
    models = [nn.Model([spy, nn.Dense(1, 1)], nn.MeanSquaredError(), nn.SGD(0.0), rng=0) for spy in (whole, broken)]
    fit(models[0], rows, rows, epochs=1, batch_size=5)
    with pytest.raises(RuntimeError, match="enough"):
        fit(models[1], rows, rows, epochs=1, batch_size=5, on_gradients=second_raises)
    for model, spy in zip(models, (whole, broken), strict=True):
        spy.seen.clear()
        fit(model, rows, rows, epochs=1, batch_size=5)
    np.testing.assert_array_equal(np.concatenate(broken.seen), np.concatenate(whole.seen))


@pytest.mark.parametrize(("batch_size", "step", "epoch"), [(None, 5, 5), (None, 1, 1), (30, 4, 1)])
def test_the_warning_names_the_first_epoch_that_is_not_finite(batch_size, step, epoch):
    steps = []

    def spoil(flat):
        steps.append(1)
        if len(steps) == step:
            flat[0] = np.inf

    with pytest.warns(NonFiniteWarning, match=f"since epoch {epoch};") as caught:
        fit(regressor(), X, TARGETS, epochs=8, batch_size=batch_size, on_gradients=spoil)
    assert sum(w.category is NonFiniteWarning for w in caught) == 1


def test_a_gradient_that_is_not_finite_warns_though_the_loss_is():
    def spoil(flat):
        flat[0] = np.inf

    with pytest.warns(NonFiniteWarning):
        history = fit(regressor(), X, TARGETS, epochs=1, batch_size=None, on_gradients=spoil)
    assert np.isfinite(history["loss"]).all()


def test_evaluation_takes_batches_of_the_size_asked_for():
    spy = Spy()
    model = nn.Model([spy, nn.Dense(2, 1)], nn.MeanSquaredError(), backend="numpy", rng=0)
    model.evaluate(X, TARGETS, batch_size=50)
    model.predict(X, batch_size=50)
    assert [len(b) for b in spy.seen] == [50, 50, 20] * 2


def test_random_search_measures_its_start_as_it_measures_candidates():
    layers = [nn.Dense(2, 16), nn.ReLU(), nn.Dropout(0.9), nn.Dense(16, 3)]
    model = nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.Adam(0.05), backend="numpy", rng=0)
    model.layers[2].rate = 0
    fit(model, epochs=100)
    model.layers[2].rate = 0.9
    model.optimizer = nn.RandomSearch(0.0)
    history = fit(model, epochs=5, batch_size=None)
    assert min(history["loss"]) > model.evaluate(X, Y)["loss"]


def test_random_search_draws_each_array_anew():
    model = nn.Model([nn.Dense(2, 2), nn.Dense(2, 2), nn.Dense(2, 3)], nn.SoftmaxCrossEntropy(), backend="numpy", rng=0)
    model.optimizer = nn.RandomSearch(1.0, "sample")
    fit(model, epochs=1, batch_size=None)
    first, second = (model.program.layout[f"{i}.weights"] for i in (0, 1))
    candidate = model._buffers.slots["candidate"]
    assert not np.intersect1d(*(candidate[b.offset : b.offset + b.size] for b in (first, second))).size


def test_metrics_whose_names_begin_alike_stay_apart():
    y = np.arange(len(X)) % 12
    metrics = [nn.metrics.top_k(10), nn.metrics.top_k(1)]
    model = nn.Model([nn.Dense(2, 12)], nn.SoftmaxCrossEntropy(), metrics=metrics, backend="numpy", rng=0)
    measured, p = model.evaluate(X, y), model.predict(X)
    assert (measured["top_10"], measured["top_1"]) == tuple(metric(p, y) for metric in metrics)
    assert measured["top_1"] < measured["top_10"]


def test_metrics_by_hand_take_weights():
    w = np.arange(len(X)) % 3
    repeated = np.repeat(np.arange(len(X)), w)
    p, y = regressor().predict(X), TARGETS
    for metric in (nn.metrics.mean_absolute_error, nn.metrics.r2, nn.metrics.regression_accuracy(0.2)):
        assert metric(p, y, sample_weight=w) == pytest.approx(metric(p[repeated], y[repeated]), rel=1e-6)
        assert metric(p, y, sample_weight=w) != pytest.approx(metric(p, y), rel=1e-3)


def test_the_warning_names_the_epoch_though_jobs_begin_within_one():
    steps = []

    def spoil(flat):
        steps.append(1)
        if len(steps) == 5:  # the first batch of epoch 2; the job before it ended after batch 1
            flat[0] = np.inf

    with pytest.warns(NonFiniteWarning, match="since epoch 2;"):
        fit(regressor(), X, TARGETS, epochs=8, batch_size=30, on_gradients=spoil)


def test_the_warning_points_at_the_call_of_fit():
    bad = X.copy()
    bad[3] = np.nan
    with pytest.warns(NonFiniteWarning) as caught:
        regressor().fit(bad, TARGETS, verbose=0)
    assert caught[0].filename == __file__


def test_what_is_over_soon_gets_no_bar(monkeypatch):
    pytest.importorskip("rich")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr("nnfast.progress.BAR_AFTER", 3600)
    fit(classifier(), verbose=1)
    assert screen.getvalue() == ""
