"""Dense layers: N rows, I inputs, O outputs, with the activation that follows them."""

from __future__ import annotations

from . import activations as act
from .arrays import double

__all__ = ["dense", "dense_backward"]

# Those whose slope follows from their output, and whether they take alpha.
FUSED = {
    "relu": (act.relu, act.relu_backward, False),
    "leaky_relu": (act.leaky_relu, act.leaky_relu_backward, True),
    "elu": (act.elu, act.elu_backward, True),
    "softplus": (act.softplus, act.softplus_backward, False),
    "sigmoid": (act.sigmoid, act.sigmoid_backward, False),
    "tanh": (act.tanh, act.tanh_backward, False),
}


def dense(x, w, b, y, *, alpha, activation):
    y[...] = x @ w + b
    if activation != "linear":
        forward, _, takes_alpha = FUSED[activation]
        forward(y, y, **({"alpha": alpha} if takes_alpha else {}))


def dense_backward(x, w, y, dy, dz, dx, dw, db, *, alpha, activation):
    """What is None is not computed. dz may be dy itself; it is None only where the activation is "linear"."""
    if activation != "linear":
        _, backward, takes_alpha = FUSED[activation]
        backward(y, dy, dz, **({"alpha": alpha} if takes_alpha else {}))
    elif dz is None:
        dz = dy
    else:
        dz[...] = dy
    if dx is not None:
        dx[...] = dz @ w.T
    if dw is not None:
        dw[...] = x.T @ dz
    if db is not None:
        xp = db.__array_namespace__()
        db[...] = xp.astype(xp.sum(double(dz), axis=0), db.dtype)
