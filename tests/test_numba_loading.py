"""A process that finds all its kernels on disk does without Numba, and nothing is different for that."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

pytest.importorskip("numba")
modes = importlib.import_module("nnfast.kernels.numba_cpu.modes")
pytestmark = pytest.mark.skipif(not modes.COMPILED, reason="compiled code only")

PREAMBLE = """
import importlib, sys, threading
import numpy as np
import nnfast as nn
def part(name): return importlib.import_module(f"nnfast.kernels.numba_cpu.{name}")
def train(backend="numba", epochs=3):
    X, y = nn.datasets.spiral(samples=40, classes=3, rng=0)
    model = nn.Model([nn.Dense(2, 16), nn.ReLU(), nn.Dropout(0.1), nn.Dense(16, 3)], nn.SoftmaxCrossEntropy(),
                     nn.Adam(0.01), rng=0, backend=backend, metrics=["accuracy"])
    model.fit(X, y, epochs=epochs, batch_size=32, verbose=0)
    return model.predict(X[:5])
"""


def run(code, **variables):
    command = [sys.executable, "-c", PREAMBLE + code]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | variables, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def warm():
    """What is compiled by then is on disk."""
    return run("print(train().tobytes().hex())")


def test_a_warm_process_does_without_numba(warm):
    code = """
print(train().tobytes().hex())
nn.functional.relu(np.ones((3, 4), np.float32), backend="numba")
X, y = nn.datasets.sine(samples=50)
def make():
    layers = [nn.Dense(1, 8), nn.Tanh(), nn.Dense(8, 1)]
    return nn.Model(layers, nn.MeanSquaredError(), nn.SGD(0.1), backend="numba")
nn.Population(make, 3, rng=0).fit(X, y, epochs=200, batch_size=10, verbose=0)
model = make()
model.fit(X, y, epochs=200, batch_size=10, verbose=0)
model.evaluate(X, y)
model.predictor()(X[:1])
model.profile(X, y)
"""
    run(code)  # some of it may have to be compiled
    assert run(code + "assert 'numba' not in sys.modules") == warm


def test_the_same_bits_with_numba_imported_before(warm):
    assert run("import numba\nprint(train().tobytes().hex())\nassert part('cache').statistics().misses == 0") == warm


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"NUMBA_OPT": "1"},
        {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+sse2"},
        {"NUMBA_ENABLE_AVX": "0"},
        {"NUMBA_DISABLE_INTEL_SVML": "1"},
        {"NUMBA_DEBUGINFO": "1"},
        {"NUMBA_DISABLE_JIT": "1"},
    ],
    ids=str,
)
def test_files_have_the_same_names_with_and_without_numba(variables):
    code = """
cache, settings = part("cache"), part("settings")
def known(): return cache._name("key", "void(int64)", {}), settings.version(), settings.processor()
before = known()
assert "numba" not in sys.modules
import numba
assert known() == before, (known(), before)
assert settings.config() is numba.config
"""
    run(code, **variables)


@pytest.mark.parametrize("broken", ["numba._helperlib", "numba.core.config", "numba._version"])
def test_where_numbas_files_are_not_as_expected_numba_is_imported(warm, broken):
    code = f"""
settings = part("settings")
alone = settings.alone
def refuse(name):
    if name == {broken!r}: raise AttributeError(name)
    return alone(name)
settings.alone = refuse
settings._known.cache_clear()
print(train().tobytes().hex())
assert "numba" in sys.modules
assert part("cache").statistics().misses == 0
"""
    assert run(code) == warm


def test_where_svml_is_installed_numba_says_whether_it_is_in_use():
    run("""
settings = part("settings")
settings._known.cache_clear()
settings._has_svml = lambda: True
assert settings.config() is sys.modules["numba"].config
""")


def test_numba_can_be_used_afterwards(warm):
    """Exceptions, dictionaries and strings need the helpers that nnfast has loaded alone before."""
    run("""
train()
assert "numba" not in sys.modules
import numba
@numba.njit
def count(words):
    found = {}
    for word in words:
        if not word: raise ValueError("an empty word")
        if word in found: found[word] += 1
        else: found[word] = 1
    return found
assert dict(count(("a", "b", "a"))) == {"a": 2, "b": 1}
try: count(("a", ""))
except ValueError as error: assert str(error) == "an empty word"
else: raise AssertionError
train("numba", epochs=5)
assert numba._helperlib.c_helpers
""")


def test_many_threads_begin_at_once(warm):
    run("""
def work():
    try: found.append(train().tobytes().hex())
    except BaseException as error: found.append(error)
found = []
threads = [threading.Thread(target=work) for _ in range(8)]
threads += [threading.Thread(target=importlib.import_module, args=("numba",)) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(found) == 8
assert len(set(found)) == 1, found
""")


def test_a_numba_that_cannot_be_imported_is_named(tmp_path):
    """Nothing of it is on disk, so it is tried."""
    package = tmp_path / "numba"
    package.mkdir()
    package.joinpath("__init__.py").write_text("raise ImportError('this NumPy is too new')")
    out = run(
        "print(nn.available_backends()['numba'])",
        PYTHONPATH=os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]),
    )
    assert "this NumPy is too new" in out
