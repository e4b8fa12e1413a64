"""Models from Keras: `Sequential` of Dense layers with their activations.

Keras is not imported: the layers that are handed over say what they are in `get_config()` and `get_weights()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nnfast import layers
from nnfast.errors import DTypeError, NnfastError, OptionError
from nnfast.exchange.building import dense
from nnfast.layers.base import Layer

__all__ = ["layers_of"]

_NAMED: dict[str, Any] = {
    "relu": layers.ReLU,
    "leaky_relu": lambda: layers.LeakyReLU(0.2),  # Keras' own default
    "elu": layers.ELU,
    "gelu": layers.GELU,
    "silu": layers.SiLU,
    "swish": layers.SiLU,
    "softplus": layers.Softplus,
    "sigmoid": layers.Sigmoid,
    "tanh": layers.Tanh,
    "softmax": layers.Softmax,
}
_HOMES = ("keras", "tf_keras", "tensorflow")
_PASSING = ("InputLayer", "Flatten")
_REGULARIZERS = ("L1", "L2", "L1L2", "l1", "l2", "l1_l2")
_WITHOUT = ("activity_regularizer", "kernel_constraint", "bias_constraint", "noise_shape", "lora_rank")


def layers_of(model: Any, *, mixed: bool) -> tuple[list[Layer], str]:
    """The layers of a Sequential, and their dtype; `mixed` says whether there may be several."""
    if type(model).__name__ != "Sequential" or not hasattr(model, "layers"):
        raise DTypeError(f"model is {model!r}; expected a keras.Sequential")
    made: list[Layer] = []
    kinds: set[str] = set()
    for i, layer in enumerate(model.layers):
        try:
            if type(layer).__name__ == "Dense" and any(layer is other for other in model.layers[:i]):
                raise OptionError("it is there twice, with one set of weights, and nnfast would train them apart")
            made += _layers(layer, kinds)
        except NnfastError as error:
            raise OptionError(f"layer {layer.name!r}, {type(layer).__name__}, cannot be taken over: {error}") from error
    if len(kinds) > 1 and not mixed:
        raise DTypeError(f"the weights are of {' and '.join(sorted(kinds))}; choose one with dtype=")
    return made, kinds.pop() if kinds else "float32"


def _layers(layer: Any, kinds: set[str]) -> list[Layer]:
    """What one layer of Keras becomes."""
    kind, config = type(layer).__name__, layer.get_config()
    _check_settings(layer, config)
    if kind in _PASSING:
        return []
    if kind == "Dense":
        return [_dense(layer, config, kinds), *_activation(config["activation"])]
    if kind == "Activation":
        return _activation(config["activation"])
    if kind == "Dropout":
        return [layers.Dropout(config["rate"])]
    if kind == "Normalization":
        return [_normalization(layer)]
    if kind == "ReLU":
        if config.get("max_value") is not None or config.get("threshold"):
            raise OptionError("it has max_value or threshold, which nnfast's ReLU does not have")
        slope = float(config.get("negative_slope") or 0)
        return [layers.LeakyReLU(slope) if slope else layers.ReLU()]
    if kind == "LeakyReLU":
        return [layers.LeakyReLU(float(config.get("negative_slope", config.get("alpha", 0.3))))]
    if kind == "ELU":
        return [layers.ELU(float(config["alpha"]))]
    if kind == "Softmax":
        if config.get("axis", -1) not in (1, -1):
            raise OptionError(f"it is along axis {config['axis']}")
        return [layers.Softmax()]
    raise OptionError("it has no counterpart in nnfast")


def _check_settings(layer: Any, config: Mapping[str, Any]) -> None:
    """Refuse what would get lost."""
    home = type(layer).__module__
    if home.partition(".")[0] not in _HOMES:
        raise OptionError(f"it is of {home}, so what it computes is not known")
    for setting in _WITHOUT:
        if config.get(setting):
            raise OptionError(f"it has {setting}={config[setting]!r}, which nnfast does not have")
    if getattr(layer, "quantization_mode", None):
        raise OptionError(f"it is quantized to {layer.quantization_mode}; give the model as it was before that")


def _activation(said: Any) -> list[Layer]:
    if said in (None, "linear"):
        return []
    if not isinstance(said, str) or said not in _NAMED:
        raise OptionError(f"its activation is {said!r}; known are linear, {', '.join(_NAMED)}")
    return [_NAMED[said]()]


def _dense(layer: Any, config: Mapping[str, Any], kinds: set[str]) -> Layer:
    weights = [np.asarray(w) for w in layer.get_weights()]
    if not weights or weights[0].ndim != 2:
        raise OptionError("it has no weights yet: call the model on some rows, or give it an Input")
    kinds.add(weights[0].dtype.name)
    penalties: dict[str, float] = {}
    for of, key in (("weight", "kernel_regularizer"), ("bias", "bias_regularizer")):
        for norm, strength in _regularizer(config.get(key)).items():
            penalties[f"{of}_{norm}"] = strength
    return dense(*weights, trainable=bool(getattr(layer, "trainable", True)), **penalties)


def _regularizer(said: Any) -> dict[str, float]:
    if said is None:
        return {}
    if not isinstance(said, Mapping) or said.get("class_name") not in _REGULARIZERS:
        raise OptionError(f"its regularizer is {said!r}; known are L1, L2 and L1L2")
    return {norm: float(said["config"][norm]) for norm in ("l1", "l2") if said["config"].get(norm)}


def _normalization(layer: Any) -> Layer:
    """Keras divides by max(√variance, 1e-7)."""
    config = layer.get_config()
    if config.get("axis") not in (-1, 1, [-1], [1], (-1,), (1,)) or config.get("invert"):
        raise OptionError(f"it has axis={config.get('axis')}, invert={config.get('invert')}")
    mean, variance = (np.asarray(a, np.float64).reshape(-1) for a in (layer.mean, layer.variance))
    return layers.Standardize(mean, np.maximum(np.sqrt(variance), 1e-7))
