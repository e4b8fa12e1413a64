"""Models from PyTorch's modules, and back: `torch.nn.Sequential` of Linear and activations.

`from_torch` looks at the modules that it is given and imports nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast import layers
from nnfast.errors import DTypeError, NnfastError, OptionError
from nnfast.exchange.building import dense
from nnfast.exchange.chain import IDLE, checked_model
from nnfast.layers.base import Layer
from nnfast.validation import flag, host_array

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = ["layers_of", "to_torch"]

# What PyTorch's modules become; a setting with which one differs from nnfast's is refused.
_ACTIVATIONS: dict[str, Callable[[Any], Layer]] = {
    "ReLU": lambda module: layers.ReLU(),
    "LeakyReLU": lambda module: layers.LeakyReLU(module.negative_slope),
    "ELU": lambda module: layers.ELU(module.alpha),
    "GELU": lambda module: layers.GELU(),
    "SiLU": lambda module: layers.SiLU(),
    "Softplus": lambda module: layers.Softplus(),
    "Sigmoid": lambda module: layers.Sigmoid(),
    "Tanh": lambda module: layers.Tanh(),
    "Softmax": lambda module: layers.Softmax(),
    "Dropout": lambda module: layers.Dropout(module.p),
    "Identity": lambda module: layers.Linear(),
}
_SETTINGS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "GELU": ("approximate", ("none",)),
    "Softplus": ("beta", (1, 1.0)),
    "Softmax": ("dim", (1, -1)),
}
_HINTS = {
    "LogSoftmax": "; leave it out and train with SoftmaxCrossEntropy, which works on logits",
    "BatchNorm1d": "; fold it into the Linear before it first",
}


def layers_of(module: Any) -> tuple[list[Layer], str]:
    """The layers of a module, and their dtype."""
    made: list[Layer] = []
    kinds: set[str] = set()
    for name, part in _parts(module, type(module).__name__):
        if type(part).__name__ == "Flatten" and (part.start_dim, part.end_dim) == (1, -1):
            layer: Layer = layers.Linear()
        elif type(part).__name__ == "Linear":
            layer = _dense(name, part, kinds)
        elif _is_ours(part):
            layer = layers.Standardize(_array(f"{name}.mean", part.mean), _array(f"{name}.std", part.std))
        else:
            layer = _activation(name, part)
        made.append(layer)
    if len(kinds) > 1:
        raise DTypeError(f"the module mixes {' and '.join(sorted(kinds))}; use .float() or .double() on it first")
    return made, kinds.pop() if kinds else "float32"


def _parts(module: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The modules in order, each with its name."""
    kind = type(module)
    if not hasattr(module, "named_children") or not hasattr(module, "state_dict"):
        raise DTypeError(f"module is {module!r}; expected a torch.nn.Sequential")
    if kind.__name__ == "Sequential" and kind.__module__.startswith("torch."):
        for key, child in module.named_children():
            yield from _parts(child, key if name == "Sequential" else f"{name}.{key}")
    else:
        yield name, module


def _is_ours(part: Any) -> bool:
    return type(part).__module__ == "nnfast.exchange.torch_standardize"


def _activation(name: str, part: Any) -> Layer:
    kind = type(part).__name__
    own = not type(part).__module__.startswith("torch.")
    if own or kind not in _ACTIVATIONS:
        hint = "; of a module of one's own, give the Sequential inside" if own else _HINTS.get(kind, "")
        raise OptionError(
            f"module {name!r}, {kind}, has no counterpart in nnfast{hint}. Known: Linear, Flatten, "
            f"{', '.join(_ACTIVATIONS)}"
        )
    setting, allowed = _SETTINGS.get(kind, ("", ()))
    if setting and getattr(part, setting) not in allowed:
        raise OptionError(f"module {name!r}, {kind}, has {setting}={getattr(part, setting)!r}; known is {allowed[0]!r}")
    try:
        return _ACTIVATIONS[kind](part)
    except NnfastError as error:
        raise OptionError(f"module {name!r}, {kind}, cannot be taken over: {error}") from error


def _dense(name: str, part: Any, kinds: set[str]) -> Layer:
    if not type(part).__module__.startswith("torch."):
        raise OptionError(f"module {name!r} is a Linear of {type(part).__module__}, whose arithmetic is not known")
    weights = _array(f"{name}.weight", part.weight)
    biases = None if part.bias is None else _array(f"{name}.bias", part.bias)
    if weights.dtype.name not in ("float32", "float64"):
        raise DTypeError(f"{name}.weight is {weights.dtype}; supported are float32 and float64: use module.float()")
    kinds.add(weights.dtype.name)
    trainable = part.weight.requires_grad or (part.bias is not None and part.bias.requires_grad)
    return dense(weights.T, biases, trainable=bool(trainable))


def _array(name: str, tensor: Any) -> np.ndarray[Any, Any]:
    return host_array(name, tensor.detach().cpu())


def to_torch(model: Model, *, probabilities: bool = False) -> Any:
    """`Model.to_torch`: a `torch.nn.Sequential` with one module for each layer, so that its names count the same."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"to_torch needs PyTorch ({error}); install it as https://pytorch.org says") from error
    made = [_module(torch, i, layer) for i, layer in enumerate(checked_model(model).layers)]
    head = model.loss.head if model.loss is not None else None
    if flag("probabilities", probabilities) and head is not None:
        made.append(torch.nn.Softmax(dim=1) if head == "softmax" else torch.nn.Sigmoid())
    return torch.nn.Sequential(*made)


def _module(torch: Any, i: int, layer: Layer) -> Any:
    if type(layer) is layers.Dense:
        return _linear(torch, layer)
    if type(layer) is layers.Standardize:
        from nnfast.exchange.torch_standardize import Standardize

        return Standardize(*(torch.from_numpy(a) for a in layer.values().values()))
    if type(layer) in IDLE:
        return torch.nn.Dropout(layer.rate) if isinstance(layer, layers.Dropout) else torch.nn.Identity()
    name = type(layer).__name__
    if type(layer) is not getattr(layers, name, None) or name not in _ACTIVATIONS:
        raise OptionError(f"layer {i}, {layer!r}, is none of nnfast's own, so it has no counterpart in PyTorch")
    alpha = (layer.alpha,) if isinstance(layer, layers.LeakyReLU | layers.ELU) else ()
    return getattr(torch.nn, name)(*alpha, **({"dim": 1} if name == "Softmax" else {}))


def _linear(torch: Any, layer: layers.Dense) -> Any:
    values = layer.values()
    linear = torch.nn.utils.skip_init(
        torch.nn.Linear, layer.n_inputs, layer.n_outputs, dtype=getattr(torch, layer.dtype.name)
    )
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(np.ascontiguousarray(values["weights"].T)))
        linear.bias.copy_(torch.from_numpy(values["biases"]))
    linear.requires_grad_(layer.trainable)
    return linear
