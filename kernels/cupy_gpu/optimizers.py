"""Optimizer steps: P parameters, updated in place, one launch each.

Every step takes `watch`, the addresses of two int64: the first step that was not finite, below 0 while there is none,
and the number of the running step. A gradient or updated parameter that is not finite copies the second to the first.
"""

from __future__ import annotations

from typing import Any

from .emitter import At, Emitter, Ref, Scalar

__all__ = ["adagrad_step", "adam_step", "rmsprop_step", "sgd_step"]

Watch = tuple[int, int] | None


def sgd_step(
    e: Emitter,
    p: Ref,
    g: Ref,
    v: Ref | None,
    *,
    learning_rate: Scalar,
    momentum: Scalar,
    nesterov: bool,
    watch: Watch = None,
) -> None:
    """v = momentum·v − lr·g, p += v; Nesterov: p += momentum·v − lr·g. Without v: p −= lr·g. 20 or 12 B each."""
    fields: dict[str, Any] = {"learning_rate": learning_rate, "momentum": momentum, "nesterov": int(nesterov)}
    _step(e, "nnf_sgd", p, watch, g=g, v=v, **fields)


def adagrad_step(
    e: Emitter, p: Ref, g: Ref, cache: Ref, *, learning_rate: Scalar, epsilon: Scalar, watch: Watch = None
) -> None:
    """cache += g², p −= lr·g/(√cache + ε); 20 B a parameter"""
    _step(e, "nnf_adagrad", p, watch, g=g, cache=cache, learning_rate=learning_rate, epsilon=epsilon)


def rmsprop_step(
    e: Emitter, p: Ref, g: Ref, cache: Ref, *, learning_rate: Scalar, epsilon: Scalar, rho: Scalar, watch: Watch = None
) -> None:
    """cache = rho·cache + (1 − rho)·g², p −= lr·g/(√cache + ε); 20 B a parameter"""
    _step(e, "nnf_rmsprop", p, watch, g=g, cache=cache, learning_rate=learning_rate, epsilon=epsilon, rho=rho)


def adam_step(
    e: Emitter,
    p: Ref,
    g: Ref,
    m: Ref,
    v: Ref,
    *,
    learning_rate: Scalar,
    step: int | At,
    beta_1: Scalar,
    beta_2: Scalar,
    epsilon: Scalar,
    weight_decay: Scalar,
    watch: Watch = None,
) -> None:
    """m = β₁m + (1 − β₁)g, v = β₂v + (1 − β₂)g², p −= lr·(m̂/(√v̂ + ε) + weight_decay·p); 28 B a parameter"""
    fields: dict[str, Any] = {
        "learning_rate": learning_rate,
        "step": step,
        "beta_1": beta_1,
        "beta_2": beta_2,
        "epsilon": epsilon,
        "weight_decay": weight_decay,
    }
    _step(e, "nnf_adam", p, watch, g=g, m=m, v=v, **fields)


def _step(e: Emitter, kernel: str, p: Ref, watch: Watch, **fields: Any) -> None:
    nonfinite, step_index = watch or (0, 0)
    e.launch(kernel, e.span(p), p=p, n=p.size, nonfinite=nonfinite, step_index=step_index, **fields)
