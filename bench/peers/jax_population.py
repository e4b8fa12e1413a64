"""JAX: `vmap` over the whole loop of `jax_loop`, the rows shared by all models, state donated."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from cases.populations import PopulationCase

from peers.jax_loop import _train

__all__ = ["VmappedLoop", "trainer"]


class VmappedLoop:
    def __init__(self, case: PopulationCase) -> None:
        self.case = case.one
        parameters = [jnp.asarray(w) for w in case.weights()]
        moments = [[jnp.zeros_like(p) for p in parameters] for _ in range(2)]
        self.state = parameters, *moments, jnp.zeros(case.n, jnp.int32)
        self.X, self.y = jnp.asarray(self.case.X), jnp.asarray(self.case.y)
        one = partial(_train, self.case.loss, self.case.batch_size)
        self.train = jax.jit(jax.vmap(one, in_axes=(0, None, None, None, None)), donate_argnums=0)

    def prepare(self, epochs: int) -> None:
        pass

    def run(self, epochs: int) -> None:
        steps = epochs * self.case.steps_per_epoch
        self.state, losses = self.train(self.state, self.X, self.y, None, steps)
        jax.block_until_ready((self.state, losses))

    def results(self) -> list[Any]:
        return [np.asarray(p) for p in self.state[0]]


def trainer(case: PopulationCase) -> VmappedLoop:
    return VmappedLoop(case)
