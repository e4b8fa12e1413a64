"""The pictures: what they show is what was measured, nothing is cut off, and the user's matplotlib stays as it was."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from small_models import TARGETS, X, Y, classifier, regressor

import nnfast as nn
from nnfast.errors import DataError, DTypeError, OptionError, ShapeError, UnknownNameError
from nnfast.history import History
from nnfast.metrics import confusion_matrix

matplotlib = pytest.importorskip("matplotlib")

from matplotlib.collections import PathCollection  # noqa: E402
from matplotlib.colors import to_hex, to_rgb  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.text import Text  # noqa: E402

from nnfast import plots  # noqa: E402
from nnfast.examples import training  # noqa: E402
from nnfast.pictures.drawing import COLOURS, INK, MARKERS  # noqa: E402


@pytest.fixture(autouse=True)
def untouched():
    """No picture may leave a trace in matplotlib's settings."""
    before = dict(matplotlib.rcParams.copy())
    yield
    assert dict(matplotlib.rcParams.copy()) == before


def recorded(epochs, every=1, **changes):
    """A made-up history: losses that fall, with a validation whose lowest value is at two thirds."""
    history, t = History(planned=changes.pop("planned", None)), np.arange(1, epochs + 1) / epochs
    rng = np.random.default_rng(0)
    columns = {"loss": 2 * np.exp(-2 * t) + 0.02 * rng.random(epochs), "accuracy": 0.3 + 0.6 * t} | changes
    history.extend(columns)
    measured = [e for e in range(1, epochs + 1) if e % every == 0 or e == epochs]
    history.history |= {"val_loss": [1 + (e / epochs - 2 / 3) ** 2 for e in measured]}
    history.history |= {"val_accuracy": [0.2 + 0.5 * e / epochs for e in measured]}
    history.validated = {"val_loss": measured, "val_accuracy": measured}
    return history


def titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes]


def legend(figure):
    return [text.get_text() for owner in [*figure.legends, *(a.get_legend() for a in figure.axes)] if owner
            for text in owner.get_texts()]  # fmt: skip


def curve(ax, label):
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def cut_off(figure):
    """Texts that reach beyond the page, or lie on each other within one axes."""
    figure.draw_without_rendering()
    found = []
    page = figure.bbox
    shown = {}
    hidden = {t for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for t in axis.get_ticklabels(which="both")}
    hidden -= {tick.label1 for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for tick in axis._update_ticks()}
    for text in figure.findobj(lambda a: isinstance(a, Text) and a.get_visible() and a.get_text().strip()):
        if text in hidden:  # matplotlib keeps ticks beyond the axis, without drawing them
            continue
        box = text.get_window_extent()
        if not (page.x0 - 1 <= box.x0 and box.x1 <= page.x1 + 1 and page.y0 - 1 <= box.y0 and box.y1 <= page.y1 + 1):
            found.append(text.get_text())
        shown[text] = box
    for ax in figure.axes:
        heads = [t for t in (ax.title, ax._left_title, ax._right_title, ax.xaxis.label) if t in shown]
        heads += [t for t in ax.xaxis.get_ticklabels() if t in shown and not t.get_rotation()]
        found += [(a.get_text(), b.get_text()) for a, b in itertools.combinations(heads, 2)
                  if shown[a].shrunk(0.96, 0.8).overlaps(shown[b].shrunk(0.96, 0.8))]  # fmt: skip
    return found


# ---- the course of a training ---------------------------------------------------------------------------------------


def test_a_history_is_drawn_at_its_epochs(backend):
    model = classifier(backend=backend)
    history = model.fit(X, Y, epochs=10, verbose=0, validation_data=(X[::3], Y[::3]), validation_every=4)
    figure = history.plot()
    assert titles(figure) == ["Loss", "Accuracy"]
    for ax, name in zip(figure.axes, ["loss", "accuracy"], strict=True):
        epochs, values = curve(ax, "training")
        assert epochs.tolist() == list(range(1, 11))
        assert values.tolist() == history.history[name]
        epochs, values = curve(ax, "validation")
        assert epochs.tolist() == [4, 8, 10]
        assert values.tolist() == history.history[f"val_{name}"]
    assert curve(figure.axes[0], "training, without the penalty")[1].tolist() == history.history["data_loss"]


