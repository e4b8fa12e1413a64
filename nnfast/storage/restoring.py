"""Putting a file's content back into a model that is there: everything is compared first, then everything is set."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.errors import CheckpointError, NnfastError
from nnfast.storage.configuration import ConfigPacker, ConfigUnpacker, Custom, describe, setting_names
from nnfast.storage.stored import Stored, flat_of
from nnfast.storage.values import Unpacker, same

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = ["AsItWas", "Restoring", "check_blocks", "check_state", "fill", "put"]

Array = np.ndarray[Any, Any]


def check_blocks(stored: Stored, shapes: Mapping[str, tuple[int, ...]], dtype: str) -> None:
    """The file's arrays must be those of the parameters, of these shapes, and the same for each optimizer array."""
    groups = [("", stored.parameters), *((f"optimizer.{slot}.", blocks) for slot, blocks in stored.slots.items())]
    for prefix, blocks in groups:
        for name in sorted(shapes.keys() | blocks.keys()):
            if name not in blocks or name not in shapes:
                which = "no" if name not in blocks else "an"
                raise CheckpointError(f"{stored.path} holds {which} array {prefix}{name}: it does not fit its model")
            a = blocks[name]
            if a.shape != shapes[name]:
                raise CheckpointError(
                    f"{stored.path}: {prefix}{name} has shape {a.shape}, where the model has {shapes[name]}"
                )
            if a.dtype != dtype:
                raise CheckpointError(f"{stored.path}: {prefix}{name} is of {a.dtype} in a model of {dtype}")


def check_state(stored: Stored, model: Model) -> None:
    """The optimizer's few numbers must be as many as it has, or none where it was never used."""
    given, wanted = len(stored.state), 0
    if given and model.loss is not None and model.optimizer is not None:
        try:
            wanted = model._programs.lower("train").state
        except NnfastError as error:
            raise CheckpointError(f"{stored.path}: its model cannot be trained: {error!s:.200}") from error
    if given not in (0, wanted):
        raise CheckpointError(f"{stored.path}: optimizer.state has {given} numbers, where the model has {wanted}")


