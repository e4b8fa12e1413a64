"""`nnfast info`: the facts, their text, and every problem that it can find."""

from __future__ import annotations

import copy
import errno
import importlib
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import nnfast
from nnfast import cli, registry, threads
from nnfast.commands import gpu, info, info_text, machine, problems

KEYS = {
    "versions": {*("nnfast", "python", "numpy", "numba", "llvmlite", "scipy", "threadpoolctl", "rich", "matplotlib")}
    | {"scikit-learn", "onnx", "tensorboardX", "cupy"},
    "machine": {"platform", "processor", "cpus", "allowed"},
    "blas": {"numpy", "scipy"},
    "threads": {"count", "why"},
    "selected": {"backend", "why"},
    "gpu": {"devices", "current", "driver", "cuda_driver", "cuda_runtime", "reason"},
    "environment": set(machine.VARIABLES),
}


@pytest.fixture
def calm(monkeypatch, tmp_path):
    """An environment that says nothing, a cache of its own, and no GPU."""
    for name in machine.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NNFAST_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(registry, "_instances", {})
    monkeypatch.setattr(registry, "_noticed", set())
    return tmp_path


@pytest.fixture(scope="module")
def real():
    return info.facts()


@pytest.fixture
def sound(real):
    """Facts with nothing wrong, to be spoilt one by one."""
    facts = copy.deepcopy(real)
    facts["backends"] = {
        "numpy": {"available": True, "reason": None},
        "numba": {"available": True, "reason": None},
        "cupy": {"available": False, "reason": "CuPy is not installed: pip install it"},
    }
    facts["versions"] |= {"scipy": "1", "threadpoolctl": "1", "cupy": None}
    facts["machine"] |= {"cpus": 8, "allowed": 4}
    facts["threads"] = {"count": 4, "why": "the CPU affinity"}
    facts["blas"] = {name: {"name": "openblas", "version": "1", "threads": 4} for name in ("numpy", "scipy")}
    facts["selected"] = {"backend": "numba", "why": "the first that works"}
    facts["cache"] = {"folder": "/there", "files": 1, "bytes": 2000, "off": None, "problem": None}
    facts["gpu"] = dict.fromkeys(KEYS["gpu"]) | {"devices": [], "reason": "no driver"}
    facts["environment"] = dict.fromkeys(machine.VARIABLES)
    return facts


# ---- as they are here -----------------------------------------------------------------------------------------------


def test_json_has_the_keys_that_are_promised(capsys, calm):
    assert cli.main(["info", "--json"]) == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert list(facts) == [line.split()[0] for line in info.__doc__.splitlines() if line.startswith("    ")]
    for key, names in KEYS.items():
        assert set(facts[key]) == names
    assert facts["versions"]["nnfast"] == nnfast.__version__
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["threads"]["count"] == threads.found()[0]
    assert facts["blas"]["numpy"]["name"]
    assert facts["backends"]["numpy"] == {"available": True, "reason": None}
    assert facts["gpu"]["reason"] == "no NVIDIA driver is installed: there is no nvidia-smi"
    assert err == "" or facts["selected"]["backend"] == "numpy"  # the notice that another backend computes


def test_text_has_a_block_of_each_sort(capsys, calm):
    assert cli.main(["info"]) == 0
    head, backends, gpus, packages, environment, found = capsys.readouterr().out.split("\n\n")
    assert head.splitlines()[0].split() == ["nnfast", nnfast.__version__]
    assert [line.split() for line in backends.splitlines()[:2]] == [["backends"], ["numpy", "available"]]
    assert gpus.splitlines()[1].split()[:4] == ["none", "no", "NVIDIA", "driver"]
    assert packages.splitlines()[1].split() == ["numpy", np.__version__]
    assert environment.splitlines()[1].split() == ["NNFAST_CACHE_DIR", str(calm / "cache")]
    assert found.strip() == "nothing wrong" or "\n1. " in found


def test_info_loads_no_package_that_it_does_not_ask(tmp_path):
    code = "import sys; from nnfast.cli import main; main(['info', '--json']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "numpy" in loaded
    assert loaded.isdisjoint(
        {"matplotlib", "rich", "sklearn", "torch", "jax", "onnx", "tensorboardX", "nnfast.model", "nnfast.testing"}
    )