def test_the_best_epoch_is_marked_in_every_panel():
    history = recorded(300, every=10, learning_rate=np.linspace(1e-2, 1e-3, 300))
    figure = history.plot()
    assert titles(figure) == ["Loss", "Accuracy", "Learning rate"]
    assert history.best() == (200, 1)
    for ax in figure.axes:
        assert set(curve(ax, "lowest validation loss: epoch 200")[0]) == {200}
    lines = [[line for line in ax.lines if line.get_marker() == "o"] for ax in figure.axes]
    dots = [[line.get_xydata()[0].tolist() for line in found if len(line.get_xdata()) == 1] for found in lines]
    assert dots == [[[200, 1]], [[200, pytest.approx(0.2 + 0.5 * 200 / 300)]], []]
    assert [ax.get_title(loc="right") for ax in figure.axes] == ["validation 1.000", "validation 0.5333", ""]
    assert legend(figure) == ["training", "validation", "lowest validation loss: epoch 200"]


def test_stopping_early_is_said():
    assert recorded(1, planned=1).plot().get_suptitle() == "Training: 1 epoch"
    assert recorded(30, planned=1_000).plot().get_suptitle() == "Training: 30 epochs of 1,000, stopped early"
    assert recorded(30, planned=1_000).plot(title="Mine").get_suptitle() == "Mine"


@pytest.mark.parametrize("epochs", [1, 2, 3, 10_000])
def test_few_and_many_epochs(epochs, tmp_path):
    figure = recorded(epochs).plot(file=tmp_path / "history.png")
    assert cut_off(figure) == []
    ax = figure.axes[0]
    low, high = ax.get_xlim()
    ticks = [t for t in ax.get_xticks() if low <= t <= high]
    assert ticks
    assert all(t == round(t) for t in ticks)
    assert len(ticks) == len(set(ticks)) <= 12
    labels = [t.get_text() for t in ax.xaxis.get_ticklabels()]
    assert len(set(labels)) == len(labels)
    drawn = curve(ax, "training")
    if epochs < 10_000:
        assert len(drawn[0]) == epochs
        assert {line.get_marker() for line in ax.lines if line.get_label() == "training"} == {"o"}
        return
    assert len(drawn[0]) == 200
    assert 1 <= drawn[0].min() < drawn[0].max() <= 10_000
    faint = [line for line in ax.lines if len(line.get_xdata()) == epochs]
    assert [line.get_alpha() for line in faint] == [0.2, 0.2]
    assert "lowest validation loss: epoch 6,667" in legend(figure)


def test_losses_over_decades_have_a_logarithmic_axis():
    wide, negative = np.geomspace(1, 1e-4, 50), np.linspace(1, -1, 50)
    assert recorded(50, loss=wide).plot().axes[0].get_yscale() == "log"
    assert recorded(50, loss=wide).plot(log=False).axes[0].get_yscale() == "linear"
    assert recorded(50).plot().axes[0].get_yscale() == "linear"
    assert recorded(50).plot(log=True).axes[0].get_yscale() == "log"
    assert recorded(50, loss=negative).plot().axes[0].get_ylim()[0] < -1
    with pytest.raises(OptionError, match="log=True needs losses above 0"):
        recorded(50, loss=negative).plot(log=True)


def test_values_that_are_not_finite_are_left_out():
    loss = np.ones(2_000)
    loss[700], loss[1_500:] = np.inf, np.nan
    figure = recorded(2_000, loss=loss, accuracy=np.full(2_000, np.nan)).plot()
    assert figure.axes[0].get_ylim()[1] < 3
    nothing = History()
    nothing.extend({"loss": np.full(5, np.nan), "r2": np.full(5, np.inf)})
    nothing.extend({"val_loss": np.array([np.nan])})
    assert titles(nothing.plot()) == ["Loss", "R²"]


def test_panels_are_chosen_by_name():
    assert titles(recorded(9).plot(names=["accuracy"])) == ["Accuracy"]
    assert titles(recorded(9).plot(names=["accuracy", "loss"])) == ["Accuracy", "Loss"]
    many = recorded(9, **{f"metric_{i}": np.ones(9) for i in range(7)})
    assert len(many.plot().axes) == 9
    assert cut_off(many.plot()) == []