def put(part: Any, name: str, value: Any, where: str, path: str) -> None:
    """Set an attribute to what a file says; CheckpointError where the part refuses it."""
    try:
        setattr(part, name, value)
    except (NnfastError, AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {name} of {where}: {error!s:.200}") from error


class Restoring:
    """Compare a file with a model, changing nothing; `apply()` then sets everything, and cannot fail.

    Raises CheckpointError naming the first difference.
    """

    def __init__(self, model: Model, stored: Stored) -> None:
        self._model, self._stored = model, stored
        self._settings: list[tuple[Any, str, Any]] = []
        _compare(stored.path, "dtype", stored.model["dtype"], model.dtype.name, "nn.load(path, dtype=…) converts")
        self._compare_layers()
        self._compare_rest()
        check_blocks(stored, {b.name: b.shape for b in model._layout.blocks}, model.dtype.name)
        check_state(stored, model)

    def _compare_layers(self) -> None:
        model, said = self._model, self._stored.model["layers"]
        _compare(self._stored.path, "number of layers", len(said), len(model.layers))
        for i, (theirs, layer) in enumerate(zip(said, model.layers, strict=True)):
            self._compare_part("layer", theirs, layer, f"layer {i}")
            self._take(layer, "trainable", theirs["trainable"], f"layer {i}")

    def _compare_rest(self) -> None:
        model, stored = self._model, self._stored
        for kind, own in (("loss", model.loss), ("optimizer", model.optimizer)):
            theirs = stored.model.get(kind)
            _compare(stored.path, kind, theirs and theirs.get("class"), own and type(own).__name__)
            if theirs is not None and kind == "loss":
                self._compare_part("loss", theirs, own, "loss")
        packer = ConfigPacker("config")
        ours = [describe(packer, "metric", m, "a metric") for m in model.metrics]
        before, now = ([m.get("name", m.get("class")) for m in ms] for ms in (stored.model["metrics"], ours))
        _compare(stored.path, "the list of metrics", before, now)
        if model.optimizer is not None:
            self._take_optimizer(stored.model["optimizer"])

    def _compare_part(self, kind: str, theirs: dict[str, Any], own: Any, where: str) -> None:
        """The same class and the same arguments, except for settings: those become as they are in the file."""
        path, packer = self._stored.path, ConfigPacker("config")
        ours = describe(packer, kind, own, where)
        _compare(path, where, theirs.get("class"), ours["class"])
        settings = setting_names(own)
        plain = [self._said(theirs, self._stored.config, where), self._said(ours, packer.tensors, where)]
        for name in sorted(plain[0].keys() | plain[1].keys()):
            if name == "initializer":
                continue
            if name in settings:
                self._take(own, name, plain[0].get(name), where)
            elif name not in plain[0] or name not in plain[1] or not same(plain[0][name], plain[1][name]):
                _differ(path, f"{name} of {where}", *(p.get(name, "nothing") for p in plain))

    def _said(self, said: dict[str, Any], tensors: dict[str, Array], where: str) -> dict[str, Any]:
        unpacker = _Comparing(tensors, self._stored.path)
        config, settings = (unpacker.unpack(said.get(key)) for key in ("config", "settings"))
        if not isinstance(config, dict) or not isinstance(settings, dict):
            raise CheckpointError(f"{self._stored.path}: {where} has no arguments")
        return {**config, **settings}

    def _take(self, own: Any, name: str, value: Any, where: str) -> None:
        twin = copy.copy(own)
        if name == "trainable":
            twin._buffers = None  # freezing clears the gradients that lie there
        put(twin, name, value, where, self._stored.path)
        self._settings.append((own, name, value))

    def _take_optimizer(self, said: dict[str, Any]) -> None:
        """The file's optimizer is built, which checks it, and its settings are taken over."""
        own, path = self._model.optimizer, self._stored.path
        assert own is not None
        unpacker = _Rebuilding(self._stored.config, path, Custom({type(own).__name__: type(own)}, path))
        made = unpacker.part("optimizer", said, "the optimizer")
        for name in {**said["config"], **said["settings"]}:
            if not hasattr(made, name) or not hasattr(own, name):
                continue
            value = getattr(made, name)
            if not isinstance(value, _Kept):
                self._take(own, name, value, "the optimizer")
            elif not callable(getattr(own, name)):
                raise CheckpointError(
                    f"{path}: {name} of the optimizer is the function {value.name!r:.80}, which a file cannot hold; "
                    f"give the model's optimizer that function as {name}, as it was in the training that was saved"
                )

    def apply(self) -> None:
        """Set everything."""
        model, stored = self._model, self._stored
        for part, name, value in self._settings:
            setattr(part, name, value)
        for layer, said in zip(model.layers, stored.model["layers"], strict=True):
            layer._training_forwards = said["forwards"]
        model._take_key(stored.model["key"])
        model._epochs = stored.model["epochs"]
        if model.optimizer is not None:
            model.optimizer.steps = stored.model["optimizer"]["steps"]
        fill(model, stored)


def fill(model: Model, stored: Stored) -> None:
    """Parameters, optimizer arrays and state, converted to the model's dtype before."""
    buffers, backend, layout = model._buffers, model.backend, model._layout
    buffers.parameters[...] = backend.asarray(flat_of(stored.parameters, layout, model.dtype))
    for slot in buffers.slots.keys() - stored.slots.keys():
        buffers.slots[slot][...] = 0
    for slot, blocks in stored.slots.items():
        if slot not in buffers.slots:
            buffers.slots[slot] = backend.zeros(layout.size, model.dtype)
        buffers.slots[slot][...] = backend.asarray(flat_of(blocks, layout, model.dtype))
    if len(buffers.state) != len(stored.state):
        buffers.state = backend.asarray(np.array(stored.state, np.float64))
        model._programs.forget()  # its runners hold the old one
    else:
        buffers.state[...] = backend.asarray(np.array(stored.state, np.float64))


class AsItWas:
    """A model before a file is put into it, so that this can be taken back."""

    def __init__(self, model: Model) -> None:
        self._model, buffers = model, model._buffers
        parts = (model, *model.layers, model.loss, model.optimizer)
        self._parts = [(part, dict(vars(part))) for part in parts if part is not None]
        self._slots, self._state = dict(buffers.slots), buffers.state
        arrays = (buffers.parameters, buffers.gradients, buffers.state, *buffers.slots.values())
        self._arrays = [(a, a.copy()) for a in arrays]

    def back(self) -> None:
        """Make the model that again."""
        programs = self._model._programs
        with programs.exclusive():
            for part, attributes in self._parts:
                vars(part).clear()
                vars(part).update(attributes)
            for a, copied in self._arrays:
                a[...] = copied
            self._model._buffers.slots, self._model._buffers.state = self._slots, self._state
            programs.forget()  # its runners may hold others


class _Kept:
    """In the place of a function of the user's while the file's optimizer is built."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> float:
        return 0.0


class _Rebuilding(ConfigUnpacker):
    def special(self, said: Any) -> Any:
        if isinstance(said, dict) and said.get("kind") == "custom":
            return _Kept(self._text(said, "name"))
        return super().special(said)


class _Comparing(Unpacker):
    """Leaves initializers, schedules and functions as the data that they are in a file."""

    def special(self, said: Any) -> Any:
        return said


def _compare(path: str, what: str, theirs: Any, ours: Any, hint: str = "") -> None:
    if theirs != ours:
        _differ(path, what, theirs, ours, hint)


def _differ(path: str, what: str, theirs: Any, ours: Any, hint: str = "") -> None:
    raise CheckpointError(
        f"{path} does not fit this model: {what} is {theirs!r:.120} in the file and {ours!r:.120} in the model"
        + (f"; {hint}" if hint else "; build the model as it was, or take nn.load(path)")
    )