def test_completion_and_version_load_no_backend(tmp_path):
    for argv in (["--version"], ["completion", "bash"]):
        code = (
            f"import sys, atexit; from nnfast.cli import main\n"
            f"atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main({argv!r})"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
        loaded = set(done.stderr.splitlines()[-1].split())
        assert "nnfast.cli" in loaded
        assert loaded.isdisjoint({"numba", "scipy", "cupy", "nnfast.kernels.numba_cpu"})


def test_backends_that_cannot_be_used_say_why(calm, monkeypatch):
    monkeypatch.setattr(registry, "_factories", {**registry._factories, "odd": "no_such_module_anywhere:Backend"})
    state = info.facts()["backends"]["odd"]
    assert state["available"] is False
    assert "No module named 'no_such_module_anywhere'; install no_such_module_anywhere" in state["reason"]


def test_packages_that_are_missing_are_named(calm, monkeypatch, capsys):
    monkeypatch.setattr(machine, "PACKAGES", (*machine.PACKAGES, "no-such-distribution"))
    cli.main(["info"])
    assert "no-such-distribution  not installed" in capsys.readouterr().out


def test_blas_without_threadpoolctl_is_as_it_was_built(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    found = machine.blas()["numpy"]
    assert found["name"]
    assert found["threads"] is None


def test_each_blas_is_its_owners(monkeypatch):
    def pool(path, threads):
        return {"user_api": "blas", "internal_api": "b", "version": "1", "num_threads": threads, "filepath": path}

    pools = [pool("/site/scipy.libs/b.so", 2), pool("C:\\site\\numpy.libs\\b.dll", 3)]
    monkeypatch.setattr(machine, "_pools", lambda: pools)
    pytest.importorskip("scipy")
    assert {owner: found["threads"] for owner, found in machine.blas().items()} == {"numpy": 3, "scipy": 2}
    pools[:] = [pool("/usr/lib/libopenblas.so", 5)]
    assert {owner: found["threads"] for owner, found in machine.blas().items()} == {"numpy": 5, "scipy": 5}
    pools[:] = [pool("/site/scipy/.dylibs/b.dylib", 7)]
    assert machine.blas()["numpy"]["threads"] is None
    monkeypatch.setitem(sys.modules, "scipy", None)
    assert machine.blas()["scipy"] is None


# ---- the cache ------------------------------------------------------------------------------------------------------


@pytest.fixture
def numba(calm):
    pytest.importorskip("numba")
    return importlib.import_module("nnfast.kernels.numba_cpu").NumbaBackend()


def test_looking_at_the_cache_makes_no_folder(numba, calm):
    assert numba.cache_state()["problem"] is None
    assert numba.cache_state()["files"] == 0
    assert not (calm / "cache").exists()


def test_the_cache_is_counted(numba, calm):
    place = calm / "cache" / "numba"
    place.mkdir(parents=True, mode=0o700)
    (place / "a.nnf").write_bytes(b"x" * 100)
    (place / "b.nnf").write_bytes(b"x" * 23)
    (place / "c.tmp").write_bytes(b"x")
    state = numba.cache_state()
    assert state == {"folder": str(place), "files": 2, "bytes": 123, "off": state["off"], "problem": None}


def test_a_cache_that_is_a_file_is_a_problem(numba, calm):
    (calm / "cache").touch()
    assert "is no folder" in numba.cache_state()["problem"]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows keeps users apart by other means")
def test_a_cache_that_others_may_write_to_is_a_problem(numba, calm):
    place = calm / "cache" / "numba"
    place.mkdir(parents=True)
    place.chmod(0o777)
    assert numba.cache_state()["problem"] == "others may write to it"


@pytest.mark.parametrize("there", [False, True])
def test_a_cache_that_cannot_be_written_is_a_problem(numba, calm, monkeypatch, there):
    """As on a disk that is mounted for reading, which lets nobody write, not even root."""

    def refuse(path, mode=0o777, **more):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    place = calm / "cache" / "numba"
    if there:
        place.mkdir(parents=True, mode=0o700)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        found = place if there else calm
        assert numba.cache_state()["problem"] == f"nothing can be written to {found}: Read-only file system"
    assert numba.cache_state()["problem"] is None
    assert [*calm.iterdir()] == ([calm / "cache"] if there else [])
    assert not there or [*place.iterdir()] == []


def test_a_cache_that_is_off_says_by_what(numba, monkeypatch):
    monkeypatch.setenv("NNFAST_CACHE", "0")
    assert numba.cache_state()["off"] == "NNFAST_CACHE=0"


# ---- the GPU --------------------------------------------------------------------------------------------------------


@pytest.fixture
def smi(monkeypatch):
    """An nvidia-smi that answers as it is told."""

    def answer(stdout="", stderr="", returncode=0, raises=None):
        def run(command, **more):
            assert command[1] == "--query-gpu=name,memory.total,compute_cap,driver_version"
            if raises is not None:
                raise raises
            return types.SimpleNamespace(stdout=stdout, stderr=stderr, returncode=returncode)

        monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
        monkeypatch.setattr(subprocess, "run", run)

    return answer


def test_without_cupy_the_driver_is_asked(smi):
    smi("NVIDIA H200, 143771 MiB, 9.0, 570.86.15\nOld One, [N/A], [Not Supported], 570.86.15\n")
    facts = gpu.gpu_facts(None)
    assert facts["driver"] == "570.86.15"
    assert facts["reason"] is None
    assert facts["devices"] == [
        {"name": "NVIDIA H200", "memory_bytes": 143771 << 20, "compute_capability": "9.0"},
        {"name": "Old One", "memory_bytes": None, "compute_capability": None},
    ]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"stdout": "No devices were found\n"}, "nvidia-smi finds none: No devices were found"),
        ({"returncode": 9, "stderr": "it couldn't\ntalk"}, "nvidia-smi finds none: it couldn't talk"),
        ({"returncode": 9}, "nvidia-smi finds none: exit code 9"),
        ({"raises": subprocess.TimeoutExpired("nvidia-smi", 20)}, "nvidia-smi gave no answer in 20 s"),
        ({"raises": PermissionError("no")}, "nvidia-smi cannot be run: no"),
    ],
)
def test_a_driver_that_does_not_answer_is_the_reason(smi, answer, reason):
    smi(**answer)
    facts = gpu.gpu_facts(None)
    assert facts["devices"] == []
    assert facts["reason"] == reason