@pytest.mark.parametrize(
    ("history", "options", "error", "message"),
    [
        (History(("loss",)), {}, DataError, "the history holds no epoch yet"),
        ({"loss": [1.0]}, {}, DTypeError, "expected the History that model.fit"),
        (recorded(3), {"names": ["acuracy"]}, UnknownNameError, "did you mean 'accuracy'?"),
        (recorded(3), {"names": "loss"}, DTypeError, "expected a list of names"),
        (recorded(3), {"log": "yes"}, UnknownNameError, "unknown log 'yes'"),
        (recorded(3), {"file": "picture.txt"}, OptionError, "file is 'picture.txt'; the name must end in one of"),
        (recorded(3), {"file": "no/such/folder/a.png"}, OptionError, "no/such/folder does not exist"),
        (recorded(3), {"size": 3}, OptionError, "size is 3; expected (width, height) in inches"),
        (recorded(3), {"size": (5, -1)}, OptionError, "size[1]"),
        (recorded(3), {"figure": "a.png"}, DTypeError, "expected a matplotlib Figure or SubFigure"),
    ],
)
def test_a_wrong_history_picture(history, options, error, message):
    with pytest.raises(error) as caught:
        plots.history(history, **options)
    assert message in str(caught.value)


# ---- what a classifier answers --------------------------------------------------------------------------------------


def blobs(classes, rows=40, seed=0):
    """Points around the corners of a polygon, a few of them strays."""
    rng, y = np.random.default_rng(seed), np.repeat(np.arange(classes), rows)
    angle = 2 * np.pi * y / classes
    return np.column_stack([np.cos(angle), np.sin(angle)]) + 1.2 / classes * rng.normal(size=(len(y), 2)), y


def linear(outputs, weights, biases, loss=None):
    model = nn.Model([nn.Dense(2, outputs)], loss, backend="numpy")
    model.set_weights([np.asarray(weights, np.float32), np.asarray(biases, np.float32)])
    return model


def scattered(ax):
    """The points of each class that are classified rightly, and those with the dark edge of an error."""
    good, wrong = [], []
    for points in ax.collections:
        if isinstance(points, PathCollection) and len(points.get_offsets()):
            (wrong if to_hex(points.get_edgecolors()[0]) == INK else good).append(points)
    return good, wrong


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_regions_points_and_errors(classes, backend, tmp_path):
    X, y = blobs(classes)
    layers = [nn.Dense(2, 16), nn.Tanh(), nn.Dense(16, classes)]
    model = nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.Adam(0.05), ["accuracy"], backend=backend, rng=0)
    model.fit(X, y, epochs=60, verbose=0)
    before = model.get_weights()
    figure = model.plot_decision_regions(X, y, file=tmp_path / "regions.png", resolution=60)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    accuracy = model.evaluate(X, y)["accuracy"]
    errors = round(len(X) * (1 - accuracy))
    assert 0 < errors < len(X)
    (ax,) = figure.axes
    assert titles(figure) == [f"Accuracy {accuracy:.1%}"]
    assert legend(figure) == [*(f"class {c}" for c in range(classes)), f"wrong: {errors}", f"of {len(X)} points"]
    good, wrong = scattered(ax)
    assert sum(len(points.get_offsets()) for points in good) == len(X) - errors
    predicted = np.asarray(model.predict(X)).argmax(axis=1)
    drawn = np.concatenate([points.get_offsets() for points in wrong])
    assert {tuple(p) for p in np.float32(drawn)} == {tuple(p) for p in np.float32(X[predicted != y])}
    assert ax.images[0].get_array().shape == (60, 60, 3)
    assert cut_off(figure) == []


