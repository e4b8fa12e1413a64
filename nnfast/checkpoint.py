"""Models in files: saved whole, loaded anew, or put back into a model that is there; and weights alone, for exchange.

    model.save("spiral.nnfast")                 parameters, optimizer state, seeds and counters, configuration
    model = nn.load("spiral.nnfast")            goes on training as the saved one would, bit for bit
    model.save_weights("spiral.safetensors")    the parameter arrays alone: .npz or .safetensors
    model.load_weights("spiral.safetensors")
    model.load_weights("net.safetensors", layout="torch")    under PyTorch's names

One file in the layout of safetensors, which other programs can read; no pickle, and nothing in a file can name code to
run. It is written beside its place and moved there when it is on the disk, so a killed process leaves the old file.
A file that cannot be used raises CheckpointError with its path and the reason, before anything has changed; a missing
one is also a FileNotFoundError, one that the system will not read or write also an OSError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from nnfast.errors import BackendUnavailable, CheckpointError, DTypeError, NnfastError, OptionError
from nnfast.exchange.names import Names, names_for
from nnfast.model import Model
from nnfast.protocol import Backend
from nnfast.registry import get_backend
from nnfast.storage.configuration import ConfigUnpacker, Custom
from nnfast.storage.file_format import read_header, read_tensors, write
from nnfast.storage.files import as_path, reading, replacing
from nnfast.storage.restoring import Restoring, check_blocks, check_state, fill, put
from nnfast.storage.stored import FORMAT, Stored, blocks_of, content, is_parameter, read_stored
from nnfast.validation import convert, working_dtype

__all__ = ["examine", "inspect", "load", "load_weights", "read_run", "restore", "save", "save_weights"]

Array = np.ndarray[Any, Any]


# ---- whole models ---------------------------------------------------------------------------------------------------


def save(model: Model, path: Any, *, run: Any = None) -> None:
    """Write a model with everything that its further training depends on; `load` or `restore` reads it.

    model   parameters, the optimizer with its arrays, steps and settings, the schedule, seeds, counters, frozen layers
    path    where: in one step, so that the old file or the new one is there, whole, whenever the process is killed
    run     what is to be kept beside it: nested lists and dictionaries of text, numbers, None and NumPy arrays

    Layers, losses, optimizers, metrics and schedules of your own are kept by the name of their class and the arguments
    that would build them: a method `config()` returns these as a dictionary; without one they are the attributes named
    like the constructor's arguments. Of a function there is only the name. What else such an object remembers is not
    kept. Raises CheckpointError where the file cannot be written, DTypeError for what cannot be kept.
    """
    _check_model(model)
    name = as_path(path)
    with model._programs.exclusive():
        tensors, metadata = content(model, run)
        with replacing(name) as file:
            write(file, tensors, metadata)


def load(path: Any, *, backend: str | Backend | None = None, dtype: Any = None, custom: Any = None) -> Model:
    """The model of a file that `save` wrote, built anew.

    backend   who computes from now on, as for `Model`; the file may come from any other
    dtype     "float32" or "float64" to convert it; by default as it was
    custom    your own classes, functions and metrics that the model uses: {"Name": Class} or [Class, …]

    On the same backend, training goes on with the bits it would have had. Raises CheckpointError where the file is
    damaged, foreign, of a later format, or needs something in `custom`.
    """
    name = as_path(path)
    wanted = None if dtype is None else working_dtype(dtype)
    chosen, given = get_backend(backend), Custom(custom, name)
    stored = read_stored(name)
    return built(stored, chosen, wanted, given)


def built(stored: Stored, backend: Backend, wanted: np.dtype[Any] | None, given: Custom) -> Model:
    """The model that a file describes, with its numbers. Raises CheckpointError."""
    name = stored.path
    unpacker = ConfigUnpacker(stored.config, name, given)
    said = stored.model
    layers = [unpacker.part("layer", part, f"layer {i}") for i, part in enumerate(said["layers"])]
    loss, optimizer = (
        unpacker.part(kind, said[kind], f"the {kind}") if kind in said else None for kind in ("loss", "optimizer")
    )
    metrics = [unpacker.part("metric", part, "a metric") for part in said["metrics"]]
    shapes = {f"{i}.{n}": s for i, layer in enumerate(layers) for n, s in layer.parameter_shapes().items()}
    check_blocks(stored, shapes, said["dtype"])
    stored = _in_dtype(stored, wanted)
    for i, layer in enumerate(layers):
        layer._initial = {n: stored.parameters[f"{i}.{n}"] for n in layer.parameter_shapes()}  # nothing is drawn
        put(layer, "trainable", said["layers"][i]["trainable"], f"layer {i}", name)
        layer._training_forwards = said["layers"][i]["forwards"]
    try:
        kind = wanted or said["dtype"]
        model = Model(layers, loss, optimizer, metrics, backend=backend, dtype=kind, rng=0)
    except BackendUnavailable:
        raise
    except NnfastError as error:
        raise CheckpointError(f"{name}: its parts make no model: {error}") from error
    model._take_key(said["key"])
    model._epochs = said["epochs"]
    if optimizer is not None:
        optimizer.steps = said["optimizer"]["steps"]
    check_state(stored, model)
    fill(model, stored)
    return model


def _in_dtype(stored: Stored, dtype: np.dtype[Any] | None) -> Stored:
    if dtype is None or dtype == stored.model["dtype"]:
        return stored
    return stored._replace(
        parameters=_converted(stored.path, stored.parameters, dtype),
        slots={slot: _converted(stored.path, blocks, dtype) for slot, blocks in stored.slots.items()},
    )


def _converted(path: str, arrays: Mapping[str, Array], dtype: np.dtype[Any]) -> dict[str, Array]:
    try:
        return {name: convert(name, a, dtype) for name, a in arrays.items()}
    except NnfastError as error:
        raise CheckpointError(f"{path}: {error}") from error


def restore(model: Model, path: Any, *, check: Callable[[Any], None] | None = None) -> Any:
    """Make a model what a file says, as if it had been saved from it; gives back the `run` of `save`, or None.

    The model must be built alike: layers, shapes, loss, kind of optimizer, metrics, dtype; else CheckpointError names
    the first difference and nothing has changed. Parameters, optimizer arrays, steps, seeds and counters become those
    of the file, and so do all settings that may change in a training: rates, schedules, penalties, dropout, frozen
    layers. A learning rate that is a function of yours stays the model's own. `check(run)` may refuse, by raising,
    before anything changes.
    """
    _check_model(model)
    if check is not None and not callable(check):
        raise DTypeError(f"check is {check!r}; expected a function of what the file keeps beside the model")
    stored = read_stored(as_path(path))
    if check is not None:
        check(stored.run)
    with model._programs.exclusive():
        Restoring(model, stored).apply()
    return stored.run


def read_run(path: Any) -> Any:
    """The `run` that `save` was given, or None; the whole file is checked. Raises CheckpointError."""
    return read_stored(as_path(path)).run


def _check_model(model: Any) -> None:
    if not isinstance(model, Model):
        raise DTypeError(f"model is {model!r}; expected an nnfast.Model")


# ---- weights alone --------------------------------------------------------------------------------------------------


def save_weights(model: Model, path: Any, *, layout: str = "nnfast", modules: Sequence[str] | None = None) -> None:
    """Write the parameter arrays under the names "0.weights", "0.biases", …, as `.npz` or `.safetensors`.

    layout    "torch": under the names that PyTorch's Sequential has, "0.weight" (transposed), "0.bias", …
    modules   with that, the names of the modules instead of numbers, for the layers with parameters: ["fc1", "fc2"]

    The ending of `path` decides. Written in one step, as by `save`. Raises OptionError for another ending,
    CheckpointError where the file cannot be written.
    """
    _check_model(model)
    names = names_for(model, layout, modules)
    name = as_path(path)
    if not name.endswith((".npz", ".safetensors")):
        raise OptionError(
            f"path is {name!r}; weights go into a file ending in .npz or .safetensors; model.save keeps the whole model"
        )
    with model._programs.exclusive():
        blocks = names.outside(blocks_of(model, model._buffers.parameters))
        with replacing(name) as file:
            if name.endswith(".npz"):
                np.savez(file, **blocks)  # type: ignore[arg-type]  # the names are no options of savez
            else:
                write(file, blocks, {"format": "pt"} if layout == "torch" else {})


def load_weights(model: Model, path: Any, *, layout: str = "nnfast", modules: Sequence[str] | None = None) -> None:
    """Copy parameters in from `.npz`, `.safetensors` or a file of `save`, told apart by their content.

    Names and shapes must be those of `save_weights` for this model, the values any real numbers (NaN too) that its
    dtype can hold; all are checked before anything changes. Optimizer state and counters stay. With layout="torch" a
    bias that the file does not have is 0. Raises CheckpointError.
    """
    _check_model(model)
    name = as_path(path)
    names = names_for(model, layout, modules)
    with reading(name) as file:
        reader = _read_npz if _is_zip(file) else _read_safetensors
        arrays = reader(file, name, lambda offered: _check_weights(model, names, name, offered))
    for b in model._layout.blocks:
        arrays.setdefault(names.of(b.name), np.zeros(b.shape))  # a bias that may be absent; the others are there
    arrays = _converted(name, names.inside(arrays), model.dtype)
    with model._programs.exclusive():
        for b in model._layout.blocks:
            part = slice(b.offset, b.offset + b.size)
            model._buffers.parameters[part] = model.backend.asarray(arrays[b.name].reshape(-1))


Check = Callable[[dict[str, tuple[np.dtype[Any], tuple[int, ...]]]], None]


def _is_zip(file: BinaryIO) -> bool:
    start = file.read(4)
    file.seek(0)
    return start in (b"PK\x03\x04", b"PK\x05\x06")  # the second: an archive of nothing


def _read_npz(file: BinaryIO, path: str, check: Check) -> dict[str, Array]:
    from nnfast.storage.npz import read_npz  # brings zipfile along, which few need

    return read_npz(file, path, lambda entries: check({n: (e.dtype, e.shape) for n, e in entries.items()}))


def _read_safetensors(file: BinaryIO, path: str, check: Check) -> dict[str, Array]:
    header = read_header(file, path)
    whole = header.metadata.get("format") == FORMAT
    wanted = {n: e for n, e in header.entries.items() if not whole or is_parameter(n)}
    check({n: (e.dtype, e.shape) for n, e in wanted.items()})
    return read_tensors(file, header, wanted.__contains__)


def _check_weights(
    model: Model, names: Names, path: str, offered: dict[str, tuple[np.dtype[Any], tuple[int, ...]]]
) -> None:
    blocks = {names.of(b.name): names.shape(b.name, b.shape) for b in model._layout.blocks}
    for name in [*blocks, *offered]:
        if name not in offered and names.may_be_absent(name):
            continue
        if name not in offered:
            theirs = any(n.endswith(".weight") for n in offered) and name.endswith(".weights")
            hint = "; if these are PyTorch's names, use layout='torch'" if theirs else ""
            raise CheckpointError(f"{path} has no array {name!r}; it holds {_listed(offered)}{hint}")
        if name not in blocks:
            raise CheckpointError(f"{path} holds the array {name!r:.80}; the model has {_listed(blocks)}")
        dtype, shape = offered[name]
        if shape != blocks[name]:
            raise CheckpointError(f"{path}: {name} has shape {shape}, where the model has {blocks[name]}")
        if dtype.kind not in "fiu":
            raise CheckpointError(f"{path}: {name} is of {dtype}; expected real numbers")


def _listed(names: Mapping[str, Any]) -> str:
    some = [f"{name:.40}" for name in list(names)[:6]]
    return ", ".join(some) + (f" and {len(names) - 6} more" if len(names) > 6 else "") if some else "nothing"


# ---- looking inside -------------------------------------------------------------------------------------------------


def inspect(path: Any) -> str:
    """What is inside a file of `save` or `save_weights`, or any plain `.safetensors` or `.npz`, as text for people.

    Nothing is built from it. Raises CheckpointError where not even the header can be read.
    """
    return examine(path)[0]


def examine(path: Any) -> tuple[str, bool]:
    """The text of `inspect`, and whether the content fits its checksum (True too where there is none)."""
    from nnfast.storage.inspection import report

    name = as_path(path)
    with reading(name) as file:
        return report(file, name, packed=_is_zip(file))