def test_with_cupy_it_is_asked(smi, sound):
    smi("NVIDIA H200, 143771 MiB, 9.0, 570.86.15\n")
    runtime = types.SimpleNamespace(
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda n: {"name": b"H200", "totalGlobalMem": 150 << 30, "major": 9, "minor": 0},
        driverGetVersion=lambda: 13020,
        runtimeGetVersion=lambda: 12090,
    )
    cuda = types.SimpleNamespace(runtime=runtime, Device=lambda: types.SimpleNamespace(id=0))
    backend = importlib.import_module("nnfast.kernels.cupy_gpu").CupyBackend(cupy=types.SimpleNamespace(cuda=cuda))
    facts = gpu.gpu_facts(backend)
    assert facts == {
        "devices": [{"name": "H200", "memory_bytes": 150 << 30, "compute_capability": "9.0"}],
        "current": 0,
        "driver": "570.86.15",
        "cuda_driver": "13.2",
        "cuda_runtime": "12.9",
        "reason": None,
    }
    text = info_text.text({**sound, "gpu": facts, "problems": []})
    for words in ("H200, 150.0 GiB, compute capability 9.0", "570.86.15", "13.2", "12.9"):
        assert words in text


# ---- problems -------------------------------------------------------------------------------------------------------


def test_nothing_wrong_is_said(sound):
    assert problems.problems(sound) == []
    assert info_text.text({**sound, "problems": []}).endswith("\n\nnothing wrong")


MANY = {"name": "mkl", "version": "1", "threads": 64}
H200 = {"name": "H200", "memory_bytes": None, "compute_capability": None}