def test_the_tint_is_the_likelier_class_and_its_confidence():
    """Class 1 to the right: p = sigmoid(4x). Far out the tint is the class's own, on the border half of each."""
    X, y = np.array([[-3.0, -1], [3, 1], [0.5, 0]]), [0, 1, 0]
    one = linear(1, [[4], [0]], [0], nn.SigmoidBinaryCrossEntropy())
    two = linear(2, [[0, 4], [0, 0]], [0, 0], nn.SoftmaxCrossEntropy())
    bare = linear(2, [[0, 4], [0, 0]], [0, 0])  # no loss, so no probabilities: flat
    tints = []
    for model in (one, two, bare):
        figure = plots.decision_regions(model, X, np.array(y)[:, None] if model is one else y, resolution=101)
        tints.append(np.asarray(figure.axes[0].images[0].get_array())[50])
        assert titles(figure) == ["Accuracy 66.7%"]
        assert [points.get_offsets().tolist() for points in scattered(figure.axes[0])[1]] == [[[0.5, 0]]]
    light = [1 - 0.45 * (1 - np.array(to_rgb(c))) for c in COLOURS[:2]]
    np.testing.assert_allclose(tints[0], tints[1], atol=1e-6)
    for tint in tints:
        np.testing.assert_allclose(tint[[0, -1]], light, atol=1e-4)
    np.testing.assert_allclose(tints[0][50], np.mean(light, axis=0), atol=1e-6)
    assert len(np.unique(tints[2].round(6), axis=0)) == 2
    assert len(np.unique(tints[0].round(6), axis=0)) > 20


def test_a_single_output_counts_above_its_threshold():
    X, y = np.array([[-1.0, 0], [0.2, 0], [0.4, 0], [2, 0]]), np.array([0, 0, 1, 1])
    model = linear(1, [[1], [0]], [0])
    assert titles(plots.decision_regions(model, X, y)) == ["Accuracy 75.0%"]
    assert titles(plots.decision_regions(model, X, y, threshold=0.3)) == ["Accuracy 100.0%"]
    assert titles(plots.decision_regions(model, X, y[:, None].astype(float), threshold=0.3)) == ["Accuracy 100.0%"]


def test_labels_as_rows_and_names():
    X, y = blobs(3)
    model = linear(3, np.random.default_rng(1).normal(size=(2, 3)), [0, 0, 0], nn.SoftmaxCrossEntropy())
    figures = [plots.decision_regions(model, X, labels, resolution=9) for labels in (y, np.eye(3)[y], y.astype("u1"))]
    assert len({tuple(titles(f)) for f in figures}) == 1
    named = plots.decision_regions(model, X, y, resolution=9, names=["a", "b", "c"], title="Letters")
    assert legend(named)[:3] == ["a", "b", "c"]
    assert named.get_suptitle() == "Letters"


def test_many_classes_many_points_and_hardly_any():
    X, y = blobs(25, rows=400)
    model = linear(25, np.random.default_rng(1).normal(size=(2, 25)), np.zeros(25), nn.SoftmaxCrossEntropy())
    figure = plots.decision_regions(model, X, y, resolution=12)
    assert legend(figure)[-1] == "of 10,000 points\n(5,000 drawn)"
    assert len(legend(figure)) == 2  # 25 names would not fit
    good, wrong = scattered(figure.axes[0])
    assert sum(len(points.get_offsets()) for points in [*good, *wrong]) == 5_000
    looks = {(MARKERS[c % len(MARKERS)], COLOURS[c % len(COLOURS)]) for c in range(110)}
    assert len(looks) == 110
    single = plots.decision_regions(model, X[:1], y[:1], resolution=12)  # a box without an extent gets one
    low, high = single.axes[0].get_xlim()
    assert low < X[0, 0] < high


def test_almost_all_is_not_all():
    X, y = np.column_stack([np.linspace(-1, 1, 4_000), np.zeros(4_000)]), np.repeat([0, 1], 2_000)
    y[0] = 1
    model = linear(2, [[0, 4], [0, 0]], [0, 0])
    assert titles(plots.decision_regions(model, X, y, resolution=9)) == ["Accuracy 99.975%"]


TWO = linear(2, [[0, 4], [0, 0]], [0, 0])
FLAT = linear(3, [[2, -1, -1], [0, 2, -2]], [0, 0, 0], nn.SoftmaxCrossEntropy())  # straight borders


