"""A layer of your own at full speed: PReLU, written down twice, once to be read and once to be compiled.

    python -m nnfast.examples.own_op [--backend NAME] [--epochs N]

PReLU (He et al. 2015, "Delving deep into rectifiers") is a leaky ReLU whose slopes are learned, one per feature:

    y = x where x > 0, else a·x        dx = dy·(1 or a)        da = Σₙ dy·x where x <= 0

Each op has a reference for NumPy, which judges, and a body for Numba, with which it joins the compiled step. The body
takes the arrays in the order of the signature and then the numbers; Numba compiles it when it is needed. `by_rows` says
that no row depends on another, so that a batch may be given to several threads in pieces, each with an array of
its own for `da`; their sums are added. `tests/test_own_op_example.py` holds the two against each other.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

import nnfast as nn
from nnfast.examples import _common
from nnfast.lowering import Builder

EPOCHS = 1_000


def prelu(x: Any, a: Any, y: Any) -> None:
    """The reference: NumPy, on whole arrays."""
    y[...] = np.where(x <= 0, a * x, x)


def prelu_backward(x: Any, a: Any, dy: Any, dx: Any, da: Any) -> None:
    """`da` is None where the layer is frozen."""
    dx[...] = np.where(x <= 0, a * dy, dy)
    if da is not None:
        da[...] = np.where(x <= 0, x * dy, 0).sum(axis=0)


def prelu_body(x, a, y):  # type: ignore[no-untyped-def]
    """The same for Numba: plain loops, which it turns into vectors."""
    for n in range(x.shape[0]):
        for i in range(x.shape[1]):
            y[n, i] = a[i] * x[n, i] if x[n, i] <= 0 else x[n, i]


def prelu_backward_body(x, a, dy, dx, da):  # type: ignore[no-untyped-def]
    """`da` is filled with the sum over the rows that this call was given; it has no elements in a frozen layer."""
    wanted = da.size > 0
    for i in range(da.size):
        da[i] = 0
    for n in range(x.shape[0]):
        for i in range(x.shape[1]):
            if x[n, i] <= 0:
                dx[n, i] = a[i] * dy[n, i]
                if wanted:
                    da[i] += x[n, i] * dy[n, i]
            else:
                dx[n, i] = dy[n, i]


def register() -> None:
    """Put both ops into the table; once per process."""
    if "prelu" in nn.protocol.OPS:
        return
    forward = nn.OpSpec("prelu", "x[N,I] a[I] -> y[N,I]", "y = x if x > 0 else a·x", flops=2, by_rows=True)
    backward = nn.OpSpec("prelu_backward", "x[N,I] a[I] dy[N,I] -> dx[N,I] da[I]?", flops=4, by_rows=True)
    nn.register_op(forward, reference=prelu, numba=prelu_body)
    nn.register_op(backward, reference=prelu_backward, numba=prelu_backward_body)


class PReLU(nn.Layer):
    """Leaky ReLU with a learned slope per feature, `slopes` (n,), all `start` at first."""

    def __init__(self, n: int, start: float = 0.25, **common: Any) -> None:
        super().__init__(**common)
        register()
        self.n = n
        self.start = start

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"slopes": (self.n,)}

    def initial_values(self, rng: Any) -> dict[str, Any]:
        return {"slopes": np.full(self.n, self.start)}

    def lower(self, b: Builder) -> None:
        x, y, slopes = b.x, b.output(b.x.width), b.parameter("slopes")
        b.forward("prelu", x, slopes, y)
        b.backward("prelu_backward", x, slopes, b.dy, b.dx, b.gradient("slopes"))


def train(epochs: int = EPOCHS, seed: int = 0, verbose: int = 1, **settings: Any) -> _common.Trained:
    X, y = nn.datasets.spiral(100, 3, seed)
    layers = [nn.Dense(2, 64), PReLU(64), nn.Dense(64, 3)]
    model = nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.Adam(0.02), ["accuracy"], rng=seed, **settings)
    return _common.fit(model, X, y, epochs, verbose)


def program(options: _common.Options) -> None:
    run = train(options.epochs or EPOCHS, options.seed)
    _common.show("spiral(100, 3), Dense(2, 64) - PReLU - Dense(64, 3)", run, _common.epoch_table(run, "accuracy"))
    print(run.model.backend_report())


def main(argv: Sequence[str] | None = None) -> int:
    about = f"A layer with an op of its own, compiled: {EPOCHS:,} epochs of the spiral."
    return _common.run("own_op", program, about, argv)


if __name__ == "__main__":
    sys.exit(main())
