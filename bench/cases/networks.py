"""The networks that are timed, their data, and where a correct training of them ends.

A case is made from its name alone, so that every process makes the same one. Nothing but NumPy is loaded until nnfast
is needed: the memory of other libraries' processes is measured too.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

__all__ = [
    "BETAS",
    "EPSILON",
    "NETWORKS",
    "RATE",
    "Case",
    "case",
    "differences",
    "judge",
    "name_of",
    "needed",
    "nnfast_model",
    "program",
]

Array = np.ndarray[Any, Any]

RATE, BETAS, EPSILON = 0.001, (0.9, 0.999), 1e-7  # Adam's, for everybody
SEED = 0
ROWS = 1024  # of an epoch, in about, where neither the name nor NETWORKS says
# Adam divides by √v̂, so where a gradient is nothing but rounding, a step may be ±rate on either side; that is rare, so
# 99 % of the weights must be as close as float32 allows. Twice in a row was seen once among 10⁸ weights (3.3e-3).
LARGEST, TYPICAL, CLOSE = 4 * RATE, 1e-6, 0.99
# Of a million numbers before a ReLU, one is likely to lie so near 0 that float32 and float64 disagree about its side;
# ten steps later all weights are 1e-5 apart. So a case with that many is compared after two steps.
CHECKED_STEPS, FEWER_STEPS, MANY = 10, 2, 200_000


@dataclass(frozen=True)
class Case:
    """A network with ReLU between its layers, its data and its batches; all batches have the same number of rows."""

    name: str
    widths: tuple[int, ...]
    loss: str  # "softmax" on class labels, or "mse"
    batch_size: int
    shuffle: bool  # the row order is drawn anew for every epoch
    X: Array
    y: Array

    @property
    def rows(self) -> int:
        return len(self.X)

    @property
    def steps_per_epoch(self) -> int:
        return self.rows // self.batch_size

    @property
    def checked_epochs(self) -> int:
        """How long everybody trains before the answers are compared."""
        steps = FEWER_STEPS if self.batch_size * sum(self.widths[1:-1]) > MANY else CHECKED_STEPS
        return max(1, steps // self.steps_per_epoch)

    def weights(self) -> list[Array]:
        """Where everybody starts: [W1, b1, W2, b2, …], float32, W from He's normal distribution."""
        rng = np.random.default_rng(SEED)
        arrays: list[Array] = []
        for i, o in pairwise(self.widths):
            w = rng.standard_normal((i, o), dtype=np.float32)
            w *= np.float32(np.sqrt(2 / i))
            arrays += [w, np.zeros(o, np.float32)]
        return arrays

    def orders(self, first: int, count: int) -> Array:
        """The row orders of epochs `first`, `first` + 1, … : those that nnfast draws for a model seeded with SEED."""
        from nnfast.random import draw_key, permutation

        key = draw_key(np.random.default_rng(SEED))
        return np.stack([permutation(key, epoch, self.rows) for epoch in range(first, first + count)])

    def short(self) -> Case:
        """The same on two batches, or as many as there are, or as show each class: enough to compare answers."""
        batches = max(2, -(-self.widths[-1] // self.batch_size))
        rows = min(self.rows, batches * self.batch_size)
        return replace(self, X=self.X[:rows], y=self.y[:rows])


def _spiral(rng: np.random.Generator, rows: int, widths: tuple[int, ...]) -> tuple[Array, Array]:
    from nnfast.datasets import spiral

    return spiral(rows // widths[-1], widths[-1], rng)


def _sine(rng: np.random.Generator, rows: int, widths: tuple[int, ...]) -> tuple[Array, Array]:
    from nnfast.datasets import sine

    return sine(rows)


def _noise(rng: np.random.Generator, rows: int, widths: tuple[int, ...]) -> tuple[Array, Array]:
    """Random pixels; each class equally often, so that a part of the rows has them all."""
    return rng.random((rows, widths[0]), dtype=np.float32), np.arange(rows) % widths[-1]


def name_of(widths: tuple[int, ...], batch: int, rows: int | None = None) -> str:
    """The name that `case` reads: "784-128-10, batch 128", or "…, 100000 rows" where it is not the usual number."""
    name = f"{'-'.join(map(str, widths))}, batch {batch}"
    return name if rows is None else f"{name}, {rows} rows"


# The networks that all tables begin with, and the rows of one epoch.
NETWORKS = {
    "2-64-3, batch 300": 300,
    "1-64-64-1, batch 1000": 1000,
    "784-128-10, batch 128": 1280,
    "784-128-128-10, batch 128": 1280,
    "784-512-512-10, batch 512": 2048,
    "64-128-64-10, batch 32, reshuffled": 1792,
}


@functools.lru_cache(maxsize=1)  # of the same group: its floor, its answer and its data
def case(name: str) -> Case:
    """From "WIDTHS, batch N[, R rows][, reshuffled]"; one output means squared error, more are classes."""
    widths_text, batch_text, *rest = name.split(", ")
    widths = tuple(map(int, widths_text.split("-")))
    batch = int(batch_text.removeprefix("batch "))
    given = [int(part.removesuffix(" rows")) for part in rest if part.endswith(" rows")]
    rows = given[0] if given else NETWORKS.get(name, batch * max(1, ROWS // batch))
    data = {2: _spiral, 1: _sine}.get(widths[0], _noise)
    X, y = data(np.random.default_rng(SEED), rows, widths)
    assert rows == len(X)
    assert rows % batch == 0, "a short batch would make some peers compile twice"
    loss = "mse" if widths[-1] == 1 else "softmax"
    y = y.astype(np.float32).reshape(rows, -1) if loss == "mse" else y.astype(np.int64)
    return Case(name, widths, loss, batch, "reshuffled" in rest, np.ascontiguousarray(X, np.float32), y)


def nnfast_model(case: Case, backend: str, dtype: str = "float32") -> Any:
    """The case as a model of nnfast, ready to train."""
    model = _untrained(case, backend, dtype)
    model.set_weights(case.weights())
    return model


def program(case: Case) -> Any:
    """A training step of the case as nnfast's Program."""
    return _untrained(case, "numpy", "float32").program


def needed(case: Case) -> int:
    """Bytes that the Program names, which a step cannot do without: parameters, gradients, slots, arena."""
    step = program(case)
    return 4 * int(step.layout.size * (2 + len(step.slots)) + step.arena_size(case.batch_size))


def _untrained(case: Case, backend: str, dtype: str) -> Any:
    """Its weights are zeros. No metrics: nobody else computes any."""
    import nnfast as nn

    layers: list[nn.Layer] = []
    for i, o in pairwise(case.widths):
        layers += [nn.Dense(i, o, "zeros"), nn.ReLU()]  # zeros draw nothing, so the key comes first from the stream
    loss = nn.SoftmaxCrossEntropy() if case.loss == "softmax" else nn.MeanSquaredError()
    adam = nn.Adam(RATE, beta_1=BETAS[0], beta_2=BETAS[1], epsilon=EPSILON)
    return nn.Model(layers[:-1], loss, adam, backend=backend, dtype=dtype, rng=SEED)


def judge(short: Case) -> Array:
    """Where `checked_epochs` must end: the reference backend in float64, all weights in one array."""
    model = nnfast_model(short, "numpy", "float64")
    epochs, batch = short.checked_epochs, short.batch_size
    model.fit(short.X, short.y, epochs=epochs, batch_size=batch, shuffle=short.shuffle, verbose=0)
    return np.concatenate([w.ravel() for w in model.get_weights()])


def differences(ends: list[Array], expected: Array) -> tuple[float, float, bool]:
    """The largest difference, which share of the weights is within TYPICAL, and whether that is the same training."""
    end = np.concatenate([np.ravel(w) for w in ends])
    if end.shape != expected.shape:
        return np.inf, 0.0, False
    apart = end - expected  # float64, as `expected` is
    np.abs(apart, out=apart)
    largest, close = float(apart.max()), np.count_nonzero(apart <= TYPICAL) / apart.size
    return largest, close, largest <= LARGEST and close >= CLOSE  # false where anything is NaN