@pytest.mark.parametrize(
    ("model", "data", "options", "error", "message"),
    [
        (nn.Model([nn.Dense(3, 2)]), (np.ones((4, 3)), [0, 1, 0, 1]), {}, ShapeError, "2 inputs; this one takes 3"),
        (TWO, (np.ones((4, 3)), [0, 1, 0, 1]), {}, ShapeError, "X has shape (4, 3)"),
        (TWO, ([[0, 1], [np.nan, 1]], [0, 1]), {}, DataError, "X[1] is not finite"),
        (TWO, (np.ones((2, 2)), [0, 2]), {}, DataError, "y[1] is 2, which is no class"),
        (TWO, (np.ones((2, 2)), [0, 1, 1]), {}, ShapeError, "y has 3 labels for 2 rows"),
        (TWO, (np.ones((2, 2)), [0, 1]), {"resolution": 1}, OptionError, "resolution"),
        (TWO, (np.ones((2, 2)), [0, 1]), {"names": ["a"]}, OptionError, "expected a list of 2 names, one per class"),
        (linear(2, [[np.nan] * 2] * 2, [0, 0]), (np.ones((2, 2)), [0, 1]), {}, DataError, "answers are not all finite"),
    ],
)  # fmt: skip
def test_wrong_decision_regions(model, data, options, error, message):
    with pytest.raises(error) as caught:
        plots.decision_regions(model, *data, **options)
    assert message in str(caught.value)


# ---- what a regression answers --------------------------------------------------------------------------------------


def curves(outputs, backend="numpy"):
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(-3, 3, 120))[:, None]
    y = np.hstack([np.sin(x + i) for i in range(outputs)]) + 0.1 * rng.normal(size=(120, outputs))
    layers = [nn.Dense(1, 16), nn.Tanh(), nn.Dense(16, outputs)]
    model = nn.Model(layers, nn.MeanSquaredError(), nn.Adam(0.02), backend=backend, dtype="float64", rng=0)
    model.fit(x, y, epochs=80, verbose=0)
    return model, x, y


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_fit_its_residuals_and_its_figures(outputs, backend, tmp_path):
    model, x, y = curves(outputs, backend)
    figure = model.plot_fit(x, y, file=tmp_path / "fit.png", resolution=77)
    above, below = figure.axes
    predicted = np.asarray(model.predict(x))
    words = titles(figure)[:1] if outputs == 1 else legend(figure)
    for i in range(outputs):
        r2 = nn.metrics.r2(predicted[:, i : i + 1], y[:, i : i + 1])
        error = nn.metrics.mean_absolute_error(predicted[:, i : i + 1], y[:, i : i + 1])
        assert f"R² {r2:.4f}" in words[i]
        assert f"MAE {error:.3g}" in words[i]
        line = above.lines[i]
        grid = np.asarray(line.get_xdata())[:, None]
        assert len(grid) == 77
        assert grid[0] < x.min() < x.max() < grid[-1]
        np.testing.assert_allclose(line.get_ydata(), np.asarray(model.predict(grid))[:, i])
    points = [p.get_offsets() for p in above.collections if isinstance(p, PathCollection)]
    left = [p.get_offsets() for p in below.collections if isinstance(p, PathCollection)]
    for i in range(outputs):
        np.testing.assert_allclose(points[i], np.column_stack([x[:, 0], y[:, i]]))
        np.testing.assert_allclose(left[i], np.column_stack([x[:, 0], y[:, i] - predicted[:, i]]))
    assert len({line.get_linestyle() for line in above.lines}) == outputs  # told apart without colours
    assert cut_off(figure) == []


def test_of_a_poisson_model_the_rate_is_drawn():
    model = nn.Model([nn.Dense(1, 1)], nn.Poisson(), backend="numpy")
    model.set_weights([np.float32([[1.0]]), np.float32([0])])
    x = np.linspace(0, 2, 20)[:, None]
    figure = model.plot_fit(x, np.round(np.exp(x)))
    grid, rate = (np.asarray(v) for v in (figure.axes[0].lines[0].get_xdata(), figure.axes[0].lines[0].get_ydata()))
    np.testing.assert_allclose(rate, np.exp(grid), rtol=1e-5)


