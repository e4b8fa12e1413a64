"""What is measured on a GPU and kept on disk, with made-up clocks: choice, ties, damage, company, and doing without."""

from __future__ import annotations

import importlib
import json
import math
import os
import stat
import subprocess
import sys
import textwrap
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

lt = importlib.import_module("nnfast.kernels.cupy_gpu.cublaslt")
tuning = importlib.import_module("nnfast.kernels.cupy_gpu.tuning")
files = importlib.import_module("nnfast.kernels.cupy_gpu.tuning_store")
emitter = importlib.import_module("nnfast.kernels.cupy_gpu.emitter")
Launch, Product, Ref = emitter.Launch, emitter.Product, emitter.Ref

ALGORITHMS = [lt.Algorithm(bytes([i]) * 64, 0, 1.0) for i in range(8)]
NAME = "gpu-nvidia-h200-cublaslt131000.json"

posix = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="folders that this process may not write to"
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty cache folder, not made yet."""
    monkeypatch.setenv("NNFAST_CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.delenv("NNFAST_CACHE", raising=False)
    monkeypatch.delenv("NNFAST_GPU_TUNING", raising=False)
    return tmp_path / "kept"


def open_store():
    return tuning.Store("NVIDIA H200", 131000)


class Matmul:
    """A product with so many algorithms."""

    def __init__(self, count=8, key="product"):
        self.key = key
        self.count = count

    def algorithms(self, limit=8, workspace=0):
        return ALGORITHMS[: self.count]


class Clock:
    """A timer that looks up how long a piece of work takes, with noise."""

    def __init__(self, seconds, noise=0.0):
        self.seconds = seconds
        self.noise = noise
        self.turns = []
        self.random = np.random.default_rng(1)

    def __call__(self, work):
        what = work() if callable(work) else work
        self.turns.append(what)
        seconds = self.seconds[what]
        if isinstance(seconds, Exception):
            raise seconds
        return seconds * (1 + self.noise * self.random.random())


def choose(seconds, noise=0.0):
    """What the tuner makes of algorithms that take so long, and how often each had a turn."""
    clock = Clock(seconds, noise)
    tuner = tuning.Tuner(open_store(), clock)
    best = tuner.algorithm(Matmul(len(seconds)), ALGORITHMS.index)
    return ALGORITHMS.index(best), [clock.turns.count(i) for i in range(len(seconds))]


# --- the choice ---


def test_the_fastest_is_chosen(place):
    assert choose([5.0, 3.0, 4.0, 9.0])[0] == 1


def test_what_is_clearly_slower_is_soon_out_of_the_race(place):
    assert choose([5.0, 3.0, 4.0, 9.0])[1] == [4, 4, 4, 4]  # one to warm up, and three rounds


def test_near_ones_go_all_the_way(place):
    best, turns = choose([1.03, 1.0, 2.0])
    assert best == 1
    assert turns == [1 + tuning.ROUNDS, 1 + tuning.ROUNDS, 4]


@pytest.mark.parametrize("seconds", [[1.0, 1.0, 1.0], [1.019, 1.0, 1.01], [1.0, 0.99, 0.985]])
def test_ties_go_to_the_first(place, seconds):
    assert choose(seconds)[0] == 0


def test_noise_does_not_decide(place):
    assert [choose([1.0] * 4, noise=0.02)[0] for _ in range(3)] == [0] * 3


def test_turns_go_back_and_forth():
    clock = Clock([1.0, 1.0])
    tuning.fastest([lambda: 0, lambda: 1], clock)
    assert clock.turns[:6] == [0, 1, 0, 1, 1, 0]
    assert all(abs(clock.turns[:n].count(0) - clock.turns[:n].count(1)) <= 1 for n in range(len(clock.turns)))
    assert any(a == b for a, b in pairwise(clock.turns))


def test_who_fails_is_out(place):
    assert choose([lt.CublasLtError("cublasLtMatmul", 15), 3.0, 2.0])[0] == 2


def test_who_fails_later_is_out():
    seconds = iter([1.0, 1.0, lt.CublasLtError("cublasLtMatmul", 13), *[2.0] * 100])

    def clock(work):
        value = next(seconds)
        if isinstance(value, Exception):
            raise value
        return value

    assert tuning.fastest([lambda: 0, lambda: 1], clock) == 1


def test_if_all_fail_it_is_said(place):
    with pytest.raises(lt.CublasLtError, match="EXECUTION_FAILED"):
        choose([lt.CublasLtError("cublasLtMatmul", 13)] * 2)


def test_who_fails_in_another_way_is_out_as_well(place):
    """Too little memory for its workspace, say; an error that all have is raised."""
    with pytest.raises(ZeroDivisionError):
        choose([ZeroDivisionError(), ZeroDivisionError()])
    assert choose([MemoryError(), 1.0])[0] == 1


@pytest.mark.parametrize("nonsense", [math.nan, -1.0, math.inf])
def test_a_clock_that_says_nothing_of_use(place, nonsense):
    assert choose([nonsense, 2.0, nonsense])[0] == 1
    assert not open_store().algorithm("other")
    assert tuning.fastest([lambda: 0, lambda: 1], Clock([nonsense] * 2)) == 0


def test_one_algorithm_needs_no_measurement(place):
    assert choose([1.0]) == (0, [0])
    assert not place.exists()


def test_no_algorithm_is_an_error(place):
    with pytest.raises(lt.CublasLtError, match=r"NOT_SUPPORTED.*no algorithm for product"):
        tuning.Tuner(open_store(), Clock([])).algorithm(Matmul(0), ALGORITHMS.index)


# --- joined or separate ---


def calls(epilogue="bias"):
    """The same work joined and separate."""
    a, b, c = Ref(4096, (5, 7), "f4"), Ref(8192, (7, 3), "f4"), Ref(16384, (5, 3), "f4")
    joined = Product(a, b, c, False, False, epilogue, Ref(64, (3,), "f4"))
    separate = [Product(a, b, c), Launch("nnf_bias", (1, 1), 0, np.zeros((), "u8"), "f4")]
    return [joined], separate


def ask(seconds, joined=None, separate=None, **more):
    """What the tuner says of work that takes (joined, separate) so long, and how often it was measured."""
    clock = Clock(dict(zip(("joined", "separate"), seconds, strict=True)))

    def prepare(calls):
        return lambda: "joined" if len(calls) == 1 else "separate"

    usual = calls()
    tuner = tuning.Tuner(open_store(), clock, prepare=prepare, **more)
    return tuner.joins(joined or usual[0], separate or usual[1]), len(clock.turns)


def test_the_faster_way_is_taken_and_remembered(place):
    assert ask((1.0, 2.0)) == (True, 8)
    assert ask((9.0, 2.0)) == (True, 0)
    assert list(json.loads((place / NAME).read_text())["joins"]) == [
        "f4 fp32 NN 5x7x3 bias 256,256,256,64 | f4 fp32 NN 5x7x3 - 256,256,256; nnf_bias 1x1"
    ]
    assert ask((2.0, 1.0), precision="tf32") == (False, 8)
    assert ask((1.0, 2.0), precision="tf32") == (False, 0)


def test_a_tie_stays_separate(place):
    assert ask((0.99, 1.0))[0] is False


def test_what_the_library_cannot_do_is_not_measured(place):
    asked = []
    assert ask((1.0, 2.0), supports=lambda product: asked.append(product.epilogue)) == (False, 0)
    assert asked == ["bias"]
    assert not place.exists()


def test_what_it_can_do_no_more_is_not_taken(place):
    assert ask((1.0, 2.0))[0]
    assert ask((1.0, 2.0), supports=lambda product: False) == (False, 0)
    assert ask((1.0, 2.0)) == (True, 0)


def test_nothing_to_join(place):
    joined, separate = calls()
    empty = joined[0]._replace(a=Ref(4096, (5, 0), "f4"), b=Ref(4096, (0, 3), "f4"))
    assert ask((1.0, 2.0), [empty], separate) == (False, 0)
    assert ask((1.0, 2.0), separate[1:], separate) == (False, 0)


def test_calls_as_they_are_go_to_the_timer(place):
    seen = []
    joined, separate = calls()
    tuner = tuning.Tuner(open_store(), lambda work: seen.append(work) or float(len(work)))
    assert tuner.joins(joined, separate)
    assert seen[:2] == [separate, joined]


def test_preparing_may_ask_for_algorithms(place):
    tuner = tuning.Tuner(
        open_store(), lambda work: 1.0 if work() in (3, "joined") else 2.0, prepare=lambda calls: work(calls)
    )

    def work(calls):
        tuner.algorithm(Matmul(), ALGORITHMS.index)
        return lambda: "joined" if len(calls) == 1 else "separate"

    assert tuner.joins(*calls())
    assert open_store().algorithm("product") == ALGORITHMS[3].data


# --- doing without ---


def test_without_a_timer_nothing_is_measured_or_remembered(place):
    assert choose([2.0, 1.0])[0] == 1
    assert ask((1.0, 2.0))[0]
    still = tuning.Tuner(open_store())
    assert still.algorithm(Matmul(2), ALGORITHMS.index) == ALGORITHMS[0]
    assert not still.joins(*calls())


def test_the_switch(place, monkeypatch):
    assert choose([2.0, 1.0])[0] == 1
    monkeypatch.setenv("NNFAST_GPU_TUNING", "0")
    assert choose([2.0, 1.0]) == (0, [0, 0])
    assert ask((1.0, 2.0)) == (False, 0)
    monkeypatch.setenv("NNFAST_GPU_TUNING", "1")
    assert choose([1.0, 2.0]) == (1, [0, 0])


def test_without_a_cache_the_process_remembers(place, monkeypatch, capsys):
    monkeypatch.setenv("NNFAST_CACHE", "0")
    store, clock = open_store(), Clock([2.0, 1.0])
    tuner = tuning.Tuner(store, clock)
    for _ in range(2):
        assert tuner.algorithm(Matmul(2), ALGORITHMS.index) == ALGORITHMS[1]
    assert len(clock.turns) == 8
    assert not place.exists()
    assert capsys.readouterr().err == ""


# --- the file ---


def test_what_is_written(place):
    choose([2.0, 1.0])
    ask((1.0, 2.0))
    assert sorted(path.name for path in place.iterdir()) == [NAME]
    content = json.loads((place / NAME).read_text())
    assert content["format"] == 1
    assert content["algorithms"] == {"product": "01" * 64}
    assert list(content["joins"].values()) == [True]
    if os.name == "posix":
        assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_each_device_and_version_has_its_own(place):
    for device, version in (("NVIDIA H200", 1), ("NVIDIA  A100 80GB/PCIe", 2), ("", 3), ("../..", 4)):
        tuning.Store(device, version).keep_join("key", True)
    assert sorted(path.name for path in place.iterdir()) == [
        *("gpu-gpu-cublaslt3.json", "gpu-gpu-cublaslt4.json"),
        *("gpu-nvidia-a100-80gb-pcie-cublaslt2.json", "gpu-nvidia-h200-cublaslt1.json"),
    ]


def test_another_algorithm_than_those_proposed_is_measured_anew(place):
    open_store().keep_algorithm("product", b"\xee" * 64)
    assert choose([2.0, 1.0]) == (1, [4, 4])
    assert open_store().algorithm("product") == ALGORITHMS[1].data


def test_two_processes_keep_what_both_found(place):
    one, other = open_store(), open_store()
    one.keep_join("a", True)
    other.keep_join("b", False)
    other.keep_algorithm("c", bytes(64))
    one.keep_join("d", True)
    last = open_store()
    assert [last.join(key) for key in "abd"] == [True, False, True]
    assert last.algorithm("c") == bytes(64)


def test_what_was_only_read_does_not_come_back(place):
    open_store().keep_join("a", True)
    other = open_store()
    (place / NAME).unlink()
    other.keep_join("b", True)
    assert open_store().join("a") is None


GOOD = {"format": 1, "joins": {"a": True}, "algorithms": {"b": "00" * 64}}


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"\xff\xfe", b"null", b"[]", b"{}", b"7", b"[" * 100_000),
        json.dumps({**GOOD, "format": 2}).encode(),
        json.dumps({"format": 1}).encode(),
        json.dumps({**GOOD, "joins": [], "algorithms": 3}).encode(),
    ],
)
def test_damage_costs_one_notice(place, content, capsys):
    place.mkdir()
    (place / NAME).write_bytes(content)
    store = open_store()
    assert (store.join("a"), store.algorithm("b")) == (None, None)
    store.keep_join("a", False)
    assert capsys.readouterr().err.count("nnfast: ") == 1
    assert open_store().join("a") is False
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "part",
    [
        *({"joins": {"a": True, "x": 1}}, {"joins": {"a": True, "x": None}}, {"algorithms": {"x": 5, "b": "00" * 64}}),
        *(
            {"algorithms": {"b": "00" * 64, "x": text}}
            for text in ("", "00" * 63, "zz" * 64, "00" * 64 + "\n", "\u0660" * 128)
        ),
    ],
)
def test_entries_that_are_sound_are_kept(place, part, capsys):
    place.mkdir()
    (place / NAME).write_text(json.dumps(GOOD | part), encoding="utf-8")
    store = open_store()
    assert (store.join("a"), store.algorithm("b")) == (True, bytes(64))
    assert (store.join("x"), store.algorithm("x")) == (None, None)
    assert capsys.readouterr().err.count("nnfast: ") == 1


def test_something_else_in_its_place(place, capsys):
    (place / NAME).mkdir(parents=True)
    store = open_store()
    store.keep_join("a", True)
    assert store.join("a") is True
    assert capsys.readouterr().err.count("nnfast: ") == 1


def test_a_folder_that_cannot_be_made(place, capsys):
    place.write_text("a file")
    store = open_store()
    for key in "ab":
        store.keep_join(key, True)
    assert store.join("a") is True
    said = capsys.readouterr().err
    assert said.startswith("nnfast: measurements of the GPU are not kept on disk: ")
    assert said.count("\n") == 1


@posix
def test_a_folder_that_may_not_be_written(place, capsys):
    place.mkdir(mode=0o500)
    store = open_store()
    store.keep_join("a", True)
    assert store.join("a") is True
    assert capsys.readouterr().err.count("nnfast: ") == 1


def test_a_full_disk_leaves_nothing_behind(place, monkeypatch, capsys):
    open_store().keep_join("a", True)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    store = open_store()
    store.keep_join("b", True)
    assert capsys.readouterr().err.count("No space left") == 1
    assert [path.name for path in place.iterdir()] == [NAME]
    assert open_store().join("a") is True


def test_no_home(monkeypatch, capsys):
    for name in ("NNFAST_CACHE_DIR", "NNFAST_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(files.os.path, "expanduser", lambda path: path)
    store = open_store()
    store.keep_join("a", True)
    assert store.join("a") is True
    assert "there is no home directory" in capsys.readouterr().err


def test_the_users_own_folder(monkeypatch, tmp_path):
    for name in ("NNFAST_CACHE_DIR", "NNFAST_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", str(tmp_path))
    assert open_store().path.is_relative_to(tmp_path / "nnfast")


def test_without_stderr(place, monkeypatch):
    place.mkdir()
    (place / NAME).write_bytes(b"{")
    monkeypatch.setattr(sys, "stderr", None)
    assert open_store().join("a") is None


def test_many_threads_and_one_store(place):
    store = open_store()

    def keep(name):
        for i in range(5):
            store.keep_join(f"{name}{i}", True)

    threads = [threading.Thread(target=keep, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(open_store().join(f"{name}{i}") for name in "abcd" for i in range(5))


@pytest.mark.skipif(os.name == "nt", reason="there a file that somebody reads is not replaced until the next time")
def test_many_processes_and_one_file(place):
    """The file is whole at any time. Of two that write at the very same moment one may be lost: it is measured anew."""
    script = """
        import importlib, sys
        store = importlib.import_module("nnfast.kernels.cupy_gpu.tuning").Store("NVIDIA H200", 131000)
        for i in range(30):
            store.keep_join(f"{sys.argv[1]}{i}", True)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    processes = [subprocess.Popen([*command, name], stderr=subprocess.PIPE, text=True) for name in "abc"]
    while any(process.poll() is None for process in processes):
        if (place / NAME).exists():
            json.loads((place / NAME).read_text(encoding="utf-8"))
    assert [process.communicate()[1] for process in processes] == [""] * 3
    assert [path.name for path in place.iterdir()] == [NAME]
    store = open_store()
    assert any(all(store.join(f"{name}{i}") for i in range(30)) for name in "abc")
    assert Path(store.path) == place / NAME
