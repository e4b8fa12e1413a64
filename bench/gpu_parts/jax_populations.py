"""JAX's contender in training populations: `vmap` over a whole loop of steps, state donated."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from gpu_parts.jax_steps import Loop, _many, _step

__all__ = ["loop"]


class VmappedLoop(Loop):
    """State with an axis of models before; the rows are shared."""

    def __init__(self, name: str, precision: str, device: str, steps: int = 1) -> None:
        super().__init__(name, precision, device, steps)
        parameters = [jnp.asarray(w) for w in self.case.stacked_weights()]
        zeros = [[jnp.zeros_like(p) for p in parameters] for _ in range(2)]
        self.state = (parameters, *zeros, jnp.zeros(self.case.models, jnp.int32))
        self.step = jax.jit(jax.vmap(_step, in_axes=(0, None, None)), donate_argnums=0)
        self.many = jax.jit(jax.vmap(partial(_many, steps), in_axes=(0, None, None)), donate_argnums=0)

    def losses(self, count: int) -> list[float]:
        """Means over all models."""
        found = []
        with jax.default_matmul_precision(self.precision):
            for _ in range(count):
                self.state, losses = self.step(self.state, self.x, self.y)
                found.append(float(losses.mean()))
        return found


loop = VmappedLoop
