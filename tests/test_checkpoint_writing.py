"""Where files may lie, writers that fail or are killed, and what they leave behind."""

from __future__ import annotations

import errno
import os
import stat
import sys

import pytest
from batteries.child import answer_of
from damaged_files import content
from failing_saves import CALLS, failing_in_turn
from small_models import classifier, fit

import nnfast as nn
from nnfast import checkpoint
from nnfast.errors import CheckpointError, DTypeError, OptionError
from nnfast.storage import files as _files


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.nnfast"


@pytest.fixture(scope="module")
def trained():
    fit(model := classifier(nn.Adam(0.02)), epochs=2)
    return model


# ---- paths ----------------------------------------------------------------------------------------------------------


def test_paths_that_are_no_files(tmp_path, trained, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    for name, said in ((".", "a folder"), ("pipe", "a pipe")):
        for use in (checkpoint.load, checkpoint.inspect, trained.load_weights, trained.save):
            with pytest.raises(CheckpointError, match=f"is {said}, not a file"):
                use(tmp_path / name)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    with pytest.raises(CheckpointError, match="a device"):
        trained.save("/dev/null")
    with pytest.raises(FileNotFoundError, match="No such file") as caught:
        checkpoint.load(tmp_path / "none")
    assert isinstance(caught.value, CheckpointError)
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(FileNotFoundError, match=r"the folder .*nowhere does not exist"):
        trained.save(tmp_path / "nowhere" / "x")
    for bad, error in (("", OptionError), ("a\0b", OptionError), (None, DTypeError), (3, DTypeError)):
        with pytest.raises(error, match="path is"):
            trained.save(bad)
    trained.save(tmp_path / "x")

    def refuse(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    if sys.platform == "linux":
        with pytest.raises(OSError, match="cannot be read: Input/output error"):
            checkpoint.load("/proc/self/mem")
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match="cannot be read: Permission denied") as denied:
        checkpoint.load(tmp_path / "x")
    assert isinstance(denied.value, CheckpointError)


def test_links_are_followed_and_permissions_kept(tmp_path, trained):
    (tmp_path / "deep").mkdir()
    target, link = tmp_path / "deep" / "model", tmp_path / "link"
    link.symlink_to(target)
    old = os.umask(0o027)
    try:
        trained.save(link)
    finally:
        os.umask(old)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    target.chmod(0o604)
    trained.save(str(link).encode())
    assert stat.S_IMODE(target.stat().st_mode) == 0o604
    long = tmp_path / ("n" * 255)
    trained.save(long)
    assert content(checkpoint.load(long, backend="numpy")) == content(trained)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "link", long.name]
    assert [p.name for p in target.parent.iterdir()] == ["model"]


# ---- writers that fail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_whatever_call_fails_a_whole_file_is_left(path, trained, fault):
    old = classifier(rng=9)
    old.save(path)
    before, outcomes = path.read_bytes(), []
    for a_try in failing_in_turn(lambda: old.save(path), lambda: trained.save(path), fault):
        moved = "replace" in a_try.before  # what failed came after the new file had its place
        kind = type(fault) if isinstance(fault, KeyboardInterrupt) else CheckpointError
        assert a_try.failed is None or isinstance(a_try.error, kind)
        assert content(checkpoint.load(path, backend="numpy")) == content(trained if moved else old)
        assert moved or path.read_bytes() == before
        assert [p.name for p in path.parent.iterdir()] == [path.name]
        outcomes.append(a_try.failed)
    assert outcomes[-1] is None
    assert set(CALLS) - {"rename"} <= set(outcomes)  # each kind of call has failed once
    first = [name for name in outcomes if name in ("write", "fsync", "replace")]
    assert first[-3:] == ["fsync", "replace", "fsync"]  # the file, its name, the folder


def test_short_writes_are_gone_on_with(path, trained, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda number, data: real(number, data[: max(1, len(data) // 3)]))
    trained.save(path)
    trained.save_weights(path.with_suffix(".npz"))
    monkeypatch.undo()
    assert content(checkpoint.load(path, backend="numpy")) == content(trained)
    classifier().load_weights(path.with_suffix(".npz"))


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_kept(path, trained):
    dead = path.parent / f"{_files._prefix(str(path))}0123456789abcdef.tmp"
    other = path.parent / f"{_files._prefix(str(path) + 'x')}0123456789abcdef.tmp"
    for leftover in (dead, other):
        leftover.write_bytes(b"half")
    with _files.replacing(str(path)) as file:
        assert not dead.exists()
        file.write(b"slow")
        trained.save(path)
        assert path.read_bytes() != b"slow"
        assert len(list(path.parent.iterdir())) == 3
    assert path.read_bytes() == b"slow"
    assert sorted(path.parent.iterdir()) == sorted([path, other])


def test_where_files_cannot_be_locked(path, trained, monkeypatch):
    leftover = path.parent / f"{_files._prefix(str(path))}0123456789abcdef.tmp"
    leftover.write_bytes(b"half")

    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr(_files.fcntl, "flock", refuse)
        trained.save(path)
        assert leftover.exists()  # who can tell whether its writer lives?
    monkeypatch.setattr(_files, "fcntl", None)
    trained.save(path)
    assert list(path.parent.iterdir()) == [path]
    assert content(checkpoint.load(path, backend="numpy")) == content(trained)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_kill_while_saving(path):
    kills = 10
    safe = answer_of("batteries.killed_saves", path, kills, "safe")
    assert (safe["good"], safe["broken"], safe["left"]) == (kills, 0, 1)
    assert safe["different"] == kills  # each child had saved something
    careless = answer_of("batteries.killed_saves", path, kills, "careless")
    assert careless["broken"] > 0, "the test kills at harmless moments only"
