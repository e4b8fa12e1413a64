"""Files on disk: opening one that may be anything, and replacing one so that the old or the new is there, whole.

A new content goes into a temporary file beside the target, to the disk, and then under the target's name: a process
that is killed at any moment leaves the old file as it was.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO

from nnfast.errors import CheckpointError
from nnfast.validation import file_name

try:
    import fcntl
except ImportError:  # Windows: an open file cannot be removed there, which serves as well
    fcntl = None  # type: ignore[assignment]

__all__ = ["FileError", "MissingFileError", "as_path", "prepare", "reading", "replacing"]


class FileError(CheckpointError, OSError):
    """The system refused to read or write the file."""

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy: `errno` is in no argument."""
        return type(self), self.args, {**self.__dict__, "errno": self.errno}


class MissingFileError(FileError, FileNotFoundError):
    """There is no such file."""


def as_path(path: Any) -> str:
    """A path as text. Raises DTypeError for what is none, OptionError for an impossible one."""
    return file_name("path", path)


@contextlib.contextmanager
def reading(path: str) -> Iterator[BinaryIO]:
    """A regular file to read from; a folder, a pipe or a device is refused without waiting for it. Raises FileError."""
    with _telling(path, "read"), _opened(path) as file:
        yield file


@contextlib.contextmanager
def _telling(path: str, done: str) -> Iterator[None]:
    """What the system refuses within, as a FileError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, CheckpointError):
            raise
        raise _trouble(path, done, error) from error


def _opened(path: str) -> BinaryIO:
    mode = os.stat(path).st_mode
    if stat.S_ISREG(mode):  # opening some devices does something
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        mode = os.fstat(number).st_mode
        if stat.S_ISREG(mode):
            return os.fdopen(number, "rb")
        os.close(number)  # it was exchanged in between
    raise CheckpointError(f"{path} is {_kind(mode)}, not a file")


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"


def _trouble(path: str, done: str, error: OSError) -> FileError:
    reason = error.strerror or str(error)
    kind = MissingFileError if isinstance(error, FileNotFoundError) else FileError
    if kind is MissingFileError and done == "written":
        reason = f"the folder {os.path.dirname(os.path.realpath(path))} does not exist, or went away; make it first"
    made = kind(f"{path} cannot be {done}: {reason}")
    made.errno = error.errno
    return made


class _Writer(io.RawIOBase):
    """A file that takes every byte it is given, or raises."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            done += os.write(self._number, view[done:])
        return done

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._number, offset, whence)

    def tell(self) -> int:
        return os.lseek(self._number, 0, os.SEEK_CUR)

    def close(self) -> None:
        if not self.closed:
            os.close(self._number)
            super().close()


@contextlib.contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """A file to write into that takes the place of `path` at the end of the block, or is gone if anything fails.

    A symbolic link is followed. A new file gets the usual permissions, an existing one keeps its own. Raises FileError.
    """
    target = os.path.realpath(path)
    temporary = ""
    writer: _Writer | None = None
    try:
        mode = _mode_of(target, path)
        _remove_leftovers(target)
        temporary, writer = _create(target, 0o666 if mode is None else 0o600)
        yield writer  # type: ignore[misc]  # a raw file that writes all is as good as a buffered one
        if mode is not None and hasattr(os, "fchmod"):
            os.fchmod(writer.fileno(), mode)
        os.fsync(writer.fileno())
        if os.name == "nt":
            writer.close()
        os.replace(temporary, target)  # before the lock is given back: else it might be taken for a leftover
        temporary = ""
        _sync_folder(os.path.dirname(target))
    except OSError as error:
        if isinstance(error, CheckpointError):
            raise
        raise _trouble(path, "written", error) from error
    finally:
        if writer is not None:
            with contextlib.suppress(OSError):
                writer.close()
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def prepare(path: str) -> None:
    """Make the folder that a file will be in, and raise FileError if it cannot be written there."""
    target = os.path.realpath(path)
    with _telling(path, "written"):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _mode_of(target, path)
        temporary, writer = _create(target, 0o600)
        writer.close()
        os.unlink(temporary)


def _mode_of(target: str, path: str) -> int | None:
    """The permissions of the file that is there, or None; what is no file is not replaced."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{path} is {_kind(mode)}, not a file; it is left as it is")
    return stat.S_IMODE(mode)


def _prefix(target: str) -> str:
    """How the temporary files of a target begin. A digest, since a name may be as long as names can be."""
    return f".nnfast-{hashlib.sha256(os.fsencode(os.path.basename(target))).hexdigest()[:16]}-"


def _create(target: str, mode: int) -> tuple[str, _Writer]:
    """A new file beside the target, locked as long as its writer lives."""
    folder = os.path.dirname(target)
    while True:
        temporary = os.path.join(folder, f"{_prefix(target)}{os.urandom(8).hex()}.tmp")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        number = os.open(temporary, flags, mode)
        _lock(number, wait=True)
        if fcntl is None or os.fstat(number).st_nlink:
            return temporary, _Writer(number)
        os.close(number)  # another process took it for a leftover before the lock was ours


def _lock(number: int, *, wait: bool) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # somebody holds it, or the file system knows no locks
        return False
    return True


def _remove_leftovers(target: str) -> None:
    """Remove the temporary files of writers that were killed while they wrote this target."""
    prefix = _prefix(target)
    with os.scandir(os.path.dirname(target)) as entries:
        found = [e.path for e in entries if e.name.startswith(prefix) and e.name.endswith(".tmp")]
    for leftover in found:
        with contextlib.suppress(OSError):
            number = os.open(leftover, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            try:
                if _lock(number, wait=False) and fcntl is not None:
                    os.unlink(leftover)
            finally:
                os.close(number)
            if fcntl is None:
                os.unlink(leftover)


def _sync_folder(folder: str) -> None:
    """Have the new name on the disk as well. Some systems cannot do that for folders; that is no error."""
    if os.name == "nt":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(number)
