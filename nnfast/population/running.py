"""Jobs of a population: by a runner that knows them, else model by model, which gives the same bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.population.varying import penalized
from nnfast.protocol import Aside, PopulationAside, PopulationJob, Result, Runner
from nnfast.training.batches import normalisers
from nnfast.training.tally import Tally

if TYPE_CHECKING:
    from nnfast.population.data import PopulationData
    from nnfast.population.population import Population
    from nnfast.program import Program

__all__ = ["Measuring", "make_job", "run", "tally_of"]

Array = np.ndarray[Any, Any]


def make_job(
    population: Population, program: Program, models: Array, data: PopulationData, weights: Array | None, **fields: Any
) -> PopulationJob:
    """A job over this data; `weights` (models, steps) are those of its batches."""
    members = population._members
    return PopulationJob(
        members.buffers,
        models,
        data.x,
        data.device_y,
        data.device_weight,
        data.own,
        batch_size=data.size,
        normalisers=None if weights is None else normalisers(weights),
        keys=members.keys[models],
        scalars=population._varying.scalars(program)[models],
        **fields,
    )


def run(population: Population, runner: Runner, job: PopulationJob) -> Result:
    """Run it; `job.done` says how many steps each model has made, also where this raises."""
    pattern, together = population.pattern, getattr(runner, "run_population", None)
    job.done = np.zeros(len(job.models), np.int64)
    with pattern._programs.exclusive(changes=job.learning_rates is not None):
        result: Result | None = together(job) if together is not None else None
        return _in_turn(population, runner, job) if result is None else result


def _in_turn(population: Population, runner: Runner, job: PopulationJob) -> Result:
    """One model after the other, on flat arrays that each is copied into."""
    members, sums, nonfinite, turns = population._members, [], [], []
    one, changes = members.one(), job.learning_rates is not None
    for m, k in enumerate(job.models.tolist()):
        alone = job.alone(m, one)
        if job.aside is not None:
            alone.pauses = job.pauses
            alone.aside = Aside(job.aside.runner, job.aside.job.alone(m, one))
        members.take(k, one)
        try:
            result = runner.run(alone)
        finally:
            job.done[m] = alone.done
            if changes:
                members.put(k, one)
        sums.append(result.sums)
        nonfinite.append(result.nonfinite)
        if alone.aside is not None and len(job.pauses):
            turns.append(np.concatenate(alone.aside.sums).reshape(len(job.pauses), alone.aside.job.steps, -1))
    if job.aside is not None and turns:
        job.aside.sums = np.stack(turns)
    return Result(np.stack(sums), np.array(nonfinite))  # type: ignore[arg-type]


def tally_of(population: Population, program: Program, rows: Array) -> Tally:
    """What turns sums of this program into values, with the data's loss apart where any model has a penalty."""
    measured = {column.partition(".")[0] for column in program.sums}
    metrics = tuple(m for m in population.pattern.metrics if m.name in measured)
    any_penalty = bool(penalized(program, population._varying.scalars(program)).any())
    return Tally(program.sums, metrics, rows, penalized=any_penalty)


class Measuring:
    """Loss and metrics of models on checked rows, without dropout: between jobs, or at the pauses of one."""

    def __init__(self, population: Population, data: PopulationData) -> None:
        self._population, self._data = population, data

    @property
    def names(self) -> tuple[str, ...]:
        program, _ = self._population._runner("evaluate")
        return tally_of(self._population, program, self._data.batch_rows).names

    def aside(self, models: Array) -> PopulationAside:
        program, runner = self._population._runner("evaluate")
        weights = self._data.batch_weights(models, None, 1)
        steps = self._data.steps
        return PopulationAside(runner, make_job(self._population, program, models, self._data, weights, steps=steps))

    def values(self, models: Array, sums: Array) -> dict[str, Array]:
        """From sums (models, turns, steps, columns) to values (models, turns) by name."""
        program, _ = self._population._runner("evaluate")
        shape = sums.shape[:2]
        weights = np.repeat(self._data.batch_weights(models, None, 1), shape[1], axis=0)
        tally = tally_of(self._population, program, self._data.batch_rows)
        found = tally.values(sums.reshape(-1, *sums.shape[2:]), weights, self._data.batch_rows)
        return {name: column.reshape(shape) for name, column in found.items()}

    def now(self, models: Array) -> dict[str, Array]:
        """Values (models,) by name."""
        aside = self.aside(models)
        sums = run(self._population, aside.runner, aside.job).sums
        return {name: column[:, 0] for name, column in self.values(models, sums[:, None]).items()}
