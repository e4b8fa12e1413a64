"""Files that are damaged, forged or foreign: what the tests and the battery of checkpoints read."""

from __future__ import annotations

import hashlib
import json
import zipfile

import numpy as np
from small_models import classifier, fit

import nnfast as nn
from nnfast.storage.file_format import CHECKSUM, HEADER_LIMIT, NO_CHECKSUM

RUN = {"epoch": 3, "loss": [0.25 * i for i in range(50)], "order": np.arange(7)}  # what is kept beside a model


def trained_model():
    model = untrained_model(nn.Adam(nn.schedules.StepDecay(0.02, 5, 0.5)), rng=0)
    fit(model, epochs=2)
    return model


def untrained_model(optimizer=None, rng=8):
    """One into which the file of the trained one fits."""
    return classifier(optimizer or nn.Adam(), metrics=["accuracy", nn.metrics.top_k(2)], rng=rng)


class _Save(nn.Callback):
    """Writes the training down once, and ends it."""

    every_steps = 5

    def __init__(self, path):
        self.path = path

    def on_step(self, model, step):
        model.save(self.path)
        return True


def write_training(path):
    """A file from the middle of the second epoch of a training, and the model as it was then."""
    model = untrained_model(nn.Adam(nn.schedules.StepDecay(0.02, 5, 0.5)), rng=0)
    fit(model, callbacks=[nn.EarlyStopping(), nn.TerminateOnNaN(), _Save(path)])
    return model


def go_on(model, path):
    """Go on with the training of such a file, which has no epoch to go."""
    fit(model, epochs=1, resume=path, callbacks=[nn.EarlyStopping(), nn.TerminateOnNaN()])


def content(model):
    """All that a file keeps of a model, to be compared; an array of the optimizer that is 0 is as good as none."""
    parts = [*model.layers, model.loss, model.optimizer, *model.metrics]
    slots = [slot for slot in model._buffers.slots.values() if slot.any()]
    arrays = [model.parameters, *slots, model._buffers.state]
    counters = model._key, model._epochs, model.optimizer and model.optimizer.steps
    return [a.tobytes() for a in arrays], list(map(repr, parts)), counters


# ---- the layout of safetensors --------------------------------------------------------------------------------------


def layout(raw):
    """Header and data of a file."""
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def forged(header, data):
    """A file of this header and data, with a checksum that fits where there is one."""
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if isinstance(metadata, dict) and CHECKSUM in metadata:
        metadata[CHECKSUM] = NO_CHECKSUM
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    raw = len(text).to_bytes(8, "little") + text + data
    return raw.replace(NO_CHECKSUM.encode(), hashlib.sha256(raw).hexdigest().encode(), 1)


def mutated(raw, rng):
    """The file with one thing wrong: bits, bytes or whole blocks changed, exchanged, missing or too many."""
    a, b = sorted(rng.integers(0, len(raw), 2))
    header = 8 + int.from_bytes(raw[:8], "little")
    out = bytearray(raw)
    match rng.integers(0, 10):
        case 0:
            out[a] ^= 1 << rng.integers(0, 8)
        case 1:
            out[a % min(header, len(out))] ^= 1 << rng.integers(0, 8)
        case 2:
            out[a] = rng.integers(0, 256)
        case 3:
            out[a], out[b] = out[b], out[a]
        case 4:
            del out[a:]
        case 5:
            del out[a : b + 1]
        case 6:
            out[a:a] = rng.bytes(rng.integers(1, 20))
        case 7:
            digits = [i for i in range(len(out)) if chr(out[i]).isdigit()] or [a]
            out[digits[a % len(digits)]] = ord("0") + rng.integers(0, 10)
        case 8:
            size = min(int(rng.integers(2, 600)), b - a)
            out[a : a + size], out[b : b + size] = out[b : b + size], out[a : a + size]
        case 9:
            out[a : a + 512] = bytes(len(out[a : a + 512]))  # a sector that was never written
    return bytes(out)


# ---- forgeries ------------------------------------------------------------------------------------------------------

HOSTILE = [
    None,
    True,
    -1,
    2**63,
    2**200,
    1e308,
    "",
    "os.system",
    "Dense",
    [],
    {},
    {"$part": {}},
    {"$array": "0.weights"},
]
HOSTILE += [{"$part": {"kind": "custom", "name": "exec"}}, {"$floats": "run.0"}, {"a": [[[]]]}, ["\x00"], {"rng": 3}]


