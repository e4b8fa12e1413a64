"""Populations of networks: the same data, and weights of its own for each model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from cases.networks import BETAS, EPSILON, RATE, Case, case, needed

__all__ = ["Member", "PopulationCase", "judge", "named", "nnfast_population"]

Array = np.ndarray[Any, Any]

CHECKED = 6  # models whose answers are compared, among as few


@dataclass(frozen=True)
class Member(Case):
    """One model: the case with weights from a seed of its own."""

    seed: int = 0

    def weights(self) -> list[Array]:
        rng = np.random.default_rng(self.seed)
        arrays: list[Array] = []
        for i, o in pairwise(self.widths):
            arrays += [he((i, o), rng), np.zeros(o, np.float32)]
        return arrays


@dataclass(frozen=True)
class PopulationCase:
    """`n` models of one case."""

    n: int
    one: Case

    def member(self, k: int) -> Member:
        return Member(**vars(self.one), seed=k)

    def weights(self) -> list[Array]:
        """[W1 (n, inputs, outputs), b1 (n, outputs), …]."""
        return [np.stack(arrays) for arrays in zip(*(self.member(k).weights() for k in range(self.n)), strict=True)]

    def short(self) -> PopulationCase:
        return PopulationCase(CHECKED, self.one.short())

    @property
    def needed(self) -> int:
        """Bytes of one model, which are in the cache while it has its turn."""
        return needed(self.one) + 4 * self.one.X.size


def he(shape: tuple[int, int], rng: Any) -> Array:
    weights: Array = rng.standard_normal(shape, dtype=np.float32)
    return weights * np.float32(np.sqrt(2 / shape[0]))


def named(name: str) -> PopulationCase:
    """From "N × CASE", the latter as in `cases.networks`."""
    n, one = name.split(" × ")
    return PopulationCase(int(n), replace(case(one), shuffle=False))


def nnfast_population(made: PopulationCase, backend: str, dtype: str = "float32") -> Any:
    """The case as a population of nnfast, ready to train."""
    import nnfast as nn

    def build() -> Any:
        layers: list[nn.Layer] = []
        for i, o in pairwise(made.one.widths):
            layers += [nn.Dense(i, o, he), nn.ReLU()]
        loss = nn.SoftmaxCrossEntropy() if made.one.loss == "softmax" else nn.MeanSquaredError()
        adam = nn.Adam(RATE, beta_1=BETAS[0], beta_2=BETAS[1], epsilon=EPSILON)
        return nn.Model(layers[:-1], loss, adam, backend=backend, dtype=dtype)

    return nn.Population(build, made.n, {"rng": range(made.n)})


def judge(short: PopulationCase) -> Array:
    """Where `checked_epochs` must end: the reference backend in float64, arrays of all models one after the other."""
    population, one = nnfast_population(short, "numpy", "float64"), short.one
    population.fit(one.X, one.y, epochs=one.checked_epochs, batch_size=one.batch_size, shuffle=False, verbose=0)
    return np.concatenate([a.ravel() for a in stacked(population)])


def stacked(population: Any) -> list[Array]:
    """[W1 (n, inputs, outputs), …] of a population of nnfast."""
    return [np.stack(arrays) for arrays in zip(*(m.get_weights() for m in population), strict=True)]
