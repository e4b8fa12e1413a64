"""nnfast's Population, through `fit` as everybody calls it."""

from __future__ import annotations

from typing import Any

from cases.populations import PopulationCase, nnfast_population, stacked

from peers.nnfast_fit import set_threads

__all__ = ["PopulationFit", "trainer"]


class PopulationFit:
    def __init__(self, case: PopulationCase, backend: str) -> None:
        set_threads()
        self.case = case.one
        self.population = nnfast_population(case, backend)

    def prepare(self, epochs: int) -> None:
        pass

    def run(self, epochs: int) -> None:
        case = self.case
        options = {"epochs": epochs, "batch_size": case.batch_size, "shuffle": False, "verbose": 0}
        self.population.fit(case.X, case.y, **options)

    def results(self) -> list[Any]:
        return stacked(self.population)


def trainer(case: PopulationCase, backend: str) -> PopulationFit:
    return PopulationFit(case, backend)
