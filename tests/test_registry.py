"""Backends by name: selection, loading on first use, every way in which it can fail, entry points, own ops."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import threading
import types

import pytest

from nnfast import registry
from nnfast.errors import BackendUnavailable, DTypeError, OptionError, UnknownBackend
from nnfast.protocol import API_VERSION, Backend
from nnfast.registry import available_backends, device_backend, get_backend, register_backend, use_backend

FACTORIES = dict(registry._factories)  # as they are shipped; the tests begin with others


class Fake:
    """A backend as far as the registry can see."""

    name = "fake"
    device = "cpu"
    api_version = API_VERSION

    def unavailable(self):
        return None

    def nothing(self, *args):
        raise NotImplementedError

    kernel = asarray = to_numpy = empty = zeros = synchronize = compile = nothing


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """A registry as in a new process, with the reference alone and without the entry points that may be installed."""
    monkeypatch.delenv(registry.ENVIRONMENT, raising=False)
    monkeypatch.setattr(registry, "_factories", {"numpy": registry._factories["numpy"]})
    for name in ("_instances", "_accepted", "_published"):
        monkeypatch.setattr(registry, name, {})
    monkeypatch.setattr(registry, "_noticed", set())


@pytest.fixture
def module(monkeypatch):
    """Makes importable modules: `module(name, attribute=value, …)`."""

    def make(name, **attributes):
        found = types.ModuleType(name)
        vars(found).update(attributes)
        monkeypatch.setitem(sys.modules, name, found)

    return make


@pytest.fixture
def publish(monkeypatch):
    """Installs entry points: `publish((distribution, name, target), …)`."""

    class Distribution:
        def __init__(self, name):
            self.name = name

    def make(*rows):
        points = []
        for distribution, name, target in rows:
            point = importlib.metadata.EntryPoint(name, target, registry.ENTRY_POINTS)
            vars(point)["dist"] = Distribution(distribution)
            points.append(point)
        monkeypatch.setattr(registry, "_published", None)
        monkeypatch.setattr(
            importlib.metadata, "entry_points", lambda group: [p for p in points if group == registry.ENTRY_POINTS]
        )

    return make


# ---- selection ------------------------------------------------------------------------------------------------------


def test_numpy_is_there_and_is_one_object():
    numpy = get_backend("numpy")
    assert numpy.name == "numpy"
    assert numpy is get_backend("numpy")
    assert get_backend() is numpy
    assert get_backend("auto") is numpy
    assert get_backend(numpy) is numpy


def test_argument_before_context_before_environment_before_auto(monkeypatch):
    for name in ("one", "two", "three"):
        register_backend(name, Fake)
    assert get_backend().name == "numpy"
    monkeypatch.setenv("NNFAST_BACKEND", "one")
    assert get_backend() is get_backend("one")
    with use_backend("two") as chosen:
        assert chosen is get_backend() is get_backend("two")
        assert get_backend("three") is not chosen
        with use_backend("three"):
            assert get_backend() is get_backend("three")
        assert get_backend() is chosen
    assert get_backend() is get_backend("one")
    monkeypatch.setenv("NNFAST_BACKEND", "")
    assert get_backend().name == "numpy"


def test_use_backend_takes_an_object_and_ends_after_an_error():
    mine = Fake()

    def body():
        with use_backend(mine):
            assert get_backend() is mine
            raise KeyError

    with pytest.raises(KeyError):
        body()
    assert get_backend().name == "numpy"


def test_use_backend_fails_at_the_with():
    with pytest.raises(UnknownBackend, match="'nope'"), use_backend("nope"):
        pytest.fail("the block ran")


def test_use_backend_does_not_reach_other_threads():
    seen = []
    with use_backend(Fake()):
        thread = threading.Thread(target=lambda: seen.append(get_backend().name))
        thread.start()
        thread.join()
    inherits = getattr(sys.flags, "thread_inherit_context", False)  # the default of free-threaded Python
    assert seen == ["fake" if inherits else "numpy"]


def test_unknown_names_give_the_closest():
    with pytest.raises(UnknownBackend, match="unknown backend 'nunpy'; did you mean 'numpy'"):
        get_backend("nunpy")
    with pytest.raises(UnknownBackend, match=re.escape("unknown backend 'x'. Known: auto, numpy")):
        get_backend("x")


def test_the_environment_is_named_where_it_is_to_blame(monkeypatch):
    monkeypatch.setenv("NNFAST_BACKEND", "nunpy")
    with pytest.raises(UnknownBackend) as caught:
        get_backend()
    assert caught.value.__notes__ == ["The name comes from the environment variable NNFAST_BACKEND."]


def test_the_environment_fails_loudly_too(monkeypatch):
    register_backend("broken", "no_such_module_anywhere:Backend")
    monkeypatch.setenv("NNFAST_BACKEND", "broken")
    with pytest.raises(BackendUnavailable, match="no_such_module_anywhere"):
        get_backend()


def test_arrays_on_a_gpu_choose_cupy_where_nobody_named_a_backend(monkeypatch):
    class Device(Fake):
        device = "cuda"

    register_backend("cupy", Device)
    register_backend("other", Device)
    cupy, other = get_backend("cupy"), get_backend("other")
    assert get_backend().name == "numpy"  # which never takes a GPU
    assert device_backend() is device_backend("auto") is device_backend("cupy") is cupy
    assert device_backend("other") is device_backend(other) is other
    assert device_backend("numpy").name == "numpy"
    with use_backend("other"):
        assert device_backend() is other
    with use_backend("numpy"):
        assert device_backend().name == "numpy"
    monkeypatch.setenv("NNFAST_BACKEND", "auto")
    assert device_backend() is cupy
    monkeypatch.setenv("NNFAST_BACKEND", "other")
    assert device_backend() is other


def test_the_gpu_backends_are_known_and_never_automatic():
    assert {"cupy", "cupy-tf32"} <= FACTORIES.keys()
    assert registry.AUTO == ("numba", "numpy")


# ---- ways to fail ---------------------------------------------------------------------------------------------------


class Failing(Fake):
    def __init__(self):
        raise OSError("no driver")


class Excused(Fake):
    def unavailable(self):
        return "no GPU found; install a driver"


class Tripping(Fake):
    def unavailable(self):
        raise OSError("probe crashed")


class Old(Fake):
    api_version = API_VERSION + 1


class Partial:
    name, device, api_version = "partial", "cpu", API_VERSION

    def unavailable(self):
        return None


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("no_such_module_anywhere:Backend", r"No module named .*; install no_such_module_anywhere or .*: numpy"),
        ("nnfast.kernels.no_such_backend:Backend", "No module named .* not installed, or not whole: run `pip install"),
        ("json:NoSuchClass", "cannot import json:NoSuchClass: AttributeError"),
        (Failing, "its constructor failed: OSError: no driver; mend that or choose another backend: numpy"),
        (Excused, "no GPU found; install a driver"),
        (Tripping, r"unavailable\(\) failed, a fault of this backend: OSError: probe crashed"),
        (Old, f"version {API_VERSION + 1} of the backend protocol, this nnfast has version {API_VERSION}"),
        (Partial, "it lacks kernel, asarray, to_numpy, empty, zeros, synchronize, compile"),
        (dict, "it lacks name, device, api_version"),
    ],
    ids=str,
)
def test_a_backend_asked_for_by_name_says_why_not(factory, reason):
    register_backend("odd", factory)
    with pytest.raises(BackendUnavailable, match=f"backend 'odd': .*{reason}"):
        get_backend("odd")
    with pytest.raises(BackendUnavailable, match=reason):
        get_backend("odd")  # and again: a failure leaves nothing behind
    found = available_backends()["odd"]
    assert not found
    assert re.search(reason, found)
    assert not found.startswith("backend 'odd'")


def test_an_import_error_inside_the_module_is_the_reason(tmp_path, monkeypatch):
    (tmp_path / "breaks_inside.py").write_text("raise ImportError('libfoo.so: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    register_backend("odd", "breaks_inside:Backend")
    with pytest.raises(BackendUnavailable, match=r"ImportError: libfoo\.so: cannot open; mend that"):
        get_backend("odd")


def test_objects_are_checked_like_names():
    mine = Fake()
    assert get_backend(mine) is mine
    with pytest.raises(BackendUnavailable, match="no GPU found"):
        get_backend(Excused())
    with pytest.raises(BackendUnavailable, match="it lacks kernel"):
        get_backend(Partial())
    with pytest.raises(BackendUnavailable, match="backend 3: no Backend, it lacks name"):
        get_backend(3)
    with pytest.raises(DTypeError, match=re.escape("backend is the class Fake; give an instance: Fake()")):
        get_backend(Fake)


def test_every_member_of_the_protocol_is_asked_for():
    assert set(registry._MEMBERS) == {
        *("name", "device", "api_version", "unavailable", "kernel", "asarray"),
        *("to_numpy", "empty", "zeros", "synchronize", "compile"),
    }
    for member in registry._MEMBERS:
        assert member in vars(Backend) or member in Backend.__annotations__


# ---- auto -----------------------------------------------------------------------------------------------------------


def test_auto_prefers_the_first_that_works(capsys):
    register_backend("numba", Fake)
    assert get_backend() is get_backend("numba")
    assert capsys.readouterr().err == ""


def test_auto_falls_back_and_says_so_once(capsys):
    register_backend("numba", "no_such_module_anywhere:Backend")
    assert get_backend().name == "numpy"
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("nnfast: computing with backend 'numpy'; backend 'numba': cannot import")
    assert said.err.count("\n") == 1
    registry._instances.clear()
    assert get_backend("auto").name == "numpy"
    assert capsys.readouterr().err == ""


def test_auto_is_chosen_once_and_again_after_a_registration(monkeypatch):
    choices, choose = [], registry._choose
    monkeypatch.setattr(registry, "_choose", lambda: choices.append(choose()) or choices[-1])
    assert get_backend() is get_backend()
    assert len(choices) == 1
    register_backend("numba", Fake)
    assert get_backend() is get_backend("numba")
    assert len(choices) == 2


def test_auto_with_nothing_left_says_why(monkeypatch):
    monkeypatch.setattr(registry, "_factories", {"numpy": Failing})
    with pytest.raises(BackendUnavailable, match="no backend works here: backend 'numpy': its constructor failed"):
        get_backend()


def test_auto_never_takes_a_third_partys_backend(publish):
    publish(("stranger", "numba", "no_such_module_anywhere:Backend"))
    assert get_backend().name == "numpy"


# ---- available_backends ---------------------------------------------------------------------------------------------


def test_availability_is_a_string_that_is_true_or_not():
    register_backend("gpu", Excused)
    found = available_backends()
    assert found == {"numpy": "available", "gpu": "no GPU found; install a driver"}
    assert [name for name, usable in found.items() if usable] == ["numpy"]
    assert all(isinstance(reason, str) for reason in found.values())


# ---- register_backend -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "factory", "message"),
    [
        ("", Fake, "name is ''"),
        ("auto", Fake, "name is 'auto'"),
        (3, Fake, "name is 3"),
        ("numpy", Fake, "name is 'numpy', which is taken already by nnfast.kernels.reference:ReferenceBackend"),
        ("mine", "module.Class", "factory is 'module.Class'"),
        ("mine", "module:", "factory is 'module:'"),
        ("mine", 3, "factory is 3"),
    ],
)
def test_bad_registrations_change_nothing(name, factory, message):
    before = dict(registry._factories)
    with pytest.raises(OptionError, match=message):
        register_backend(name, factory)
    assert registry._factories == before


def test_a_string_is_imported_at_first_use_only(module):
    register_backend("mine", "module_of_mine:Holder.Backend")
    with pytest.raises(BackendUnavailable, match="module_of_mine"):
        get_backend("mine")
    module("module_of_mine", Holder=types.SimpleNamespace(Backend=Fake))
    assert isinstance(get_backend("mine"), Fake)


def test_threads_get_one_instance():
    made = []
    start = threading.Barrier(8)

    class Slow(Fake):
        def __init__(self):
            made.append(self)
            threading.Event().wait(0.05)

    register_backend("slow", Slow)
    got = []

    def ask():
        start.wait()
        got.append(get_backend("slow"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert got == made * 8


def test_a_backend_may_ask_for_another_while_it_is_made():
    class Wrapping(Fake):
        def __init__(self):
            self.inner = get_backend("numpy")

    register_backend("wrapping", Wrapping)
    assert get_backend("wrapping").inner is get_backend("numpy")


# ---- entry points ---------------------------------------------------------------------------------------------------


def test_entry_points_are_loaded_on_use(publish, module):
    publish(("nnfast-metal", "metal", "metal_backend:Metal"))
    with pytest.raises(UnknownBackend, match="Known: auto, metal, numpy"):
        get_backend("nope")
    module("metal_backend", Metal=Fake)
    assert get_backend("metal") is get_backend("metal")
    assert available_backends() == {"numpy": "available", "metal": "available"}


def test_entry_points_that_fail_are_reported_not_raised(publish):
    publish(("nnfast-metal", "metal", "no_such_module_anywhere:Metal"))
    assert "No module named 'no_such_module_anywhere'" in available_backends()["metal"]


def test_two_distributions_with_one_name_are_refused_naming_both(publish, module):
    module("first", Metal=Fake)
    publish(("dist-a", "metal", "first:Metal"), ("dist-b", "metal", "second:Metal"))
    with pytest.raises(BackendUnavailable, match=r"claimed by dist-a \(first:Metal\) and by dist-b \(second:Metal\)"):
        get_backend("metal")
    assert not available_backends()["metal"]


def test_a_third_party_cannot_displace_a_backend_of_ours(publish, capsys):
    publish(("dist-a", "numpy", "no_such_module_anywhere:Backend"))
    assert available_backends() == {"numpy": "available"}
    assert "the backend 'numpy' of dist-a is left out" in capsys.readouterr().err
    assert get_backend("numpy").name == "numpy"


def test_entry_points_are_not_read_for_our_own_names(monkeypatch):
    monkeypatch.setattr(registry, "_published", None)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: pytest.fail("read"))
    get_backend("numpy")
    get_backend()
