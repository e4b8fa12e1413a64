"""What a file of a whole model holds, and under which names: the one place that knows.

    0.weights, 0.biases, …        parameters
    optimizer.m.0.weights, …      the optimizer's arrays
    optimizer.state               its few numbers
    config.N, run.N               arrays of the configuration and of the training run

The metadata hold "format", "version", "producer" and "numpy" (who wrote it), "model" (JSON: parts, seeds, counters)
and, of a training, "run" (JSON).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnfast.errors import CheckpointError
from nnfast.program import Layout
from nnfast.storage.configuration import ConfigPacker, describe
from nnfast.storage.file_format import CHECKSUM, Header, read_header, read_tensors, strict_json
from nnfast.storage.files import reading
from nnfast.storage.records import MOST
from nnfast.storage.values import Packer, Unpacker

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = [
    *("FORMAT", "POPULATION", "VERSION", "Stored", "blocks_of", "content", "flat_of", "is_parameter", "read_stored"),
    "to_json",
]

Array = np.ndarray[Any, Any]

FORMAT, VERSION = "nnfast", 1
POPULATION = "nnfast population"  # the format of a file in which every array of a model has an axis of models before
COUNTERS = {"key": 2**64, "epochs": MOST}


class Stored(NamedTuple):
    """A file of a whole model, read and checked as far as that needs no model."""

    path: str
    model: dict[str, Any]  # parts, seeds, counters, as JSON
    parameters: dict[str, Array]
    slots: dict[str, dict[str, Array]]
    state: Array
    config: dict[str, Array]
    run: Any  # of the training, unpacked; None where there is none
    population: tuple[Any, dict[str, Array]] | None = None  # JSON and arrays of what only a population has


# ---- writing --------------------------------------------------------------------------------------------------------


def content(model: Model, run: Any) -> tuple[dict[str, Array], dict[str, str]]:
    """Everything that is to be known of a model, as arrays (views where they are on the host) and metadata."""
    config, runs = ConfigPacker("config"), Packer("run")
    metadata = {"format": FORMAT, "version": str(VERSION), "numpy": np.__version__}
    metadata["model"] = to_json(_described(model, config))
    if run is not None:
        metadata["run"] = to_json(runs.pack(run, "run"))
    tensors = blocks_of(model, model._buffers.parameters)
    for slot, flat in model._buffers.slots.items():
        tensors |= {f"optimizer.{slot}.{name}": a for name, a in blocks_of(model, flat).items()}
    tensors["optimizer.state"] = np.asarray(model.backend.to_numpy(model._buffers.state))
    return tensors | config.tensors | runs.tensors, metadata


def to_json(packed: Any) -> str:
    """As text for the metadata."""
    return json.dumps(packed, allow_nan=False, separators=(",", ":"))


def _described(model: Model, packer: Packer) -> dict[str, Any]:
    said: dict[str, Any] = {
        "dtype": model.dtype.name,
        "backend": model.backend.name,
        "key": model._key,
        "epochs": model._epochs,
        "layers": [],
        "metrics": [describe(packer, "metric", m, f"the metric {m.name!r}") for m in model.metrics],
    }
    for i, layer in enumerate(model.layers):
        own = {"trainable": layer.trainable, "forwards": layer._training_forwards}
        said["layers"].append(describe(packer, "layer", layer, f"layer {i}, {layer!r},") | own)
    if model.loss is not None:
        said["loss"] = describe(packer, "loss", model.loss, "the loss")
    if model.optimizer is not None:
        said["optimizer"] = describe(packer, "optimizer", model.optimizer, "the optimizer")
        said["optimizer"]["steps"] = model.optimizer.steps
    return said


def blocks_of(model: Model, flat: Any) -> dict[str, Array]:
    """The arrays that lie in a flat one, by name: views of it, or of its copy on the host."""
    host = model.backend.to_numpy(flat)
    return {b.name: host[b.offset : b.offset + b.size].reshape(b.shape) for b in model._layout.blocks}


def flat_of(blocks: dict[str, Array], layout: Layout, dtype: Any) -> Array:
    """One flat array from its blocks; padding is zero."""
    flat = np.zeros(layout.size, dtype)
    for b in layout.blocks:
        flat[b.offset : b.offset + b.size] = blocks[b.name].reshape(-1)
    return flat


# ---- reading --------------------------------------------------------------------------------------------------------


def is_parameter(name: str) -> bool:
    """Whether an array of such a file is a parameter."""
    return name.partition(".")[0].isdecimal()


def read_stored(path: str, kind: str = FORMAT) -> Stored:
    """Read a file of `save`, or, with the other kind, of `Population.save`. Raises CheckpointError."""
    with reading(path) as file:
        header = read_header(file, path)
        _check_format(header, kind)
        tensors = read_tensors(file, header)
    said = _parsed(header, "model")
    slots: dict[str, dict[str, Array]] = {}
    groups: dict[str, dict[str, Array]] = {"config": {}, "run": {}, "population": {}}
    state = None
    for name, a in tensors.items():
        group, _, rest = name.partition(".")
        if group == "optimizer" and rest == "state":
            state = a
        elif group == "optimizer":
            slot, _, block = rest.partition(".")
            slots.setdefault(slot, {})[block] = a
        elif group in groups:
            groups[group][name] = a
        elif not is_parameter(name):
            raise CheckpointError(f"{path} holds an array of an unknown kind: {name!r:.80}")
    if kind == FORMAT and groups["population"]:
        raise CheckpointError(f"{path} holds arrays of an unknown kind: {next(iter(groups['population']))!r:.80}")
    if state is None or state.ndim != 1 or state.dtype != np.float64:
        raise CheckpointError(f"{path}: the state of the optimizer is missing, or is none")
    _check_model(said, path)
    run = None
    if "run" in header.metadata:
        run = Unpacker(groups["run"], path).unpack(_parsed(header, "run"))
    parameters = {name: a for name, a in tensors.items() if is_parameter(name)}
    both = (_parsed(header, "population"), groups["population"]) if kind == POPULATION else None
    return Stored(path, said, parameters, slots, state, groups["config"], run, both)


def _check_format(header: Header, kind: str) -> None:
    path, metadata = header.path, header.metadata
    if metadata.get("format") != kind and metadata.get("format") == POPULATION:
        raise CheckpointError(f"{path} holds a population of models; nn.Population.load(path) reads it")
    if metadata.get("format") != kind and kind == POPULATION:
        raise CheckpointError(f"{path} holds no population of nnfast")
    if metadata.get("format") != FORMAT and kind == FORMAT:
        raise CheckpointError(f"{path} holds arrays, but no model of nnfast; model.load_weights(path) reads weights")
    version = metadata.get("version", "")
    if not (version.isascii() and version.isdecimal() and len(version) < 6):
        raise CheckpointError(f"{path}: its version is {version!r:.80}")
    if int(version) != VERSION:
        writer = metadata.get("producer", "another nnfast")
        raise CheckpointError(
            f"{path} was written by {writer:.40} in version {version} of the format; this nnfast reads "
            f"version {VERSION}: update nnfast (pip install -U nnfast)"
        )
    if CHECKSUM not in metadata:
        raise CheckpointError(f"{path} is damaged: its checksum is missing")


def _parsed(header: Header, key: str) -> Any:
    if key not in header.metadata:
        raise CheckpointError(f"{header.path} is damaged: its {key} is missing")
    return strict_json(header.metadata[key], f"{header.path}, {key}")


def _check_model(said: Any, path: str) -> None:
    """The frame of the configuration; the parts are checked when they are built or compared."""
    if not isinstance(said, dict):
        raise CheckpointError(f"{path}: its model is no JSON object")
    for name, end in COUNTERS.items():
        _counter(said, name, end, path)
    if said.get("dtype") not in ("float32", "float64"):
        raise CheckpointError(f"{path}: its dtype is {said.get('dtype')!r:.40}")
    for name in ("layers", "metrics"):
        if not isinstance(said.get(name), list) or not all(isinstance(part, dict) for part in said[name]):
            raise CheckpointError(f"{path}: its {name} are no list of parts")
    for name in ("loss", "optimizer"):
        if not isinstance(said.get(name, {}), dict):
            raise CheckpointError(f"{path}: its {name} is no part")
    for part in said["layers"]:
        _counter(part, "forwards", MOST, path)
        if not isinstance(part.get("trainable"), bool):
            raise CheckpointError(f"{path}: a layer does not say whether it is trainable")
    if "optimizer" in said:
        _counter(said["optimizer"], "steps", MOST, path)


def _counter(said: dict[str, Any], name: str, end: int, path: str) -> None:
    value = said.get(name)
    if type(value) is not int or not 0 <= value < end:
        raise CheckpointError(f"{path}: its {name} is {value!r:.40}; expected a whole number of at least 0")
