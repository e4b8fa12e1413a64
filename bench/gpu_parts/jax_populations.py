"""JAX's contender in training populations: `vmap` over a whole loop of steps, state donated."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from gpu_parts.jax_steps import PRECISION, _many, _step
from gpu_parts.networks import network

__all__ = ["loop"]


class VmappedLoop:
    def __init__(self, name: str, precision: str, device: str, steps: int = 1) -> None:
        self.precision, self.steps = PRECISION[precision], steps
        case = network(name)
        if device == "cuda" and jax.default_backend() not in ("gpu", "cuda"):
            raise RuntimeError(f"this JAX computes on {jax.default_backend()}, not on the GPU")
        parameters = [jnp.asarray(w) for w in case.stacked_weights()]
        zeros = [[jnp.zeros_like(p) for p in parameters] for _ in range(2)]
        self.state = (parameters, *zeros, jnp.zeros(case.models, jnp.int32))
        X, y = case.data()
        self.x, self.y = jnp.asarray(X), jnp.asarray(y.astype("int32"))
        self.one = jax.jit(jax.vmap(_step, in_axes=(0, None, None)), donate_argnums=0)
        self.many = jax.jit(jax.vmap(partial(_many, steps), in_axes=(0, None, None)), donate_argnums=0)

    def run(self, count: int) -> None:
        with jax.default_matmul_precision(self.precision):
            total = None
            for _ in range(-(-count // self.steps)):
                self.state, total = self.many(self.state, self.x, self.y)
            jax.block_until_ready((self.state, total))

    def losses(self, count: int) -> list[float]:
        """Means over all models."""
        found = []
        with jax.default_matmul_precision(self.precision):
            for _ in range(count):
                self.state, losses = self.one(self.state, self.x, self.y)
                found.append(float(losses.mean()))
        return found

    def told(self) -> dict[str, Any]:
        return {"devices": [str(device) for device in jax.devices()]}

    def drop(self) -> None:
        self.__dict__.clear()


loop = VmappedLoop
