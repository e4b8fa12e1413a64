"""Where each op's body is written, and how it is announced.

A body is a function of an op's arrays and numbers, written for Numba: arrays in the order of the op's signature, then
its scalars, then (for the ops of dense layers) the context. It differs from a kernel of the reference in four things:

- an array that is absent (None) comes with no elements;
- a target of kind `label` comes as two arrays, `labels` (N,) int64 and `targets` (N, O), one of them without elements;
- a sum that is a single number (`total[]`) comes as an array of one element;
- attributes are not arguments: an op that has any is announced as a factory, attributes -> body.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from .modes import jit

__all__ = ["FAMILIES", "body", "body_factory", "find"]

# op -> module of this folder; a module is imported when one of its ops must be compiled
FAMILIES: dict[str, str] = {
    "dense": "dense",
    "dense_backward": "dense",
    **dict.fromkeys(["dense_weights", "dense_block", "dense_block_backward", "dense_join"], "dense"),
    "product": "products",
    "gather": "gather",
    "gather_labels": "gather",
    **dict.fromkeys(["dropout", "dropout_backward"], "dropout"),
    **dict.fromkeys(["standardize", "standardize_backward"], "standardize"),
    **dict.fromkeys(["penalty", "batch_penalty"], "regularization"),
    **dict.fromkeys(["clip_by_global_norm", "sum_of_squares", "scale_to_norm"], "regularization"),
    **dict.fromkeys(["combine", "check"], "regularization"),
    **{
        name + suffix: "activations"
        for name in ("relu", "leaky_relu", "elu", "softplus", "sigmoid", "tanh", "gelu", "silu", "softmax")
        for suffix in ("", "_backward")
    },
    **dict.fromkeys(
        [
            "softmax_cross_entropy",
            "sigmoid_binary_cross_entropy",
            "categorical_cross_entropy",
            "binary_cross_entropy",
            "mean_squared_error",
            "mean_absolute_error",
            "huber",
            "poisson",
        ],
        "losses",
    ),
    **dict.fromkeys(
        ["accuracy", "top_k_accuracy", "binary_accuracy", "regression_accuracy", "r2_moments"],
        "metrics",
    ),
    **dict.fromkeys(["sgd_step", "adagrad_step", "rmsprop_step", "adam_step"], "optimizers"),
    **dict.fromkeys(["random_search_propose", "random_search_accept"], "random_search"),
}

_BODIES: dict[str, Callable[..., Any]] = {}


def body(function: Callable[..., Any]) -> Any:
    """Announce the body of the op that bears its name; returns it compiled, for use inside others."""
    compiled = jit(function)
    _BODIES[function.__name__] = lambda: compiled
    return compiled


def body_factory(factory: Callable[..., Any]) -> Callable[..., Any]:
    """Announce `factory(**attributes) -> body` for the op that bears its name."""
    _BODIES[factory.__name__] = factory
    return factory


def find(op: str, attributes: dict[str, Any]) -> Any:
    """The body of an op for these attributes."""
    importlib.import_module(f".{FAMILIES[op]}", __package__)
    return _BODIES[op](**attributes)