def test_constant_data_have_no_r2():
    model, x, _ = curves(1)
    assert "R² undefined" in titles(model.plot_fit(x, np.ones_like(x)))[0]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"y": np.ones(120)}, ShapeError, "use y.reshape(-1, 1)"),
        ({"y": np.full((120, 1), np.nan)}, DataError, "y[0, 0] is nan"),
        ({"X": np.ones((120, 2))}, ShapeError, "X has shape (120, 2)"),
        ({"names": ["a", "b"]}, OptionError, "expected a list of 1 names, one per output"),
        ({"model": regressor(), "X": X, "y": TARGETS}, ShapeError, "a model of 1 input; this one takes 2"),
    ],
)
def test_a_wrong_fit(changes, error, message):
    model, x, y = curves(1)
    with pytest.raises(error) as caught:
        plots.fit(**({"model": model, "X": x, "y": y} | changes))
    assert message in str(caught.value)


# ---- which class was taken for which --------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 10, 25])
def test_the_picture_of_a_confusion_matrix(classes, tmp_path, rng):
    truth = rng.integers(0, classes, 2_000)
    predicted = np.where(rng.random(2_000) < 0.8, truth, rng.integers(0, classes, 2_000))
    counts = confusion_matrix(predicted, truth, classes)
    figure = plots.confusion_matrix(predicted, truth, file=tmp_path / "confusion.png")
    (ax,) = figure.axes
    np.testing.assert_allclose(ax.images[0].get_array(), counts / counts.sum(axis=1, keepdims=True))
    cells = {t.get_position(): t.get_text() for t in ax.texts}
    expected = {(j, i): f"{n:,}" for (i, j), n in np.ndenumerate(counts)} if classes <= 20 else {}
    assert cells == expected  # x is the column: the prediction
    assert titles(figure)[0].startswith(f"{np.trace(counts) / 2000:.1%} right")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")
    again = plots.confusion_matrix(counts)
    assert {t.get_position(): t.get_text() for t in again.axes[0].texts} == expected
    names = [f"a long name {c}" for c in range(classes)]
    assert cut_off(figure) == []
    assert cut_off(plots.confusion_matrix(counts, names=names, title="Named")) == []


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones((2, 3), int), "expected a square matrix of counts, or give y= as well"),
        (np.eye(2), "no matrix of counts"),
        (np.zeros((2, 2), int), "no matrix of counts"),
        (-np.eye(2, dtype=int), "no matrix of counts"),
    ],
)
def test_a_wrong_matrix_to_draw(matrix, message):
    with pytest.raises((ShapeError, DataError), match=message):
        plots.confusion_matrix(matrix)


# ---- all pictures ---------------------------------------------------------------------------------------------------


def every_picture(**options):
    model, x, y = curves(2)
    blob, labels = blobs(3)
    names = {"names": ["first", "second", "third"]}
    yield recorded(50, learning_rate=np.geomspace(1e-5, 1, 50)).plot(**options)
    yield plots.decision_regions(FLAT, blob, labels, resolution=40, **names, **options)
    yield plots.confusion_matrix(FLAT.predict(blob), labels, **names, **options)
    yield model.plot_fit(x, y, **options)


@pytest.mark.parametrize("size", [None, (4, 3), (16, 9)])
def test_nothing_is_cut_off_small_or_large(size):
    for figure in every_picture(size=size):
        assert size is None or tuple(figure.get_size_inches()) == size
        assert cut_off(figure) == []


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("PDF", b"%PDF"), ("svg", b"<?xml")])
def test_pictures_are_written_where_asked(ending, start, tmp_path):
    file = tmp_path / f"picture.{ending}"
    for _ in every_picture(file=str(file)) if ending == "png" else [recorded(5).plot(file=file)]:
        assert file.read_bytes().startswith(start)
        file.unlink()


def test_pictures_share_a_page():
    page = Figure(figsize=(14, 9))
    parts = page.subfigures(2, 2)
    blob, labels = blobs(3)
    assert recorded(50, every=5).plot(figure=parts[0, 0], title="Part") is parts[0, 0]
    assert plots.decision_regions(FLAT, blob, labels, resolution=30, figure=parts[0, 1], title="Part") is parts[0, 1]
    assert plots.confusion_matrix(FLAT.predict(blob), labels, figure=parts[1, 0], title="Part") is parts[1, 0]
    assert curves(1)[0].plot_fit(*curves(1)[1:], figure=parts[1, 1], title="Part") is parts[1, 1]
    assert len(page.axes) == 2 + 1 + 1 + 2
    for part in parts.flat:
        assert part.get_suptitle() == "Part"
    assert cut_off(page) == []