@pytest.mark.parametrize(
    ("spoilt", "problem", "fix"),
    [
        (
            {
                "selected": {"backend": None, "why": "unknown backend 'nubma'"},
                "environment": {"NNFAST_BACKEND": "nubma"},
            },
            "no backend computes by default: unknown backend 'nubma'",
            "unset NNFAST_BACKEND, or set it to one of numpy, numba",
        ),
        (
            {"backends": {"numba": {"available": False, "reason": "Numba cannot be imported (x); install one: pip"}}},
            "trainings run on NumPy alone, without the Numba backend: Numba cannot be imported (x)",
            "install one: pip",
        ),
        (
            {"environment": {"NUMBA_DISABLE_JIT": "1"}},
            "NUMBA_DISABLE_JIT is set: kernels run",
            "unset NUMBA_DISABLE_JIT",
        ),
        ({"environment": {"NUMBA_BOUNDSCHECK": "1"}}, "NUMBA_BOUNDSCHECK is set", "unset NUMBA_BOUNDSCHECK"),
        ({"threads": {"count": None, "why": "it is 'two'"}}, "it is 'two'", "a number from 1 to 4"),
        ({"threads": {"count": 9, "why": ""}}, "9 threads would share 4 CPUs", "set NNFAST_NUM_THREADS to 4 at most"),
        ({"blas": {"scipy": MANY}}, "the BLAS of scipy uses 64 threads on 4 CPUs", "OPENBLAS_NUM_THREADS"),
        (
            {"cache": {"problem": "others may write to it"}},
            "compiled kernels cannot be kept in /there, so every process compiles anew: others may write to it",
            "set NNFAST_CACHE_DIR",
        ),
        ({"gpu": {"devices": [H200]}}, "the backend 'cupy' cannot use it: CuPy is not installed", "pip install it"),
        (
            {"versions": {"cupy": "cupy-cuda12x 14.0, cupy-cuda13x 14.0"}},
            "several CuPy",
            "pip uninstall cupy-cuda12x cupy-",
        ),
        ({"versions": {"scipy": None}}, "scipy is not installed: GELU is slow", "pip install scipy"),
        ({"versions": {"threadpoolctl": None}}, "threadpoolctl is not installed", "pip install threadpoolctl"),
    ],
)
def test_each_problem_has_its_fix(sound, spoilt, problem, fix):
    for key, values in spoilt.items():
        sound[key] |= values
    (found,) = problems.problems(sound)
    assert problem in found["problem"]
    assert fix in found["fix"]
    assert info_text.text({**sound, "problems": [found]}).endswith(
        f"1 problem\n1. {found['problem']}\n   fix: {found['fix']}"
    )


@pytest.mark.parametrize("quiet", [{"off": "NNFAST_CACHE=0", "problem": "x"}, None])
def test_a_cache_that_is_wanted_by_nobody_is_no_problem(sound, quiet):
    sound["cache"] = None if quiet is None else sound["cache"] | quiet
    assert problems.problems(sound) == []
    assert info_text.text({**sound, "problems": []})


def test_a_wrong_environment_is_found_from_outside(calm, monkeypatch):
    monkeypatch.setenv("NNFAST_BACKEND", "nubma")
    monkeypatch.setenv("NNFAST_NUM_THREADS", "two")
    monkeypatch.setenv("NNFAST_CACHE", "0")
    found = info.facts()
    assert found["selected"]["backend"] is None
    said = "\n".join(one["problem"] for one in found["problems"])
    assert "did you mean 'numba'?" in said
    assert "NNFAST_NUM_THREADS is 'two'" in said


# ---- threads and why ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "affinity", "quota", "expected"),
    [
        ({}, 8, "", (8, "all CPUs of the machine")),
        ({}, 2, "", (2, "the CPU affinity: 2 of the machine's 8")),
        ({"NUMBA_NUM_THREADS": "3"}, 8, "", (3, "the environment variable NUMBA_NUM_THREADS")),
        (
            {"NUMBA_NUM_THREADS": "3", "NNFAST_NUM_THREADS": "5"},
            8,
            "",
            (5, "the environment variable NNFAST_NUM_THREADS"),
        ),
        ({}, 8, "150000 100000", (2, "the control group (a container), which grants the time of 1.5 CPUs")),
        ({}, 8, "max 100000", (8, "all CPUs of the machine")),
    ],
)
def test_threads_say_where_they_come_from(calm, monkeypatch, environment, affinity, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    (calm / "own").write_text("0::/\n", encoding="utf-8")
    (calm / "cpu.max").write_text(quota, encoding="utf-8")
    monkeypatch.setattr(threads, "CGROUPS", str(calm))
    monkeypatch.setattr(threads, "OWN_CGROUPS", str(calm / "own"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert threads.found() == expected
