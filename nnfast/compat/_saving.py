"""The book's Model in files: those of `nnfast.checkpoint`, without pickle.

A file of `save` holds the native model, which `nnfast.load` reads too, and beside it what only the book's parts know,
under "book" in what belongs to the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnfast import checkpoint
from nnfast.compat._accuracy import Accuracy_Categorical, Accuracy_Regression
from nnfast.compat._layers import Layer_Dense, Layer_Dropout
from nnfast.compat._own import PARAMETERS, OwnAccuracy
from nnfast.compat._translate import (
    ACTIVATIONS,
    LOSSES,
    OPTIMIZERS,
    UPDATES,
    is_plain,
    layers_for,
    loss_for,
    optimizer_for,
)
from nnfast.errors import CheckpointError, NnfastError, StateError
from nnfast.layers.dense import Dense
from nnfast.model import Model as NativeModel
from nnfast.storage.file_format import write
from nnfast.storage.files import as_path, replacing
from nnfast.storage.stored import blocks_of

if TYPE_CHECKING:
    from nnfast.compat._engine import Engine
    from nnfast.compat._model import Model

__all__ = ["load", "load_parameters", "save", "save_parameters"]

_ACCURACIES = (Accuracy_Categorical, Accuracy_Regression)
# The attributes that make one of each kind what it is, its arrays apart.
_SETTINGS: dict[type, tuple[str, ...]] = {
    Layer_Dense: ("weight_regularizer_l1", "weight_regularizer_l2", "bias_regularizer_l1", "bias_regularizer_l2"),
    Layer_Dropout: ("rate",),
    Accuracy_Categorical: ("binary",),
    Accuracy_Regression: ("precision",),
}
# Of an optimizer, in this order: setting a rate sets the current one too.
_OPTIMIZER_SETTINGS = ("iterations", "learning_rate", "decay", "momentum", "rho", "beta_1", "beta_2", "epsilon")
_LAYERS = (Layer_Dense, Layer_Dropout, *ACTIVATIONS)
_KINDS = {kind.__name__: kind for kind in (*_LAYERS, *LOSSES, *OPTIMIZERS, *_ACCURACIES)}


# ---- parameters -----------------------------------------------------------------------------------------------------


def save_parameters(engine: Engine, path: Any) -> None:
    """As `nnfast.Model.save_weights`; under a name of another ending in the layout of safetensors."""
    name = as_path(path)
    if name.endswith((".npz", ".safetensors")):
        checkpoint.save_weights(engine.native, name)
        return
    with replacing(name) as file:
        write(file, blocks_of(engine.native, engine.native._buffers.parameters), {})


def load_parameters(engine: Engine, path: Any) -> None:
    checkpoint.load_weights(engine.native, path)
    engine.pull()


# ---- models ---------------------------------------------------------------------------------------------------------


def save(model: Model, engine: Engine, path: Any) -> None:
    """Write everything. Raises StateError where a part is not the book's: a file cannot bring code along."""
    book = {
        "layers": [_said("layer", layer, _LAYERS) for layer in model.layers],
        "loss": None if model.loss is None else _said("loss", model.loss, tuple(LOSSES)),
        "optimizer": None if model.optimizer is None else _said("optimizer", model.optimizer, tuple(OPTIMIZERS)),
        "accuracy": None if model.accuracy is None else _said("accuracy", model.accuracy, _ACCURACIES),
    }
    native = engine.native
    metrics = native._metrics
    try:
        native._metrics = tuple(m for m in metrics if not isinstance(m, OwnAccuracy))  # the book's, but not an op
        checkpoint.save(native, path, run={"book": book})
    finally:
        native._metrics = metrics


