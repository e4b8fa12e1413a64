"""Compiled functions on disk: found again by the next process, and never the cause of a crash or of an old answer.

Most tests play the next process by forgetting what this one has made; where real processes matter, they run a script.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import pytest
from new_process import copy_sources

numba = pytest.importorskip("numba")
cache = importlib.import_module("nnfast.kernels.numba_cpu.cache")
files = importlib.import_module("nnfast.kernels.numba_cpu.cache_files")
folders = importlib.import_module("nnfast.kernels.folders")

SIGNATURE = "float64(float64)"
OPTIONS = {"error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz", "arcp", "afn"}, "nogil": True}
posix = pytest.mark.skipif(os.name == "nt", reason="owners, modes, pipes and fork are POSIX")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty cache, and a process that has compiled nothing; what is yielded is the folder of the files."""
    monkeypatch.setenv("NNFAST_CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.delenv("NNFAST_CACHE", raising=False)
    monkeypatch.setattr(cache, "COMPILED", True)  # this suite also runs in the modes that keep nothing
    monkeypatch.setattr(cache, "on_first_compile", None)
    monkeypatch.setattr(cache, "source_stamp", lambda: cache._STAMP)  # whoever edits the sources while this runs
    monkeypatch.setattr(cache, "_process", cache._Process())
    return tmp_path / "kept" / "numba"


def forget():
    cache._process = cache._Process()


def adder(k):
    def add(x):
        return x + k

    return add


def make(k=1.0, key=None, build=None):
    return cache.compile_cfunc(key or f"add {k}", build or (lambda: adder(k)), SIGNATURE, OPTIONS)


def answer(compiled, x=1.0):
    return ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(compiled.address)(x)


def kept(place):
    return sorted(place.glob("*.nnf"))


def spoil(path, content):
    """Put content where the file of `make()` is; the next process must recover, and the one after it load."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)
    recovers(path)


def recovers(path):
    forget()
    with pytest.warns(RuntimeWarning, match=r"nnfast: recompiling 'add 1\.0'") as seen:
        assert answer(make()) == 2.0
    assert len(seen) == 1
    assert cache.statistics()[:2] == (0, 1)
    forget()
    assert answer(make()) == 2.0
    assert cache.statistics()[:2] == (1, 0), "the file was not written anew"
    assert path.is_file()
    assert not path.is_symlink()


def never():
    raise AssertionError("built, though the file is there")


# --- hits ---


@posix
def test_a_file_that_nobody_may_look_at_is_none(place, monkeypatch):
    """As in a folder whose mode forbids it: what is asked before Numba is imported must not end in an error."""
    assert not cache.is_kept("add 1.0", SIGNATURE, OPTIONS)
    make()
    assert cache.is_kept("add 1.0", SIGNATURE, OPTIONS)
    real = os.stat

    def stat(path, *more, **options):
        if str(path).endswith(".nnf"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *more, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert not cache.is_kept("add 1.0", SIGNATURE, OPTIONS)


def test_found_again(place):
    first = make()
    assert (first.from_disk, answer(first)) == (False, 2.0)
    assert make(build=never) is first  # from memory
    assert cache.statistics()[:2] == (0, 1)
    assert cache.statistics().seconds > 0
    forget()
    second = make(build=never)
    assert (second.from_disk, answer(second)) == (True, 2.0)
    assert cache.statistics()[:2] == (1, 0)
    assert len(kept(place)) == 1


def test_functions_with_the_same_symbols_live_side_by_side(place):
    """Two processes number their functions alike, so both files define one symbol; each must keep its own meaning."""
    script = """
        @numba.njit(error_model="numpy")
        def helper(x, n):  # calls itself twice, so it is not inlined: a symbol of its own
            if n < 1: return x + K
            return (helper(x, n - 1) + helper(x, n - 2)) / 2
        def outer(x): return helper(x, int(x) + 3)
        show(compile("outer K", lambda: outer, S, O), 1.0)
    """
    for k in (10.0, 20.0):
        # One hash seed: the symbol also holds the fast-math flags, in the order of their set.
        assert run(place, script.replace("K", str(k)), PYTHONHASHSEED=0) == [f"{1 + k} 0 1"]
    assert len(kept(place)) == 2
    codes = [files.unpack(path.stem, path.read_bytes()) for path in kept(place)]
    assert codes[0][0] == codes[1][0], "the entries differ: this test no longer tests anything"
    assert b"_ZN8__main__6helper" in codes[0][2], "the helper was inlined"
    both = "\n".join(f"show(compile('outer {k}', None, S, O), 1.0)" for k in ("10.0", "20.0", "10.0"))
    assert run(place, both) == ["11.0 1 0", "21.0 2 0", "11.0 2 0"]


def test_what_is_compiled_calls_its_own_helpers(place):
    """As what is loaded does, or the bits would depend on what else a process has compiled: each function holds its
    helpers as they were optimised for it, under names that others may define as well."""
    script = """
        import itertools
        for k in (10.0, 20.0):
            numba.core.bytecode.FunctionIdentity._unique_ids = itertools.count(1)  # the same names again
            @numba.njit(error_model="numpy")
            def helper(x, n):  # not inlined, since it calls itself twice
                if n < 1: return x + k
                return (helper(x, n - 1) + helper(x, n - 2)) / 2
            def outer(x): return helper(x, int(x) + 3)
            show(compile(f"outer {k}", lambda: outer, S, O, CHOICE), 1.0)
    """
    for keep in (True, False):
        assert run(place, script.replace("CHOICE", f"keep={keep}")) == ["11.0 0 1", "21.0 0 2"]
    assert len(kept(place)) == 2


def test_code_that_allocates_and_raises_works_from_disk(place):
    """Both need C functions of Numba that it makes known only to processes that compile."""
    script = """
        def f(x):
            a = np.zeros(int(x))
            for i in range(a.size): a[i] = i * x
            if x == 7.0: raise ValueError("seven")
            return a.sum()
        show(compile("zeros", lambda: f, S, O), 4.0)
        show(compile("zeros", lambda: f, S, O), 7.0)
    """
    first, second = run(place, script, whole=True), run(place, script, whole=True)
    assert first.stdout.split("\n")[0] == "24.0 0 1"
    assert second.stdout.split("\n")[0] == "24.0 1 0"
    assert "ValueError: seven" in first.stderr
    assert "ValueError: seven" in second.stderr


# --- damage ---


def test_every_truncation_and_every_flipped_byte_is_seen(place):
    make()
    (path,) = kept(place)
    content = path.read_bytes()
    assert files.unpack(path.stem, content)[2][:1]
    for i in range(len(content)):
        with pytest.raises(ValueError, match="damaged"):
            files.unpack(path.stem, content[:i])
        flipped = bytearray(content)
        flipped[i] ^= 1 << i % 8
        with pytest.raises(ValueError, match="damaged"):
            files.unpack(path.stem, bytes(flipped))


def test_damaged_files_are_compiled_again(place):
    make()
    (path,) = kept(place)
    good = path.read_bytes()
    for size in (0, 1, len(files.FORMAT), len(files.FORMAT) + 32, len(good) // 2, len(good) - 1):
        spoil(path, good[:size])
    for i in (0, len(files.FORMAT), len(good) // 2, len(good) - 1):
        spoil(path, good[:i] + bytes([good[i] ^ 64]) + good[i + 1 :])
    spoil(path, good + b"\0")
    spoil(path, bytes(len(good)))


def test_a_sound_file_under_another_name_is_not_used(place):
    make(1.0)
    (path,) = kept(place)
    make(2.0)
    (other,) = set(kept(place)) - {path}
    spoil(path, other.read_bytes())


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_content_is_never_unpickled(place, tmp_path):
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    make()
    (path,) = kept(place)
    spoil(path, bomb)
    spoil(path, files.FORMAT + bomb)
    spoil(path, files.pack(path.stem, "entry", [], bomb))  # even with the right checksum
    assert not (tmp_path / "exploded").exists()
    pickle.loads(bomb)
    assert (tmp_path / "exploded").exists(), "the bomb was a dud"


def test_a_symbol_that_this_process_lacks_is_no_crash(place):
    make()
    (path,) = kept(place)
    entry, symbols, code = files.unpack(path.stem, path.read_bytes())
    spoil(path, files.pack(path.stem, entry, [*symbols, "nnfast_no_such_symbol"], code))


def test_one_warning_for_many_damaged_files(place):
    for k in range(3):
        make(float(k))
    for path in kept(place):
        path.write_bytes(b"")
    forget()
    with pytest.warns(RuntimeWarning, match="recompiling") as seen:
        assert [answer(make(float(k))) for k in range(3)] == [1.0, 2.0, 3.0]
    assert len(seen) == 1


def test_a_warning_turned_into_an_error_stops_only_once(place):
    make()
    kept(place)[0].write_bytes(b"")
    forget()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="recompiling"):
            make()
        assert answer(make(build=never)) == 2.0


@posix
def test_links_and_pipes_in_the_place_of_a_file(place, tmp_path):
    make()
    (path,) = kept(place)
    shutil.move(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    recovers(path)
    path.unlink()
    os.mkfifo(path)
    recovers(path)
    path.unlink()
    path.mkdir()
    recovers(path)


def test_one_warning_where_a_file_can_be_neither_read_nor_written_anew(place):
    make()
    (path,) = kept(place)
    path.unlink()
    (path / "something").mkdir(parents=True)
    forget()
    with pytest.warns(RuntimeWarning, match=r"^nnfast: recompiling .*; 'add 1\.0' is compiled, but not kept") as seen:
        assert answer(make()) == 2.0
    assert len(seen) == 1


# --- who may write here ---


@posix
def test_folder_and_files_are_private(place):
    before = os.umask(0)
    try:
        make()
    finally:
        os.umask(before)
    assert [stat.S_IMODE(p.stat().st_mode) for p in (place.parent, place, *kept(place))] == [0o700, 0o700, 0o600]


@posix
@pytest.mark.parametrize("mode", [0o770, 0o777, 0o1777])
def test_a_folder_that_others_may_write_to_is_refused(place, mode):
    make()
    place.chmod(mode)
    uncached("others may write")


@posix
def test_a_folder_of_another_user_is_refused(place, monkeypatch):
    make()
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    uncached("belongs to another user")


@posix
def test_a_file_of_another_user_or_open_to_others_is_not_used(place, monkeypatch):
    make()
    (path,) = kept(place)
    path.chmod(0o620)
    recovers(path)
    forget()
    real = os.fstat

    def foreign(handle):
        found = list(real(handle))
        found[4] += 1
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", foreign)
    with pytest.warns(RuntimeWarning, match="another user"):
        assert answer(make()) == 2.0
    assert cache.statistics()[:2] == (0, 1)


def uncached(reason):
    """The next process answers without the cache, and says why, once."""
    forget()
    with pytest.warns(RuntimeWarning, match=reason) as seen:
        assert [answer(make(k)) for k in (1.0, 2.0)] == [2.0, 3.0]
    assert len(seen) == 1
    assert cache.statistics()[:2] == (0, 2)


# --- no place to write to ---


def test_a_file_in_the_place_of_the_folder(place):
    place.parent.mkdir()
    place.write_bytes(b"")
    uncached("not kept on disk: FileExistsError")
    place.unlink()
    place.parent.rmdir()
    place.parent.write_bytes(b"")
    uncached("not kept on disk: (NotADirectory|FileExists)Error")


@posix
def test_no_home(place, monkeypatch):
    monkeypatch.delenv("NNFAST_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/dev/null")
    uncached("not kept on disk: (NotADirectory|FileExists)Error")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    uncached("no home directory")


@posix
def test_a_folder_that_cannot_be_written_to(place, monkeypatch):
    place.mkdir(0o700, parents=True)
    place.chmod(0o500)
    if os.access(place, os.W_OK):  # root writes anywhere

        def refuse(*_, **__):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    uncached("not kept in .*Permission denied")


@posix
def test_a_full_disk(place):
    script = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        show(compile("f", lambda: lambda x: x + 1, S, O), 1.0)
        show(compile("g", lambda: lambda x: x + 2, S, O), 1.0)
    """
    done = run(place, script, whole=True)
    assert done.stdout.split("\n")[:2] == ["2.0 0 1", "3.0 0 2"]
    assert done.stderr.count("RuntimeWarning") == 1
    assert "not kept" in done.stderr
    assert list(place.iterdir()) == []


def test_without_sources_nothing_is_kept(place, monkeypatch):
    monkeypatch.setattr(cache, "_STAMP", "")
    uncached("without its sources")


@pytest.mark.parametrize(("variable", "compiled"), [("0", True), ("1", False)])
def test_switched_off(place, monkeypatch, variable, compiled):
    monkeypatch.setenv("NNFAST_CACHE", variable)
    monkeypatch.setattr(cache, "COMPILED", compiled)
    assert answer(make()) == 2.0
    forget()
    assert answer(make()) == 2.0
    assert cache.statistics()[:2] == (0, 1)
    assert cache.folder() is None
    assert cache.clear() == 0
    assert not place.parent.exists()


@posix
def test_where_it_is(monkeypatch):
    for variable in ("NNFAST_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", "/home/ada")
    for platform, want in [
        ("linux", "/home/ada/.cache/nnfast"),
        ("darwin", "/home/ada/Library/Caches/nnfast"),
        ("win32", "/home/ada/AppData/Local/nnfast/Cache"),
    ]:
        monkeypatch.setattr(sys, "platform", platform)
        assert folders.user_cache() == Path(want)
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert folders.user_cache() == Path("/local/nnfast/Cache")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # "must be absolute", says the standard, else ignored
    assert folders.user_cache() == Path("/home/ada/.cache/nnfast")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert folders.user_cache() == Path("/xdg/nnfast")
    monkeypatch.setenv("NNFAST_CACHE_DIR", "~/mine")
    assert folders.user_cache() == Path("/home/ada/mine")


# --- what a file is called ---


def test_the_name_depends_on_all_that_the_code_depends_on(place, monkeypatch):
    names = [cache._name("key", SIGNATURE, OPTIONS)]
    assert cache._name("key", SIGNATURE, dict(reversed(OPTIONS.items()))) == names[0]
    names.append(cache._name("key2", SIGNATURE, OPTIONS))
    names.append(cache._name("key", "float32(float32)", OPTIONS))
    names.append(cache._name("key", SIGNATURE, {**OPTIONS, "fastmath": {"contract"}}))
    names.append(cache._name("key", SIGNATURE, {**OPTIONS, "error_model": "python"}))
    for owner, attribute, value in [
        (numba.config, "CPU_NAME", "generic"),
        (numba.config, "CPU_FEATURES", "+sse2"),
        (numba.config, "OPT", 1),
        (numba.config, "BOUNDSCHECK", 5),
        (cache, "_STAMP", "edited"),
        (cache.np, "__version__", "9"),
        (numba, "__version__", "9"),
        (cache.llvmlite, "__version__", "9"),
        (sys, "version", "9"),
        (files, "FORMAT", b"2"),
        (cache.settings, "_host", lambda avx: ("another", "+some")),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(owner, attribute, value)
            names.append(cache._name("key", SIGNATURE, OPTIONS))
    monkeypatch.setenv("NNFAST_VECTOR_BYTES", "48")
    names.append(cache._name("key", SIGNATURE, OPTIONS))
    assert len(set(names)) == len(names)


def test_an_edited_source_is_another_name(place, tmp_path):
    copy = copy_sources(tmp_path)
    script = 'show(compile("f", lambda: lambda x: x + 1, S, O), 1.0)'
    assert run(place, script, PYTHONPATH=tmp_path) == ["2.0 0 1"]
    assert run(place, script, PYTHONPATH=tmp_path) == ["2.0 1 0"]
    for edited in (copy / "kernels/numba_cpu/modes.py", copy / "ops.py"):
        edited.write_text(edited.read_text() + "\n# edited\n")
        assert run(place, script, PYTHONPATH=tmp_path) == ["2.0 0 1"]


def test_nothing_is_kept_while_the_sources_change(place, monkeypatch):
    monkeypatch.setattr(cache, "source_stamp", lambda: "edited since")
    assert answer(make()) == 2.0
    assert kept(place) == []


# --- Numba's private parts, and code that is more than its object code ---


def test_private_parts_that_changed_mean_no_cache(place, monkeypatch):
    library = importlib.import_module("numba.core.codegen").CodeLibrary
    with monkeypatch.context() as patch:
        patch.delattr(library, "_get_compiled_object")
        uncached("not kept in .*AttributeError")
    assert kept(place) == []
    forget()

    def raising(x):
        if x < 0.0:
            raise ValueError("negative")  # with Numba's helpers
        return x + 1.0

    make(build=lambda: raising)
    with monkeypatch.context() as patch:
        patch.setattr(cache.helpers, "_helpers", dict)
        patch.setattr(cache.helpers, "_by_numba", lambda: None)
        patch.setattr(cache.llvm, "address_of_symbol", lambda symbol: None)  # which this process knows by now
        forget()
        with pytest.warns(RuntimeWarning, match="recompiling"):
            assert answer(make(build=lambda: raising)) == 2.0
    assert cache.statistics()[:2] == (0, 1)


def test_code_that_holds_an_address_is_not_kept(place):
    absolute = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(("fabs", ctypes.CDLL(None)))

    def outer(x):
        return absolute(x)

    with pytest.warns(RuntimeWarning, match="address of this process"):
        assert answer(make(key="outer", build=lambda: outer), -3.0) == 3.0
    assert kept(place) == []


def test_code_that_uses_python_objects_is_refused(place):
    """It would look for them in an environment that is not there, say so, and return in the middle of its work."""

    def outer(x):
        if x < 0:
            raise ValueError("negative", x)
        return x

    with pytest.raises(numba.core.errors.UnsupportedError, match="Python objects"):
        make(key="outer", build=lambda: outer)
    assert kept(place) == []


# --- who else is at it ---


def test_eight_processes_at_once(place):
    script = 'show(compile("f", lambda: lambda x: x + 1, S, O), 1.0)'
    started = [start(place, script) for _ in range(8)]
    for process in started:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
        assert out.split()[0] == "2.0"
    assert [path.suffix for path in place.iterdir()] == [".nnf"]
    assert run(place, script) == ["2.0 1 0"]


def test_sixteen_threads_compile_each_function_once(place):
    built = []
    barrier = threading.Barrier(16)
    answers = [0.0] * 16

    def work(i):
        k = float(i % 4)

        def build():
            built.append(k)
            time.sleep(0.01)
            return adder(k)

        barrier.wait()
        answers[i] = answer(make(k, build=build))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [1.0 + i % 4 for i in range(16)]
    assert sorted(built) == [0.0, 1.0, 2.0, 3.0]
    assert cache.statistics()[:2] == (0, 4)


@posix
def test_a_fork_in_the_middle_of_a_compilation(place):
    script = """
        import signal, threading, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads: that is what is tried
        begun = threading.Event()
        def build():
            begun.set(); time.sleep(0.3)
            return lambda x: x + 1
        thread = threading.Thread(target=lambda: compile("slow", build, S, O))
        thread.start(); begun.wait()
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # rather than hang
            show(compile("slow", None, S, O), 1.0); show(compile("other", lambda: lambda x: x + 2, S, O), 1.0)
            sys.stdout.flush(); os._exit(0)
        thread.join()
        assert os.waitpid(child, 0)[1] == 0
    """
    assert [line.split()[0] for line in run(place, script)] == ["2.0", "3.0"]


# --- housekeeping ---


def test_the_first_compilation_is_announced(place, monkeypatch):
    told = []
    monkeypatch.setattr(cache, "on_first_compile", told.append)

    def build():
        assert told == ["add 1.0"], "told too late"
        return adder(1.0)

    make(build=build)
    make(2.0)
    assert told == ["add 1.0"]
    forget()
    make(build=never)
    assert told == ["add 1.0"], "a load is no compilation"


def test_clear(place):
    make(1.0), make(2.0)
    (place / "interrupted.tmp").touch()
    (place / "notes.txt").touch()
    assert cache.clear() == 3
    assert [path.name for path in place.iterdir()] == ["notes.txt"]
    forget()
    make(1.0)
    assert cache.statistics()[:2] == (0, 1)


def test_files_that_nobody_uses_are_removed(place):
    place.mkdir(0o700, parents=True)
    for name, days in [("old.nnf", 61), ("young.nnf", 59), ("left.tmp", 61), ("notes.txt", 61)]:
        (place / name).touch()
        os.utime(place / name, (time.time() - days * 86400,) * 2)
    make()
    assert {path.name for path in place.iterdir()} - {path.name for path in kept(place)} == {"notes.txt"}
    assert [path.name for path in kept(place) if len(path.stem) < 64] == ["young.nnf"]


@pytest.mark.parametrize(("hours", "marked"), [(25, True), (23, False)])
def test_use_is_marked_once_a_day(place, hours, marked):
    make()
    (path,) = kept(place)
    then = time.time() - hours * 3600
    os.utime(path, (then, then))
    forget()
    make(build=never)
    assert (path.stat().st_mtime > then + 60) == marked


# --- real processes, each from a copy of the sources: an edit between two of them would be a miss, and rightly ---

HEAD = """
import ctypes, importlib, math, os, sys
import numba, numpy as np
cache = importlib.import_module("nnfast.kernels.numba_cpu.cache")
compile, S = cache.compile_cfunc, "float64(float64)"
O = {"error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz", "arcp", "afn"}}
def show(compiled, x):
    result = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(compiled.address)(x)
    print(result, *cache.statistics()[:2])
"""


@pytest.fixture(scope="module", autouse=True)
def _sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    copy_sources(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        yield


def start(place, script, **variables):
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("NUMBA_", "NNFAST_"))}
    environ |= {"NNFAST_CACHE_DIR": str(place.parent), **{key: str(value) for key, value in variables.items()}}
    command = [sys.executable, "-c", HEAD + textwrap.dedent(script)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environ, cwd=place.parents[1], text=True, **pipes)


def run(place, script, whole=False, **variables):
    """What the script printed, line by line: for each function its result, and the hits and misses until then."""
    process = start(place, script, **variables)
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()  # where it hangs; else it is gone
    assert process.returncode == 0, err
    if whole:
        return subprocess.CompletedProcess(process.args, 0, out, err)
    assert err == ""
    return out.split("\n")[:-1]


# ---- several processes that start at once ---------------------------------------------------------------------------

TURNS = """
import importlib, sys, time
import numba
cache = importlib.import_module("nnfast.kernels.numba_cpu.cache")
cache.source_stamp = lambda: cache._STAMP

def build(k):
    time.sleep(0.3)  # long enough for the others to come meanwhile
    return lambda x: x + k

print("ready", flush=True)
sys.stdin.readline()
for k in range(4):
    cache.compile_cfunc(f"add {k}", lambda: build(float(k)), "float64(float64)", {})
print(cache.statistics().misses, cache.statistics().hits, flush=True)
"""


@posix
def test_processes_that_start_at_once_compile_each_function_once(place):
    call, pipes = [sys.executable, "-c", TURNS], {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(call, **pipes) for _ in range(3)]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    counts = [tuple(map(int, process.communicate(timeout=60)[0].split())) for process in running]
    assert sum(misses for misses, _ in counts) == 4
    assert sum(hits for _, hits in counts) == 8


@posix
def test_a_process_that_dies_gives_up_its_turn(place):
    place.mkdir(parents=True, mode=0o700)
    name = "0" * 64
    child = os.fork()
    if not child:
        with files.only_one(place, name):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    begin = time.monotonic()
    with files.only_one(place, name):
        assert time.monotonic() - begin < files.PATIENCE / 4


@posix
def test_nobody_waits_for_ever(place, monkeypatch):
    place.mkdir(parents=True, mode=0o700)
    name = "0" * 64
    begun, over = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        with files.only_one(place, name):
            os.write(begun[1], b"1")
            os.read(over[0], 1)
        os._exit(0)
    os.read(begun[0], 1)
    with monkeypatch.context() as patch:
        patch.setattr(files, "PATIENCE", 0.2)
        begin = time.monotonic()
        with files.only_one(place, name):
            assert time.monotonic() - begin >= 0.2
    begin = time.monotonic()
    with files.only_one(place, "1" * 64):
        assert time.monotonic() - begin < files.PATIENCE / 4
    os.write(over[1], b"1")
    os.waitpid(child, 0)
