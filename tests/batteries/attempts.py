"""Files that nobody should trust, one after the other: what each of them is, and what may come of reading it."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import warnings
import zipfile
from typing import Any, NamedTuple

import numpy as np
from damaged_files import (
    FOREIGN,
    HEADERS,
    RUN,
    archive,
    content,
    edited,
    forged,
    layout,
    mutated,
    npy,
    trained_model,
    write_training,
)

from nnfast import checkpoint
from nnfast.storage.file_format import CHECKSUM, NO_CHECKSUM

ANYTHING = object()
SORTS = ("damaged", "damaged", "forged", "damaged", "headers", "foreign", "damaged", "forged", "headers", "foreign")
ALL = ("load", "restore", "read_run", "load_weights", "examine", "resume")
NUMBERS = (-1, 0, 1, 2, 7, 8, 2**31, 2**32 - 8, 2**47, 2**62, 2**63, 2**64, 10**39, 10**41)
DTYPES = ("F64", "F16", "BF16", "F8_E4M3", "I32", "U8", "BOOL", "f32", "", "object", None)


class Attempt(NamedTuple):
    """A file. What `allowed` does not name is to be refused; what it does may give that value, or be refused too."""

    sort: str
    raw: bytes
    allowed: dict[str, Any]


class Attempts:
    """`attempts(number)` is always the same file. `folder` is a place to write in."""

    def __init__(self, folder):
        self.model = trained_model()
        self.whole = self._written(folder / "model", lambda path: checkpoint.save(self.model, path, run=RUN))
        self.weights = [self._written(folder / f"w{end}", self.model.save_weights) for end in (".npz", ".safetensors")]
        self.training = self._written(folder / "training", self._train)
        before, parameters = content(self.model), self.model.parameters.tobytes()
        self.as_weights = {"load_weights": parameters, "examine": ANYTHING}
        self.as_whole = self.as_weights | {"load": before, "restore": before, "read_run": repr(RUN)}
        self.foreign = list(_of_others(folder, self.whole, self.model))

    def _train(self, path):
        self.in_training = content(write_training(path))

    def _written(self, path, write):
        write(path)
        return path.read_bytes()

    def good(self):
        """Files that are to be read as they are."""
        yield Attempt("good", self.whole, self.as_whole)
        yield Attempt("good", self.training, dict.fromkeys(ALL, ANYTHING) | {"resume": self.in_training})
        yield from (Attempt("good", raw, self.as_weights) for raw in self.weights)
        yield from (Attempt("good", raw, self.as_weights) for raw, theirs in self.foreign if theirs)

    def __call__(self, number):
        rng = np.random.default_rng(number)
        sort = SORTS[number % len(SORTS)]
        return Attempt(sort, *getattr(self, f"_{sort}")(rng))

    def _damaged(self, rng):
        """A file of nnfast with one or two things wrong: its checksum finds them."""
        i, times = int(rng.integers(0, 4)), int(rng.integers(1, 3))
        sound, allowed = (self.weights[i], self.as_weights) if i < 2 else (self.whole, self.as_whole)
        raw = sound
        for _ in range(times):
            raw = mutated(raw, rng) if len(raw) > 1 else raw
        if i > 0 and times == 1:  # two may be the name of the checksum and the name of who wrote it
            allowed = allowed | {"examine": raw == sound}
        return raw, allowed

    def _forged(self, rng):
        """One value of what it says of itself is changed, and the checksum fits: perhaps it is a file all the same."""
        where = ("header", "model", "run")[rng.integers(0, 3)]
        return edited((self.whole, self.training)[rng.integers(0, 2)], where, rng), dict.fromkeys(ALL, ANYTHING)

    def _headers(self, rng):
        """No file can have such a header; or one that lies about an array of a file that is sound otherwise."""
        if rng.random() < 0.5:
            header, data, _ = HEADERS[rng.integers(0, len(HEADERS))]
            return forged(header, data), {"examine": ANYTHING}
        header, data = layout(self.whole)
        header = _lied(header, len(data), rng)
        return forged(header, data), dict.fromkeys(ALL, ANYTHING)

    def _foreign(self, rng):
        """What others write, as it is or damaged; weights may be read from it."""
        raw, theirs = self.foreign[rng.integers(0, len(self.foreign))]
        if rng.random() < 0.5 or len(raw) < 2:
            return raw, self.as_weights if theirs else {"examine": ANYTHING}
        return mutated(raw, rng), {"load_weights": ANYTHING, "examine": ANYTHING}


def _lied(header, size, rng):
    """The header with one entry that is not true, as a dictionary or as the bytes of one."""
    names = [name for name in header if name != "__metadata__"]
    name = names[rng.integers(0, len(names))]
    entry, n = header[name], NUMBERS[rng.integers(0, len(NUMBERS))]
    begin, end = entry["data_offsets"]
    header["__metadata__"][CHECKSUM] = NO_CHECKSUM
    text = json.dumps(header, separators=(",", ":")).encode()
    lies = [
        header | {name: entry | {"data_offsets": offsets}}
        for offsets in ([begin + n, end + n], [end, begin], [begin, n], [-n, end], [0, size], [begin - 1, end - 1], [n])
    ]
    lies += [
        header | {name: entry | {"shape": shape}} for shape in ([n], [n, n], [*entry["shape"], n], [0, n], [n] * 17, n)
    ]
    lies += [header | {name: entry | {"dtype": DTYPES[rng.integers(0, len(DTYPES))]}}]
    lies += [header | {names[rng.integers(0, len(names))]: entry}]  # two in one place
    lies += [text[:-1] + b"," + json.dumps({name: entry}).encode()[1:]]  # the name twice
    for depth in (10, 100, 900, 1_100, 100_000):
        nested = "[" * depth + "]" * depth
        metadata = header["__metadata__"] | {("model", "run")[rng.integers(0, 2)]: nested}
        lies += [header | {"__metadata__": metadata}, text[:-1] + b',"deep":' + nested.encode() + b"}"]
    at = int(rng.integers(1, len(text)))
    lies += [text[:at] + bad + text[at:] for bad in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\0", b"\\ud800")]
    return lies[rng.integers(0, len(lies))]


# ---- what others write ----------------------------------------------------------------------------------------------


class _Command:
    """What a pickle can do: whoever loads it runs a command."""

    def __reduce__(self):
        return os.system, ("exit 1",)


def _of_others(folder, whole, model):
    """Pairs of a file, and whether it holds the model's weights."""
    blocks = {b.name: model.parameters[b.offset : b.offset + b.size].reshape(b.shape) for b in model._layout.blocks}
    yield from ((raw, False) for raw, _ in FOREIGN)
    for packed in ({"0.weights": blocks["0.weights"]}, _Command(), [print, blocks]):
        yield from ((pickle.dumps(packed, protocol), False) for protocol in (0, 2, 5))
    yield gzip.compress(whole), False
    yield json.dumps({name: a.tolist() for name, a in blocks.items()}).encode(), False
    yield from ((magic + whole, False) for magic in (b"\x89HDF\r\n\x1a\n", b"\x7fELF\x02\x01\x01\0", b"GGUF\3\0\0\0"))
    yield from _safetensors(blocks)
    yield from _archives(folder / "archive", whole, blocks)


