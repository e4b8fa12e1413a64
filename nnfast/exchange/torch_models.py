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
_SETTINGS: dict[str, dict[str, tuple[Any, ...]]] = {
    "GELU": {"approximate": ("none",)},
    "Softplus": {"beta": (1,), "threshold": (20,)},  # beyond it PyTorch gives x itself, off by less than 2.1e-9 at 20
    "Softmax": {"dim": (1, -1)},
}
_HINTS = {
    "LogSoftmax": "; leave it out and train with SoftmaxCrossEntropy, which works on logits",
    "BatchNorm1d": "; fold it into the Linear before it first",
}
# Attributes that are set where a module computes something else than its type says.
_CHANGES = {
    "_forward_hooks": "a forward hook",
    "_forward_pre_hooks": "a forward pre-hook, as of weight_norm, spectral_norm and pruning",
    "forward": "a forward of its own",
}


def layers_of(module: Any) -> tuple[list[Layer], str]:
    """The layers of a module, and their dtype."""
    if not hasattr(module, "_modules") or not hasattr(module, "state_dict"):
        raise DTypeError(f"module is {module!r}; expected a torch.nn.Sequential")
    made: list[Layer] = []
    kinds: set[str] = set()
    owners: dict[int, str] = {}
    for name, part in _parts(module):
        if _is_ours(part):
            mean, std = (_array(f"{name}.{key}", getattr(part, key), kinds) for key in ("mean", "std"))
            made.append(layers.Standardize(mean, std))
        elif type(part).__name__ == "Linear":
            made.append(_dense(name, part, kinds, owners))
        elif type(part).__name__ == "Flatten" and (part.start_dim, part.end_dim) == (1, -1):
            made.append(layers.Linear())
        else:
            made.append(_activation(name, part))
        _check_unchanged(name, part)
    if len(kinds) > 1:
        raise DTypeError(f"the module mixes {' and '.join(sorted(kinds))}; use .float() or .double() on it first")
    return made, kinds.pop() if kinds else "float32"


def _parts(module: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The modules in order, each with its name, as often as it is used; `named_children` would give it once."""
    name = ".".join(path) or type(module).__name__
    if type(module).__name__ == "Sequential" and _is_pytorchs(module):
        _check_unchanged(name, module)
        for key, child in module._modules.items():
            yield from _parts(child, (*path, key))
    else:
        yield name, module


def _check_unchanged(name: str, part: Any) -> None:
    for key, change in _CHANGES.items():
        if vars(part).get(key):
            kind = type(part).__name__
            raise OptionError(f"module {name!r}, {kind}, has {change}, which may change what it computes: remove it")


def _is_pytorchs(part: Any) -> bool:
    """Whether it is of `torch.nn` itself; `torch.ao` has modules of the same names that round to integers."""
    return f"{type(part).__module__}.".startswith("torch.nn.modules.")


def _is_ours(part: Any) -> bool:
    return type(part).__module__ == "nnfast.exchange.torch_standardize"


def _activation(name: str, part: Any) -> Layer:
    kind = type(part).__name__
    if not _is_pytorchs(part) or kind not in _ACTIVATIONS:
        raise OptionError(
            f"module {name!r}, {kind}, has no counterpart in nnfast{_hint(part)}. Known: Linear, Flatten, "
            f"{', '.join(_ACTIVATIONS)}"
        )
    for setting, allowed in _SETTINGS.get(kind, {}).items():
        value = getattr(part, setting)
        if value not in allowed:
            raise OptionError(f"module {name!r}, {kind}, has {setting}={value!r}; known is {allowed[0]!r}")
    try:
        return _ACTIVATIONS[kind](part)
    except NnfastError as error:
        raise OptionError(f"module {name!r}, {kind}, cannot be taken over: {error}") from error


def _hint(part: Any) -> str:
    """What to do about a module that is not known."""
    home = type(part).__module__
    if _is_pytorchs(part):
        return _HINTS.get(type(part).__name__, "")
    if home == "torch.nn.utils.parametrize":
        return "; use torch.nn.utils.parametrize.remove_parametrizations on it first"
    return (
        f": it is of {home}" if home.startswith("torch.") else "; of a module of one's own, give the Sequential inside"
    )


def _dense(name: str, part: Any, kinds: set[str], owners: dict[int, str]) -> Layer:
    """A Linear as Dense. `owners` has the names of the modules so far, by the ids of their parameters."""
    if not _is_pytorchs(part):
        raise OptionError(f"module {name!r} is a Linear of {type(part).__module__}, whose arithmetic is not known")
    tensors = {key: tensor for key in ("weight", "bias") if (tensor := getattr(part, key)) is not None}
    for key, tensor in tensors.items():
        if id(tensor) in owners:
            raise OptionError(
                f"module {name!r}, Linear, shares its {key} with {owners[id(tensor)]!r}, and nnfast would train them "
                "apart; if that is meant, give it a copy of its own: copy.deepcopy(module)"
            )
    owners |= {id(tensor): name for tensor in tensors.values()}
    arrays = {key: _array(f"{name}.{key}", tensor, kinds) for key, tensor in tensors.items()}
    trainable = any(tensor.requires_grad for tensor in tensors.values())
    return dense(arrays["weight"].T, arrays.get("bias"), trainable=trainable)


def _array(name: str, tensor: Any, kinds: set[str]) -> np.ndarray[Any, Any]:
    """The numbers of a tensor; their dtype is added to `kinds`."""
    if getattr(tensor, "is_meta", False):
        raise OptionError(f"{name} is on the device meta, so it has no values; use module.to_empty and load them")
    array = host_array(name, tensor.detach().cpu())
    if array.dtype.name not in ("float32", "float64"):
        raise DTypeError(f"{name} is {array.dtype}; supported are float32 and float64: use module.float()")
    kinds.add(array.dtype.name)
    return array


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
