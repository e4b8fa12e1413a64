"""Files of trainings in which one thing is forged, and whether those who refuse them are as before."""

from __future__ import annotations

import copy

import numpy as np
from damaged_files import content, places

from nnfast.errors import CheckpointError
from nnfast.storage.file_format import read_header, read_tensors, write
from nnfast.storage.stored import to_json
from nnfast.storage.values import Packer, Unpacker

VALUES = [
    None,
    True,
    -1,
    0,
    1,
    2**62,
    2**63,
    2**100,
    0.5,
    float("nan"),
    float("-inf"),
    "",
    "steps",
    [],
    [1],
    {},
    {"a": 1},
]
VALUES += [np.zeros(0), np.zeros(3), np.zeros((2, 2), np.float32), np.array([-1, 2**62, 2**63 - 1]), np.array(True)]


def others(value):
    """Like this value, and not quite."""
    if isinstance(value, np.ndarray):
        yield from (value.astype(kind) for kind in ("f4", "f8", "i8", "u8", "?") if value.dtype != kind)
        yield from (value[None], value[:-1], np.concatenate([value, value]), value[::-1].copy(), value.reshape(-1, 1))
        yield from (-1 - value, value + 2**40) if value.dtype.kind in "fi" else ()
        yield value * np.nan if value.dtype.kind == "f" else value * 0
    elif isinstance(value, list):
        yield from (value + value, value[::-1], value[1:])
    elif isinstance(value, dict):
        yield from ({"$x": 1, **value}, dict(reversed(value.items())), list(value.items()))
    elif isinstance(value, int) and not isinstance(value, bool):
        yield from (value - 1, value + 1, 2 * value, float(value), str(value), [value])


class Forger:
    """All files with one entry forged of what a file says of a training, or, as `key`, of a population."""

    def __init__(self, path, key="run"):
        with open(path, "rb") as file:
            self._header = read_header(file, str(path))
            self._arrays = read_tensors(file, self._header)
        self._path, self._key = path, key
        own = {name: a for name, a in self._arrays.items() if name.startswith(f"{key}.")}
        self.said = Unpacker(own, str(path)).unpack(self._json())

    def _json(self):
        import json

        return json.loads(self._header.metadata[self._key])

    def write(self, said):
        """The file that says this instead; what cannot be packed is no forgery."""
        packer = Packer(self._key)
        metadata = {k: v for k, v in self._header.metadata.items() if k not in ("producer", "nnfast_sha256")}
        metadata[self._key] = to_json(packer.pack(said, self._key))
        kept = {name: a for name, a in self._arrays.items() if not name.startswith(f"{self._key}.")}
        with open(self._path, "wb") as file:
            write(file, kept | packer.tensors, metadata)

    def __iter__(self):
        """Write one after the other; what is forged in it, in words."""
        yield from self._forged(None, "all of it", [*VALUES, *others(self.said)])
        for i, (holder, key) in enumerate(places(self.said)):
            yield from self._forged(i, f"{key!r} of {holder!s:.60}", [*VALUES, *others(holder[key])])

    def _forged(self, place, where, values):
        if place is not None:
            said = copy.deepcopy(self.said)
            holder, key = places(said)[place]
            del holder[key]
            self.write(said)
            yield f"without {where}"
        for value in values:
            said = copy.deepcopy(self.said)
            if place is None:
                said = value
            else:
                holder, key = places(said)[place]
                holder[key] = value
            self.write(said)
            yield f"{value!r:.60} for {where}"


# ---- as before ------------------------------------------------------------------------------------------------------


def of_model(model):
    """All that a training changes of a model."""
    layers = [(layer.trainable, layer._training_forwards, layer._key) for layer in model.layers]
    history = id(model.history), repr(vars(model.history))
    return content(model), layers, history, model._session, model._buffers.gradients.tobytes()


def of_population(population):
    """All that a training changes of a population."""
    members, history = population._members, population.history
    slots = {name: rows.tobytes() for name, rows in members.buffers.slots.items() if rows.any()}
    counters = [a.tobytes() for a in (members.keys, members.epochs, members.steps)]
    columns = id(history), {name: rows.tobytes() for name, rows in history.history.items()}, repr(vars(history))
    numbers = members.buffers.parameters.tobytes(), slots, counters, population._seeds, population._session
    return numbers, columns, population._varying.values, content(population.pattern)


@np.errstate(all="ignore")
def wrong(path, forger, make, state, fit, beside=()):
    """What goes wrong with the files of a forger, how many there are, and how many of them are refused.

    `make()` gives a new model or population and its callbacks, which `fit` trains, and `state` compares. `beside` are
    files that the callbacks write.
    """
    failures, tried, refused = [], 0, 0
    whole = [file.read_bytes() for file in beside]
    trained, callbacks = make()
    for forgery in forger:
        before = state(trained), repr([vars(c) for c in callbacks])
        try:
            fit(trained, callbacks)
        except CheckpointError as error:
            refused += 1
            now = state(trained), repr([vars(c) for c in callbacks])
            failures += [] if str(path) in str(error) else [f"{forgery}: the file is not named: {error}"]
            failures += [] if now == before else [f"{forgery}: refused, and something has changed: {error}"]
            failures += [
                f"{forgery}: {f} has changed" for f, raw in zip(beside, whole, strict=True) if f.read_bytes() != raw
            ]
        except Exception as error:
            failures.append(f"{forgery}: {error!r:.300}")
            trained, callbacks = make()
        else:
            trained, callbacks = make()
        for file, raw in zip(beside, whole, strict=True):
            file.write_bytes(raw)
        tried += 1
    return failures, tried, refused
