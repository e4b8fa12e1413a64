"""The gradient of every differentiable op against differences of its forward op, in float64, in any shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nnfast.protocol import OPS, PENALTIES, Array, Backend
from nnfast.testing.case import Draw
from nnfast.testing.cases import CASES
from nnfast.testing.contract import run
from nnfast.testing.gradcheck import check_vjp, off_kinks

__all__ = ["DIFFERENTIABLE", "check_gradient", "dense_off_kinks", "loss_pair", "pair"]

Forward = Callable[..., Array]
Backward = Callable[..., Sequence[Array]]

ELEMENTWISE = tuple(op for op in OPS if f"{op}_backward" in OPS and op != "dense")
LOSSES = tuple(op for op, spec in OPS.items() if {"total", "dz"} <= {arg.name for arg in spec.args})
DIFFERENTIABLE = (*ELEMENTWISE, "dense", *LOSSES, *PENALTIES)


def check_gradient(backend: Backend, op: str, rng: np.random.Generator, rows: int, inputs: int, outputs: int) -> None:
    """All sets of keywords of the op, on random data off its kinks; `outputs` is for "dense" alone."""
    for keywords in CASES[op].keywords:
        if op == "dense":
            check_vjp(*_dense_pair(backend, keywords), dense_off_kinks(rng, rows, inputs, outputs), rng)
        elif op in PENALTIES:
            check_vjp(*_penalty_pair(backend, op, keywords), [off_kinks(rng.standard_normal(rows * inputs))], rng)
        elif op in LOSSES:
            for form in CASES[op].forms:
                z, y = _loss_data(op, form, keywords, rng, (rows, inputs))
                check_vjp(*loss_pair(backend, op, y, keywords), [z], rng)
        else:
            check_vjp(*pair(backend, op, keywords), [off_kinks(2 * rng.standard_normal((rows, inputs)))], rng)


def pair(backend: Backend, op: str, keywords: Mapping[str, Any]) -> tuple[Forward, Backward]:
    """An op (N, I) -> (N, I) as a function of x, and its backward op as a function of (dy, x)."""
    saved = OPS[f"{op}_backward"].args[0].name

    def forward(x: Array) -> Array:
        return _run(backend, op, keywords, {"N": len(x), "I": x.shape[1]}, x=x)["y"]

    def backward(dy: Array, x: Array) -> list[Array]:
        first = {"x": {"x": x}, "y": {"y": forward(x)} if saved == "y" else {}, "dy": {}}[saved]
        return [_run(backend, f"{op}_backward", keywords, {"N": len(x), "I": x.shape[1]}, **first, dy=dy)["dx"]]

    return forward, backward


def loss_pair(backend: Backend, op: str, y: Array, keywords: Mapping[str, Any]) -> tuple[Forward, Backward]:
    """The loss of each row as a function of z; the incoming gradient of a row is what a sample weight is."""
    keywords = {**keywords, "normaliser": 3.0}

    def forward(z: Array) -> Array:
        return _run(backend, op, keywords, {"N": len(z), "O": z.shape[1]}, z=z, y=y, weight=None)["losses"] / 3

    def backward(dy: Array, z: Array) -> list[Array]:
        return [_run(backend, op, keywords, {"N": len(z), "O": z.shape[1]}, z=z, y=y, weight=dy)["dz"]]

    return forward, backward


def dense_off_kinks(rng: np.random.Generator, rows: int, inputs: int, outputs: int) -> list[Array]:
    """x, w, b with every x·w + b well away from 0, where ReLU and its relatives have their kink.

    A bias is drawn again until all of its column is.
    """
    margin = min(5e-3, 0.2 / max(rows, 1))
    x, w = rng.standard_normal((rows, inputs)), rng.standard_normal((inputs, outputs))
    product, b = x @ w, np.empty(outputs)
    for j in range(outputs):
        while True:
            b[j] = rng.standard_normal()
            if not rows or np.abs(product[:, j] + b[j]).min() > margin:
                break
    return [x, w, b]


def _dense_pair(backend: Backend, keywords: Mapping[str, Any]) -> tuple[Forward, Backward]:
    def forward(x: Array, w: Array, b: Array) -> Array:
        dims = {"N": len(x), "I": len(w), "O": len(b)}
        return _run(backend, "dense", keywords, dims, x=x, w=w, b=b)["y"]

    def backward(dy: Array, x: Array, w: Array, b: Array) -> list[Array]:
        dims = {"N": len(x), "I": len(w), "O": len(b)}
        got = _run(backend, "dense_backward", keywords, dims, x=x, w=w, y=forward(x, w, b), dy=dy)
        return [got["dx"], got["dw"], got["db"]]

    return forward, backward


def _penalty_pair(backend: Backend, op: str, keywords: Mapping[str, Any]) -> tuple[Forward, Backward]:
    def forward(p: Array) -> Array:
        return _run(backend, op, keywords, {"P": p.size}, p=p, g=None, total=np.zeros(()))["total"]

    def backward(dy: Array, p: Array) -> list[Array]:
        got = _run(backend, op, keywords, {"P": p.size}, p=p, g=np.zeros_like(p), total=np.zeros(()))
        return [got["g"] * dy]

    return forward, backward


def _loss_data(op: str, form: str, keywords: Any, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Any, Any]:
    """z and y as the case table has them, z off the kinks."""
    case = CASES[op]
    dims = {"N": shape[0], "O": shape[1]}
    y = case.values["y"](Draw(rng, shape, dims, keywords, form, {}))
    if op in ("mean_absolute_error", "huber", "mean_squared_error"):
        delta = keywords.get("delta", 1.0)
        return y + off_kinks(2 * rng.standard_normal(shape), 0.0, delta, -delta), y
    z = case.values["z"](Draw(rng, shape, dims, keywords, form, {}))
    return (np.clip(z, 0.2, 0.8) if op in ("categorical_cross_entropy", "binary_cross_entropy") else z), y


def _run(backend: Backend, op: str, keywords: Any, dims: Mapping[str, int], **arrays: Any) -> dict[str, Any]:
    """The op's outputs on these inputs."""
    call = CASES[op].make(np.random.default_rng(0), np.float64, dims, keywords)
    call.arrays |= {name: None if a is None else np.ascontiguousarray(a) for name, a in arrays.items()}
    return run(backend, call)
