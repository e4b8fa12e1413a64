"""Putting a model together: every check first, then the flat arrays, then the layers move in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nnfast.buffers import allocate
from nnfast.errors import DTypeError, OptionError, OwnershipError, ShapeError
from nnfast.layers.activations import Sigmoid, Softmax
from nnfast.layers.base import Layer
from nnfast.losses import Loss
from nnfast.metrics import Metric, resolve
from nnfast.optimizers.base import Optimizer
from nnfast.program import Layout
from nnfast.protocol import Buffers

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = ["as_layers", "assemble", "check_parts"]


def as_layers(layers: Any) -> tuple[Layer, ...]:
    """The layers as a tuple; one that stands alone needs its list all the same."""
    if isinstance(layers, Layer) or not isinstance(layers, Iterable):
        raise DTypeError(f"layers is a list: [nn.Dense(…), …]; {layers!r} was given")
    return tuple(layers)


def check_parts(
    layers: Sequence[Layer], loss: Loss | None, optimizer: Optimizer | None, metrics: Sequence[str | Metric]
) -> tuple[tuple[Metric, ...], list[int]]:
    """The metrics as objects, and the widths from input to output. Raises if the parts do not fit; changes nothing."""
    _check_type("layers", layers, Layer)
    for i, layer in enumerate(layers):
        if any(layer is other for other in layers[:i]):
            raise OwnershipError(f"{layer!r} stands twice in the list; weights cannot be shared between places")
        layer._check_free()
    widths = _widths(layers)
    if loss is not None:
        _check_type("loss", [loss], Loss)
        _check_logits(layers[-1], loss)
    if optimizer is not None:
        _check_type("optimizer", [optimizer], Optimizer)
        optimizer._check_free()
    if isinstance(metrics, (str, Metric)) or not isinstance(metrics, Iterable):
        raise DTypeError(f"metrics is a list: metrics=[…]; {metrics!r} was given")
    resolved = tuple(resolve(m) for m in metrics)
    names = [m.name for m in resolved]
    for name in names:
        _check_name(name)
    if len(set(names)) < len(names):
        raise OptionError(f"a metric is named twice: {names}")
    for metric in resolved:
        if loss is None:
            raise OptionError("metrics need a loss: it says what the targets are")
        metric.check_model(loss, widths[-1])
    return resolved, widths


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name:
        raise DTypeError(f"the name of a metric is a word; {name!r} was given")
    if name in ("loss", "penalty", "data_loss") or name.startswith("val_") or "." in name:
        raise OptionError(f"a metric cannot be named {name!r}: the history uses that name itself")


def _check_type(name: str, parts: Sequence[Any], kind: type) -> None:
    for part in parts:
        if isinstance(part, type) and issubclass(part, kind):
            raise DTypeError(f"{name}: {part.__name__} is the class; give an object, {part.__name__}(…)")
        if not isinstance(part, kind):
            raise DTypeError(f"{name}: expected objects of nnfast's {kind.__name__} kind; {part!r} was given")


def _widths(layers: Sequence[Layer]) -> list[int]:
    wanted = [layer.n_inputs_wanted for layer in layers]
    first = next((n for n in wanted if n is not None), None)
    if first is None:
        raise ShapeError(
            "a model needs at least one layer that knows its input width, such as Dense(n_inputs, n_outputs)"
        )
    widths = [first]
    for i, (layer, want) in enumerate(zip(layers, wanted, strict=True)):
        if want is not None and want != widths[-1]:
            given = "the input" if i == 0 else f"layer {i - 1}, {layers[i - 1]!r},"
            raise ShapeError(f"layer {i}, {layer!r}, takes {want} inputs, but {given} gives {widths[-1]}")
        widths.append(layer.n_outputs_for(widths[-1]))
    return widths


def _check_logits(last: Layer, loss: Loss) -> None:
    for kind, head, instead in (
        (Softmax, "softmax", "CategoricalCrossEntropy"),
        (Sigmoid, "sigmoid", "BinaryCrossEntropy"),
    ):
        if isinstance(last, kind) and loss.head == head:
            raise OptionError(
                f"{type(loss).__name__} works on logits and has its own {head}: "
                f"leave out the last layer {last!r}, or use {instead}"
            )


def assemble(model: Model, layers: Sequence[Layer], rng: Any) -> tuple[Layout, Buffers]:
    """Allocate the flat arrays, draw what has not been drawn, in layer order, and move the layers in."""
    backend, dtype = model.backend, model.dtype
    for layer in layers:
        layer._was_given = layer._buffers is not None or bool(layer._initial)
    values = [layer.drawn(rng) for layer in layers]
    shapes = [(f"{i}.{n}", s) for i, layer in enumerate(layers) for n, s in layer.parameter_shapes().items()]
    layout = Layout.of(shapes, dtype.name)
    buffers = allocate(backend, layout, dtype)
    for i, (layer, initial) in enumerate(zip(layers, values, strict=True)):
        layer._adopt(buffers, layout, i, initial, backend, dtype)
        layer._owner = model
    return layout, buffers
