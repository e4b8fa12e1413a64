"""The layout of nnfast's files: that of safetensors, read as strictly as it is written.

    8 bytes       n, the length of the header, little-endian
    n bytes       JSON: {"__metadata__": {text: text},
                         name: {"dtype": …, "shape": […], "data_offsets": [begin, end]}, …}
    the rest      the arrays, C order, little-endian, one after the other without a gap

Source: the format's description in the safetensors project. Everything in a header is checked against the size of the
file before anything is allocated. What nnfast writes names it as `producer` in the metadata and has `nnfast_sha256`:
the SHA-256 of the whole file, with 64 zeros in its own place. A checksum finds damage; who forges a file forges it too.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import numpy as np

import nnfast
from nnfast.errors import CheckpointError

__all__ = ["CHECKSUM", "DTYPES", "Entry", "Header", "read_header", "read_tensors", "strict_json", "write"]

Array = np.ndarray[Any, Any]

DTYPES = {
    "BOOL": "?",
    **{f"{kind.upper()}{8 * size}": f"<{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": f"<f{size}" for size in (2, 4, 8)},
}
_NAMES = {np.dtype(code): name for name, code in DTYPES.items()}
CHECKSUM = "nnfast_sha256"
NO_CHECKSUM = "0" * 64
HEADER_LIMIT = 8 << 20  # bytes
VALUES_LIMIT = 500_000  # values in the JSON: each costs up to 100 bytes of memory
DIGITS_LIMIT = 40  # of a whole number
RANK_LIMIT = 16
CHUNK = 1 << 20


class Entry(NamedTuple):
    """Where one array lies in the data."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """What a file says of itself, checked."""

    path: str
    metadata: dict[str, str]
    entries: dict[str, Entry]  # in the order of the data
    raw: bytes  # length and JSON as they stand in the file
    size: int  # of the whole file, bytes


# ---- writing --------------------------------------------------------------------------------------------------------


def write(file: BinaryIO, tensors: dict[str, Array], metadata: dict[str, str]) -> None:
    """Write arrays (see `DTYPES`) and metadata, with their checksum, into an empty file that can seek."""
    metadata = {"producer": f"nnfast {nnfast.__version__}"} | metadata
    arrays = {name: np.asarray(a, a.dtype.newbyteorder("<"), order="C") for name, a in tensors.items()}
    arrays = dict(sorted(arrays.items(), key=lambda item: -item[1].itemsize))  # wide ones first: all lie aligned
    header: dict[str, Any] = {"__metadata__": metadata | {CHECKSUM: NO_CHECKSUM}}
    begin = 0
    for name, a in arrays.items():
        offsets = [begin, begin + a.nbytes]
        header[name] = {"dtype": _NAMES[a.dtype], "shape": list(a.shape), "data_offsets": offsets}
        begin += a.nbytes
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode("ascii")
    if len(text) > HEADER_LIMIT or _values(text) > VALUES_LIMIT:
        raise CheckpointError(
            f"too much for one file's header: {len(text):,} bytes, {_values(text):,} values; numbers belong in arrays"
        )
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    digest = hashlib.sha256(head)
    file.write(head)
    for a in arrays.values():
        view = a.reshape(-1).view(np.uint8).data
        for start in range(0, len(view), CHUNK):
            piece = bytes(view[start : start + CHUNK])  # a copy: what is summed is what is written
            digest.update(piece)
            file.write(piece)
    file.seek(head.index(f'"{CHECKSUM}":"{NO_CHECKSUM}"'.encode()) + len(CHECKSUM) + 4)
    file.write(digest.hexdigest().encode())
    file.seek(0, os.SEEK_END)


# ---- reading --------------------------------------------------------------------------------------------------------


def strict_json(text: str, where: str) -> Any:
    """JSON without what others read in different ways: double keys, NaN, numbers beyond all measure, endless depth."""

    def refuse(said: str) -> Any:
        raise CheckpointError(f"{where}: {said} is no JSON")

    def whole(digits: str) -> int:
        if len(digits) > DIGITS_LIMIT:
            raise CheckpointError(f"{where}: a number of {len(digits)} digits")
        return int(digits)

    def real(digits: str) -> float:
        x = float(digits)
        return x if math.isfinite(x) else refuse(digits[:40])

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(items)
        if len(made) < len(items):
            raise CheckpointError(f"{where}: a name stands twice in the header")
        return made

    if _values(text.encode("utf-8", "surrogatepass")) > VALUES_LIMIT:
        raise CheckpointError(f"{where}: the header holds more than {VALUES_LIMIT:,} values")
    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=refuse, parse_int=whole, parse_float=real)
    except RecursionError:
        raise CheckpointError(f"{where}: the header is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{where}: the header is no JSON ({error})") from None


def _values(text: bytes) -> int:
    """At least as many as there are values in the JSON."""
    return sum(text.count(c) for c in (b"[", b"{", b","))


def read_header(file: BinaryIO, path: str) -> Header:
    """The header of a file in this layout. Raises CheckpointError; nothing of the data is read."""
    size = os.fstat(file.fileno()).st_size
    first = file.read(8)
    if len(first) < 8:
        raise CheckpointError(f"{path} holds {len(first)} bytes; it is no file of nnfast or safetensors, or cut off")
    length = int.from_bytes(first, "little")
    if length > min(size - 8, HEADER_LIMIT):
        raise CheckpointError(
            f"{path}: its first 8 bytes announce a header of {length:,} bytes, in a file of {size:,}; "
            "it is no file of nnfast or safetensors, or cut off"
        )
    text = file.read(length)
    if len(text) < length:
        raise CheckpointError(f"{path} is cut off")
    if not text.startswith(b"{"):
        raise CheckpointError(f"{path} is no file of nnfast or safetensors: its header does not begin with {{")
    try:
        content = strict_json(text.decode("utf-8"), path)
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: the header is no UTF-8 ({error.reason} at byte {error.start})") from None
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise CheckpointError(f"{path}: __metadata__ must hold texts")
    entries = {name: _entry(path, name, said) for name, said in content.items()}
    entries = dict(sorted(entries.items(), key=lambda item: item[1][2:]))
    end = 0
    for name, entry in entries.items():
        if entry.begin != end:
            raise CheckpointError(f"{path}: array {name!r:.80} begins at byte {entry.begin}, not at {end}")
        end = entry.end
    if 8 + length + end != size:
        said = "cut off" if 8 + length + end > size else "longer than it says"
        raise CheckpointError(f"{path} is {said}: {size:,} bytes where its header tells of {8 + length + end:,}")
    return Header(path, metadata, entries, first + text, size)


def _entry(path: str, name: str, said: Any) -> Entry:
    where = f"{path}: array {name!r:.80}"
    if not isinstance(said, dict) or said.keys() != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{where} must have dtype, shape and data_offsets")
    code, shape, offsets = said["dtype"], said["shape"], said["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise CheckpointError(f"{where} has the dtype {code!r:.40}; known are {', '.join(DTYPES)}")
    if not _whole_numbers(shape) or len(shape) > RANK_LIMIT or any(n >= 2**48 for n in shape):
        raise CheckpointError(f"{where} has an impossible shape: {shape!r:.80}")
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{where} has impossible data_offsets: {offsets!r:.80}")
    dtype, (begin, end) = np.dtype(DTYPES[code]), offsets
    if math.prod(shape) * dtype.itemsize != end - begin:
        raise CheckpointError(f"{where} has {end - begin} bytes, which are no {tuple(shape)} of {code}")
    return Entry(dtype, tuple(shape), begin, end)


def _whole_numbers(said: Any) -> bool:
    return isinstance(said, list) and all(type(n) is int and n >= 0 for n in said)


def read_tensors(file: BinaryIO, header: Header, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, Array]:
    """The wanted arrays, fresh and writable, after `read_header`; the checksum is checked where there is one."""
    digest = _begun(header)
    found: dict[str, Array] = {}
    scratch = bytearray(0 if all(map(wanted, header.entries)) else CHUNK)
    for name, entry in header.entries.items():
        if wanted(name):
            found[name] = _empty(header.path, name, entry)
            view = found[name].reshape(-1).view(np.uint8).data
            pieces = [view[start : start + CHUNK] for start in range(0, len(view), CHUNK)]
        else:
            whole, rest = divmod(entry.end - entry.begin, CHUNK)
            pieces = [memoryview(scratch)] * whole + [memoryview(scratch)[:rest]] * (rest > 0)
        for piece in pieces:
            if file.readinto(piece) != len(piece):  # type: ignore[attr-defined]
                raise CheckpointError(f"{header.path} was cut off while it was read")
            if digest is not None:
                digest.update(piece)
    if digest is not None and digest.hexdigest() != header.metadata[CHECKSUM]:
        raise CheckpointError(f"{header.path} is damaged: its content does not fit its checksum")
    return found


def _begun(header: Header) -> Any:
    """The checksum's computation, the header already in it; None where the file has no checksum."""
    said = header.metadata.get(CHECKSUM)
    if said is None and header.metadata.get("producer", "").startswith("nnfast"):
        raise CheckpointError(f"{header.path} is damaged: its checksum is missing")
    if said is None:
        return None
    place = f'"{CHECKSUM}":"{said}"'.encode("utf-8", "surrogatepass")  # "\ud800" is JSON, though no checksum
    if len(said) != 64 or header.raw.count(place) != 1:
        raise CheckpointError(f"{header.path} is damaged: its checksum is none")
    return hashlib.sha256(header.raw.replace(place, place.replace(said.encode(), NO_CHECKSUM.encode())))


def _empty(path: str, name: str, entry: Entry) -> Array:
    try:
        return np.empty(entry.shape, entry.dtype)
    except (MemoryError, ValueError) as error:
        raise CheckpointError(f"{path}: no room for the array {name!r:.80} of shape {entry.shape}: {error}") from None