def places(said, found=None):
    """All (container, key) of nested JSON."""
    found = [] if found is None else found
    for key in said if isinstance(said, dict) else range(len(said)):
        found.append((said, key))
        if isinstance(said[key], dict | list):
            places(said[key], found)
    return found


def edited(raw, where, rng):
    """The file with one value of its "header", or of the "model" or "run" in there, taken away or made hostile."""
    header, data = layout(raw)
    said = header if where == "header" else json.loads(header["__metadata__"][where])
    holder, key = (spots := places(said))[rng.integers(0, len(spots))]
    if rng.random() < 0.2:
        del holder[key]
    else:
        holder[key] = HOSTILE[rng.integers(0, len(HOSTILE))]
    if where != "header":
        header["__metadata__"][where] = json.dumps(said)
    return forged(header, data)


def one_array(**changes):
    """The header of a file of one array, or of what pretends to be one."""
    said = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes
    return {"0.weights": {k: v for k, v in said.items() if v is not None}}


DEEP = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"

HEADERS = [  # header, data, what is said of them
    (one_array(), b"\0" * 7, "cut off"),
    (one_array(), b"\0" * 9, "longer than it says"),
    (one_array(data_offsets=[4, 12]), b"\0" * 12, "begins at byte 4, not at 0"),
    (one_array(data_offsets=[8, 0]), b"\0" * 8, "impossible data_offsets"),
    (one_array(data_offsets=[0, 8, 9]), b"\0" * 8, "impossible data_offsets"),
    (one_array(data_offsets=[0.0, 8.0]), b"\0" * 8, "impossible data_offsets"),
    (one_array(shape=[-1, -2]), b"\0" * 8, "impossible shape"),
    (one_array(shape=[True, 2]), b"\0" * 8, "impossible shape"),
    (one_array(shape=[2**62, 4]), b"\0" * 8, "impossible shape"),
    (one_array(shape=[2**32, 2**32], data_offsets=[0, 0]), b"", "which are no"),
    (one_array(shape=[0, 2**47, 2**47, 2**47], data_offsets=[0, 0]), b"", "has shape"),
    (one_array(shape=[1] * 40, data_offsets=[0, 4]), b"\0" * 4, "impossible shape"),
    (one_array(shape="2"), b"\0" * 8, "impossible shape"),
    (one_array(shape=[3]), b"\0" * 8, "which are no"),
    (one_array(dtype="F8"), b"\0" * 8, "has the dtype 'F8'; known are BOOL"),
    (one_array(dtype=["F32"]), b"\0" * 8, "has the dtype"),
    (one_array(dtype=None), b"\0" * 8, "must have dtype, shape and data_offsets"),
    (one_array(extra=1), b"\0" * 8, "must have dtype, shape and data_offsets"),
    ({"0.weights": 3}, b"", "must have dtype"),
    ({"__metadata__": {"a": 1}}, b"", "must hold texts"),
    ({"__metadata__": []}, b"", "must hold texts"),
    (b'{"a":1,"a":2}', b"", "stands twice"),
    (b'{"a":NaN}', b"", "NaN is no JSON"),
    (b'{"a":-Infinity}', b"", "no JSON"),
    (b'{"a":1e999}', b"", "1e999 is no JSON"),
    (b'{"a":' + b"9" * 5000 + b"}", b"", "5000 digits"),
    (b'{"a":"\xff"}', b"", "no UTF-8"),
    (b'{"a":1', b"", "is no JSON"),
    (b"[1]", b"", "does not begin with {"),
    (b'{"a":"\x01"}', b"", "is no JSON"),
    (DEEP, b"", "nested too deeply"),
    (b'{"a":[' + b"[]," * 1_000_000 + b"1]}", b"", "more than 500,000 values"),
    (b'{"a":"' + b"x" * HEADER_LIMIT + b'"}', b"", "announce a header"),
]

# ---- what others write ----------------------------------------------------------------------------------------------

FOREIGN = [  # content, what is said of it
    (b"", "holds 0 bytes"),
    (b"abc", "holds 3 bytes"),
    (b"\x80\x04\x95hello world", "no file of nnfast"),
    (b"\xff" * 8 + b"{}", "announce a header of 18,446,744,073,709,551,615 bytes"),
    (b"import os; os.system('true')\n" * 9, "no file of nnfast"),
    (b"PK\x03\x04" + b"\0" * 100, "damaged or no .npz"),
]


def npy(shape, dtype="<f4", data=b"", fortran=False):
    """An array as `.npy`, with a header that may lie."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': {fortran}, 'shape': {shape!r}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def archive(path, entries, **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, raw in entries:
            file.writestr(name, raw)
