"""Dense layers: N rows, I inputs, O outputs.

The activations that can be fused into a dense layer are those whose slope follows from their output; the functions
are the ones of `activations.py`. The matrix products are BLAS calls in the working dtype.
"""

from __future__ import annotations

import numpy as np

from nnfast.protocol import Array, Kernel

from . import activations as act

__all__ = ["dense", "dense_backward"]

# name -> forward, backward, and whether it takes alpha
FUSED: dict[str, tuple[Kernel, Kernel, bool]] = {
    "relu": (act.relu, act.relu_backward, False),
    "leaky_relu": (act.leaky_relu, act.leaky_relu_backward, True),
    "elu": (act.elu, act.elu_backward, True),
    "softplus": (act.softplus, act.softplus_backward, False),
    "sigmoid": (act.sigmoid, act.sigmoid_backward, False),
    "tanh": (act.tanh, act.tanh_backward, False),
}


def dense(x: Array, w: Array, b: Array, y: Array, *, alpha: float, activation: str) -> None:
    """y = act(x·w + b), computed where y lies"""
    np.matmul(x, w, out=y)
    y += b
    if activation != "linear":
        forward, _, takes_alpha = FUSED[activation]
        forward(y, y, **({"alpha": alpha} if takes_alpha else {}))


def dense_backward(
    x: Array,
    w: Array,
    y: Array | None,
    dy: Array,
    dz: Array,  # or None
    dx: Array | None,
    dw: Array | None,
    db: Array | None,
    *,
    alpha: float,
    activation: str,
) -> None:
    """dz = dy·act'(y), dx = dz·wᵀ, dw = xᵀ·dz, db = Σₙ dz (in float64); what is None is not computed.

    dz may be dy itself. It is None only where the activation is linear, and y may be None there too.
    """
    if activation != "linear":
        _, backward, takes_alpha = FUSED[activation]
        backward(y, dy, dz, **({"alpha": alpha} if takes_alpha else {}))
    elif dz is None:
        dz = dy
    elif dz is not dy:
        dz[...] = dy
    if dx is not None:
        np.matmul(dz, w.T, out=dx)
    if dw is not None:
        np.matmul(x.T, dz, out=dw)
    if db is not None:
        # A product with ones sums in float64 three times faster than sum(axis=0, dtype=float64).
        db[...] = np.ones(len(dz)) @ dz
