"""The demo: its table, its picture, its exit codes, and what it does when a backend is wrong."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import nnfast as nn
from nnfast import registry
from nnfast.examples import demo

for needed in ("matplotlib", "rich", "sklearn"):
    pytest.importorskip(needed)


def test_demo_ends_in_the_table_and_the_picture(tmp_path):
    """As `make demo` does it, but quick: in an empty folder, with the picture under its own name."""
    command = [sys.executable, "-W", "error", "-m", "nnfast", "demo", "--quick", "--backend", "numpy"]
    env = {**os.environ, "PYTHONUTF8": "1", "COLUMNS": "100"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=env, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    rows = table(done.stdout)
    assert set(rows) == {("numpy", "digits"), ("numpy", "spiral"), ("numpy", "sine")}
    seconds, speed_up, loss, accuracy, apart = rows["numpy", "digits"]
    assert float(seconds) > 0
    assert speed_up == "1"
    assert 0 < float(loss) < 0.5
    assert float(accuracy) >= 0.96
    assert apart == "reference"
    assert "digits: 64-128-64-10, 1,347 samples, 15 epochs in batches of 32" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["nnfast-demo.png"]
    assert worth_looking_at(tmp_path / "nnfast-demo.png")


def table(out):
    """{(backend, task): cells}; the backend stands in its first row only."""
    rows, backend = {}, None
    for line in out.splitlines():
        cells = line.split()
        if len(cells) > 1 and cells[1] in ("digits", "spiral", "sine"):
            backend = cells.pop(0)
        if cells and cells[0] in ("digits", "spiral", "sine"):
            rows[backend, cells[0]] = cells[1:]
    return rows


def worth_looking_at(file):
    """Large, colourful, and with something in every part of it: no panel came out empty."""
    from matplotlib.image import imread

    pixels = imread(file)[..., :3]
    height, width, _ = pixels.shape
    parts = [part for row in np.array_split(pixels, 2, axis=0) for part in np.array_split(row, 3, axis=1)]
    inked = [(part.min(axis=-1) < 0.9).mean() for part in parts]
    return (
        width >= 1800
        and height >= 1000
        and len(np.unique((pixels[::3, ::3] * 255).astype(int), axis=0)) > 100
        and (min(inked) > 0.01)
    )


@pytest.fixture
def second_backend(monkeypatch):
    """A second backend for this test: the reference under another name, with `spoil` to make it wrong."""
    reference = type(nn.get_backend("numpy"))

    class Second(reference):
        name = "second"
        spoil = staticmethod(lambda kernel: kernel)

        def kernel(self, op):
            found = super().kernel(op)
            return self.spoil(found) if op == "dense" else found

    monkeypatch.setattr(registry, "_factories", {**registry._factories, "second": Second})
    monkeypatch.setattr(registry, "_instances", dict(registry._instances))
    return Second


def test_all_backends_are_compared_with_the_reference(second_backend, tmp_path, capsys):
    picture = tmp_path / "two.png"
    assert demo.main(["--quick", "--backend", "second", "--out", str(picture)]) == 0
    out = capsys.readouterr().out
    rows = table(out)
    assert [key for key in rows if key[1] == "sine"] == [("numpy", "sine"), ("second", "sine")]
    for task in ("digits", "spiral"):
        _, _, *measured, apart = rows["second", task]
        assert measured == rows["numpy", task][2:4]  # loss, accuracy
        assert float(apart) == 0
    seconds, speed_up = rows["second", "digits"][:2]
    assert float(speed_up.removesuffix("x")) == pytest.approx(
        float(rows["numpy", "digits"][0]) / float(seconds), rel=0.2
    )
    assert worth_looking_at(picture)
    assert f"The picture: {picture}" in out


def test_a_backend_that_computes_something_else_fails_the_demo(second_backend, monkeypatch):
    def a_little_more(kernel):
        def dense(x, w, b, y, **settings):
            kernel(x, w, b, y, **settings)
            y *= 1.001

        return dense

    second_backend.spoil = staticmethod(a_little_more)
    task = demo.spiral(quick=True)
    model = task.build("numpy")
    model.fit(*task.train, epochs=50, verbose=0)
    assert max(demo.compare(task, model, "numpy")) == 0
    predictions, gradients = demo.compare(task, model, "second")
    assert 1e-4 < predictions < 1e-2
    assert 1e-5 < gradients < 1e-2
    wrong = demo.Outcome(task, "second", model, [1.0], 1.0, None, 0.9, (predictions, gradients))
    assert demo.complaints([wrong]) == [
        f"second: spiral differs from the reference by {max(predictions, gradients):.1e}"
    ]
    nan = demo.Outcome(task, "second", model, [1.0], 1.0, None, 0.9, (float("nan"), 0.0))
    assert demo.complaints([nan])


def test_digits_read_badly_fail_the_demo():
    task = demo.digits(quick=True)
    outcomes = [demo.Outcome(task, "numpy", task.build("numpy"), [1.0], 1.0, None, a) for a in (0.96, 0.95)]
    assert demo.complaints(outcomes) == ["numpy: digits test accuracy 0.950, at least 0.96 expected"]


def test_the_parts_of_the_digits_share_no_image():
    task = demo.digits(quick=False)
    train, test = ({row.tobytes() for row in part[0]} for part in (task.train, task.test))
    assert len(task.test[0]) == 450
    assert not train & test


@pytest.mark.parametrize(("module", "distribution"), demo.NEEDED.items())
def test_a_missing_package_is_one_line(module, distribution, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    assert demo.main([]) == 2
    out, err = capsys.readouterr()
    assert err == f"nnfast demo needs {distribution}; install it with `pip install nnfast[demo]`\n"
    assert out == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backend", "nunpy"], "did you mean 'numpy'?"),
        (["--out", "picture.txt"], "--out picture.txt: the name must end in"),
    ],
)
def test_a_wrong_option_is_said_before_any_training(options, message, capsys):
    assert demo.main(options) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert out == ""
