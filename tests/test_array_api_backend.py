"""The example backend from outside: installed as a user would, found by name, proved by the kit, and used.

Its kernels are also run on `array_api_strict`, which has nothing but the standard.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from mutants import SOURCE, loaded
from test_packaging import builds, run

import nnfast as nn
from nnfast.protocol import OPS
from nnfast.registry import get_backend
from nnfast.testing import check_backend

TRAINING = """
import json
import numpy as np, nnfast as nn
X, y = nn.datasets.spiral(30, 3, rng=0)
histories = {}
for backend in ("array-api", "numpy"):
    model = nn.Model([nn.Dense(2, 16), nn.ReLU(), nn.Dropout(0.1), nn.Dense(16, 3)], nn.SoftmaxCrossEntropy(),
                     nn.Adam(0.05), ["accuracy"], rng=0, dtype="float64", backend=backend)
    histories[backend] = model.fit(X, y, epochs=30, batch_size=32, verbose=0).history["loss"]
print(json.dumps([type(model.backend).__module__, histories]))
"""

PLUGINS = """
from importlib.metadata import entry_points
print(*(point.value for point in entry_points(group="pytest11")))
"""

OWN_TEST = """
def test_the_fixture(nnfast_backend):
    assert nnfast_backend.name == "array-api"
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the distribution in it, as `pip install --target` leaves it."""
    place = tmp_path_factory.mktemp("array_api")
    source = shutil.copytree(SOURCE.parent, place / "source", ignore=shutil.ignore_patterns("__pycache__"))
    options = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--target")
    run(sys.executable, "-m", "pip", "install", *options, place / "home", source, cwd=place)
    return place / "home"


def in_new_process(home, *call):
    """Python with the distribution on its path, in an empty folder; its output, whatever its exit status was."""
    empty = home.parent / "empty"
    empty.mkdir(exist_ok=True)
    environ = {key: value for key, value in os.environ.items() if key != "NNFAST_BACKEND"}
    return subprocess.run(
        [sys.executable, *map(str, call)],
        cwd=empty,
        env={**environ, "PYTHONPATH": str(home)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@builds
def test_it_is_found_by_its_entry_point(home):
    done = in_new_process(home, "-m", "nnfast", "info", "--json")
    assert json.loads(done.stdout)["backends"]["array-api"]["available"] is True


@builds
def test_a_model_trains_with_it_as_with_the_reference(home):
    done = in_new_process(home, "-c", TRAINING)
    assert done.returncode == 0, done.stderr
    _, histories = json.loads(done.stdout)
    np.testing.assert_allclose(histories["array-api"], histories["numpy"], rtol=1e-9)
    assert histories["numpy"][-1] < 0.9 * histories["numpy"][0]


@builds
@pytest.mark.slow
def test_the_command_proves_it(home):
    done = in_new_process(home, "-m", "nnfast", "parity", "--backend", "array-api", "--cases", 20)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all agree" in done.stdout
    for op in OPS:
        assert len(re.findall(rf"^{op} .*agrees", done.stdout, re.M)) >= 2, op  # in float32 and float64


@builds
@pytest.mark.slow
def test_the_plugin_of_pytest_proves_it(home):
    tests = home.parent / "own"
    tests.mkdir()
    (tests / "test_own.py").write_text(OWN_TEST, encoding="utf-8")
    # It loads by itself where this nnfast was installed since it has one.
    loaded_anyway = "nnfast.pytest_plugin" in in_new_process(home, "-c", PLUGINS).stdout.split()
    plugin = () if loaded_anyway else ("-p", "nnfast.pytest_plugin")
    options = ("-q", "-p", "no:cacheprovider", *plugin, "--nnfast-backend", "array-api", "--nnfast-cases", 5)
    done = in_new_process(home, "-m", "pytest", *options, tests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 2 * len(OPS)


@pytest.mark.slow
def test_its_kernels_need_nothing_but_the_standard():
    pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    report = check_backend(loaded().ArrayAPIBackend("array_api_strict"), cases=5, dtypes=["float32"])
    assert report.passed, str(report)
    assert len(report.rows) > len(OPS)


def test_its_kernels_import_nothing_but_the_standard_library():
    families = [path for path in SOURCE.glob("*.py") if path.stem not in ("backend", "__init__")]
    assert len(families) >= 8
    for path in families:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert [alias.name for alias in node.names] == ["math"], path
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1 or node.module == "__future__", path


def test_it_has_every_op_and_no_kernel_of_another():
    kernels = loaded().KERNELS
    assert kernels.keys() == OPS.keys()
    assert {kernel.__module__.partition(".")[0] for kernel in kernels.values()} == {"nnfast_array_api"}
    assert not isinstance(loaded().ArrayAPIBackend(), type(get_backend("numpy")))


@pytest.mark.parametrize("namespace", ["no_such_namespace", "json"])
def test_a_namespace_that_will_not_do_is_refused(namespace):
    with pytest.raises(nn.errors.BackendUnavailable, match=namespace):
        get_backend(loaded().ArrayAPIBackend(namespace))