def _said(what: str, part: Any, kinds: tuple[type, ...]) -> dict[str, Any]:
    kind = next((k for k in kinds if is_plain(part, k, _methods(k))), None)
    if kind is None:
        raise StateError(
            f"the {what} {type(part).__name__} is not one of the book's, and a file cannot bring its code along: "
            "use save_parameters, and load_parameters into a model built as this one"
        )
    names = (*_OPTIMIZER_SETTINGS, "current_learning_rate") if kind in OPTIMIZERS else _SETTINGS.get(kind, ())
    return {"class": kind.__name__, "settings": {n: getattr(part, n) for n in names if hasattr(part, n)}}


def _methods(kind: type) -> tuple[str, ...]:
    if kind in OPTIMIZERS:
        return UPDATES
    if kind in _ACCURACIES:
        return ("compare",)
    return ("forward", "backward", "predictions") if kind in ACTIVATIONS else ("forward", "backward")


def load(model: Model, path: Any) -> None:
    """Fill a new Model from a file of `save`. Raises CheckpointError."""
    native = checkpoint.load(path)
    run = checkpoint.read_run(path)
    if not isinstance(run, dict) or "book" not in run:
        raise CheckpointError(f"{path} holds a model, but none of nnfast.compat.nnfs: read it with nnfast.load(path)")
    try:
        _fill(model, native, run["book"])
    except (NnfastError, AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: what it says of the book's parts does not fit: {error!s:.200}") from error


def _fill(model: Model, native: NativeModel, book: dict[str, Any]) -> None:
    model.layers = [_made(said, _LAYERS) for said in book["layers"]]
    loss = None if book["loss"] is None else _made(book["loss"], tuple(LOSSES))
    optimizer = None if book["optimizer"] is None else _made(book["optimizer"], tuple(OPTIMIZERS))
    accuracy = None if book["accuracy"] is None else _made(book["accuracy"], _ACCURACIES)
    for part, layer in zip(model.layers, native.layers, strict=False):
        if isinstance(part, Layer_Dense):
            values = layer.values()
            part.weights, part.biases = values["weights"], values["biases"].reshape(1, -1)
    expected = [*layers_for(model.layers, loss), loss_for(model.layers, loss), optimizer_for(optimizer)[0]]
    for a, b in zip(expected, [*native.layers, native.loss, native.optimizer], strict=True):
        if type(a) is not type(b):
            raise CheckpointError(f"{a!r} and {b!r} stand in the same place")
    if optimizer is not None:
        _fill_memory(optimizer, model.layers, native)
    model.set(loss=loss, optimizer=optimizer, accuracy=accuracy)
    model._key = native._key
    model.finalize()


def _made(said: dict[str, Any], kinds: tuple[type, ...]) -> Any:
    """A part from its class and settings. Its constructor, which may draw numbers, is left out."""
    kind = _KINDS[said["class"]]
    if kind not in kinds:
        raise CheckpointError(f"{kind.__name__} stands in the wrong place")
    part = kind() if kind not in (Layer_Dense, Layer_Dropout) else kind.__new__(kind)
    for name, value in said["settings"].items():
        if name not in (*_OPTIMIZER_SETTINGS, "current_learning_rate", *_SETTINGS.get(kind, ())):
            raise CheckpointError(f"{kind.__name__} has no setting {name!r:.80}")
        if not isinstance(value, int | float) and not (value is None and name == "precision"):
            raise CheckpointError(f"{name} of {kind.__name__} is {value!r:.80}")
        setattr(part, name, value)
    return part


def _fill_memory(optimizer: Any, layers: list[Any], native: NativeModel) -> None:
    arrays = next(arrays for kind, (_, arrays) in OPTIMIZERS.items() if type(optimizer) is kind)
    for book_name, name in arrays.items():
        if name not in native._buffers.slots:
            continue
        blocks = blocks_of(native, native._buffers.slots[name])
        for i, (part, layer) in enumerate(zip(layers, native.layers, strict=False)):
            for p in PARAMETERS if isinstance(layer, Dense) else ():
                value = blocks[f"{i}.{p}"].reshape(getattr(part, p).shape)
                optimizer._memory.of(part)[f"{p}.{book_name}"] = value.copy()
