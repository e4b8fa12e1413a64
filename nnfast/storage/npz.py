"""Reading `.npz` from anywhere: plain numbers only, and every size known before anything is unpacked.

`numpy.load` would allocate what a header asks for; here the headers are read first, and the caller decides on them.
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from nnfast.errors import CheckpointError

__all__ = ["NpzEntry", "npz_entries", "read_npz"]

Array = np.ndarray[Any, Any]

DIRECTORY_LIMIT = 1 << 20  # bytes of the archive's own table of contents
HEADER_LIMIT = 1 << 14
_HEADER = re.compile(
    r"\{'descr': '(?P<descr>[<>|=][fiub][1248])', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>(?:\d{1,15}, ?)*(?:\d{1,15})?)\),? ?\}\s*",
    re.ASCII,
)
_DAMAGE = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError)


class NpzEntry(NamedTuple):
    """One array of the archive: where it is and what it says of itself."""

    info: zipfile.ZipInfo
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    start: int  # bytes of its header


class _Bounded:
    """A file that refuses to read much at once: what an archive says of its directory is not believed."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file, self._path = file, path
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self.limit: int | None = DIRECTORY_LIMIT  # until the directory is read

    def read(self, n: int = -1) -> bytes:
        if self.limit is None:
            return self._file.read(n)
        found = self._file.read(min(n, self.limit + 1) if n >= 0 else self.limit + 1)
        if len(found) > self.limit:
            raise CheckpointError(f"{self._path}: the archive's directory is larger than {self.limit:,} bytes")
        return found


def npz_entries(file: BinaryIO, path: str) -> dict[str, NpzEntry]:
    """The arrays of an archive by name, from their headers alone."""
    return _opened(file, path)[1]


def read_npz(file: BinaryIO, path: str, check: Callable[[dict[str, NpzEntry]], None]) -> dict[str, Array]:
    """All arrays of an archive; `check` sees what they claim to be, and raises, before any is unpacked."""
    archive, entries = _opened(file, path)
    check(entries)
    return {name: _read(archive, entry, path, name) for name, entry in entries.items()}


def _opened(file: BinaryIO, path: str) -> tuple[zipfile.ZipFile, dict[str, NpzEntry]]:
    bounded = _Bounded(file, path)
    try:
        archive = zipfile.ZipFile(cast(Any, bounded))
        bounded.limit = None
        entries: dict[str, NpzEntry] = {}
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name == info.filename:
                raise CheckpointError(f"{path} holds {info.filename!r:.80}, which is no array")
            if name in entries:
                raise CheckpointError(f"{path} holds {name!r:.80} twice")
            entries[name] = _entry(archive, info, path, name)
    except CheckpointError:
        raise
    except _DAMAGE as error:
        raise CheckpointError(f"{path} is damaged or no .npz file: {error}") from None
    return archive, entries


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: str, name: str) -> NpzEntry:
    where = f"{path}: array {name!r:.80}"
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise CheckpointError(f"{where} is encrypted or packed in an unusual way")
    with archive.open(info) as packed:
        magic = packed.read(8)
        width = {1: 2, 2: 4, 3: 4}.get(magic[6] if magic[:6] == b"\x93NUMPY" and len(magic) == 8 else 0)
        length = int.from_bytes(packed.read(width or 0), "little")
        if width is None or length > HEADER_LIMIT:
            raise CheckpointError(f"{where} is no .npy array")
        found = _HEADER.fullmatch(packed.read(length).decode("latin-1"))
    if found is None:
        raise CheckpointError(f"{where} does not hold plain numbers")
    dtype = np.dtype(found["descr"])
    shape = tuple(int(n) for n in found["shape"].split(",") if n.strip())
    start = 8 + width + length
    if len(shape) > 16 or start + math.prod(shape) * dtype.itemsize != info.file_size:
        raise CheckpointError(f"{where} has {info.file_size - start} bytes, which are no {shape} of {dtype}")
    return NpzEntry(info, dtype, shape, found["fortran"] == "True", start)


def _read(archive: zipfile.ZipFile, entry: NpzEntry, path: str, name: str) -> Array:
    try:
        a = np.empty(entry.shape[::-1] if entry.fortran else entry.shape, entry.dtype)
        view = a.reshape(-1).view(np.uint8).data
        with archive.open(entry.info) as packed:
            packed.read(entry.start)
            done = 0
            while done < len(view):
                piece = packed.read(min(1 << 20, len(view) - done))
                if not piece:
                    raise CheckpointError(f"{path}: array {name!r:.80} is cut off")
                view[done : done + len(piece)] = piece
                done += len(piece)
            packed.read(1)  # at the end the archive's own checksum is looked at
    except CheckpointError:
        raise
    except (MemoryError, *_DAMAGE) as error:
        raise CheckpointError(f"{path}: array {name!r:.80} cannot be read: {error}") from None
    return a.T if entry.fortran else a