def _safetensors(blocks):
    """As the safetensors package writes them: by name, without a checksum."""
    names = sorted(blocks)
    for kind, rename, metadata, theirs in (
        ("F32", "{}", None, True),
        ("F32", "{}", {"format": "pt"}, True),
        ("F32", "{}", {"format": "nnfast", "version": "1"}, True),
        ("BF16", "{}", {"format": "pt"}, False),
        ("F32", "module.{}", {"format": "pt"}, False),
    ):
        header, data = {} if metadata is None else {"__metadata__": metadata}, b""
        for name in names:
            raw = blocks[name].tobytes() if kind == "F32" else blocks[name].tobytes()[::2]
            offsets = [len(data), len(data) + len(raw)]
            header[rename.format(name)] = {
                "dtype": kind,
                "shape": list(blocks[name].shape),
                "data_offsets": offsets,
            }
            data += raw
        yield forged(header, data), theirs


def _archives(path, whole, blocks):
    """Archives of arrays, of something else, and some that say less than they hold."""

    def made(entries, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a name that stands twice
            archive(path, entries, **options)
        return path.read_bytes()

    def saved(write, **arrays):
        write(file := io.BytesIO(), **arrays)
        return file.getvalue()

    packed = {"compression": zipfile.ZIP_DEFLATED}
    yield saved(np.savez, **blocks), True
    yield saved(np.savez_compressed, **blocks), True
    yield saved(np.savez, **{name: np.asfortranarray(a) for name, a in blocks.items()}), True
    yield saved(np.savez, **{name: a.astype(object) for name, a in blocks.items()}), False
    yield saved(np.savez, **{name: a.astype(np.complex64) for name, a in blocks.items()}), False
    yield saved(np.save, arr=blocks["0.weights"]), False
    yield made([("archive/data.pkl", pickle.dumps(_Command())), ("archive/version", b"3\n")]), False
    yield made([("model.nnfast", whole)]), False
    yield made([("0.weights.npy", npy((2, 16), data=bytes(128)))] * 2), False
    yield made([("../../0.weights.npy", npy((2, 16), data=bytes(128)))]), False
    yield made([(f"{'n' * 60}{i}.npy", b"") for i in range(12_000)]), False
    zeros = npy((1 << 12, 1 << 12), data=bytes(1 << 26))  # 64 MiB of nothing in 65 kB
    bomb = made([(f"{name}.npy", zeros) for name in list(blocks)[:2]], **packed)
    yield bomb, False
    yield made([("bomb.npy", bomb)], **packed), False
    claimed = {name: npy(a.shape, data=a.tobytes()) for name, a in blocks.items()}
    small = len(claimed["0.weights"])
    lying = made([("0.weights.npy", claimed["0.weights"] + bytes(1 << 24))], **packed)
    yield lying.replace(struct.pack("<I", small + (1 << 24)), struct.pack("<I", small)), False
