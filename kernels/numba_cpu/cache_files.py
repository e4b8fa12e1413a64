"""The files of the cache of compiled functions: where they are, which of them may be trusted, and what one looks like.

    magic | SHA-256 of the rest | name, entry symbol, outside symbols, a line each | 0 | object code

Nothing in here warns or remembers: what cannot be done raises an OSError, what is no sound file a ValueError.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..folders import make_private, user_cache

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["FORMAT", "SUFFIX", "only_one", "open_folder", "pack", "read", "remove", "survey", "unpack", "write"]

FORMAT = b"nnfast kernel 1\n"
SUFFIX = ".nnf"
DAY = 86400.0
LARGEST = 1 << 26  # bytes; a kernel's file has some ten thousand
TURNS = "numba-turns"  # the file beside the folder whose bytes are locked
PATIENCE = 120.0  # seconds that a process waits for another one's compilation, at most
LOOK = 0.02  # seconds between two looks


def open_folder() -> Path:
    """The folder of the user's compiled functions, made if need be; OSError where there can be none."""
    place = user_cache() / "numba"
    make_private(place)
    _check_private(place.stat())
    return place


def _check_private(status: os.stat_result) -> None:
    """Code is run from here: nobody else may have written it. Windows keeps profiles apart by other means."""
    if not hasattr(os, "geteuid"):
        return
    if status.st_uid != os.geteuid():
        raise PermissionError("it belongs to another user")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("others may write to it")


def read(path: Path) -> bytes:
    """The whole file, after a look at what was really opened. Marks it as used, at most once a day."""
    flags = os.O_RDONLY
    for flag in ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"):  # the last, or a named pipe is waited for
        flags |= getattr(os, flag, 0)
    handle = os.open(path, flags)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            raise ValueError("it is no file of this cache")
        _check_private(status)
        with open(handle, "rb", closefd=False) as file:
            content = file.read()
    finally:
        os.close(handle)
    if time.time() - status.st_mtime > DAY:
        with contextlib.suppress(OSError):
            os.utime(path)
    return content


def write(path: Path, content: bytes) -> None:
    """In one step: a reader finds the old file or the new one, whole, whoever else writes it at the same time."""
    handle, temporary = tempfile.mkstemp(".tmp", path.name[:16], path.parent)  # its owner alone can read it
    try:
        with open(handle, "wb") as file:
            file.write(content)
        with contextlib.suppress(OSError):
            os.rmdir(path)  # an empty folder may be in its place, and no file replaces one
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        # On Windows a file that somebody reads cannot be replaced; whoever reads it has it.
        if os.name != "nt" or not isinstance(error, PermissionError) or not path.exists():
            raise


@contextlib.contextmanager
def only_one(place: Path, name: str) -> Iterator[None]:
    """Within, no other process makes the file of this name, unless its maker takes longer than anybody should.

    Many that start at once would else all compile the same. Each name has a byte of one file, which is locked by the
    system, so a lock ends with its process however that ends; where there are no such locks nobody waits.
    """
    handle = None
    try:
        handle = _turn(place, int(name[:7], 16))
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _turn(place: Path, byte: int) -> int | None:
    """A handle that holds the lock of this byte, or None."""
    if fcntl is None:
        return None
    try:
        handle = os.open(place.with_name(TURNS), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):  # somebody has it
            time.sleep(LOOK)
        except OSError:  # this file system has no locks
            break
        else:
            return handle
    os.close(handle)
    return None


def remove(place: Path, days: float) -> int:
    """Remove files of any version that nobody has used for some days, and what interrupted writers left behind."""
    removed = 0
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                age = time.time() - entry.stat(follow_symlinks=False).st_mtime
                if entry.name.endswith((SUFFIX, ".tmp")) and (age >= days * DAY or days == 0):
                    os.unlink(entry.path)
                    removed += 1
    return removed


def survey() -> dict[str, Any]:
    """The folder, its files, their bytes, and why none can be written there (None: they can). Leaves all as it was."""
    state: dict[str, Any] = {"folder": None, "files": 0, "bytes": 0, "problem": None}
    try:
        place = user_cache() / "numba"
        state["folder"] = str(place)
        found = next(path for path in (place, *place.parents) if os.path.lexists(path))
        if found == place:
            with os.scandir(place) as entries:
                sizes = [entry.stat().st_size for entry in entries if entry.name.endswith(SUFFIX)]
            state.update(files=len(sizes), bytes=sum(sizes))
            _check_private(place.stat())
        if not found.is_dir():
            raise NotADirectoryError(f"{found} is no folder")
        _try_to_write(found)
    except OSError as error:
        state["problem"] = str(error)
    return state


def _try_to_write(place: Path) -> None:
    """Permissions do not tell of disks that are full or mounted for reading, nor of what only looks like one."""
    trial = place / f".trial-{os.getpid()}"
    try:
        trial.mkdir(mode=0o700)
        trial.rmdir()
    except OSError as error:
        raise OSError(f"nothing can be written to {place}: {error.strerror}") from error


def pack(name: str, entry: str, symbols: list[str], code: bytes) -> bytes:
    payload = "\n".join([name, entry, *symbols]).encode() + b"\0" + code
    return FORMAT + hashlib.sha256(payload).digest() + payload


def unpack(name: str, content: bytes) -> tuple[str, list[str], bytes]:
    """What `pack` was given, or ValueError. The name is in it because a sound file may have been renamed."""
    start = len(FORMAT) + hashlib.sha256().digest_size
    checksum, payload = content[len(FORMAT) : start], content[start:]
    if not content.startswith(FORMAT) or hashlib.sha256(payload).digest() != checksum:
        raise ValueError("it is damaged")
    head, _, code = payload.partition(b"\0")
    found, entry, *symbols = [*head.decode().split("\n"), ""]
    if found != name or not entry or not code:
        raise ValueError("it holds something else")
    return entry, symbols[:-1], code