def test_a_page_of_one_figure_is_written_whole(tmp_path):
    page = Figure(figsize=(9, 3), dpi=100)
    left, _ = page.subfigures(1, 2)
    recorded(5).plot(figure=left, names=["loss"], file=tmp_path / "page.png")
    assert matplotlib.image.imread(tmp_path / "page.png").shape[:2] == (450, 1350)


def test_a_dark_style_changes_nothing():
    plain = [figure._repr_png_() for figure in itertools.islice(every_picture(size=(5, 4)), 2)]
    with matplotlib.rc_context(), warnings.catch_warnings():
        from matplotlib import style

        style.use("dark_background")
        matplotlib.rcParams.update({"axes.grid": True, "font.size": 30, "xtick.labelsize": 30, "lines.linewidth": 9})
        dark = [figure._repr_png_() for figure in itertools.islice(every_picture(size=(5, 4)), 2)]
    assert plain == dark


def test_a_notebook_shows_the_figure_and_it_can_be_pickled():
    figure = recorded(5).plot()
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert titles(pickle.loads(pickle.dumps(figure))) == ["Loss", "Accuracy"]


def test_neither_pyplot_nor_another_backend_comes_in():
    code = """
import sys, nnfast as nn
X, y = nn.datasets.spiral(20, 3, 0)
model = nn.Model([nn.Dense(2, 3)], nn.SoftmaxCrossEntropy(), nn.Adam(), ["accuracy"], backend="numpy", rng=0)
history = model.fit(X, y, epochs=3, verbose=0)
assert "matplotlib" not in sys.modules
import matplotlib
before = dict.__getitem__(matplotlib.rcParams, "backend")
history.plot()._repr_png_()
model.plot_decision_regions(X, y)._repr_png_()
assert "matplotlib.pyplot" not in sys.modules
assert dict.__getitem__(matplotlib.rcParams, "backend") is before
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_matplotlib_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'nnfast\[plot\]'"):
        recorded(3).plot()


def luminance(colour):
    """Relative luminance as WCAG 2 defines it."""
    channels = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], channels))


def test_every_class_can_be_told_apart_without_colour():
    """By its marker where the greys are close; and every colour stands out from white."""
    for a, b in itertools.combinations(range(10), 2):
        greys = sorted([luminance(COLOURS[a]), luminance(COLOURS[b])])
        contrast = (greys[1] + 0.05) / (greys[0] + 0.05)
        assert contrast > 1.2 or MARKERS[a % len(MARKERS)] != MARKERS[b % len(MARKERS)], (a, b)
    assert all(1.05 / (luminance(c) + 0.05) > 2 for c in COLOURS)


# ---- the example ----------------------------------------------------------------------------------------------------


def test_the_example_prints_its_tables_and_draws_its_page(tmp_path, capsys):
    file = tmp_path / "training.png"
    assert training.main(["--backend", "numpy", "--epochs", "4", "--plot", str(file)]) == 0
    out = capsys.readouterr().out
    assert "Spiral: 4 of 4 epochs on numpy" in out
    assert "val accuracy" in out
    assert "Which arm (row) was taken for which (column)" in out
    assert "against the sine without its noise" in out
    pixels = matplotlib.image.imread(file)[..., :3]
    assert pixels.shape[1] >= 2000
    parts = [part for row in np.array_split(pixels, 2) for part in np.array_split(row, 3, axis=1)]
    assert min((part.min(axis=-1) < 0.9).mean() for part in parts) > 0.01  # no panel is empty


@pytest.mark.slow
def test_the_example_learns(backend):
    with nn.use_backend(backend):
        classes, curve = training.spiral(verbose=0), training.sine(verbose=0)
    assert classes.model.evaluate(*classes.test)["accuracy"] > 0.85
    assert classes.stopping.stopped_epoch == classes.history.epochs < training.EPOCHS["spiral"]
    assert classes.history.best() == (classes.stopping.best_epoch, classes.stopping.best)
    assert len(classes.history.history["learning_rate"]) == classes.history.epochs
    assert curve.r2 > 0.98
