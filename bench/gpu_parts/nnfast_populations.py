"""nnfast's contenders in training populations: all models at once, model by model, and `Population.fit`."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
from cases.networks import RATE

import nnfast as nn
from gpu_parts.networks import network
from gpu_parts.nnfast_steps import model_of, stand_of
from nnfast.protocol import PopulationJob

__all__ = ["fit", "jobs", "one_by_one"]


class Jobs:
    """Steps of the runner for all models, on rows that lie on the device."""

    def __init__(self, name: str, precision: str, device: str) -> None:
        self.case = case = network(name)
        self.stand = stand_of(device)
        backend = self.stand.backend(precision)
        self.population = nn.Population(lambda: model_of(case, backend), case.models)
        flat = [np.zeros(0, np.float32)] * case.models
        for k in range(case.models):
            one = model_of(case, "numpy")
            one.set_weights(case.weights(k))
            flat[k] = one._buffers.parameters
        members = self.population._members
        members.buffers.parameters[...] = backend.asarray(np.stack(flat))
        X, y = case.data()
        self.X, self.y = backend.asarray(X), backend.asarray(y)
        self.program, self.runner = self.population._runner("train")
        members.make_room(self.program)
        self.steps = 0

    def job(self, count: int) -> Any:
        n = self.case.models
        job = PopulationJob(
            self.population._members.buffers,
            np.arange(n),
            self.X,
            self.y,
            steps=count,
            learning_rates=np.full((n, count), RATE),
            normalisers=np.full((n, count), float(self.case.batch)),
            first_steps=np.full(n, self.steps + 1),
            keys=np.zeros(n, np.uint64),
            scalars=self.population._varying.scalars(self.program),
        )
        self.steps += count
        return self._run(job)

    def _run(self, job: PopulationJob) -> Any:
        found = self.runner.run_population(job)
        if found is None:
            raise RuntimeError("the models were not trained together")
        return found

    def run(self, count: int) -> None:
        self.job(count)

    def losses(self, count: int) -> list[float]:
        """Means over all models."""
        return [float(s) / self.case.batch for s in self.job(count).sums[:, :, 0].mean(axis=0)]

    def costs(self) -> dict[str, Any]:
        """Bytes and FLOPs of a step of all models, and what it became."""
        costs = self.program.costs(self.case.batch)
        found: dict[str, Any] = {"bytes": [c.bytes * self.case.models for c in costs]}
        found["flops"] = [c.flops * self.case.models for c in costs]
        steps = list(self.runner.population()._steps.values())
        if steps:
            found["calls"], found["in a graph"] = len(steps[-1].plan.calls), steps[-1].is_captured
        return found

    def drop(self) -> None:
        del self.population, self.runner, self.X, self.y
        gc.collect()
        self.stand.cupy.get_default_memory_pool().free_all_blocks()


class OneByOne(Jobs):
    """What the other backends' devices do: one model after the other, each with graphs of its own."""

    def _run(self, job: PopulationJob) -> Any:
        from nnfast.population.running import _in_turn
        from nnfast.protocol import Result

        job.done = np.zeros(len(job.models), np.int64)
        result: Result = _in_turn(self.population, self.runner, job)
        return result

    def costs(self) -> dict[str, Any]:
        return {}


class Fit(Jobs):
    """`Population.fit` on NumPy arrays, one epoch per step."""

    def run(self, count: int) -> None:
        self.population.fit(*self.case.data(), epochs=count, batch_size=None, shuffle=False, verbose=0)

    def losses(self, count: int) -> list[float]:
        self.run(count)
        return [float(v) for v in np.mean(self.population.history.history["loss"], axis=0)]


jobs, one_by_one, fit = Jobs, OneByOne, Fit
